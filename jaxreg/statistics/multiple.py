"""Many tests at once: Holm's correction of a family, and Benjamini and Hochberg's of a table that decides nothing."""

from collections.abc import Sequence

import numpy as np
import scipy.stats


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusts the p-values of one family so that the chance of any false rejection is kept; NaN stays and counts not.

    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), sorted ascending.

    References: Holm, 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p, float)
    found = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return found


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusts p-values so that of those below a level at most that share is false on average; NaN stays, counts not.

    References: Benjamini and Hochberg, 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    p = np.asarray(p, float)
    found, known = np.full(p.shape, np.nan), ~np.isnan(p)
    if known.any():
        found[known] = scipy.stats.false_discovery_control(p[known])
    return found
