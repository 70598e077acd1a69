"""Paired statistics over trials: each setting against the baseline at the same seed."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats

from jaxreg.setting import BASELINE, Setting
from jaxreg.statistics.multiple import holm

CONFIDENCE = 0.95
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a metric, relative: they are computed in float32
EXACT = 50  # pairs up to which the signed-rank test is exact
EXACT_TIED = 13  # the same with ties or zeros


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
    return effects([treated], [control])[0]


def effects(treated: Sequence[Any], control: Sequence[Any], step: float = 0.0) -> list[Effect]:
    """Returns the `effect` of each of the `treated` against the `control` at its place, many at the price of one.

    With a `step`, what the numbers are multiples of (1/N for a share of N examples), equal differences are no riddle:
    tests and intervals suppose that differences scatter by at least one step.
    """
    differences, size_G = [], np.zeros(len(treated))
    for place, sides in enumerate(zip(treated, control)):
        own, base = (np.asarray(side, float) for side in sides)
        if own.shape != base.shape or own.ndim != 1:
            raise ValueError(f"pairs need two lists of one length, got {own.shape} and {base.shape}.")
        difference = own - base
        differences.append(difference[np.isfinite(difference)])
        size_G[place] = max(np.abs(side[np.isfinite(side)]).max(initial=0.0) for side in (own, base))
    found = [Effect._make([np.nan] * len(Effect._fields))] * len(differences)
    count_G = np.array([len(difference) for difference in differences])
    for n in np.unique(count_G):
        places = np.flatnonzero(count_G == n)
        columns = _effects(np.stack([differences[place] for place in places]), size_G[places], step)
        for place, *values in zip(places, *(np.broadcast_to(column, len(places)).tolist() for column in columns)):
            found[place] = Effect._make(values)
    return found


def _effects(difference_GN: np.ndarray, size_G: np.ndarray, step: float) -> tuple[Any, ...]:
    """The fields of `Effect`, [G] or one for all, of finite differences of numbers of the magnitude `size_G`."""
    n, nothing = difference_GN.shape[1], np.nan
    if n < 2:
        return difference_GN[:, 0] if n else nothing, nothing, nothing, nothing, n, nothing, nothing, nothing
    mean_G, sd_G, low_G, high_G = (bound(difference_GN, 1) for bound in (np.mean, _sd, np.min, np.max))
    cases = [(step == 0) & case_G for case_G in (~difference_GN.any(1), high_G - low_G <= ROUNDING * size_G)]
    coin_G = np.where(low_G * high_G > 0, 2.0 ** (1 - n), 1.0)
    error_G = np.maximum(sd_G, step) / np.sqrt(n)  # scipy.stats.ttest_1samp says the same, a hundred times slower
    half_G = scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error_G
    t_G = mean_G / np.where(cases[0] | cases[1], nothing, error_G)
    p_G = np.select(cases, [1.0, coin_G], 2 * scipy.special.stdtr(n - 1, -np.abs(t_G)))
    ends_G = [np.select(cases, [0.0, nothing], end_G) for end_G in (mean_G - half_G, mean_G + half_G, t_G)]
    p_wilcoxon_G = _wilcoxon(_ordinal(difference_GN, ROUNDING * size_G))
    return mean_G, ends_G[0], ends_G[1], sd_G, n, ends_G[2], p_G, p_wilcoxon_G


def _sd(values_GN: np.ndarray, axis: int) -> np.ndarray:
    return values_GN.std(axis, ddof=1)


def _ordinal(difference_GN: np.ndarray, rounding_G: np.ndarray) -> np.ndarray:
    """What a signed-rank test sees of differences: their signs and the order of their sizes, 0, 1, 2 and so on.

    Sizes that follow one another within rounding are one: differences of shares tie, and their last bits do not.
    """
    size_GN = np.pad(np.abs(difference_GN), [(0, 0), (1, 0)])
    order_GN = np.argsort(size_GN, 1, kind="stable")  # first the 0 that was put in front
    steps_GN = np.diff(np.take_along_axis(size_GN, order_GN, 1), axis=1) > rounding_G[:, None]
    place_GN = np.zeros_like(size_GN)
    np.put_along_axis(place_GN, order_GN, np.pad(np.cumsum(steps_GN, 1), [(0, 0), (1, 0)]), 1)
    return np.sign(difference_GN) * place_GN[:, 1:]


def _wilcoxon(difference_GN: np.ndarray) -> np.ndarray:
    """The signed-rank tests, zeros left out, as `scipy.stats.wilcoxon` makes them with ties: exact up to `EXACT_TIED`.

    Without ties and zeros exact up to `EXACT`; beyond, normal. Scipy goes through all 2^n signs of ties, for 0.1 s.
    """
    n, zero_GN = difference_GN.shape[1], difference_GN == 0
    rank_GN = scipy.stats.rankdata(np.where(zero_GN, np.inf, np.abs(difference_GN)), axis=1)
    twice_GN = np.where(zero_GN, 0, 2 * rank_GN).astype(int)  # ties share half ranks
    positive_G, twice_GN = np.where(difference_GN > 0, twice_GN, 0).sum(1), np.sort(twice_GN, 1)
    exact_G = (np.diff(twice_GN, axis=1) > 0).all(1) & ~zero_GN.any(1) & (n <= EXACT) | (n <= EXACT_TIED)
    p_G = np.ones(len(difference_GN))
    p_G[exact_G] = [_exact(tuple(ranks), total) for ranks, total in zip(twice_GN[exact_G], positive_G[exact_G])]
    rest_G = ~exact_G & ~zero_GN.all(1)
    if rest_G.any():
        test: Any = scipy.stats.wilcoxon  # its stubs know no axis
        p_G[rest_G] = test(difference_GN[rest_G], axis=1, method="asymptotic").pvalue
    return p_G


def _exact(ranks: tuple[int, ...], positive: int) -> float:
    """The exact test where those of the `ranks` that belong to positive differences sum to `positive`."""
    return min(1.0, 2 * float(_sums(ranks)[min(positive, sum(ranks) - positive)]))


@functools.lru_cache(maxsize=4096)
def _sums(ranks: tuple[int, ...]) -> np.ndarray:
    """P(the sum of the ranks with a positive sign is at most 0, 1, ...), every sign a fair coin."""
    chance = np.ones(1)
    for rank in ranks:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    return np.cumsum(chance)


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
    lines = values.index.to_frame()[list(Setting._fields)].itertuples(index=False, name=None)
    pairs = _pairs(tuple(sorted({Setting._make(line) for line in lines})), baseline)
    treated, control, both = _side_by_side(values, pairs)
    means = [pd.DataFrame(np.where(both, side, np.nan)).mean(axis=1) for side in (treated, control)]
    own, base = ([values[known] for values, known in zip(side, both)] for side in (treated, control))
    names = pd.DataFrame([setting for setting, _ in pairs], columns=["regularizer", "hyperparameters"])
    names = names.assign(metric=metric, split=split, mean=means[0], baseline_mean=means[1])
    table = names.join(pd.DataFrame(effects(own, base), columns=list(Effect._fields)))
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


@functools.lru_cache(maxsize=64)
def _pairs(settings: tuple[Setting, ...], baseline: str) -> list[tuple[Any, Any]]:
    """Every setting that has a baseline, with it; the metrics of a study ask for the same ones."""
    found = [
        (own, own.baseline(settings, baseline)) for own in settings if own.regularizer != baseline or own.is_control
    ]
    return [(own, base) for own, base in found if base is not None]


def _side_by_side(values: pd.Series, pairs: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of both settings of each pair [pairs, seeds], and where both have a number."""
    table, there = values.unstack("seed"), pd.Series(True, values.index).unstack("seed", fill_value=False)
    nowhere = np.empty(0, int)
    places = [table.index.get_indexer(pd.MultiIndex.from_tuples(side)) for side in zip(*pairs)] or [nowhere, nowhere]
    treated, control = (table.to_numpy(float)[place] for place in places)
    own, base = (there.to_numpy(bool)[place] for place in places)
    return treated, control, own & base & np.isfinite(treated) & np.isfinite(control)


def _values(frame: pd.DataFrame, metric: str, split: str, probe: str | None) -> pd.Series:
    """The values by (regularizer, hyperparameters, seed)."""
    chosen = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    if probe is not None:
        chosen = chosen[chosen["probe"] == probe]
    if chosen.empty:
        raise ValueError(f"no rows of metric {metric!r} on split {split!r}; known: {sorted(set(frame['metric']))}.")
    texts = {"regularizer": str, "hyperparameters": str}  # categories would come in another order than texts
    series = chosen.astype(texts).set_index([*texts, "seed"])["value"]
    if series.index.has_duplicates:
        twice = series.index[series.index.duplicated()][0]
        raise ValueError(f"{metric!r} comes twice for (regularizer, hyperparameters, seed) = {twice}: pass one study.")
    return series
