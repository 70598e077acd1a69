"""The rows of a study as tables that claims are tested on: every setting, and soft settings beside their baseline."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxreg.calibration import floors
from jaxreg.claims import findings
from jaxreg.claims.findings import Finding
from jaxreg.regularizers import is_soft
from jaxreg.setting import Setting

SPLIT = "test"
SHARES = {"cone_fraction"}  # of examples, where all seeds may well agree
SETTING = ["regularizer", "hyperparameters"]  # in one study


class Pair(NamedTuple):
    """A soft setting beside its baseline at the same seeds: tables with a line a seed and a column a metric."""

    name: str
    own: pd.DataFrame
    base: pd.DataFrame
    floors: Mapping[str, float]  # by metric, the `reach` of their noise floors


class Study(NamedTuple):
    """The test split of one study: all settings by name, with their values, and the pairs among them."""

    settings: Mapping[str, pd.DataFrame]
    pairs: Sequence[Pair]
    steps: Mapping[str, float]  # by metric that is a share of N examples, 1 / N
    kinds: Mapping[
        str, tuple[str, str]
    ]  # by setting, what is left of it without what a sweep overrides, and the latter
    floors: Mapping[str, float]  # by setting, the highest `reach` of its ECE, before and after temperature scaling
    no_bias: Mapping[str, float]  # by setting, the share of trials whose last layer has no bias


def read(rows: pd.DataFrame) -> Study:
    """Reads the rows of one study: results.parquet's columns, or those of several programs.

    Raises: ValueError: if a setting has several values of one metric at one seed.
    """
    no_bias = _no_bias(rows)
    rows = rows[rows["split"] == SPLIT]
    tables, ends, pairs = _tables(rows), floors.ends(rows, SETTING), []
    for setting, own in tables.items():
        base = setting.baseline(tables) if is_soft(setting.regularizer) else None
        if base is not None:
            seeds = own.index.intersection(tables[base].index)
            reach = {metric: _reach(ends, (setting, base), metric) for metric in floors.FLOORS}
            known = {metric: floor for metric, floor in reach.items() if floor > 0}
            pairs.append(Pair(setting.label, own.loc[seeds], tables[base].loc[seeds], known))
    names = {setting: setting.label for setting in tables}
    return Study(
        settings={name: tables[setting] for setting, name in names.items()},
        pairs=pairs,
        steps=_steps(rows),
        kinds={name: _kind(setting) for setting, name in names.items()},
        floors={n: np.nanmax([_reach(ends, (s,), "ece"), _reach(ends, (s,), "ece_ts"), 0.0]) for s, n in names.items()},
        no_bias={name: no_bias[setting] for setting, name in names.items() if setting in no_bias},
    )


def _reach(ends: Mapping[tuple[str, ...], tuple[float, float]], settings: Sequence[Setting], metric: str) -> float:
    floor = floors.FLOORS[metric]
    return floors.reach(metric, [ends[*setting, floor] for setting in settings if (*setting, floor) in ends])


def _kind(setting: Setting) -> tuple[str, str]:
    """The label of the setting without what a sweep overrides, and the latter."""
    return setting.own.label, json.dumps(setting.overrides, sort_keys=True)


def _no_bias(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    known = rows[rows["metric"] == "cone_by_construction"]
    means = known.groupby(SETTING, observed=True, as_index=False)["value"].mean()
    return {(str(r), str(h)): value for r, h, value in means.itertuples(index=False, name=None)}


def _steps(rows: pd.DataFrame) -> dict[str, float]:
    if "n" not in rows:
        return {}
    shares = rows[rows["metric"].isin(SHARES)]
    return {str(metric): 1 / count for metric, count in shares.groupby("metric", observed=True)["n"].min().items()}


def _tables(rows: pd.DataFrame) -> dict[Setting, pd.DataFrame]:
    """By setting, in their order, a line a seed and a column a metric that the setting has.

    All settings in one matrix [lines, M], cut afterwards: a pivot for each of a thousand would take seconds.
    """
    lines = rows.groupby([*SETTING, "seed"], sort=False).ngroup().to_numpy()
    column, found = pd.factorize(rows["metric"])
    order = np.argsort(np.asarray(found, object))
    names, column = np.asarray(found, object)[order], np.argsort(order)[column]
    place = lines * max(len(names), 1) + column
    _refuse_twice(rows, place)
    keys = rows[[*SETTING, "seed"]].drop_duplicates().reset_index(drop=True)
    values, there = np.full((len(keys), len(names)), np.nan), np.zeros((len(keys), len(names)), bool)
    values.flat[place], there.flat[place] = rows["value"].to_numpy(float), True
    tables: dict[Setting, pd.DataFrame] = {}
    metrics: dict[bytes, pd.Index] = {}
    for setting, own in keys.groupby(SETTING, sort=False)["seed"]:
        own = own.sort_values()
        has = there[own.index].any(0)
        columns = pd.Index(names[has], dtype="object", name="metric")
        of = metrics.setdefault(has.tobytes(), columns)  # one for many settings
        tables[Setting(*map(str, setting))] = pd.DataFrame(values[own.index][:, has], pd.Index(own, name="seed"), of)
    return tables


def _refuse_twice(rows: pd.DataFrame, place: np.ndarray) -> None:
    again = pd.Series(place).duplicated().to_numpy()
    if again.any():
        twice = rows[again].iloc[0]
        what = f"{twice['metric']!r} of {twice['regularizer']!r} for seed {twice['seed']}"
        raise ValueError(f"a setting must have one trial a seed, got two of {what}: pass the rows of one study.")


def having(study: Study, *metrics: str) -> Iterator[Pair]:
    """The pairs with a seed at which the own side has all the metrics, and the baseline the last."""
    for pair in study.pairs:
        if all(metric in pair.own for metric in metrics) and metrics[-1] in pair.base:
            columns = [*(pair.own[metric].to_numpy() for metric in metrics), pair.base[metrics[-1]].to_numpy()]
            if np.isfinite(columns).all(0).any():
                yield pair


def sides(pairs: Sequence[Pair], metric: str) -> tuple[list[str], str, list[np.ndarray], list[np.ndarray]]:
    """Names, metric, own values, values of the baseline: as `findings` takes them."""
    own = [pair.own[metric].to_numpy() for pair in pairs]
    return [pair.name for pair in pairs], metric, own, [pair.base[metric].to_numpy() for pair in pairs]


def differences(*metrics: tuple[str, int, str]) -> Callable[[Study], Iterator[Finding]]:
    """Paired differences of every pair, soft - none, of metrics with the direction that the claim expects and the part
    of its sentence that they bear on.
    """

    def find(study: Study) -> Iterator[Finding]:
        for metric, direction, part in metrics:
            pairs = list(having(study, metric))
            ends = [pair.floors.get(metric, 0.0) for pair in pairs]
            yield from findings.differences(*sides(pairs, metric), direction, ends, part)

    return find
