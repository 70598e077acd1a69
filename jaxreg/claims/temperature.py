"""The claim on temperature: scaling features does to ECE what temperature does, and their length explains the gap."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from jaxreg.calibration import floors
from jaxreg.claims import findings, words
from jaxreg.claims.findings import Finding
from jaxreg.claims.settings import Pair, Study, having
from jaxreg.claims.words import ECE, POINTS
from jaxreg.geometry.rows import CALIBRATION_NOISE
from jaxreg.names import named, those

SCALES, BEST, LENGTH = "all scales", "the best scale", "the length of the soft label"
SAME = 0.01  # ECEs of two ways to scale that are closer than this are called the same


def temperature(study: Study) -> Iterator[Finding]:
    """Scaling features does to ECE what temperature does, at every scale and at the best one of each; the soft label's
    norm brings the baseline's ECE nearer to the soft label's.

    That two ECEs differ is said only of those that differ by more than the noise floor.
    """
    for part, find in ((SCALES, _scales), (BEST, _best)):
        for finding in find(study):
            noise = finding.p_against < finding.p_for and findings.within(finding.effect, study.floors[finding.setting])
            yield finding._replace(noise=bool(noise), part=part)
    for finding in _closed(list(having(study, "norm_swap_ece", "ece"))):
        yield finding._replace(part=LENGTH)


def _scales(study: Study) -> Iterator[Finding]:
    """How far the ECE of scaled features and that at the same temperature lie apart, on average over the scales."""
    apart, said = {}, []
    for name, values in study.settings.items():
        known = those(map(str, values), "scaled_ece", 1)
        scaled, tempered = list(known), [named("tempered_ece", *one.of) for one in known.values()]
        if not scaled or not set(tempered) <= set(values):
            continue
        apart_S = np.abs(values[scaled].to_numpy() - values[tempered].to_numpy()).mean(1)
        if np.isfinite(apart_S).any():
            apart[name] = apart_S
            mean = ECE.difference(float(np.nanmean(apart_S)))
            said.append(
                f"ECE of features scaled by s and at temperature 1/s differ by {mean} on average over {len(scaled)} s"
            )
    each, called = list(apart.values()), POINTS._replace(ends=(0.0, 1.0))
    yield from findings.levels(list(apart), "scaled_ece - tempered_ece", each, SAME, -1, said, called)


def _best(study: Study) -> Iterator[Finding]:
    """The ECE at the best scale of the features beside that at the best temperature."""
    one, other = "ece_best_scale", "ece_temperature"
    both = {name: _finite(values, one, other) for name, values in study.settings.items() if {one, other} <= set(values)}
    held = {name: sides for name, sides in both.items() if sides.size}
    scaled, tempered = ([sides[place] for sides in held.values()] for place in (0, 1))
    said = []
    for own_S, base_S in zip(scaled, tempered):
        means = own_S.mean(), base_S.mean()
        one_told, other_told = map(ECE.value, means)
        told = f"ECE {one_told} at the best scale of the features, {other_told} at the best temperature"
        said.append(f"{told}, {words.apart(ECE, means[0] - means[1])}")
    yield from findings.same(list(held), one, scaled, tempered, SAME, said, ECE)


def _finite(values: pd.DataFrame, *metrics: str) -> np.ndarray:
    """Metrics [M, S] at the seeds that have all of them."""
    columns = np.stack([values[metric].to_numpy() for metric in metrics])
    return columns[:, np.isfinite(columns).all(0)]


def _closed(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """By how much the baseline's distance to the soft label's ECE falls when it is given the soft label's mean norm.

    |before - goal| - |after - goal| of each seed: to overshoot by more than the gap is no closing. Where the mean gap
    lies inside the noise floor of ECE there is nothing to close, and where the effect does nothing was closed.
    """
    closed, said, gaps = [], [], []
    for pair in pairs:
        sides = (pair.base["ece"], pair.own["ece"], pair.own["norm_swap_ece"])
        sides_3S = np.stack([side.to_numpy() for side in sides])
        before, goal, after = sides_3S[:, np.isfinite(sides_3S).all(0)]
        closed.append(np.abs(before - goal) - np.abs(after - goal))
        gaps.append(floors.inside(float(np.mean(before - goal)), _floor(pair)))
        said.append(_way([float(np.mean(values)) for values in (before, after, goal, closed[-1])], gaps[-1]))
    found = findings.levels([pair.name for pair in pairs], "norm_swap_ece", closed, 0.0, +1, said, POINTS)
    for pair, finding, lost in zip(pairs, found, gaps):
        yield finding._replace(noise=lost or floors.inside(finding.effect, _floor(pair)), is_difference=True)


def _way(means: Sequence[float], lost: bool) -> str:
    """Three ECEs in words, how much nearer the goal is, and, of a gap that is one, which share of the way was made."""
    before, after, goal, closed = means
    one, two, three = map(ECE.value, (before, after, goal))
    told = f"with the mean feature length of this setting the ECE of none goes from {one} to {two}; here it is {three}"
    share = "" if lost else f", {100 * (after - before) / (goal - before):.0f} % of the way"
    return f"{told}: {'nearer' if closed > 0 else 'farther'} by {ECE.difference(abs(closed))}{share}"


def _floor(pair: Pair) -> float:
    return max(pair.floors.get("ece", 0.0), CALIBRATION_NOISE)
