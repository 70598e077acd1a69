"""From masks and adversarial examples of all trials to the rows and arrays of one."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxreg.measured import Measured, Row, Z, share_row
from jaxreg.names import named, radius_texts
from jaxreg.robustness import verdict
from jaxreg.robustness.audit import sizes
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.trials import Outcome


class Findings(NamedTuple):
    """What a suite found on all trials; `worst` is the per-example worst case of all attacks.

    `worst_TENK`, `strongest_TENK`: logits at its adversaries, and at the points of the highest loss. `left_out`: names
    of outcomes, and of which trials they say nothing. `checks`: the numbers behind each trial's verdict, from `checked`
    examples.
    """

    outcomes: Mapping[str, Outcome]
    worst: Outcome
    worst_TENK: np.ndarray
    strongest_TENK: np.ndarray
    left_out: Mapping[str, np.ndarray]
    min_eps_TN: np.ndarray | None
    checks: list[dict[str, float]] | None
    checked: int


def worst(outcomes: list[Outcome]) -> Outcome:
    """Robust only against all; the adversary of the first attack, in the suite's order, that fools."""
    robust_ATEN = np.stack([outcome.robust for outcome in outcomes])
    first_TEN = np.argmax(~robust_ATEN, axis=0)
    adversarial = outcomes[0].adversarial.copy()
    for a, outcome in enumerate(outcomes):
        adversarial[first_TEN == a] = outcome.adversarial[first_TEN == a]
    smallest = np.min([outcome.smallest for outcome in outcomes], axis=0)
    hits = np.any([outcome.hits for outcome in outcomes], axis=0)
    evaluations = np.sum([outcome.evaluations for outcome in outcomes], axis=0)
    return Outcome(np.all(robust_ATEN, axis=0), adversarial, smallest, hits, evaluations)


def nearest(worst: Outcome) -> np.ndarray:
    """The adversary [T, N, H, W, C] of each example's smallest fooling radius."""
    first_T1N = np.argmax(~worst.robust, axis=1)[:, None]
    spread = (..., *(None,) * (worst.adversarial.ndim - 3))
    return np.take_along_axis(worst.adversarial, first_T1N[spread], axis=1)[:, 0]


def minimal_radii(found: Outcome, worst: Outcome, images: np.ndarray, broken: np.ndarray, norm: Norm) -> np.ndarray:
    """Minimal radius [T, N]: the nearest adversary of search and suite; 0 if misclassified, inf if none fooled."""
    searched = sizes(found.adversarial[:, 0] - images, norm)
    best = np.where(found.robust[:, 0], np.inf, searched)
    for e in range(worst.robust.shape[1]):
        best = np.minimum(best, np.where(worst.robust[:, e], np.inf, sizes(worst.adversarial[:, e] - images, norm)))
    return np.where(broken < 0, 0.0, best).astype(np.float32)


def measured(found: Findings, t: int, radii: np.ndarray, norm: Norm, split: str, keep: str) -> Measured:
    """The rows and arrays of trial `t`."""
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {"radii": radii, "norm": np.array(norm)}
    texts = radius_texts(radii)
    for name, outcome in {**found.outcomes, "worst": found.worst}.items():
        if name in found.left_out and found.left_out[name][t]:
            continue
        for e, text in enumerate(texts):
            rows.append(share_row(split, named("robust_accuracy", name, text), outcome.robust[t, e]))
            arrays[named("robust", name, text)] = outcome.robust[t, e]
            if name == "worst" or keep == "all":
                arrays[named("adversarial", name, text)] = outcome.adversarial[t, e]
    for name, logits_TENK in {"worst": found.worst_TENK, "strongest": found.strongest_TENK}.items():
        for e, text in enumerate(texts):
            arrays[named("adversarial_logits", name, text)] = logits_TENK[t, e]
    if found.min_eps_TN is not None:
        arrays["min_eps"] = found.min_eps_TN[t]
        rows.extend(_median(split, found.min_eps_TN[t]))
    if found.checks is not None:
        rows.extend(_verdict(split, found.checks[t], found.checked))
    return Measured(rows, arrays)


def _verdict(split: str, numbers: dict[str, float], count: int) -> list[Row]:
    word = verdict.WORDS.index(verdict.judge(numbers).word)
    checks = [Row(split, f"verdict/{name}", value, count) for name, value in numbers.items()]
    return [Row(split, "verdict", float(word), count), *checks]


def read_verdict(rows: list[Row]) -> verdict.Verdict:
    """The verdict in words, from the rows verdict/CHECK of one trial."""
    numbers = {row.metric.removeprefix("verdict/"): row.value for row in rows if row.metric.startswith("verdict/")}
    return verdict.judge(numbers)


def _median(split: str, values_N: np.ndarray) -> list[Row]:
    """The median with the interval of its order statistics, free of any law; no row where it lies beyond the search."""
    ordered, count = np.sort(values_N), len(values_N)
    middle = float(np.median(ordered))
    if not math.isfinite(middle):
        return []
    half = Z * math.sqrt(count) / 2
    low, high = ordered[max(0, math.floor(count / 2 - half))], ordered[min(count - 1, math.ceil(count / 2 + half))]
    return [Row(split, "min_eps/median", middle, count, float(low), float(high) if math.isfinite(high) else None)]
