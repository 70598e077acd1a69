"""A band around a curve of effects that holds at all of its points at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxreg.statistics.crossed import spread
from jaxreg.statistics.estimates import TEST, Estimates

DRAWS = 2000


class Band(NamedTuple):
    """Effects [M] with the ends of a band that holds for all of them together with 95 %; nan ends for a single seed."""

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(points: Sequence[Estimates], outside: float = 0.05, seed: int = 0) -> Band:
    """The band effect +- c error, c the quantile of the largest |t| over points.

    Errors are those of `crossed.spread`. c comes from draws of normal weights on seeds and on examples, which keep how
    the points go together, and is widened as Student's t is against the normal at the fewest degrees of freedom.

    References: Montiel Olea and Plagborg-Moller, 2019, doi:10.1002/jae.2656 (sup-t bands).
    """
    found = [spread(point) for point in points]
    effect_M, error_M = (np.array([getattr(one, name) for one in found]) for name in ("effect", "error"))
    if found[0].n < 2:
        nothing = np.full(len(points), np.nan)
        return Band(effect_M, nothing, nothing)
    df = min(one.df for one in found)
    wider = float(scipy.stats.t.ppf(1 - outside / 2, df) / scipy.stats.norm.ppf(1 - outside / 2))
    half_M = _critical(points, error_M, outside, seed) * wider * error_M
    return Band(effect_M, effect_M - half_M, effect_M + half_M)


def _critical(points: Sequence[Estimates], error_M: np.ndarray, outside: float, seed: int) -> float:
    seeds_SM = np.stack([point.value_S - point.mean for point in points], 1)
    examples_NM = np.stack([point.influence[TEST].mean(0) for point in points], 1)
    parts, rng = [], np.random.default_rng(seed)
    for values in (seeds_SM, examples_NM):
        values = values / np.sqrt(len(values) * (len(values) - 1))
        parts.append(rng.standard_normal((DRAWS, len(values))) @ values)
    own_M = np.sqrt(sum(part.var(0) for part in parts))
    own_M = np.where(own_M > 0, own_M, 1)
    largest = np.abs(sum(parts) / own_M).max(1)
    return max(float(np.quantile(largest, 1 - outside)), float(scipy.stats.norm.ppf(1 - outside / 2)))
