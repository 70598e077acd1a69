"""How many seeds, or examples, would decide: from how an effect scattered in a finished study."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import scipy.stats

from jaxreg.statistics.crossed import Components, combined_error
from jaxreg.statistics.decision import ALPHA
from jaxreg.statistics.estimates import TEST

POWER, MOST = 0.8, 40  # the chance to decide that is asked for, and the seeds beyond which nobody should go
FAR = 10_000_000  # examples beyond which none are sought


class Plan(NamedTuple):
    """Seeds that find the smallest effect, and seeds that find 0 to be equivalent; None: not with so many examples.

    `examples`: how many of them `MOST` seeds would need to find the smallest effect; None where `find` is known.
    """

    find: int | None
    equivalent: int | None
    examples: int | None = None


def plan(parts: Sequence[Components], smallest: float, family: int = 1, alpha: float = ALPHA) -> Plan:
    """The seeds that decide with a probability of 0.8, at the examples that there were, of the hardest part.

    Raises: ValueError: if the smallest effect is not above 0.
    """
    if not smallest > 0:
        raise ValueError(f"a plan needs a smallest effect above 0, got {smallest}.")
    outside = alpha / family
    seeds = range(2, MOST + 1)
    find = _first(seeds, lambda n: min(power(one, n, smallest, outside) for one in parts))
    same = _first(seeds, lambda n: min(power_of_equivalence(one, n, smallest, outside) for one in parts))
    return Plan(find, same, None if find else _examples(parts, smallest, outside))


def _first(candidates: Sequence[int], chance: Callable[[int], float]) -> int | None:
    return next((one for one in candidates if chance(one) >= POWER), None)


def expected(components: Components, n: int, count: int | None = None) -> tuple[float, float]:
    """Standard error and degrees of freedom to be expected of n seeds, and of `count` test examples if given."""
    samples = [
        sample._replace(size=count) if count and name == TEST else sample for name, sample in components.samples.items()
    ]
    between = (components.seeds + sum(sample.rest / sample.size for sample in samples)) / n
    terms = [(between, n - 1), *((sample.examples / sample.size, sample.size - 1) for sample in samples)]
    return combined_error(terms)


def power(components: Components, n: int, effect: float, outside: float, count: int | None = None) -> float:
    """The chance that an interval of n seeds lies above 0 if the effect is this: of a noncentral t."""
    error, df = expected(components, n, count)
    if error == 0:
        return 1.0
    return float(scipy.stats.nct.sf(scipy.stats.t.ppf(1 - outside / 2, df), df, effect / error))


def power_of_equivalence(components: Components, n: int, smallest: float, outside: float) -> float:
    """The chance that the interval lies inside +-smallest if the effect is 0."""
    error, df = expected(components, n)
    if error == 0:
        return 1.0
    room = smallest / error - float(scipy.stats.t.ppf(1 - outside / 2, df))
    return max(0.0, 2 * float(scipy.stats.norm.cdf(room)) - 1)


def _examples(parts: Sequence[Components], smallest: float, outside: float) -> int | None:
    """Test examples that `MOST` seeds need, to two digits, doubled and halved; None beyond `FAR`."""

    def enough(count: int) -> bool:
        return min(power(one, MOST, smallest, outside, count) for one in parts) >= POWER

    if not enough(FAR):
        return None
    low, high = 2, FAR
    while high - low > max(1, low // 100):
        middle = math.isqrt(low * high) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
