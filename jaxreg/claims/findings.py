"""The forms of test that a claim is put to: a difference, a level, sameness, a rank correlation. One result each.

Every test gives an effect with a 95 % interval and the one-sided p-values of a claim and of its opposite.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxreg import statistics
from jaxreg.calibration import floors

SAME = "{:.4g} against {:.4g} for none"
LEAST_FOR_RANKS = 6  # trials for a rank correlation: with fewer, even perfect order is no evidence after correction


class Finding(NamedTuple):
    """One test of a setting: `p_for` the claim, `p_against` it, nan for a small n; `said`: the effect in words."""

    setting: str
    metric: str
    effect: float
    low: float
    high: float
    n: int
    test: str
    p_for: float
    p_against: float
    said: str
    noise: bool = False  # too small to be called a difference, whatever its p

    @property
    def p(self) -> float:
        """Two-sided: twice the smaller of the two, at most 1."""
        return min(1.0, 2 * min(self.p_for, self.p_against)) if not np.isnan(self.p_for) else float("nan")


def difference(
    setting: str, metric: str, own_S: np.ndarray, base_S: np.ndarray, direction: int, floor: float = 0.0
) -> Finding:
    """Is own - base above 0 (direction +1) or below (-1)? Paired t over seeds; within `floor` it is noise."""
    found = statistics.effect(own_S, base_S)
    paired = np.isfinite(own_S - base_S)
    said = f"{np.mean(own_S[paired]):.4g} against {np.mean(base_S[paired]):.4g} for none"
    sides = _sides(found, direction)
    noise = floor > 0 and floors.inside(found.difference, floor)
    return Finding(setting, metric, *found[:3], found.n, "paired t", *sides, said, noise)


def level(setting: str, metric: str, values_S: np.ndarray, bound: float, direction: int, said: str = "") -> Finding:
    """Is the mean over seeds above the bound (direction +1) or below (-1)? One-sample t; the effect is the mean."""
    found = statistics.effect(values_S, np.full_like(values_S, bound))
    above = "above" if direction > 0 else "below"
    shifted = (found.difference + bound, found.low + bound, found.high + bound)
    said = said or f"mean {shifted[0]:.4g}"
    return Finding(setting, metric, *shifted, found.n, f"t, {above} {bound:g}", *_sides(found, direction), said)


def same(setting: str, metric: str, own_S: np.ndarray, base_S: np.ndarray, margin: float, said: str = SAME) -> Finding:
    """Is |own - base| below the margin? Two one-sided t-tests; against it: the difference is beyond the margin.

    References: Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    found = statistics.effect(own_S, base_S)
    over = _sides(statistics.effect(own_S - base_S, np.full_like(own_S, margin)), +1)
    under = _sides(statistics.effect(own_S - base_S, np.full_like(own_S, -margin)), -1)
    p_for, p_against = max(over[1], under[1]), min(1.0, 2 * min(over[0], under[0]))
    said = said.format(np.nanmean(own_S), np.nanmean(base_S))
    test = f"equivalence within {margin:g}"
    return Finding(setting, metric, *found[:3], found.n, test, p_for, p_against, said)


def correlation(setting: str, metric: str, one_T: np.ndarray, other_T: np.ndarray, said: str) -> Finding:
    """Do two numbers rise together over trials? Spearman; interval by Fisher's z with Bonett and Wright's variance.

    References: Bonett and Wright, 2000, doi:10.1007/BF02294183.
    """
    known = np.isfinite(one_T) & np.isfinite(other_T)
    one_T, other_T, n = one_T[known], other_T[known], int(known.sum())
    r = rank_correlation(one_T, other_T)
    if n < LEAST_FOR_RANKS or not np.isfinite(r):
        return Finding(setting, metric, r, np.nan, np.nan, n, "Spearman", np.nan, np.nan, said)
    wide = 1.96 * np.sqrt((1 + r**2 / 2) / (n - 3))
    z = np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))
    low, high = (float(np.tanh(z + sign * wide)) for sign in (-1, 1))
    sides = [float(scipy.stats.spearmanr(one_T, other_T, alternative=side).pvalue) for side in ("greater", "less")]
    return Finding(setting, metric, r, low, high, n, "Spearman", sides[0], sides[1], said)


def rank_correlation(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Spearman's correlation, infinities ranked first and last; nan for fewer than two values or a constant."""
    ranks = [scipy.stats.rankdata(values) for values in (one_N, other_N)]
    if len(one_N) < 2 or not all(np.ptp(rank) > 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _sides(found: statistics.Effect, direction: int) -> tuple[float, float]:
    """One-sided p of the direction and of its opposite from the two-sided test; nan with it."""
    if np.isnan(found.p):
        return float("nan"), float("nan")
    right = found.difference * direction > 0
    smaller = found.p / 2
    return (smaller, 1 - smaller) if right else (1 - smaller, smaller)
