"""The claims: each a sentence, the tests that bear on it, and the figure that shows it."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxreg.calibration import floors
from jaxreg.claims import findings
from jaxreg.claims.findings import Finding
from jaxreg.claims.study import Pair, Study, having
from jaxreg.geometry.summary import CALIBRATION_NOISE

CONE_HIGH = 0.95  # a share of predictions that are final along their ray, from here on called high
CONE_SAME = 0.02  # cone fractions closer than this are called the same
CONTROLS = ("noise", "transfer")  # among the names of attacks
ECE_SAME = 0.01  # the same, for the ECE of two ways to scale


class Claim(NamedTuple):
    """A sentence of the paper, the tests that bear on it, and the figure that shows it."""

    statement: str
    find: Callable[[Study], Iterator[Finding]]
    figure: str
    caveat: Callable[[Study], str] = lambda study: ""  # what a reader of the verdict must know; "" for nothing


def differences(*metrics: tuple[str, int]) -> Callable[[Study], Iterator[Finding]]:
    """Paired differences of every pair, soft - none, of metrics with the direction that the claim expects."""

    def find(study: Study) -> Iterator[Finding]:
        for metric, direction in metrics:
            pairs = list(having(study, metric))
            ends = [pair.floors.get(metric, 0.0) for pair in pairs]
            yield from findings.differences(*_sides(pairs, metric), direction, ends)

    return find


def cone(study: Study) -> Iterator[Finding]:
    """Cone fraction high in every setting, and the same for soft labels as for none."""
    metric, step = "cone_fraction", study.steps.get("cone_fraction", 0.0)
    found = {name: values[metric].to_numpy() for name, values in study.settings.items() if metric in values}
    yield from findings.levels(list(found), metric, list(found.values()), CONE_HIGH, +1, step=step)
    yield from findings.same(*_sides(list(having(study, metric)), metric), CONE_SAME, step=step)


def robustness(study: Study) -> Iterator[Finding]:
    """Robust accuracy of each attack and of the worst case, at one radius: `radius` says which."""
    chosen = radius(study)
    names = {name for pair in study.pairs for name in pair.own if _attacked(name) and name.split("/")[2] == chosen}
    yield from differences(*((name, +1) for name in sorted(names)))(study)


def reliability(study: Study) -> str:
    """How many of the attacked trials have robust accuracies that their checks call suspect or broken."""
    found = [values["verdict"].dropna() for values in study.settings.values() if "verdict" in values]
    verdicts = pd.concat(found) if found else pd.Series(dtype=float)
    doubted = int((verdicts > 0).sum())
    return f"{doubted} of {len(verdicts)} trials have a verdict other than reliable" if len(verdicts) else ""


def temperature(study: Study) -> Iterator[Finding]:
    """Scaling features does to ECE what temperature does, at every scale and at the best one of each; the soft label's
    norm brings the baseline's ECE nearer to the soft label's.
    """
    yield from _scales(study)
    one, other = "ece_best_scale", "ece_temperature"
    held = {name: values for name, values in study.settings.items() if {one, other} <= set(values)}
    scaled, tempered = ([values[metric].to_numpy() for values in held.values()] for metric in (one, other))
    said = "ECE by scale, by temperature: {:.4f}, {:.4f}"
    yield from findings.same(list(held), one, scaled, tempered, ECE_SAME, said)
    yield from _closed(list(having(study, "norm_swap_ece", "ece")))


def mechanism(study: Study) -> Iterator[Finding]:
    """Higher cosine with robustness, smaller norm with calibration: over trials; the first also within each trial.

    Trials of one setting are more alike than the test over trials supposes: beside it stands the correlation of the
    means of the settings, too few of them for a test of their own.
    """
    for one, other in relations(study):
        held = [values for values in study.settings.values() if one in values and other in values]
        sides = [np.stack([values[one].to_numpy(), values[other].to_numpy()]) for values in held]
        settings = [known for both in sides if (known := both[:, ~np.isnan(both).any(0)]).size]
        if settings:
            r = findings.rank_correlation(*np.array([both.mean(1) for both in settings]).T)
            said = f"rank correlation with {other} over all trials; of the means of {len(settings)} settings {r:.2f}"
            one_T, other_T = np.concatenate(settings, 1)
            yield findings.correlation("all settings", one, one_T, other_T, said)
    values = [np.asarray(own, float) for own in study.within.values()]
    told = ["mean over trials of the rank correlation over examples that are right without attack"] * len(values)
    yield from findings.levels(list(study.within), "center_cosine, min_eps", values, 0.0, +1, told)


def relations(study: Study) -> list[tuple[str, str]]:
    """The pairs of metrics that `mechanism` correlates over trials, of those that were measured."""
    known = {name for values in study.settings.values() for name in values}
    chosen = radius(study)
    robust = sorted(name for name in known if _attacked(name) and name.split("/")[2] == chosen)
    robust = [name for name in robust if "/worst/" in name] or robust[:1]
    wanted = (("center_cosine", robust[0] if robust else ""), ("feature_norm", "ece"))
    return [pair for pair in wanted if set(pair) <= known]


def origin(study: Study) -> Iterator[Finding]:
    """Under attack features of soft labels move toward the origin, and shrink."""
    for metric, direction in (("adversarial_radial_cosine", +1), ("adversarial_norm_change", -1)):
        pairs, said = [pair for pair in study.pairs if metric in pair.own], []
        for pair in pairs:
            means = [side[metric].mean() for side in (pair.own, pair.base) if metric in side]
            told = " against ".join(f"{mean:.4g}" for mean in means) + (" for none" if len(means) > 1 else "")
            said.append(f"{told}, over examples that are right without attack")
        names, values = [pair.name for pair in pairs], [pair.own[metric].to_numpy() for pair in pairs]
        yield from findings.levels(names, metric, values, 0.0, direction, said)


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


def _sides(pairs: Sequence[Pair], metric: str) -> tuple[list[str], str, list[np.ndarray], list[np.ndarray]]:
    """Names, metric, own values, values of the baseline: as `findings` takes them."""
    own = [pair.own[metric].to_numpy() for pair in pairs]
    return [pair.name for pair in pairs], metric, own, [pair.base[metric].to_numpy() for pair in pairs]


def _scales(study: Study) -> Iterator[Finding]:
    """How far the ECE of scaled features and that at the same temperature lie apart, on average over the scales."""
    apart, said = {}, []
    for name, values in study.settings.items():
        scaled = [column for column in values if column.startswith("scaled_ece/")]
        tempered = [column.replace("scaled", "tempered") for column in scaled]
        if scaled and set(tempered) <= set(values):
            apart[name] = np.abs(values[scaled].to_numpy() - values[tempered].to_numpy()).mean(1)
            mean = np.mean(apart[name])
            said.append(f"ECE of s h and at T = 1/s differ by {mean:.4f} on average over {len(scaled)} scales")
    yield from findings.levels(list(apart), "scaled_ece - tempered_ece", list(apart.values()), ECE_SAME, -1, said)


def _closed(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """By how much the baseline's distance to the soft label's ECE falls when it is given the soft label's mean norm.

    |before - goal| - |after - goal| of each seed: to overshoot by more than the gap is no closing. Where the mean gap
    lies inside the noise floor of ECE there is nothing to close: inconclusive.
    """
    closed, said, gaps = [], [], []
    for pair in pairs:
        before, goal, after = (s.to_numpy() for s in (pair.base["ece"], pair.own["ece"], pair.own["norm_swap_ece"]))
        closed.append(np.abs(before - goal) - np.abs(after - goal))
        gaps.append(float(np.nanmean(before - goal)))
        means = (np.nanmean(values) for values in (before, after, goal))
        said.append("ECE {:.4f}, with the norm {:.4f}, goal {:.4f}".format(*means))
    found = findings.levels([pair.name for pair in pairs], "norm_swap_ece", closed, 0.0, +1, said)
    for pair, finding, gap in zip(pairs, found, gaps):
        floor = max(pair.floors.get("ece", 0.0), CALIBRATION_NOISE)
        yield finding._replace(noise=floors.inside(gap, floor))


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
    "robustness": Claim("soft labels improve robustness to attacks", robustness, "robust_bars", reliability),
    "temperature": Claim("shrinking features acts like temperature scaling", temperature, "scaling"),
    "mechanism": Claim("a higher cosine goes with robustness, a smaller norm with calibration", mechanism, "mechanism"),
    "origin": Claim("under soft labels attacks move features toward the origin", origin, "displacement"),
    "accuracy": Claim("soft labels raise accuracy", differences(("accuracy", +1)), "seeds"),
}
