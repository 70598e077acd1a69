"""Intervals of a share of examples, and the names of the numbers in the results table."""

import math

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


def radius_text(eps: float) -> str:
    """A radius as the results table names it: four significant digits (8/255 is 0.03137)."""
    return f"{eps:.4g}"


def metric(attack: str, eps: float) -> str:
    """The name of a robust accuracy in the results table."""
    return f"robust_accuracy/{attack}/{radius_text(eps)}"
