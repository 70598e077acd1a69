"""What numbers of claims are called by people, and how they are written."""

import math
from typing import NamedTuple


class Quantity(NamedTuple):
    """How a number is printed: times `scale`, with a unit; a logarithm of a ratio as a change in per cent."""

    scale: float = 1.0
    unit: str = ""
    digits: int = 3
    is_log: bool = False

    def shown(self, value: float) -> float:
        """The number in the unit that is printed."""
        return 100 * math.expm1(value) if self.is_log else value * self.scale

    def text(self, value: float) -> str:
        """-0.1395 of a log ratio: `-13 %`; always with a sign."""
        if not math.isfinite(value):
            return "–"
        return f"{self.shown(value):+.{self.digits}g}{self.unit}".replace("-", "−")

    def interval(self, low: float, high: float) -> str:
        """`[−14.2, −11.8] %`; a dash where there is none."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return "–"
        ends = (f"{self.shown(end):+.{self.digits}g}".replace("-", "−") for end in (low, high))
        return f"[{', '.join(ends)}]{self.unit}"

    def size(self, value: float) -> str:
        """The smallest effect that matters, without a sign: `2 points`."""
        return f"{self.shown(value):.{self.digits}g}{self.unit}"


POINTS, COSINE = Quantity(100, " points"), Quantity()
CHANGE, NATS = Quantity(unit=" %", is_log=True), Quantity(unit=" nats")


def probability(p: float) -> str:
    """`p = 0.012`, never 0."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
