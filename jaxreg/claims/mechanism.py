"""The claim on the mechanism: what goes with what over settings, and over the examples of each trial.

The seeds of one setting are more alike than trials of different settings, so the n of a test over settings is that of
settings: over trials, numbers that have nothing to do with each other would get verdicts by chance.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.stats

from jaxreg import statistics
from jaxreg.claims import findings, words
from jaxreg.claims.attacks import attack_of, attacked
from jaxreg.claims.findings import ALPHA, Finding
from jaxreg.claims.settings import Study
from jaxreg.claims.words import cosine
from jaxreg.measured import Z

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
    r, n = statistics.rank_correlation(*means_2G), len(values)
    seeds = max(both.shape[1] for both in values)
    said = f"rank correlation of {words[0]} with {words[1]} is {r:.2f}"
    if seeds > 1:
        pooled = statistics.rank_correlation(*np.concatenate(values, 1))
        said += f" (over all {sum(both.shape[1] for both in values)} trials {pooled:.2f}, which is no test)"
    low = high = p_for = p_against = np.nan
    if n < LEAST:
        said += f"; even a perfect order of {n} has p = {min(2 / math.factorial(n), 1):.2g}: a test needs {LEAST}"
    elif seeds > 1 and np.isfinite(r):
        low, high = _interval(r, n)
        p_for, p_against = permuted(*means_2G)
    found = Finding(POOL, metric, r, low, high, n, "Spearman, permuted", p_for, p_against, said)
    return found._replace(quantity=CORRELATION, counted="settings")


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
    wide = Z * math.sqrt((1 + r**2 / 2) / (n - 3))
    return math.tanh(math.atanh(r) - wide), math.tanh(math.atanh(r) + wide)


WITHIN = "cosine_radius_correlation"  # of the displacement probe
SAID = (
    "rank correlation of the cosine to the class center with the smallest radius that fools, over the test images of"
    " each trial that are right without attack, is on average"
)
PARTS = "a higher cosine with robustness", "a smaller norm with calibration"


def mechanism(study: Study) -> Iterator[Finding]:
    """Higher cosine with robustness, smaller norm with calibration: over settings; the first also within each trial.

    ECEs that all lie within the noise floor of one another have no order to go with.
    """
    for one, other in relations(study):
        values = units(study, one, other)
        if values:
            found = correlation(one, values, (words.quantity(one).name, words.quantity(other).name))
            apart = float(np.ptp([both[1].mean() for both in values]))
            lost = other == "ece" and findings.within(apart, max(study.floors.values()))
            yield found._replace(part=PARTS[one != "center_cosine"], noise=lost)
    columns = {name: values[WITHIN].to_numpy() for name, values in study.settings.items() if WITHIN in values}
    within = {name: own_T for name, own_T in columns.items() if np.isfinite(own_T).any()}
    said = [f"{SAID} {np.nanmean(own_T):.2f}" for own_T in within.values()]
    values = list(within.values())
    tests = findings.levels(list(within), WITHIN, values, 0.0, +1, said, CORRELATION)
    yield from (found._replace(part=PARTS[0], counted="trials") for found in tests)


def relations(study: Study) -> list[tuple[str, str]]:
    """The pairs of metrics that `mechanism` correlates over settings, of those that were measured.

    The norm is taken over sqrt(D) where that was measured: settings may differ in width.
    """
    known = {name for values in study.settings.values() for name in values}
    robust = attacked(study)
    robust = [name for name in robust if attack_of(name) == "worst"] or robust[:1]
    norm = "feature_rms" if _are_known(study, "feature_rms") else "feature_norm"
    wanted = (("center_cosine", robust[0] if robust else ""), (norm, "ece"))
    return [pair for pair in wanted if set(pair) <= known]


def units(study: Study, one: str, other: str) -> list[np.ndarray]:
    """Both metrics [2, S] of all trials of each regularizer with its own hyperparameters.

    Settings that differ in what a sweep overrides are no further evidence: a regularizer does much the same at every
    learning rate, and a learning rate to every regularizer. Of each the mean of those settings is taken off that all
    overrides have, so that no override stands for a regularizer.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, values in study.settings.items():
        if one in values and other in values:
            both = np.stack([values[one].to_numpy(), values[other].to_numpy()])
            unit, overrides = study.kinds[name]
            both = both[:, np.isfinite(both).all(0)]
            if both.size:
                groups.setdefault(overrides, {})[unit] = both
    shared = set.intersection(*(set(group) for group in groups.values())) if groups else set()
    found: dict[str, list[np.ndarray]] = {}
    for group in groups.values():
        middle = np.mean([group[unit].mean(1) for unit in shared or group], 0) if len(groups) > 1 else np.zeros(2)
        for unit, both in group.items():
            found.setdefault(unit, []).append(both - middle[:, None])
    return [np.concatenate(parts, 1) for parts in found.values()]


def _are_known(study: Study, metric: str) -> bool:
    """Whether all settings with features have the metric."""
    return all(metric in values for values in study.settings.values() if "feature_norm" in values)
