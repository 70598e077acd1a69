"""Do two numbers rise together over settings? Spearman's correlation of their means, and its exact test.

The seeds of one setting are more alike than trials of different settings, so the n of such a test is that of settings:
over trials, numbers that have nothing to do with each other would get verdicts by chance.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from jaxreg.claims.findings import ALPHA, Finding
from jaxreg.claims.words import cosine

POOL = "over the means of all settings"
EXACT = 9  # settings up to which all orders are gone through
LEAST = next(n for n in itertools.count(2) if 2 / math.factorial(n) < ALPHA)  # settings: perfect order has p 2 / n!
CORRELATION = cosine("")


def correlation(metric: str, values: Sequence[np.ndarray], words: tuple[str, str]) -> Finding:
    """One finding of settings' values [2, S] of two numbers, which are called by `words`.

    Interval by Fisher's z with Bonett and Wright's variance, none for a perfect order; its p by `permuted`. Neither
    for a single seed, nor for fewer than `LEAST` settings.

    References: Bonett and Wright, 2000, doi:10.1007/BF02294183.
    """
    means_2G = np.round([both.mean(1) for both in values], 9).T  # equal means differ by rounding, and would be ranked
    r, n = rank_correlation(*means_2G), len(values)
    seeds = max(both.shape[1] for both in values)
    said = f"rank correlation of {words[0]} with {words[1]} is {r:.2f}"
    if seeds > 1:
        pooled = rank_correlation(*np.concatenate(values, 1))
        said += f" (over all {sum(both.shape[1] for both in values)} trials {pooled:.2f}, which is no test)"
    low = high = p_for = p_against = np.nan
    if n < LEAST:
        said += f"; even a perfect order of {n} has p = {min(2 / math.factorial(n), 1):.2g}: a test needs {LEAST}"
    elif seeds > 1 and np.isfinite(r):
        low, high = _interval(r, n)
        p_for, p_against = permuted(*means_2G)
    found = Finding(POOL, metric, r, low, high, n, "Spearman, permuted", p_for, p_against, said)
    return found._replace(quantity=CORRELATION, counted="settings")


def rank_correlation(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Spearman's correlation, infinities ranked first and last; nan for fewer than two values or a constant."""
    ranks = [scipy.stats.rankdata(values) for values in (one_N, other_N)]
    if len(one_N) < 2 or not all(np.ptp(rank) > 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def permuted(one_G: np.ndarray, other_G: np.ndarray) -> tuple[float, float]:
    """One-sided p that they rise together, and that one falls: the share of all orders that are at least as extreme.

    Beyond `EXACT` settings Student's t with n - 2 degrees of freedom, which is then close.
    """
    if len(one_G) > EXACT:
        sides = (scipy.stats.spearmanr(one_G, other_G, alternative=side).pvalue for side in ("greater", "less"))
        return float(next(sides)), float(next(sides))
    one_G, other_G = (scipy.stats.rankdata(values) for values in (one_G, other_G))
    found_P, seen = other_G[_orders(len(one_G))] @ one_G, other_G @ one_G
    return float(np.mean(found_P > seen - 1e-6)), float(np.mean(found_P < seen + 1e-6))


@functools.lru_cache(maxsize=EXACT)
def _orders(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))), np.int8)


def _interval(r: float, n: int) -> tuple[float, float]:
    if abs(r) > 1 - 1e-9:  # a perfect order says nothing of how far others would lie
        return float("nan"), float("nan")
    wide = 1.96 * math.sqrt((1 + r**2 / 2) / (n - 3))
    return math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide)
