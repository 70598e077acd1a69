"""The claims: each a sentence, the tests that bear on it, and the figure that shows it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxreg.claims import findings, words
from jaxreg.claims.attacks import MOVES, attack_of, attacked, origin, reliability, robustness
from jaxreg.claims.findings import Finding
from jaxreg.claims.mechanism import PARTS, mechanism
from jaxreg.claims.settings import Study, differences, having, sides
from jaxreg.claims.temperature import BEST, LENGTH, SCALES, temperature

CONE = "cone_fraction"
CONE_HIGH = 0.95  # a share of predictions that are final along their ray, from here on called high
CONE_SAME = 0.02  # cone fractions closer than this are called the same
SOFT, EVERY, TOGETHER = "soft labels", "every setting", "all settings together"
CONES, ALIKE = "cones", "with or without soft labels"
BEFORE, AFTER = "before temperature scaling", "after temperature scaling"


class Part(NamedTuple):
    """A part of a sentence, and whom it is about: SOFT settings, EVERY setting, or all of them TOGETHER."""

    name: str
    whom: str = SOFT


class Claim(NamedTuple):
    """A sentence of the paper, the tests that bear on it, the figure that shows it, and what must be tested of it."""

    statement: str
    find: Callable[[Study], Iterator[Finding]]
    figure: str
    parts: Callable[[Study], Sequence[Part]]
    caveat: Callable[[Study], str] = lambda study: ""  # what a reader of the verdict must know; "" for nothing


def cone(study: Study) -> Iterator[Finding]:
    """Cone fraction high in every setting, and the same for soft labels as for none."""
    called, step = words.quantity(CONE), study.steps.get(CONE, 0.0)
    measured = {name: values[CONE].to_numpy() for name, values in study.settings.items() if CONE in values}
    found = {name: own_S for name, own_S in measured.items() if np.isfinite(own_S).any()}
    said = [f"{called.name} is {called.value(np.nanmean(own_S))}{_made(study, name)}" for name, own_S in found.items()]
    high = findings.levels(list(found), CONE, list(found.values()), CONE_HIGH, +1, said, called, step=step)
    yield from (one._replace(part=CONES) for one in high)
    names, _, own, base = sides(list(having(study, CONE)), CONE)
    said = [
        words.against(called, np.nanmean(own_S), np.nanmean(base_S)) + _made(study, name)
        for name, own_S, base_S in zip(names, own, base)
    ]
    alike = findings.same(names, CONE, own, base, CONE_SAME, said, called, step=step)
    yield from (one._replace(part=ALIKE) for one in alike)


def construction(study: Study) -> str:
    """In how many settings cones are no finding: without a bias the prediction along a ray cannot change."""
    made = [name for name in study.no_bias if study.no_bias[name] > 0]
    whom = "every setting" if len(made) == len(study.settings) else f"{len(made)} of {len(study.settings)} settings"
    return f"in {whom} there are trials without a bias, whose regions are cones by construction" if made else ""


def _made(study: Study, setting: str) -> str:
    made = study.no_bias.get(setting, 0.0)
    return f" (by construction in {100 * made:.0f} % of the trials: their last layer has no bias)" if made > 0 else ""


def tests_of(name: str, study: Study) -> list[Finding]:
    """The tests of a claim, then what of it no test bears on; nothing where it has no test at all."""
    claim = CLAIMS[name]
    found = [one._replace(part=one.part or words.quantity(one.metric).name) for one in claim.find(study)]
    return found + _unmeasured(claim.parts(study), study, found) if found else []


def _unmeasured(parts: Sequence[Part], study: Study, found: Sequence[Finding]) -> list[Finding]:
    whom = {SOFT: [pair.name for pair in study.pairs], EVERY: list(study.settings), TOGETHER: []}
    lacking = []
    for part in parts:
        have = {one.setting for one in found if one.part == part.name}
        missing = [setting for setting in whom[part.whom] if setting not in have]
        lacking += [findings.unmeasured(setting, part.name) for setting in missing or [part.whom] * (not have)]
    return lacking


def _claim(statement: str, figure: str, *metrics: tuple[str, int, str]) -> Claim:
    """A claim on differences between soft labels and none, in `metrics` as `pairs.differences` takes them."""
    parts = [Part(name) for name in dict.fromkeys(part or words.quantity(metric).name for metric, _, part in metrics)]
    return Claim(statement, differences(*metrics), figure, lambda study: parts)


CLAIMS: dict[str, Claim] = {
    "norm": _claim("soft labels shrink the magnitude of features", "geometry", ("feature_norm", -1, "")),
    "cosine": _claim(
        "soft labels raise the cosine of features to the class centers, the points of least loss",
        "geometry",
        ("center_cosine", +1, ""),
    ),
    "cone": Claim(
        "decision regions are cones around the origin, with or without soft labels",
        cone,
        "maps",
        lambda study: [Part(CONES, EVERY), Part(ALIKE)],
        construction,
    ),
    "calibration": _claim(
        "soft labels improve calibration, before and after temperature scaling",
        "reliability",
        *(("ece", -1, BEFORE), ("nll", -1, BEFORE), ("ece_ts", -1, AFTER), ("nll_ts", -1, AFTER)),
    ),
    "robustness": Claim(
        "soft labels improve robustness to attacks",
        robustness,
        "robust_bars",
        lambda study: [Part(attack_of(metric)) for metric in attacked(study)],
        reliability,
    ),
    "temperature": Claim(
        "shrinking features acts like temperature scaling",
        temperature,
        "scaling",
        lambda study: [Part(SCALES, EVERY), Part(BEST, EVERY), Part(LENGTH)],
    ),
    "mechanism": Claim(
        "a higher cosine goes with robustness, a smaller norm with calibration",
        mechanism,
        "mechanism",
        lambda study: [Part(name, TOGETHER) for name in PARTS],
    ),
    "origin": Claim(
        "under soft labels attacks move features toward the origin",
        origin,
        "displacement",
        lambda study: [Part(words.quantity(metric).name) for metric in MOVES],
    ),
    "accuracy": _claim("soft labels raise accuracy", "seeds", ("accuracy", +1, "")),
}
