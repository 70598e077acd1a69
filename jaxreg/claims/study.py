"""The rows of a study as tables that claims are tested on: every setting, and soft settings beside their baseline."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxreg.calibration import floors
from jaxreg.statistics import baseline_of

SOFT = {"label_smoothing", "mixup", "cutmix", "mixup_cutmix"}
SPLIT = "test"
SETTING = ["regularizer", "hyperparameters"]  # in one study


class Pair(NamedTuple):
    """A soft setting beside its baseline at the same seeds: tables with a line a seed and a column a metric."""

    name: str
    own: pd.DataFrame
    base: pd.DataFrame
    floors: Mapping[str, float]  # by metric, the upper end of the higher noise floor


class Study(NamedTuple):
    """The test split of one study: all settings by name, with their values, and the pairs among them."""

    settings: Mapping[str, pd.DataFrame]
    pairs: Sequence[Pair]
    within: Mapping[str, Sequence[float]]  # by setting, of each trial, as `verdicts.evaluate` takes it


def read(rows: pd.DataFrame, within: Mapping[str, Sequence[float]] | None = None) -> Study:
    """Reads the rows of one study: results.parquet's columns, or those of several programs

    Raises: ValueError: if a setting has several values of one metric at one seed.
    """
    rows = rows[rows["split"] == SPLIT]
    groups = rows.groupby(SETTING, sort=False)
    tables, ends = {setting: _table(chosen) for setting, chosen in groups}, floors.ends(rows, SETTING)
    pairs = []
    for setting, own in tables.items():
        base = baseline_of(setting, list(tables)) if is_soft(setting[0]) else None
        if base is not None:
            seeds = own.index.intersection(tables[base].index)
            high = {
                metric: max(ends.get((*side, floor), 0.0) for side in (setting, base))
                for metric, floor in floors.FLOORS.items()
            }
            pairs.append(Pair(label(*setting), own.loc[seeds], tables[base].loc[seeds], high))
    return Study({label(*setting): table for setting, table in tables.items()}, pairs, within or {})


def is_soft(regularizer: str) -> bool:
    """Whether the targets of a regularizer, or of a part of a sum, are soft labels."""
    return bool(SOFT & set(regularizer.split("+")))


def label(regularizer: str, hyperparameters: str) -> str:
    """A setting as people read it: `mixup(alpha=1)`."""
    inside = ", ".join(f"{key}={_short(value)}" for key, value in json.loads(hyperparameters).items())
    return f"{regularizer}({inside})" if inside else regularizer


def having(study: Study, *metrics: str) -> Iterator[Pair]:
    """The pairs whose own side has all the metrics, and whose baseline has the last."""
    for pair in study.pairs:
        if set(metrics) <= set(pair.own) and metrics[-1] in pair.base:
            yield pair


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.duplicated(["seed", "metric"]).any():
        twice = rows[rows.duplicated(["seed", "metric"])].iloc[0]
        what = f"{twice['metric']!r} of {twice['regularizer']!r} for seed {twice['seed']}"
        raise ValueError(f"a setting must have one trial a seed, got two of {what}: pass the rows of one study.")
    return rows.pivot(index="seed", columns="metric", values="value")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
