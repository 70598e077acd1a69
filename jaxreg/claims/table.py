"""The claims: each a sentence, the tests that bear on it, and the figure that shows it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxreg.claims import findings, words
from jaxreg.claims.attacks import origin, reliability, robustness
from jaxreg.claims.findings import Finding
from jaxreg.claims.mechanism import mechanism
from jaxreg.claims.pairs import differences, having, sides
from jaxreg.claims.scaling import temperature
from jaxreg.claims.study import Study

CONE = "cone_fraction"
CONE_HIGH = 0.95  # a share of predictions that are final along their ray, from here on called high
CONE_SAME = 0.02  # cone fractions closer than this are called the same
BEFORE, AFTER = "before temperature scaling", "after temperature scaling"


class Claim(NamedTuple):
    """A sentence of the paper, the tests that bear on it, and the figure that shows it."""

    statement: str
    find: Callable[[Study], Iterator[Finding]]
    figure: str
    caveat: Callable[[Study], str] = lambda study: ""  # what a reader of the verdict must know; "" for nothing


def cone(study: Study) -> Iterator[Finding]:
    """Cone fraction high in every setting, and the same for soft labels as for none."""
    called, step = words.quantity(CONE), study.steps.get(CONE, 0.0)
    found = {name: values[CONE].to_numpy() for name, values in study.settings.items() if CONE in values}
    said = [f"{called.name} is {called.value(np.nanmean(own_S))}{_made(study, name)}" for name, own_S in found.items()]
    high = findings.levels(list(found), CONE, list(found.values()), CONE_HIGH, +1, said, called, step=step)
    yield from (one._replace(part="cones") for one in high)
    names, _, own, base = sides(list(having(study, CONE)), CONE)
    said = [
        words.against(called, np.nanmean(own_S), np.nanmean(base_S)) + _made(study, name)
        for name, own_S, base_S in zip(names, own, base)
    ]
    alike = findings.same(names, CONE, own, base, CONE_SAME, said, called, step=step)
    yield from (one._replace(part="with or without soft labels") for one in alike)


def construction(study: Study) -> str:
    """In how many settings cones are no finding: without a bias the prediction along a ray cannot change."""
    made = [name for name in study.no_bias if study.no_bias[name] > 0]
    whom = "every setting" if len(made) == len(study.settings) else f"{len(made)} of {len(study.settings)} settings"
    return f"in {whom} there are trials without a bias, whose regions are cones by construction" if made else ""


def _made(study: Study, setting: str) -> str:
    made = study.no_bias.get(setting, 0.0)
    return f" (by construction in {100 * made:.0f} % of the trials: their last layer has no bias)" if made > 0 else ""


CLAIMS: dict[str, Claim] = {
    "norm": Claim("soft labels shrink the magnitude of features", differences(("feature_norm", -1, "")), "geometry"),
    "cosine": Claim(
        "soft labels raise the cosine of features to the class centers, the points of least loss",
        differences(("center_cosine", +1, "")),
        "geometry",
    ),
    "cone": Claim(
        "decision regions are cones around the origin, with or without soft labels", cone, "maps", construction
    ),
    "calibration": Claim(
        "soft labels improve calibration, before and after temperature scaling",
        differences(("ece", -1, BEFORE), ("nll", -1, BEFORE), ("ece_ts", -1, AFTER), ("nll_ts", -1, AFTER)),
        "reliability",
    ),
    "robustness": Claim("soft labels improve robustness to attacks", robustness, "robust_bars", reliability),
    "temperature": Claim("shrinking features acts like temperature scaling", temperature, "scaling"),
    "mechanism": Claim("a higher cosine goes with robustness, a smaller norm with calibration", mechanism, "mechanism"),
    "origin": Claim("under soft labels attacks move features toward the origin", origin, "displacement"),
    "accuracy": Claim("soft labels raise accuracy", differences(("accuracy", +1, "")), "seeds"),
}
