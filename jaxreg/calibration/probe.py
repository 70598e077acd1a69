"""The calibration probe: all metrics of all trials at once, with intervals, noise floor and post-hoc calibration."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxreg import parallel
from jaxreg.calibration import confidences, rows, trial
from jaxreg.calibration.bins import BINS
from jaxreg.calibration.check import Split, check
from jaxreg.calibration.trial import Examples
from jaxreg.calibration.uncertainty import REPLICATES
from jaxreg.data.dataset import key_ids
from jaxreg.probe import Measured

CHUNK = 512  # at most so many examples in device memory at a time, beyond the logits
GROUP_BYTES = 2**27  # logits on the devices at a time; at least one trial a device


def measure(
    splits: Mapping[str, Split],
    *,
    trials: Sequence[str] | None = None,
    bins: int = BINS,
    replicates: int = REPLICATES,
    seed: int = 0,
    human: Mapping[Any, np.ndarray] | None = None,
    mesh: Any = None,
) -> list[Measured]:
    """Measures all trials by two compiled programs; everything is fitted on the split "validation" alone.

    Args:
      splits: by name, "validation" among them; rows come for each of them.
      trials: names for messages; by default their numbers.
      replicates: resamples of the bootstrap intervals and of the noise floor.
      seed: of the resampling; the same seed gives the same numbers for any order, batch, or number of devices.
      human: distributions of people's votes by id, from `human.load`; adds the human metrics where all ids have them.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial its rows, and arrays [N] named SPLIT/NAME.
    Raises: ValueError: naming trial and example, on logits, labels or ids that cannot be measured.
    """
    count = len(splits["validation"].logits) if "validation" in splits else 0
    names = [str(t) for t in range(count)] if trials is None else list(trials)
    check(splits, names)
    splits = {"validation": splits["validation"]} | dict(splits)
    mesh = parallel.make_mesh() if mesh is None else mesh
    chunks = _chunks(max(len(split.labels) for split in splits.values()))
    look, count_up = _programs(bins, replicates, mesh)
    shared = parallel.put_shared((_examples(splits, chunks), np.uint32(seed)), mesh)
    measured: list[Measured] = []
    for group in _groups(count, splits, chunks, mesh):
        logits = _logits(splits, chunks, group)
        found = _each(parallel.fetch(look(parallel.put_trials(logits, mesh), shared)), len(group))
        seen = np.stack([rows.columns(one, splits, t, human) for one, t in zip(found, group)])
        numbers = _each(parallel.fetch(count_up(parallel.put_trials(seen, mesh), shared)), len(group))
        new = [i for i, t in enumerate(group) if t not in group[:i]]
        measured += [rows.measured(found[i], seen[i], numbers[i], splits, human) for i in new]
    return measured


def _each(stacked: Any, count: int) -> list[Any]:
    """The results of each of the first `count` trials of stacks."""
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(count)]


@functools.cache
def _programs(bins: int, replicates: int, mesh: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The compiled programs, from logits and from confidences, however often `measure` is called with same shapes."""
    bodies = (trial.measure_trial, confidences.measure_trial)
    look, count_up = (functools.partial(body, bins=bins, replicates=replicates) for body in bodies)
    return parallel.per_trial(look, mesh), parallel.per_trial(count_up, mesh)


def _chunks(examples: int) -> tuple[int, int]:
    """Number and size of the chunks (C, B) that hold all examples with least padding."""
    number = -(-examples // CHUNK)
    return number, -(-examples // number)


def _groups(count: int, splits: Mapping[str, Split], chunks: tuple[int, int], mesh: Any) -> list[list[int]]:
    """Trials measured together, every group of one size: the last is filled up with copies of the last trial."""
    classes = np.shape(splits["validation"].logits[0])[-1]
    fit = GROUP_BYTES // (len(splits) * math.prod(chunks) * classes * 4)
    size = min(parallel.padded(max(fit, 1), mesh), parallel.padded(count, mesh))
    return [[min(t, count - 1) for t in range(first, first + size)] for first in range(0, count, size)]


def _examples(splits: Mapping[str, Split], chunks: tuple[int, int]) -> Examples:
    """Stacks [S, C, B] of what the trials share; padding has label 0, mask 0."""
    labels = [_fill(np.asarray(split.labels, np.int32), chunks) for split in splits.values()]
    mask = [_fill(np.ones(len(split.labels), np.float32), chunks) for split in splits.values()]
    keys = [_fill(key_ids(np.asarray(split.ids)), chunks) for split in splits.values()]
    return Examples(np.stack(labels), np.stack(mask), np.stack(keys))


def _logits(splits: Mapping[str, Split], chunks: tuple[int, int], group: list[int]) -> np.ndarray:
    """Stacks [T, S, C, B, K] of a group's logits, each written to its place once."""
    classes = np.shape(splits["validation"].logits[0])[-1]
    stack = np.zeros((len(group), len(splits), math.prod(chunks), classes), np.float32)
    for place, split in enumerate(splits.values()):
        for to, t in enumerate(group):
            stack[to, place, : len(split.labels)] = split.logits[t]
    return stack.reshape(*stack.shape[:2], *chunks, classes)


def _fill(array: np.ndarray, chunks: tuple[int, int]) -> np.ndarray:
    """Pads [N, ...] with zeros and folds it to [C, B, ...]."""
    missing = math.prod(chunks) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)).reshape(*chunks, *array.shape[1:])
