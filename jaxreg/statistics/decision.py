"""What an interval decides about an effect with a direction and a smallest size of interest."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxreg.statistics.crossed import CrossedEffect, spread
from jaxreg.statistics.estimates import Estimates

SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE = "supported", "contradicted", "equivalent", "inconclusive"
ALPHA = 0.05


class Decision(NamedTuple):
    """An effect in the claimed direction (above 0: as claimed), its simultaneous interval, and what that says.

    `p` is two-sided and times the size of the family (at most 1), of the nearer of the two one-sided claims.
    """

    effect: float
    low: float
    high: float
    n: int
    p: float
    verdict: str | None  # None for a single seed
    spreads: tuple[CrossedEffect, ...]  # of its parts, each in the claimed direction


def decide(
    parts: Sequence[Estimates], smallest: float | None = None, family: int = 1, alpha: float = ALPHA
) -> Decision:
    """Decides on one endpoint, or on several that must all lie above 0 (an intersection-union test).

    The interval is Bonferroni's over a family of so many, 1 - alpha / family. Of several parts it is one of their least
    effect: its lower end the least of theirs, its upper end the least of theirs at 1 - alpha / (parts family). Inside
    +-`smallest`: equivalent; above 0: supported; below 0: contradicted; else inconclusive. So interval and verdict
    cannot disagree.

    Raises: ValueError: for no part, a family below 1, or a smallest effect that is not above 0.
    References: Berger, 1982, doi:10.1080/00401706.1982.10487790; Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    if not parts or family < 1:
        raise ValueError(f"a decision needs a part and a family of 1 or more, got {len(parts)} and {family}.")
    if smallest is not None and not smallest > 0:
        raise ValueError(f"the smallest effect of interest must be above 0, got {smallest}: leave it out for none.")
    found = tuple(spread(part) for part in parts)
    outside = alpha / family
    low = min(one.interval(outside)[0] for one in found)
    high = min(one.interval(outside / len(found))[1] for one in found)
    weakest = min(found, key=lambda one: one.effect)
    above = max(one.p() for one in found)
    below = len(found) * min(1 - one.p() for one in found)
    p = min(1.0, 2 * family * min(above, below)) if weakest.n > 1 else math.nan
    return Decision(weakest.effect, low, high, weakest.n, p, read(low, high, smallest), found)


def read(low: float, high: float, smallest: float | None = None) -> str | None:
    """The verdict of an interval; None where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return None
    if smallest is not None and -smallest < low and high < smallest:
        return EQUIVALENT
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE
