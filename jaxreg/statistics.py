"""Paired statistics over trials: each setting against the baseline at the same seed."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats

from jaxreg.spec import SWEPT

CONFIDENCE = 0.95
BASELINE = "none"
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a metric, relative: they are computed in float32
EXACT = 50  # pairs up to which the signed-rank test is exact


class Effect(NamedTuple):
    """Mean difference over n pairs with its 95 % t interval and tests; NaN where n is too small to say anything."""

    difference: float
    low: float
    high: float
    sd: float  # of the differences
    n: int
    t: float
    p: float  # paired t-test, two-sided
    p_wilcoxon: float  # signed-rank test, two-sided


def effect(treated: Sequence[float] | np.ndarray, control: Sequence[float] | np.ndarray) -> Effect:
    """Compares values paired by position: treated - control. Pairs with a value that is not finite are left out.

    One pair gives its difference, and neither interval nor test. Differences that are equal up to rounding say nothing
    of how they scatter: no t-test can be made, there is no interval, and p is that of the sign test, 2^(1-n): two equal
    differences are a coin that fell twice on one side. Where all are 0, the interval is 0 and p is 1.

    Raises: ValueError: if the two differ in length.
    """
    treated, control = np.asarray(treated, float), np.asarray(control, float)
    if treated.shape != control.shape or treated.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, got {treated.shape} and {control.shape}.")
    difference = treated - control
    difference = difference[np.isfinite(difference)]
    n, nothing = len(difference), np.nan
    if n < 2:
        return Effect(float(difference[0]) if n else nothing, nothing, nothing, nothing, n, nothing, nothing, nothing)
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    if not difference.any():
        return Effect(0.0, 0.0, 0.0, 0.0, n, 0.0, 1.0, 1.0)
    if np.ptp(difference) <= ROUNDING * max(np.abs(side[np.isfinite(side)]).max() for side in (treated, control)):
        same = 2.0 ** (1 - n) if difference.min() * difference.max() > 0 else 1.0
        return Effect(mean, nothing, nothing, sd, n, nothing, same, _wilcoxon(difference))
    error = sd / np.sqrt(n)  # scipy.stats.ttest_1samp says the same, a hundred times slower: claims ask thousands
    half = float(scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error)
    p = float(2 * scipy.special.stdtr(n - 1, -abs(mean / error)))
    return Effect(mean, mean - half, mean + half, sd, n, float(mean / error), p, _wilcoxon(difference))


def _wilcoxon(difference: np.ndarray) -> float:
    """The signed-rank test; exact up to 50 pairs without ties and zeros."""
    if not difference.any():
        return 1.0
    sizes, n = np.abs(difference), len(difference)
    ordered = np.unique(sizes)
    if n <= EXACT and sizes.all() and len(ordered) == n:
        return _exact(n, int((1 + np.searchsorted(ordered, sizes[difference > 0])).sum()))
    return float(scipy.stats.wilcoxon(difference).pvalue)


@functools.lru_cache(maxsize=65536)
def _exact(n: int, positive: int) -> float:
    """The exact test where the ranks 1..n of positive differences sum to `positive`: all that it depends on."""
    signed = -np.arange(1.0, n + 1)
    for rank in range(n, 0, -1):
        if rank <= positive:
            signed[rank - 1], positive = rank, positive - rank
    return float(scipy.stats.wilcoxon(signed, method="exact").pvalue)


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusts the p-values of one family so that the chance of any false rejection is kept; NaN stays and counts not.

    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), sorted ascending.

    References: Holm, 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p, float)
    found = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return found


def baseline_of(
    setting: tuple[str, str], known: Sequence[tuple[str, str]], name: str = BASELINE
) -> tuple[str, str] | None:
    """Returns which of the `known` (regularizer, hyperparameters as JSON) a setting is compared with; None for none.

    The setting called `name` whose hyperparameters it shares, and whose overrides of a sweep are its own: one that
    lacks an override has the value of the config, which is another. Of several the one that shares most.
    """
    return _closest(setting, tuple(other for other in known if other[0] == name))


@functools.lru_cache(maxsize=4096)
def _closest(setting: tuple[str, str], bases: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    own, shared = _parsed(setting[1]), {}
    swept = {key for key in own if key.split(".")[0] in SWEPT}
    for base in bases:
        values = _parsed(base[1])
        if swept <= values.keys() <= own.keys() and all(own[key] == value for key, value in values.items()):
            shared[base] = len(values)
    return max(shared, key=lambda base: shared[base]) if shared else None


@functools.lru_cache(maxsize=65536)
def _parsed(hyperparameters: str) -> Mapping[str, Any]:
    return json.loads(hyperparameters)


def paired(
    frame: pd.DataFrame,
    metric: str,
    *,
    split: str = "test",
    probe: str | None = None,
    baseline: str = BASELINE,
) -> pd.DataFrame:
    """Compares every setting with the baseline of its overrides at the same seed.

    Args:
      frame: rows of `results.parquet`: regularizer, hyperparameters, seed, split, metric, value (and study, probe).
      metric: its name, for example "ece_ts".
      baseline: the regularizer to compare with; it must have one trial a seed.
    Returns: a row a setting: regularizer, hyperparameters, metric, split, mean, baseline_mean (over the pairs) and the
      fields of `Effect`, with `p_holm` adjusted over the settings. Seeds and settings without a baseline are left out.
    Raises: ValueError: if there is no such metric, split or baseline, or several trials of a setting share a seed.
    """
    values = _values(frame, metric, split, probe)
    if baseline not in values.index.get_level_values("regularizer"):
        known = sorted(set(values.index.get_level_values("regularizer")))
        raise ValueError(f"no baseline {baseline!r} among {known}: add its trials, or name another baseline.")
    pairs = _pairs(tuple(values.index.droplevel("seed").unique().sort_values()), baseline)
    treated, control, both = _side_by_side(values, pairs)
    means = [pd.DataFrame(np.where(both, side, np.nan)).mean(axis=1) for side in (treated, control)]
    rows = []
    for place, (setting, _) in enumerate(pairs):
        own, base = (side[place, both[place]] for side in (treated, control))
        name = {"regularizer": setting[0], "hyperparameters": setting[1], "metric": metric, "split": split}
        rows.append(name | {"mean": means[0][place], "baseline_mean": means[1][place]} | effect(own, base)._asdict())
    columns = ["regularizer", "hyperparameters", "metric", "split", "mean", "baseline_mean", *Effect._fields]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


@functools.lru_cache(maxsize=64)
def _pairs(settings: tuple[tuple[str, str], ...], baseline: str) -> list[tuple[Any, Any]]:
    """Every setting that has a baseline, with it; the metrics of a study ask for the same ones."""
    bases = [setting for setting in settings if setting[0] == baseline]
    found = [(setting, baseline_of(setting, bases, baseline)) for setting in settings if setting[0] != baseline]
    return [(setting, base) for setting, base in found if base is not None]


def _side_by_side(values: pd.Series, pairs: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of both settings of each pair [pairs, seeds], and where both have a trial."""
    table, there = values.unstack("seed"), pd.Series(True, values.index).unstack("seed", fill_value=False)
    places = [table.index.get_indexer(pd.MultiIndex.from_tuples(side)) for side in zip(*pairs)] or [[], []]
    treated, control = (table.to_numpy(float)[place] for place in places)
    own, base = (there.to_numpy(bool)[place] for place in places)
    return treated, control, own & base


def _values(frame: pd.DataFrame, metric: str, split: str, probe: str | None) -> pd.Series:
    """The values by (regularizer, hyperparameters, seed)."""
    chosen = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    if probe is not None:
        chosen = chosen[chosen["probe"] == probe]
    if chosen.empty:
        raise ValueError(f"no rows of metric {metric!r} on split {split!r}; known: {sorted(set(frame['metric']))}.")
    series = chosen.set_index(["regularizer", "hyperparameters", "seed"])["value"]
    if series.index.has_duplicates:
        twice = series.index[series.index.duplicated()][0]
        raise ValueError(f"{metric!r} comes twice for (regularizer, hyperparameters, seed) = {twice}: pass one study.")
    return series
