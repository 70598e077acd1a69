"""Logits of many trials as stacks on the mesh, a group of trials at a time; the next is read while one is computed."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.calibration.trial import Examples
from jaxreg.checks import Split, check, check_logits, narrowed
from jaxreg.data.dataset import key_ids
from jaxreg.runtime import parallel

CHUNK = 512  # at most so many examples in device memory at a time, beyond the logits
GROUP_BYTES = 2**26  # logits on the devices in a group, of which two are there at a time; at least one trial a device


class Stacks:
    """Checked splits of named trials: "validation" first, cut into chunks of examples and groups of trials."""

    def __init__(self, splits: Mapping[str, Split], trials: Sequence[str] | None, mesh: Any):
        splits = {name: Split(*split).complete() for name, split in splits.items()}
        count = len(splits["validation"].logits) if "validation" in splits else 0
        self.trials = [str(t) for t in range(count)] if trials is None else list(trials)
        self.classes = check(splits, self.trials)
        self.splits = {"validation": splits["validation"]} | dict(splits)
        self.mesh = parallel.make_mesh() if mesh is None else mesh
        longest = max(len(split.labels) for split in splits.values())
        self.chunks = (-(-longest // CHUNK), -(-longest // -(-longest // CHUNK)))  # (C, B), with least padding

    def groups(self) -> list[list[int]]:
        """Trials measured together, every group of one size: the last is filled up with copies of the last trial."""
        count = len(self.trials)
        fit = GROUP_BYTES // (len(self.splits) * math.prod(self.chunks) * self.classes * 4)
        size = min(parallel.padded(max(fit, 1), self.mesh), parallel.padded(count, self.mesh))
        return [[min(t, count - 1) for t in range(first, first + size)] for first in range(0, count, size)]

    def examples(self, drawn: bool = True) -> Examples:
        """Stacks [S, C, B] of what the trials share; padding has label 0, mask 0. Keys only where they are `drawn`."""
        splits = self.splits.values()
        labels = [self._fold(np.asarray(split.labels, np.int32)) for split in splits]
        mask = [self._fold(np.ones(len(split.labels), np.float32)) for split in splits]
        ids = [np.asarray(split.ids) for split in splits]
        keys = [self._fold(key_ids(own) if drawn else np.zeros(len(own), np.uint32)) for own in ids]
        return Examples(np.stack(labels), np.stack(mask), np.stack(keys))

    def logits(self, group: list[int]) -> np.ndarray:
        """Stacks [T, S, C, B, K] of a group's logits, each read once, checked and written to its place."""
        stack = np.zeros((len(group), len(self.splits), math.prod(self.chunks), self.classes), np.float32)
        for place, (name, split) in enumerate(self.splits.items()):
            for to, t in enumerate(group):
                given = np.asarray(split.logits[t])
                own = stack[to, place, : len(split.labels)]
                if given.shape == own.shape:
                    own[:] = narrowed(given)
                check_logits(f"{name}, trial {self.trials[t]}", given, own, np.asarray(split.ids))
        return stack.reshape(*stack.shape[:2], *self.chunks, self.classes)

    def each(self, run: Callable[..., Any], shared: Any) -> Iterator[tuple[list[int], Any]]:
        """Calls `run(logits [T, S, C, B, K], shared)` on every group: the group and its results on the host.

        The next group is read while the devices are busy with one.
        """
        pending: Callable[[], tuple[list[int], Any]] | None = None
        for group in self.groups():
            found = run(parallel.put_trials(self.logits(group), self.mesh), shared)
            if pending is not None:
                yield pending()
            pending = functools.partial(_fetched, group, found)
        if pending is not None:
            yield pending()

    def _fold(self, array: np.ndarray) -> np.ndarray:
        """Pads [N] with zeros and folds it to [C, B]."""
        return np.pad(array, (0, math.prod(self.chunks) - len(array))).reshape(self.chunks)


def _fetched(group: list[int], found: Any) -> tuple[list[int], Any]:
    return group, parallel.fetch(found)
