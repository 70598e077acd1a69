"""The rows of a study as tables that claims are tested on: every setting, and soft settings beside their baseline."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxreg.statistics import BASELINE

SOFT = {"label_smoothing", "mixup", "cutmix", "mixup_cutmix"}
SPLIT = "test"
FLOORS = {"ece": "ece_floor", "ece_ts": "ece_floor_ts"}  # below the upper end of these a difference of ECE is noise


class Pair(NamedTuple):
    """A soft setting beside its baseline at the same seeds: tables with a line a seed and a column a metric."""

    name: str
    own: pd.DataFrame
    base: pd.DataFrame
    floors: Mapping[str, float]  # by metric of ECE, the upper end of the higher noise floor


class Study(NamedTuple):
    """The test split of one study: all settings by name, with their values, and the pairs among them."""

    settings: Mapping[str, pd.DataFrame]
    pairs: Sequence[Pair]
    within: Mapping[str, Sequence[float]]


def read(rows: pd.DataFrame, within: Mapping[str, Sequence[float]]) -> Study:
    """Reads the rows of one study: results.parquet's columns, or those of several programs

    Raises: ValueError: if a setting has several values of one metric at one seed.
    """
    rows = rows[rows["split"] == SPLIT]
    groups = dict(iter(rows.groupby(["regularizer", "hyperparameters"], sort=False)))
    tables = {setting: _table(chosen) for setting, chosen in groups.items()}
    pairs = []
    for setting, own in tables.items():
        base = _baseline(setting, list(tables)) if is_soft(setting[0]) else None
        if base is not None:
            seeds = own.index.intersection(tables[base].index)
            floors = {metric: _floor(floor, groups[setting], groups[base]) for metric, floor in FLOORS.items()}
            pairs.append(Pair(label(*setting), own.loc[seeds], tables[base].loc[seeds], floors))
    return Study({label(*setting): table for setting, table in tables.items()}, pairs, within)


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


def _baseline(setting: tuple[str, str], known: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The `none` setting whose hyperparameters (a sweep's overrides) the setting shares; of several the fullest."""
    own = json.loads(setting[1])
    found = [(json.loads(other[1]), other) for other in known if other[0] == BASELINE]
    shared = [(len(keys), other) for keys, other in found if all(own.get(key) == keys[key] for key in keys)]
    return max(shared, key=lambda pair: pair[0])[1] if shared else None


def _floor(metric: str, *sides: pd.DataFrame) -> float:
    """The mean upper end of a noise floor over seeds, the higher of the two sides; 0 where it was not measured."""
    if "high" not in sides[0]:
        return 0.0
    ends = [side.loc[side["metric"] == metric, "high"].mean() for side in sides]
    return max((float(end) for end in ends if end == end), default=0.0)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
