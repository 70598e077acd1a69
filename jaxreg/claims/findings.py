"""The forms of test that a claim is put to: a difference, a level, sameness, a rank correlation. One result each.

Every test gives an effect with a 95 % interval and the one-sided p-values of a claim and of its opposite. The settings
that are tested on one metric are tested at once: a sweep has a thousand of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxreg import statistics
from jaxreg.calibration import floors

SAME = "{:.4g} against {:.4g} for none"
Names = Sequence[str]  # of settings
Seeds = Sequence[np.ndarray]  # of each setting its values [S], seeds paired by place
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


def differences(
    settings: Names, metric: str, own: Seeds, base: Seeds, direction: int, noise: Sequence[float]
) -> list[Finding]:
    """Is own - base above 0 (direction +1) or below (-1)? Paired t over seeds; within its `noise` it is none."""
    found = []
    effects = statistics.effects(own, base)
    for setting, own_S, base_S, floor, effect in zip(settings, own, base, noise, effects):
        paired = np.isfinite(own_S - base_S)
        said = f"{np.mean(own_S[paired]):.4g} against {np.mean(base_S[paired]):.4g} for none"
        lost = floor > 0 and floors.inside(effect.difference, floor)
        sides = _sides(effect, direction)
        found.append(Finding(setting, metric, *effect[:3], effect.n, "paired t", *sides, said, lost))
    return found


def levels(
    settings: Names, metric: str, values: Seeds, bound: float, direction: int, said: Names = (), step: float = 0.0
) -> list[Finding]:
    """Is the mean over seeds above the bound (direction +1) or below (-1)? One-sample t; the effect is the mean.

    `step` as `statistics.effects` takes it.
    """
    found, test = [], f"t, {'above' if direction > 0 else 'below'} {bound:g}"
    effects = statistics.effects(values, [np.full_like(values_S, bound) for values_S in values], step)
    for setting, effect, told in zip(settings, effects, said or [""] * len(settings)):
        shifted = (effect.difference + bound, effect.low + bound, effect.high + bound)
        told = told or f"mean {shifted[0]:.4g}"
        found.append(Finding(setting, metric, *shifted, effect.n, test, *_sides(effect, direction), told))
    return found


def same(
    settings: Names, metric: str, own: Seeds, base: Seeds, margin: float, said: str = SAME, step: float = 0.0
) -> list[Finding]:
    """Is |own - base| below the margin? Two one-sided t-tests; against it: the difference is beyond the margin.

    `step` as `statistics.effects` takes it.

    References: Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    apart = [own_S - base_S for own_S, base_S in zip(own, base)]
    over, under = (
        statistics.effects(apart, [np.full_like(one, sign * margin) for one in apart], step) for sign in (1, -1)
    )
    found, test = [], f"equivalence within {margin:g}"
    for place, effect in enumerate(statistics.effects(own, base, step)):
        above, below = _sides(over[place], +1), _sides(under[place], -1)
        sides = max(above[1], below[1]), min(1.0, 2 * min(above[0], below[0]))
        told = said.format(np.nanmean(own[place]), np.nanmean(base[place]))
        found.append(Finding(settings[place], metric, *effect[:3], effect.n, test, *sides, told))
    return found


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
