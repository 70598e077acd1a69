"""What claims are judged on: the saved numbers of every example, of trials paired with their baseline by seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec

SETTING = ["regularizer", "hyperparameters"]  # in one study
FEWEST = 20  # examples that a pair must have in common


class Unmeasured(Exception):
    """What a claim needs was not measured; the message is the reason that people read."""


class StudyNumbers(NamedTuple):
    """One study: its rows, and how to read what its probes and predictions saved of a trial (None: nothing)."""

    rows: pd.DataFrame  # of results.parquet, texts as texts
    array: Callable[[str, str, str], np.ndarray | None]  # of (probe, trial, name): first axis examples
    predicted: Callable[[str, str], Mapping[str, np.ndarray] | None]  # of (trial, split): logits, labels
    spec: ClaimsSpec = ClaimsSpec()


class Trials(NamedTuple):
    """The trials of a setting, a seed each, and where their numbers are."""

    setting: Setting
    names: tuple[str, ...]
    source: StudyNumbers

    def array(self, probe: str, name: str) -> np.ndarray:
        """A number of every example, [S, N], float64.

        Raises: Unmeasured: if a trial lacks it.
        """
        found = [self.source.array(probe, trial, name) for trial in self.names]
        return np.stack([np.asarray(one, float) for one in _all(found, name)])

    def predicted(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Logits [S, N, K] and labels [N] of a split.

        Raises: Unmeasured: if they were not saved.
        """
        found = _all([self.source.predicted(trial, split) for trial in self.names], f"logits of {split}")
        return np.stack([one["logits"] for one in found]), np.asarray(found[0]["labels"])

    def values(self, metric: str, split: str = "test") -> np.ndarray:
        """A number of each trial, [S]; nan where it has none."""
        rows = self.source.rows
        own = rows[(rows["metric"] == metric) & (rows["split"] == split)].set_index("trial")["value"]
        return own.reindex(self.names).to_numpy(float)


def _all(found: Sequence[Any], what: str) -> Sequence[Any]:
    lacking = sum(one is None for one in found)
    if lacking:
        some = f" in {lacking} of {len(found)} trials" if lacking < len(found) else ""
        raise Unmeasured(f"{what} was not measured{some}")
    return found


class Pair(NamedTuple):
    """A setting beside its baseline at the same seeds, in the same order."""

    own: Trials
    base: Trials

    def right(self, count: int) -> np.ndarray:
        """Which of the first `count` test examples both networks predict rightly without attack, at every seed."""
        sides = [side.array("calibration", "test/correct")[:, :count] for side in self]
        return np.asarray(np.concatenate(sides).all(0))


def enough(kept_N: np.ndarray) -> np.ndarray:
    """The examples that a comparison keeps.

    Raises: Unmeasured: if they are too few to say anything.
    """
    if kept_N.sum() < FEWEST:
        raise Unmeasured(f"only {int(kept_N.sum())} images can be compared at every seed: it takes {FEWEST}")
    return kept_N


def pairs_of(source: StudyNumbers) -> Iterator[Pair]:
    """Every setting that has trials, with its baseline; a baseline with itself. Seeds that one side lacks are left out.

    Raises: ValueError: if a setting has two trials of one seed.
    """
    keys = source.rows[[*SETTING, "seed", "trial"]].drop_duplicates("trial").astype(dict.fromkeys(SETTING, str))
    _refuse_twice(keys)
    trials = {Setting(*map(str, of)): own.set_index("seed")["trial"] for of, own in keys.groupby(SETTING, sort=False)}
    for setting, own in trials.items():
        base = setting.baseline(trials)
        other = own if base is None else trials[base]
        seeds = sorted(own.index.intersection(other.index))
        if seeds:
            sides = ((setting, own), (base or setting, other))
            yield Pair(*(Trials(of, tuple(names.loc[seeds]), source) for of, names in sides))


def _refuse_twice(keys: pd.DataFrame) -> None:
    again = keys[keys.duplicated([*SETTING, "seed"])]
    if len(again):
        first = again.iloc[0]
        what = f"two of {first['regularizer']!r} for seed {first['seed']}"
        raise ValueError(f"a setting must have one trial a seed, got {what}: pass the rows of one study.")
