"""Intervals of a share of examples, and the names of the numbers in the results table."""

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal law


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
    return max(0.0, middle - half), min(1.0, middle + half)


DIGITS = 4  # of a radius in a name


def digits_of(radii: Sequence[float] | np.ndarray) -> int:
    """The significant digits that names of radii take: four, or as many as tell all of them apart."""
    distinct = sorted({float(eps) for eps in radii})
    return next(
        digits for digits in range(DIGITS, 18) if len({radius_text(eps, digits) for eps in distinct}) == len(distinct)
    )


def radius_text(eps: float, digits: int = DIGITS) -> str:
    """A radius as the results table names it (8/255 is 0.03137)."""
    return f"{float(eps):.{digits}g}"


def metric(attack: str, eps: float, digits: int = DIGITS) -> str:
    """The name of a robust accuracy in the results table."""
    return f"robust_accuracy/{attack}/{radius_text(eps, digits)}"
