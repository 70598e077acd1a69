"""Rank correlation, plain and with other numbers held fixed."""

import numpy as np
import scipy.stats
from jaxtyping import Shaped

Values = Shaped[np.ndarray, " N"]
ROUNDING = 1e-9  # of a residual, of the spread of its ranks: less is nothing


def rank_correlation(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Spearman's correlation, infinities ranked first and last; nan for fewer than two values or a constant."""
    ranks = [scipy.stats.rankdata(values) for values in (one_N, other_N)]
    if len(one_N) < 2 or not all(np.ptp(rank) > 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def partial_rank_correlation(x_N: Values, y_N: Values, *given_N: Values) -> float:
    """Spearman's correlation of x and y given others; without any, the plain one.

    Pearson's correlation of what is left of the ranks of x and of y after a linear fit to the ranks of the others; with
    one other (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)). Ties share their mean rank; infinities rank first and
    last. nan for fewer than three examples more than others, where the others leave nothing, and for a nan.

    Raises: ValueError: if the numbers are not of the same examples.
    References: Kendall and Gibbons, Rank Correlation Methods, 5th ed., 1990, chapter 8.
    """
    values = [np.asarray(one_N, np.float64) for one_N in (x_N, y_N, *given_N)]
    count = len(values[0])
    if any(one_N.shape != (count,) for one_N in values):
        raise ValueError(f"a rank correlation needs numbers of the same examples, got {[v.shape for v in values]}.")
    if count < 3 + len(given_N) or any(np.isnan(one_N).any() for one_N in values):
        return float("nan")
    ranks = [scipy.stats.rankdata(one_N) - (count + 1) / 2 for one_N in values]
    held = np.stack([*ranks[2:], np.ones(count)], 1)
    left = [rank_N - held @ np.linalg.lstsq(held, rank_N, rcond=None)[0] for rank_N in ranks[:2]]
    lengths = [float(np.linalg.norm(rest_N)) for rest_N in left]
    if any(length <= ROUNDING * float(np.linalg.norm(ranks_N)) for length, ranks_N in zip(lengths, ranks)):
        return float("nan")
    return float(np.clip(left[0] @ left[1] / (lengths[0] * lengths[1]), -1, 1))
