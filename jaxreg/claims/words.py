"""What numbers of claims are called by people, and how they are written."""

import math
from typing import NamedTuple


class Quantity(NamedTuple):
    """How a number is printed: times `scale`, with a unit; a logarithm of a ratio as a change in per cent."""

    scale: float = 1.0
    unit: str = ""
    digits: int = 3
    is_log: bool = False
    is_ratio: bool = False  # of a logarithm: printed as the ratio itself, without a sign

    def shown(self, value: float) -> float:
        """The number in the unit that is printed."""
        if self.is_ratio:
            return math.exp(value)
        return 100 * math.expm1(value) if self.is_log else value * self.scale

    def number(self, value: float) -> str:
        """The same as text without the unit: with a sign, but for ratios."""
        sign = "" if self.is_ratio else "+"
        return f"{self.shown(value):{sign}.{self.digits}g}".replace("-", "−")

    def text(self, value: float) -> str:
        """-0.1395 of a log ratio: `-13 %`; always with a sign."""
        if not math.isfinite(value):
            return "–"
        return f"{self.number(value)}{self.unit}"

    def interval(self, low: float, high: float) -> str:
        """`[−14.2, −11.8] %`; a dash where there is none."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return "–"
        return f"[{self.number(low)}, {self.number(high)}]{self.unit}"

    def whole(self, value: float, low: float, high: float) -> str:
        """`−13 [−14.2, −11.8] %`, without an interval where there is none."""
        has_interval = math.isfinite(low) and math.isfinite(high)
        return f"{self.number(value)} {self.interval(low, high)}" if has_interval else self.text(value)

    def size(self, value: float) -> str:
        """The smallest effect that matters, without a sign: `2 points`."""
        return f"{self.shown(value):.{self.digits}g}{self.unit}"


POINTS, COSINE = Quantity(100, " points"), Quantity()
CHANGE, NATS = Quantity(unit=" %", is_log=True), Quantity(unit=" nats")
TIMES = Quantity(unit="×", is_log=True, is_ratio=True)


def probability(p: float) -> str:
    """`p = 0.012`, never 0."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
