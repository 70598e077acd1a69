"""The forms of test that a claim is put to: a difference, a level, sameness. One result each; `ranks` has another.

Every test gives an effect with a 95 % interval and the one-sided p-values of a claim and of its opposite. The settings
that are tested on one metric are tested at once: a sweep has a thousand of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxreg import statistics
from jaxreg.calibration import floors
from jaxreg.claims import words
from jaxreg.claims.words import Quantity

ALPHA = 0.05
Names = Sequence[str]  # of settings
Seeds = Sequence[np.ndarray]  # of each setting its values [S], seeds paired by place


class Finding(NamedTuple):
    """One test of a setting: `p_for` the claim, `p_against` it, nan for a small n; `said`: what was seen, in words."""

    setting: str
    metric: str
    effect: float
    low: float
    high: float
    n: int
    test: str
    p_for: float
    p_against: float
    said: str
    noise: bool = False  # too small to be called a difference, whatever its p
    quantity: Quantity = Quantity("")  # what the effect is
    is_difference: bool = False  # and not a value
    counted: str = "seeds"  # what n counts
    part: str = ""  # of the claim's sentence, that the test bears on; the metric in words where it is empty

    @property
    def p(self) -> float:
        """Two-sided: twice the smaller of the two, at most 1."""
        return min(1.0, 2 * min(self.p_for, self.p_against)) if not np.isnan(self.p_for) else float("nan")


def unmeasured(setting: str, part: str) -> Finding:
    """What stands for a test that a claim needs and that the numbers do not allow."""
    nothing = float("nan")
    said = f"{part} was not measured"
    return Finding(setting, "", nothing, nothing, nothing, 0, "none", nothing, nothing, said, part=part)


def differences(
    settings: Names, metric: str, own: Seeds, base: Seeds, direction: int, noise: Sequence[float], part: str = ""
) -> list[Finding]:
    """Is own - base above 0 (direction +1) or below (-1)? Paired t over seeds; within its `noise` it is none."""
    found, called = [], words.quantity(metric)
    effects = statistics.effects(own, base)
    for setting, own_S, base_S, floor, effect in zip(settings, own, base, noise, effects):
        paired = np.isfinite(own_S - base_S)
        said = words.against(called, np.mean(own_S[paired]), np.mean(base_S[paired]))
        one = Finding(setting, metric, *effect[:3], effect.n, "paired t", *_sides(effect, direction), said)
        lost = within(effect.difference, floor)
        found.append(one._replace(noise=lost, quantity=called, is_difference=True, part=part))
    return found


def levels(
    settings: Names,
    metric: str,
    values: Seeds,
    bound: float,
    direction: int,
    said: Names,
    called: Quantity,
    **more: float,
) -> list[Finding]:
    """Is the mean over seeds above the bound (direction +1) or below (-1)? One-sample t; the effect is the mean.

    An interval that leaves what the quantity can be is cut, and says so. `step` as `statistics.effects` takes it.
    """
    found, test = [], f"t, {'above' if direction > 0 else 'below'} {bound:g}"
    effects = statistics.effects(values, [np.full_like(values_S, bound) for values_S in values], **more)
    for setting, effect, told in zip(settings, effects, said):
        mean, low, high = effect.difference + bound, effect.low + bound, effect.high + bound
        kept = np.clip((low, high), *called.ends).tolist()
        cut = [called.value(end) for end, uncut in zip(kept, (low, high)) if end != uncut and not np.isnan(uncut)]
        told += f" (interval cut at {' and '.join(cut)})" if cut else ""
        one = Finding(setting, metric, mean, kept[0], kept[1], effect.n, test, *_sides(effect, direction), told)
        found.append(one._replace(quantity=called))
    return found


def same(
    settings: Names, metric: str, own: Seeds, base: Seeds, margin: float, said: Names, called: Quantity, **more: float
) -> list[Finding]:
    """Is |own - base| below the margin? Two one-sided t-tests; against it: the difference is beyond the margin.

    `step` as `statistics.effects` takes it.

    References: Schuirmann, 1987, doi:10.1007/BF01068419.
    """
    apart = [own_S - base_S for own_S, base_S in zip(own, base)]
    over, under = (
        statistics.effects(apart, [np.full_like(one, sign * margin) for one in apart], **more) for sign in (1, -1)
    )
    found, test = [], f"equivalence within {margin:g}"
    for place, effect in enumerate(statistics.effects(own, base, **more)):
        above, below = _sides(over[place], +1), _sides(under[place], -1)
        sides = max(above[1], below[1]), min(1.0, 2 * min(above[0], below[0]))
        one = Finding(settings[place], metric, *effect[:3], effect.n, test, *sides, said[place])
        found.append(one._replace(quantity=called, is_difference=True))
    return found


def within(difference: float, floor: float) -> bool:
    """Whether a difference lies inside a noise floor that is known (above 0)."""
    return bool(floor > 0 and floors.inside(difference, floor))


def _sides(found: statistics.Effect, direction: int) -> tuple[float, float]:
    """One-sided p of the direction and of its opposite from the two-sided test; nan with it."""
    if np.isnan(found.p):
        return float("nan"), float("nan")
    right = found.difference * direction > 0
    smaller = found.p / 2
    return (smaller, 1 - smaller) if right else (1 - smaller, smaller)
