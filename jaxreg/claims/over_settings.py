"""What goes with what over settings: rank correlations of means, which are shown and never judged."""

import functools
import itertools

import numpy as np
import pandas as pd
import scipy.stats

from jaxreg.names import those
from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec
from jaxreg.statistics import rank_correlation

EXACT = 9  # settings up to which all orders are gone through
FEWEST = 4  # settings with two of which no order says anything


def relations(rows: pd.DataFrame, spec: ClaimsSpec) -> list[tuple[str, str]]:
    """The pairs of metrics that are correlated, of those that were measured.

    The norm is taken over sqrt(D) where that was measured: settings may differ in width.
    """
    known = set(rows["metric"].unique())
    found = {name.of[1] for name in those(known, "robust_accuracy", 2).values()}
    radii = sorted((radius for radius in found if float(radius) > 0), key=float)
    near = [radius for radius in radii if np.isclose(float(radius), spec.radius, rtol=1e-3)] or radii
    robust = f"robust_accuracy/worst/{near[0]}" if near else ""
    norm = "feature_rms" if "feature_rms" in known else "feature_norm"
    return [pair for pair in (("center_cosine", robust), (norm, "confidence_gap")) if set(pair) <= known]


def correlations(rows: pd.DataFrame, spec: ClaimsSpec) -> pd.DataFrame:
    """A line a relation: Spearman's correlation over the means of settings, and its two-sided p by permutation.

    Only settings that differ in their regularizer: of those that a sweep's overrides tell apart, each group's means are
    taken off first. The seeds of one setting are more alike than trials of different ones, so n is that of settings.
    """
    test = rows[rows["split"] == "test"]
    return pd.DataFrame([_correlation(test, *pair) for pair in relations(test, spec)])


def _correlation(rows: pd.DataFrame, one: str, other: str) -> dict[str, object]:
    means_G2 = _means(rows, one, other)
    found = {"claim": "mechanism", "number": f"{one} with {other}", "setting": "over settings", "n": len(means_G2)}
    effect = rank_correlation(*means_G2.T) if len(means_G2) else np.nan
    p = permuted(*means_G2.T) if len(means_G2) >= FEWEST and np.isfinite(effect) else np.nan
    return {**found, "effect": effect, "p": p, "text": f"{effect:+.2f}" if np.isfinite(effect) else "–"}


def _means(rows: pd.DataFrame, one: str, other: str) -> np.ndarray:
    """Both means [G, 2] of each setting that has them, less the mean of those with its overrides."""
    keys = ["regularizer", "hyperparameters"]
    own = rows[rows["metric"].isin([one, other])].astype(dict.fromkeys(keys, str))
    means = own.groupby([*keys, "metric"], sort=False)["value"].mean()
    table = pd.DataFrame(means.unstack("metric")).reindex(columns=[one, other])
    table = table.loc[np.isfinite(table.to_numpy()).all(1)]
    swept = [str(sorted(Setting(*map(str, key)).overrides.items())) for key in table.index]
    return np.round((table - table.groupby(swept).transform("mean")).to_numpy(), 9)


def permuted(one_G: np.ndarray, other_G: np.ndarray) -> float:
    """Two-sided p of a rank correlation: the share of orders at least as extreme; beyond `EXACT` Student's t."""
    if len(one_G) > EXACT:
        return float(scipy.stats.spearmanr(one_G, other_G).pvalue)
    one_G, other_G = (ranks - ranks.mean() for ranks in map(scipy.stats.rankdata, (one_G, other_G)))
    found_P = np.abs(other_G[_orders(len(one_G))] @ one_G)
    return float(np.mean(found_P > abs(other_G @ one_G) - 1e-6))


@functools.lru_cache(maxsize=EXACT)
def _orders(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))), np.int8)
