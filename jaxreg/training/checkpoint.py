"""Checkpoints through Orbax: written aside and asynchronously, the last few kept, each one verified when read."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import Array
from orbax.checkpoint import v1 as ocp

from jaxreg.runtime import hosts
from jaxreg.runtime.files import unwritable
from jaxreg.runtime.paths import literal

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


log = logging.getLogger(__name__)


class Corrupt(Exception):
    """A checkpoint whose numbers are not those that were saved."""


@jax.jit
def digest(tree: Any) -> Array:
    """A position-weighted sum of the bits of stacks [T, ...]: uint32 [T], equal on any number of devices.

    Integer sums modulo 2^32 do not depend on their order; the weights are odd, so one flipped bit always shows.
    """
    return _digest(tree, jnp)


def _digest(tree: Any, xp: Any) -> Any:
    """With NumPy for what lies on the host: all trials together may be too much for one device."""
    total = 0
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        bits = leaf.view(xp.uint32).reshape(leaf.shape[0], -1)
        weight = xp.arange(bits.shape[1], dtype=xp.uint32) * xp.uint32(2654435762) + xp.uint32(1)
        total += (bits * weight[None]).sum(1, dtype=xp.uint32) * xp.uint32(2 * place + 1)
    return total


class Checkpoints:
    """The checkpoints of one program, by step; every process of a job writes its own share and reads the whole.

    A context: leaving it waits for the last write.
    """

    # Whose write may not be over. One at a time: in a job of several processes the threads in which Orbax ends a write
    # meet at barriers that have the same names for all directories.
    _writing: ClassVar[Optional["Checkpoints"]] = None

    def __init__(self, directory: epath.PathLike, keep: int | None) -> None:
        """Opens the directory; of what is saved there only the last `keep` stay, None: all."""
        self.directory = literal(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        policy: Any = ocp.training.preservation_policies.LatestN(keep)  # of None: all
        self._orbax = ocp.training.Checkpointer(
            self.directory, preservation_policy=policy, cleanup_tmp_directories=True
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if Checkpoints._writing is self:
            Checkpoints._writing = None
        with self._named():
            self._orbax.close()

    def steps(self) -> list[int]:
        """Steps whose checkpoint is complete, oldest first."""
        return [saved.step for saved in self._orbax.checkpoints]

    def save(self, step: int, state: Any) -> None:
        """Starts to save stacks [T, ...] and returns; waits first for the save before, of any directory."""
        if Checkpoints._writing not in (self, None):
            Checkpoints._writing.wait()
        Checkpoints._writing = self
        copied = jax.tree.map(jnp.copy, state)  # the training step donates, and so overwrites, its state
        rows = jax.tree.leaves(state)[0].shape[0]
        whole = {"state": copied, "digest": digest(copied)}
        with self._named():
            self._orbax.save_async(step, whole, custom_metadata={"rows": rows}, force=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Turns what Orbax says of a full or read-only disk, perhaps of the save before, into one line."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) or "RESOURCE_EXHAUSTED" in str(error):
                raise unwritable(self.directory, error) from error
            raise

    def restore(self, one: Any) -> tuple[int, Any] | None:
        """The newest checkpoint that is whole: (step, NumPy stacks shaped as `one` trial under a leading axis).

        A broken one is named, moved aside and passed over.
        """
        for step in reversed(hosts.on_first(self.steps)):
            whole = self.load(step, one)
            if whole is not None:
                return step, whole
        return None

    def load(self, step: int, one: Any) -> Any | None:
        """The checkpoint of one step, as `restore` gives it; None, with a warning, for a broken one."""
        whole, reason = self._tried(step, one)
        if hosts.all_hold(not reason):
            return whole
        hosts.on_first(functools.partial(self._set_aside, step, reason or "another process cannot read it"))
        self._orbax.reload()
        return None

    def wait(self) -> None:
        """Returns once what was saved is written."""
        self._orbax.wait()

    def _tried(self, step: int, one: Any) -> tuple[Any, str]:
        """What a checkpoint holds, or why it cannot be used."""
        try:
            return self._load(step, one), ""
        except Exception as error:
            return None, str(error).splitlines()[0][:200] if str(error) else type(error).__name__

    def _rows(self, step: int) -> int:
        """How many trials a checkpoint holds."""
        saved: Any = self._orbax.metadata(step).custom_metadata
        return int(saved["rows"])

    def _load(self, step: int, one: Any) -> Any:
        rows = self._rows(step)
        wanted = jax.tree.map(lambda a: np.empty((rows, *a.shape), a.dtype), one)
        whole = self._orbax.load(step, {"state": wanted, "digest": np.empty((rows,), np.uint32)})
        if not np.array_equal(_digest(whole["state"], np), whole["digest"]):
            raise Corrupt("its numbers do not match their digest")
        return whole["state"]

    def _set_aside(self, step: int, reason: str) -> None:
        broken = self.directory / str(step)
        aside = self.directory / f"broken-{step}"
        log.warning("Checkpoint %s is broken (%s): moved to %s, going on without it.", broken, reason, aside)
        if aside.exists():
            aside.rmtree()
        broken.rename(aside)
