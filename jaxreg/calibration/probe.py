"""The calibration probe: all metrics of all trials at once, with intervals, noise floor and post-hoc calibration."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxreg.calibration import confidences, rows, trial
from jaxreg.calibration import human as people
from jaxreg.calibration.bins import BINS
from jaxreg.calibration.stacks import Stacks
from jaxreg.calibration.uncertainty import REPLICATES
from jaxreg.checks import Split, check_count
from jaxreg.measured import Measured
from jaxreg.runtime import parallel


def measure(
    splits: Mapping[str, Split],
    *,
    trials: Sequence[str] | None = None,
    bins: int = BINS,
    replicates: int = REPLICATES,
    seed: int = 0,
    human: people.Votes | None = None,
    mesh: Any = None,
) -> list[Measured]:
    """Measures all trials by two compiled programs; everything is fitted on the split "validation" alone.

    Args:
      splits: by name, "validation" among them; rows come for each of them.
      trials: names for messages; by default their numbers.
      replicates: resamples of the bootstrap intervals and of the noise floor.
      seed: of the resampling; the same seed gives the same numbers for any order, batch, or number of devices.
      human: people's votes by id, as `human.load` reads them; adds the human metrics where all ids have them.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial its rows, and arrays [N] named SPLIT/NAME.
    Raises: ValueError: naming trial and example, on logits, labels or ids that cannot be measured.
    """
    check_count("bins", bins, 1)
    check_count("replicates", replicates, 2)
    check_count("seed", seed, 0)
    stacks = Stacks(splits, trials, mesh)
    splits, mesh = stacks.splits, stacks.mesh
    found_asked = {}
    if human is not None:
        people.check_ids(human, {name: np.asarray(split.ids) for name, split in splits.items()})
        found_asked = {name: people.asked(human, split, replicates, seed) for name, split in splits.items()}
    asked = {name: own for name, own in found_asked.items() if own is not None}
    look, count_up = _programs(bins, replicates, mesh)
    shared = parallel.put_shared((stacks.examples(), np.uint32(seed)), mesh)
    measured: list[Measured] = []
    for group, stacked in stacks.each(look, shared):
        found = _each(stacked, len(group))
        seen = np.stack([rows.columns(one, splits, t, human) for one, t in zip(found, group)])
        numbers = _each(parallel.fetch(count_up(parallel.put_trials(seen, mesh), shared)), len(group))
        new = [i for i, t in enumerate(group) if t not in group[:i]]
        measured += [rows.measured(found[i], seen[i], numbers[i], splits, asked) for i in new]
    return measured


def evaluate(
    splits: Mapping[str, Split],
    *,
    of: Sequence[str] = ("test",),
    trials: Sequence[str] | None = None,
    bins: int = BINS,
    mesh: Any = None,
) -> dict[str, dict[str, np.ndarray]]:
    """The numbers of all trials alone, many times faster than `measure`: no interval, no floor, no other calibration.

    Args:
      splits: by name, "validation" among them: the temperature is fitted on it.
      of: the splits that are measured.
      trials, bins, mesh: as in `measure`, whose errors it raises.
    Returns: by split and metric [T]: those of `metrics.METRICS`, `ece_adaptive`, `smece`, `aurc`, `auroc`, each again
      as METRIC_ts after temperature scaling; temperature, temperature_at_bracket.
    """
    check_count("bins", bins, 1)
    if isinstance(of, str) or not of or not set(of) <= set(splits):
        raise ValueError(f"of must be a sequence of splits, one or more of {sorted(splits)}, got {of!r}.")
    stacks = Stacks({name: splits[name] for name in dict.fromkeys(["validation", *of]) if name in splits}, trials, mesh)
    places = tuple(list(stacks.splits).index(name) for name in of)
    shared = parallel.put_shared(stacks.examples(drawn=False), stacks.mesh)
    parts = [found for _, found in stacks.each(_numbers(places, bins, stacks.mesh), shared)]
    whole = {key: np.concatenate([part[key] for part in parts])[: len(stacks.trials)] for key in parts[0]}
    return {name: {key: values[:, i] for key, values in whole.items()} for i, name in enumerate(of)}


def _each(stacked: Any, count: int) -> list[Any]:
    """The results of each of the first `count` trials of stacks."""
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(count)]


@functools.cache
def _programs(bins: int, replicates: int, mesh: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The compiled programs, from logits and from confidences, however often `measure` is called with same shapes."""
    bodies = (trial.measure_trial, confidences.measure_trial)
    look, count_up = (functools.partial(body, bins=bins, replicates=replicates) for body in bodies)
    return parallel.per_trial(look, mesh, "place"), parallel.per_trial(count_up, mesh)


@functools.cache
def _numbers(places: tuple[int, ...], bins: int, mesh: Any) -> Callable[..., Any]:
    """The compiled program of `evaluate`."""
    return parallel.per_trial(functools.partial(trial.evaluate_trial, places=places, bins=bins), mesh, "place")
