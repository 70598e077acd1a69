"""The calibration probe: all metrics of all trials at once, with intervals, noise floor and post-hoc calibration."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax import Array

from jaxreg.arithmetic import single
from jaxreg.calibration import human as people
from jaxreg.calibration import posthoc, rows, trial
from jaxreg.calibration.bins import BINS
from jaxreg.calibration.temperature import Temperature
from jaxreg.calibration.trial import COLUMNS, VALIDATION, LogitResults, SharedExamples
from jaxreg.calibration.uncertainty import REPLICATES
from jaxreg.checks import Arrays, check_apart, check_count, check_ids, check_labels, checked_logits
from jaxreg.data.dataset import key_ids
from jaxreg.measured import Measured
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import Effort, kept
from jaxreg.runtime.passes import Tree, TrialGroups, fetch_trials, trial_groups


class Logits(NamedTuple):
    """Raw logits of all trials [T, N, K], or one array [N, K] for each trial; the labels [N] and ids [N] they share.

    One array [N, K] is one trial. A sequence may read its arrays from files when it is asked for them: one trial after
    another. Without ids examples are numbered from 0.
    """

    logits: Arrays | Sequence[Arrays]
    labels: Arrays
    ids: Arrays | None = None


@kept
@single
def measure(
    splits: Mapping[str, Logits],
    *,
    trials: Sequence[str] | None = None,
    bins: int = BINS,
    replicates: int = REPLICATES,
    seed: int = 0,
    human: people.Votes | None = None,
    mesh: parallel.Mesh | None = None,
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
    given = checked(splits, trials)
    asked = {} if human is None else people.asked(human, given.ids, replicates, seed)
    groups = given.groups(mesh)
    of_logits, of_columns = _programs(bins, replicates, groups.mesh, groups.effort)
    shared = parallel.put_shared((given.shared(), np.uint32(seed)), groups.mesh)
    measured: list[Measured] = []
    for group, found in groups.run(of_logits, given.read, shared):
        columns = np.stack([_columns(one, given, t, human) for one, t in zip(found, group)])
        counted = fetch_trials(of_columns(groups.place(columns), shared), len(group))
        measured += [rows.measured(*three, given.ids, asked) for three in zip(found, columns, counted)]
    return measured


@kept
@single
def evaluate(
    splits: Mapping[str, Logits],
    *,
    of: Sequence[str] = ("test",),
    trials: Sequence[str] | None = None,
    bins: int = BINS,
    mesh: parallel.Mesh | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """The numbers of all trials alone, many times faster than `measure`: no interval, no floor, no other calibration.

    Args:
      splits: by name, "validation" among them: the temperature is fitted on it.
      of: the splits that are measured.
      trials, bins, mesh: as in `measure`, whose errors it raises.
    Returns: by split and metric [T]: those of `metrics.summary`, smece, aurc, auroc, each again as METRIC_ts after
      temperature scaling; temperature, temperature_at_bracket.
    """
    check_count("bins", bins, 1)
    if isinstance(of, str) or not of or not set(of) <= set(splits):
        raise ValueError(f"of must be a sequence of splits, one or more of {sorted(splits)}, got {of!r}.")
    given = checked({name: splits[name] for name in dict.fromkeys(["validation", *of]) if name in splits}, trials)
    groups, places = given.groups(mesh), tuple(list(given.ids).index(name) for name in of)
    shared = parallel.put_shared(given.shared(drawn=False), groups.mesh)
    each = groups.results(_numbers(places, bins, groups.mesh, groups.effort), given.read, shared)
    whole = {key: np.stack([one[key] for one in each]) for key in each[0]}
    return {name: {key: values[:, i] for key, values in whole.items()} for i, name in enumerate(of)}


@dataclasses.dataclass(frozen=True)
class CheckedLogits:
    """Splits of named trials, "validation" first, as the programs take them: all as long as the longest, with padding.

    Logits are checked when they are read: they may be in files.
    """

    trials: list[str]
    classes: int
    logits: dict[str, Arrays | Sequence[Arrays]]
    labels: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]

    @property
    def length(self) -> int:
        """Of every split: a multiple of the pieces that it is read in."""
        longest = max(map(len, self.ids.values()))
        size = trial.piece_size(longest)
        return -(-longest // size) * size

    def groups(self, mesh: parallel.Mesh | None) -> TrialGroups:
        """The trials that are on the mesh at a time."""
        return trial_groups(len(self.trials), len(self.ids) * self.length * self.classes * 4, mesh)

    def shared(self, drawn: bool = True) -> SharedExamples:
        """Stacks [S, N] of what the trials share; padding has label 0, mask 0. Keys only where they are `drawn`."""

        def stack(arrays: Iterable[np.ndarray]) -> Tree:
            return np.stack([np.pad(array, (0, self.length - len(array))) for array in arrays])

        mask = [np.ones(len(own), np.float32) for own in self.ids.values()]
        keys = [key_ids(own) if drawn else np.zeros(len(own), np.uint32) for own in self.ids.values()]
        return SharedExamples(stack(self.labels.values()), stack(mask), stack(keys))

    def read(self, group: range) -> np.ndarray:
        """Stacks [T, S * N, K] of the logits of some trials, each read once, checked and written to its place."""
        stack = np.zeros((len(group), len(self.ids), self.length, self.classes), np.float32)
        for place, (name, ids_N) in enumerate(self.ids.items()):
            shape = len(ids_N), self.classes
            for own, t in zip(stack[:, place], group):
                own[: len(ids_N)] = checked_logits(
                    f"{name}, trial {self.trials[t]}", self.logits[name][t], shape, ids_N
                )
        return stack.reshape(len(group), -1, self.classes)


def checked(splits: Mapping[str, Logits], trials: Sequence[str] | None = None) -> CheckedLogits:
    """Raises ValueError on the first thing that is wrong with any split, but not with logits where they lie."""
    if "validation" not in splits:
        raise ValueError(f"calibration is fitted on the split 'validation', got {sorted(splits)}: predict it first.")
    given = {name: Logits(*splits[name]) for name in dict.fromkeys(["validation", *splits])}
    logits = {name: _of_trials(split.logits) for name, split in given.items()}
    names = list(map(str, range(len(logits["validation"])) if trials is None else trials))
    for name, own in logits.items():
        if len(own) != len(names):
            raise ValueError(f"{name}: logits of {len(own)} trials, but {len(names)} trials are named.")
    if not names:
        raise ValueError("there are no trials: calibration needs the logits of at least one.")
    classes = sorted({int(np.shape(own[0])[-1]) for own in logits.values()})
    if len(classes) != 1 or classes[0] < 2:
        raise ValueError(f"all logits must have the same number of classes, at least 2, got {classes}.")
    ids = {name: check_ids(name, split.ids, split.labels) for name, split in given.items()}
    labels = {name: check_labels(name, split.labels, classes[0], ids[name]) for name, split in given.items()}
    check_apart({name: (ids[name], labels[name], own[0]) for name, own in logits.items()})
    return CheckedLogits(names, classes[0], logits, labels, ids)


def _of_trials(logits: Arrays | Sequence[Arrays]) -> Arrays | Sequence[Arrays]:
    """The same with its trials on the first axis: one array [N, K] is one trial."""
    return logits[None] if isinstance(logits, np.ndarray | Array) and logits.ndim == 2 else logits


def _columns(
    found: tuple[Temperature, LogitResults], given: CheckedLogits, t: int, human: people.Votes | None
) -> np.ndarray:
    """The columns [S, V, 4, N] of one trial: of its variants, of isotonic regression and, with `human`, of the votes of
    people before and after temperature; 0 where a split has no votes.
    """
    known = np.asarray(found[1].columns)
    correct_N, confidence_N = known[VALIDATION, 0, :2, : len(given.ids["validation"])]
    more = []
    for own_4N, name in zip(known[:, 0], given.ids):
        mapped_N = posthoc.isotonic(confidence_N, correct_N, own_4N[1])
        maps = [np.stack([own_4N[0], mapped_N, 0 * mapped_N, 0 * mapped_N])]
        if human is not None:
            maps += _votes(human, given, name, t, float(found[0].value))
        more.append(np.stack(maps))
    return np.concatenate([known, np.stack(more).astype(known.dtype)], 1)


def _votes(human: people.Votes, given: CheckedLogits, name: str, t: int, temperature: float) -> list[np.ndarray]:
    """The columns [4, N] of one split against people, before and after temperature."""
    if not people.has_votes(human, given.ids[name]):
        return [np.zeros((len(COLUMNS), given.length))] * 2
    logits_NK, missing = np.asarray(given.logits[name][t], np.float64), given.length - len(given.ids[name])
    votes_NK = people.aligned(human, given.ids[name], given.classes)
    both = [
        people.agreement(logits_NK / scale, votes_NK / votes_NK.sum(1, keepdims=True)) for scale in (1.0, temperature)
    ]
    stacked = [np.stack([one[key] for key in ("vote", "confidence", "cross_entropy", "kl")]) for one in both]
    return [np.pad(one, [(0, 0), (0, missing)]) for one in stacked]


@functools.cache
def _programs(
    bins: int, replicates: int, mesh: parallel.Mesh, effort: Effort
) -> tuple[Callable[..., Tree], Callable[..., Tree]]:
    """The compiled programs, from logits and from columns, however often `measure` is called with the same shapes."""
    bodies = (trial.measure_logits, trial.measure_columns)
    of_logits, of_columns = (functools.partial(body, bins=bins, replicates=replicates) for body in bodies)
    return parallel.per_trial(of_logits, mesh, "place", effort=effort), parallel.per_trial(
        of_columns, mesh, effort=effort
    )


@functools.cache
def _numbers(places: tuple[int, ...], bins: int, mesh: parallel.Mesh, effort: Effort) -> Callable[..., Tree]:
    """The compiled program of `evaluate`."""
    return parallel.per_trial(
        functools.partial(trial.evaluate_logits, places=places, bins=bins), mesh, "place", effort=effort
    )
