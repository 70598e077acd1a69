"""The claims: each a sentence, the tests that bear on it, and the figure that shows it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxreg.claims import findings
from jaxreg.claims.findings import Finding
from jaxreg.claims.study import Pair, Study, having

CONE_HIGH = 0.95  # a share of predictions that are final along their ray, from here on called high
CONE_SAME = 0.02  # cone fractions closer than this are called the same
CONTROLS = ("noise", "transfer")  # among the names of attacks
ECE_SAME = 0.01  # the same, for the ECE of two ways to scale


class Claim(NamedTuple):
    """A sentence of the paper, the tests that bear on it, and the figure that shows it."""

    statement: str
    find: Callable[[Study], Iterator[Finding]]
    figure: str


def differences(*metrics: tuple[str, int]) -> Callable[[Study], Iterator[Finding]]:
    """Paired differences of every pair, soft - none, of metrics with the direction that the claim expects."""

    def find(study: Study) -> Iterator[Finding]:
        for metric, direction in metrics:
            for pair in having(study, metric):
                values = pair.own[metric].to_numpy(), pair.base[metric].to_numpy()
                yield findings.difference(pair.name, metric, *values, direction, pair.floors.get(metric, 0.0))

    return find


def cone(study: Study) -> Iterator[Finding]:
    """Cone fraction high in every setting, and the same for soft labels as for none."""
    for name, values in study.settings.items():
        if "cone_fraction" in values:
            yield findings.level(name, "cone_fraction", values["cone_fraction"].to_numpy(), CONE_HIGH, +1)
    for pair in having(study, "cone_fraction"):
        values = pair.own["cone_fraction"].to_numpy(), pair.base["cone_fraction"].to_numpy()
        yield findings.same(pair.name, "cone_fraction", *values, CONE_SAME)


def robustness(study: Study) -> Iterator[Finding]:
    """Robust accuracy of each attack and of the worst case, at one radius: `radius` says which."""
    chosen = radius(study)
    names = {name for pair in study.pairs for name in pair.own if _attacked(name) and name.split("/")[2] == chosen}
    yield from differences(*((name, +1) for name in sorted(names)))(study)


def temperature(study: Study) -> Iterator[Finding]:
    """Scaling features does to ECE what temperature does, at every scale and at the best one of each; the soft label's
    norm closes the baseline's gap of ECE.
    """
    for name, values in study.settings.items():
        scaled = [column for column in values if column.startswith("scaled_ece/")]
        tempered = [column.replace("scaled", "tempered") for column in scaled]
        if scaled and set(tempered) <= set(values):
            apart_S = np.abs(values[scaled].to_numpy() - values[tempered].to_numpy()).mean(1)
            said = f"ECE of s h and at T = 1/s differ by {np.mean(apart_S):.4f} on average over {len(scaled)} scales"
            yield findings.level(name, "scaled_ece - tempered_ece", apart_S, ECE_SAME, -1, said)
    for name, values in study.settings.items():
        if {"ece_best_scale", "ece_temperature"} <= set(values):
            both = values["ece_best_scale"].to_numpy(), values["ece_temperature"].to_numpy()
            yield findings.same(name, "ece_best_scale", *both, ECE_SAME, "ECE by scale, by temperature: {:.4f}, {:.4f}")
    for pair in having(study, "norm_swap_ece", "ece"):
        yield _closed(pair)


def mechanism(study: Study) -> Iterator[Finding]:
    """Higher cosine with robustness, smaller norm with calibration: over trials; the first also within each trial."""
    every = pd.concat(study.settings.values()) if study.settings else pd.DataFrame()
    chosen = radius(study)
    robust = [name for name in every if _attacked(name) and name.split("/")[2] == chosen]
    robust = [name for name in robust if "/worst/" in name] or sorted(robust)[:1]
    for one, other in (("center_cosine", robust[0] if robust else ""), ("feature_norm", "ece")):
        if {one, other} <= set(every):
            said = f"rank correlation of {one} with {other} over all trials"
            yield findings.correlation("all settings", one, every[one].to_numpy(), every[other].to_numpy(), said)
    for name, values in study.within.items():
        said = f"mean over trials of the rank correlation over examples, {np.mean(values):.3f}"
        yield findings.level(name, "center_cosine, min_eps", np.asarray(values, float), 0.0, +1, said)


def origin(study: Study) -> Iterator[Finding]:
    """Under attack features of soft labels move toward the origin, and shrink."""
    for metric, direction in (("adversarial_radial_cosine", +1), ("adversarial_norm_change", -1)):
        for pair in study.pairs:
            if metric in pair.own:
                means = [side[metric].mean() for side in (pair.own, pair.base) if metric in side]
                said = " against ".join(f"{mean:.4g}" for mean in means) + (" for none" if len(means) > 1 else "")
                yield findings.level(pair.name, metric, pair.own[metric].to_numpy(), 0.0, direction, said)


def radius(study: Study) -> str:
    """The radius to test at, as metrics name it: where most attacks were run; among these where the baseline is nearest
    to half its clean accuracy, so that there is room on both sides. The soft labels have no say.
    """
    base = pd.concat([pair.base for pair in study.pairs]) if study.pairs else pd.DataFrame()
    names = [name for name in base if _attacked(name)]
    radii = {name.split("/")[2] for name in names}
    if not radii:
        return ""

    def rank(eps: str) -> tuple[int, float]:
        values = base[[name for name in names if name.split("/")[2] == eps]]
        half = base["accuracy"].mean() / 2 if "accuracy" in base else 0.5
        return -values.shape[1], abs(float(values.to_numpy().mean()) - half)

    return min(sorted(radii, key=float), key=rank)


def _closed(pair: Pair) -> Finding:
    """How much of its way to the soft label's ECE the baseline goes when given the soft label's mean norm."""
    before, goal, after = (side.to_numpy() for side in (pair.base["ece"], pair.own["ece"], pair.own["norm_swap_ece"]))
    gap = float(np.mean(before - goal))
    moved = (before - after) * (1.0 if gap >= 0 else -1.0)
    said = f"the norm closes {np.mean(moved) / abs(gap):.0%} of a gap of {gap:.4f}" if gap else "there is no gap"
    return findings.level(pair.name, "norm_swap_ece", moved, 0.0, +1, said)


def _attacked(metric: str) -> bool:
    """Whether it is a robust accuracy under an attack: not under random noise or adversaries of another trial.

    Adversaries of the baseline fool the baseline itself by construction: the difference would prove nothing.
    """
    parts = metric.split("/")
    is_robust = len(parts) == 3 and parts[0] == "robust_accuracy" and float(parts[2]) > 0
    return is_robust and parts[1] not in CONTROLS


CLAIMS: dict[str, Claim] = {
    "norm": Claim("soft labels shrink the magnitude of features", differences(("feature_norm", -1)), "geometry"),
    "cosine": Claim(
        "soft labels raise the cosine of features to the class centers, the points of least loss",
        differences(("center_cosine", +1)),
        "geometry",
    ),
    "cone": Claim("decision regions are cones around the origin, with or without soft labels", cone, "maps"),
    "calibration": Claim(
        "soft labels improve calibration, before and after temperature scaling",
        differences(("ece", -1), ("nll", -1), ("ece_ts", -1), ("nll_ts", -1)),
        "reliability",
    ),
    "robustness": Claim("soft labels improve robustness to attacks", robustness, "robust_bars"),
    "temperature": Claim("shrinking features acts like temperature scaling", temperature, "scaling"),
    "mechanism": Claim("a higher cosine goes with robustness, a smaller norm with calibration", mechanism, "geometry"),
    "origin": Claim("under soft labels attacks move features toward the origin", origin, "displacement"),
    "accuracy": Claim("soft labels raise accuracy", differences(("accuracy", +1)), "seeds"),
}
