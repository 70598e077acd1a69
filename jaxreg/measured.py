"""What every probe returns, and the rows that all of them make: a mean and a share with their intervals."""

import math
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


class Row(NamedTuple):
    """One number of one trial; `low` and `high` bound its 95 % interval over examples, where one exists."""

    split: str
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Measured(NamedTuple):
    """All that a probe found for one trial: its rows, and per-example arrays (first axis N) under stable names."""

    rows: list[Row]
    arrays: dict[str, np.ndarray]


def mean_row(split: str, metric: str, values_N: np.ndarray) -> Row:
    """Mean +- 1.96 standard errors; no interval below two examples, and nan for none."""
    count = len(values_N)
    if count == 0:
        return Row(split, metric, math.nan, 0)
    mean = float(np.mean(values_N, dtype=np.float64))
    if count == 1:
        return Row(split, metric, mean, 1)
    half = Z * float(np.std(values_N, ddof=1, dtype=np.float64)) / math.sqrt(count)
    return Row(split, metric, mean, count, mean - half, mean + half)


def share_row(split: str, metric: str, hits_N: np.ndarray) -> Row:
    """The share of examples [N] that are true, with its 95 % interval."""
    count, total = int(np.sum(hits_N)), len(hits_N)
    return Row(split, metric, count / total, total, *wilson(count, total))


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share `count / total`, sensible at 0 and 1, where the normal one has no width.

    Raises: ValueError: if there are no examples.
    References: Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    if total < 1:
        raise ValueError(f"a share needs at least 1 example, got {total}.")
    share, weight = count / total, Z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding aside
