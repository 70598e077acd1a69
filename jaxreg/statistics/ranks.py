"""Rank correlation."""

import numpy as np
import scipy.stats


def rank_correlation(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Spearman's correlation, infinities ranked first and last; nan for fewer than two values or a constant."""
    ranks = [scipy.stats.rankdata(values) for values in (one_N, other_N)]
    if len(one_N) < 2 or not all(np.ptp(rank) > 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
