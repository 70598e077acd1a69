"""What the metrics of the claims are called by people, and how their numbers are written."""

from typing import NamedTuple

import numpy as np

from jaxreg.names import MetricName


class Quantity(NamedTuple):
    """A metric in words; numbers are multiplied by `scale`; its values, and no differences, lie within `ends`."""

    name: str
    scale: float = 1.0
    unit: str = ""  # of a value
    step: str = ""  # of a difference
    ends: tuple[float, float] = (-np.inf, np.inf)

    def value(self, number: float) -> str:
        """0.1395 of a share: `13.95 %`."""
        return f"{number * self.scale:.4g}{self.unit}"

    def difference(self, number: float) -> str:
        """0.113 between two shares: `11.3 points`."""
        return f"{number * self.scale:.3g}{self.step}"


def share(name: str) -> Quantity:
    """A part of a whole, told in percent."""
    return Quantity(name, 100, " %", " points", (0.0, 1.0))


def cosine(name: str) -> Quantity:
    """A cosine or a correlation."""
    return Quantity(name, ends=(-1.0, 1.0))


ECE = share("ECE")
POINTS = Quantity("", 100, " points", " points")
MOVED = "over the test images that are right without attack and whose adversary is another image"
QUANTITIES = {
    "feature_norm": Quantity("mean length of the features"),
    "feature_rms": Quantity("mean length of the features over the root of their width"),
    "center_cosine": cosine("mean cosine of the features to the center of their class, the point of least loss"),
    "cone_fraction": share("share of test images whose prediction stays when their features grow longer"),
    "ece": ECE,
    "ece_ts": share("ECE after temperature scaling"),
    "nll": Quantity("NLL", unit=" nats", step=" nats"),
    "nll_ts": Quantity("NLL after temperature scaling", unit=" nats", step=" nats"),
    "accuracy": share("test accuracy"),
    "adversarial_radial_cosine": cosine("mean cosine of the way that features move with the way to the origin"),
    "adversarial_norm_change": Quantity("mean change of the length of the features"),
}


def quantity(metric: str) -> Quantity:
    """The words for a metric; its own name where it has none."""
    name = MetricName.parse(metric)
    if name.metric != "robust_accuracy":
        return QUANTITIES.get(metric, Quantity(metric))
    attack, eps = name.of
    told = "the worst case of all attacks" if attack == "worst" else f"the attack {attack}"
    return share(f"accuracy under {told} at radius {eps}")


def against(quantity: Quantity, own: float, base: float) -> str:
    """Both means, and which is the lower by how much."""
    told = f"{quantity.name} is {quantity.value(own)} against {quantity.value(base)} for none"
    return f"{told}, {apart(quantity, own - base)}"


def apart(quantity: Quantity, difference: float) -> str:
    """`lower by 11.3 points`."""
    if difference == 0:
        return "no difference"
    return f"{'higher' if difference > 0 else 'lower'} by {quantity.difference(abs(difference))}"


def probability(p: float) -> str:
    """`p = 0.012`, never 0."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
