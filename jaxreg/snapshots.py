"""Parameters at a schedule of steps, kept for good: what is measured over training.

They lie beside the checkpoints, of which only the last few are kept, and hold no optimizer state.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from jaxreg.checkpoint import Checkpoints

Wanted = int | tuple[int, ...]


def schedule(wanted: Wanted, steps: int, dispatch: int) -> tuple[int, ...]:
    """The steps to keep, ascending: those named, as far as training goes, or of a count those that it stands for.

    A count stands for step 0, the last one, and others between them at equal ratios, each the end of a dispatch: most
    happens early. Where training has few dispatches there are fewer than asked for.
    """
    if not isinstance(wanted, int):
        return tuple(sorted({step for step in wanted if step <= steps}))
    if wanted == 0:
        return ()
    ends = np.geomspace(-(-steps // dispatch), 1, wanted - 1).round().astype(int)
    return tuple(sorted({0, *(min(int(end) * dispatch, steps) for end in ends), steps}))


class Weights(NamedTuple):
    """What a forward pass needs."""

    params: Any
    stats: Any


class Snapshots:
    """The snapshots of one program. A context: leaving it waits for the last write."""

    def __init__(self, directory: epath.PathLike, steps: tuple[int, ...]) -> None:
        self.scheduled = steps
        self._kept = Checkpoints(directory, keep=None)

    def __enter__(self) -> "Snapshots":
        return self

    def __exit__(self, *error: Any) -> None:
        self._kept.__exit__(*error)

    def take(self, step: int, params: Any, stats: Any) -> None:
        """Starts to save stacks [T, ...] if the step is one to keep and not kept yet."""
        if step in self.scheduled and step not in self._kept.steps():
            self._kept.save(step, Weights(params, stats)._asdict())

    def wait(self) -> None:
        """Returns once all is written: a checkpoint must not be newer than a snapshot before it."""
        self._kept.wait()

    def read(self, like: Weights, count: int) -> Iterator[tuple[int, Weights]]:
        """Every scheduled step that was kept, with its stacks [count, ...] in NumPy, shaped as those of `like`."""
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), like._asdict())
        for step in self._kept.steps():
            whole = self._kept.load(step, one) if step in self.scheduled else None
            if whole is not None:
                yield step, Weights(**jax.tree.map(lambda a: a[:count], whole))
