"""From masks and adversarial examples of all trials to their rows and arrays."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxreg.measured import Measured, Row, Z, share_row
from jaxreg.names import named, radius_texts
from jaxreg.robustness import attacked_calibration, verdict
from jaxreg.robustness.trials import Evaluation, Outcome


class Findings(NamedTuple):
    """The outcomes of a suite on all trials: of its attacks, and `worst`, the worst case over them.

    `worst_TENK`, `strongest_TENK`: logits at its adversaries, and at the points of the highest loss. `controls` are
    beside the worst case; `sources` [T]: the trial that the transferred points come from (itself: they say nothing).
    `checks`: the numbers behind each trial's verdict, from `checked` examples. `flips` [T, E, N]: the masks of every
    outcome that the highest precision turns.
    """

    suite: Mapping[str, Outcome]
    worst: Outcome
    worst_TENK: np.ndarray
    strongest_TENK: np.ndarray
    controls: Mapping[str, Outcome]
    sources: np.ndarray | None = None
    min_eps_TN: np.ndarray | None = None
    checks: list[dict[str, float]] | None = None
    checked: int = 0
    flips: Mapping[str, np.ndarray] = MappingProxyType({})

    @property
    def everything(self) -> dict[str, Outcome]:
        """Every outcome, by the name in its rows."""
        return {**self.suite, **self.controls, "worst": self.worst}

    def outcomes(self, t: int) -> dict[str, Outcome]:
        """Everything that says something of trial `t`, by the name in its rows."""
        return {name: one for name, one in self.everything.items() if name != "transfer" or self.has_transfer(t)}

    def has_transfer(self, t: int) -> bool:
        """Whether the points of another trial were tried on trial `t`."""
        return self.sources is not None and bool(self.sources[t] != t)


def measured(findings: Findings, evaluation: Evaluation, trials: int, split: str, keep: str) -> list[Measured]:
    """The rows and arrays of each of the first `trials`."""
    names = [f"{kind}/{text}" for kind in ("strongest", "worst") for text in radius_texts(evaluation.radii)]
    both = np.concatenate([findings.strongest_TENK[:trials], findings.worst_TENK[:trials]], axis=1)
    examples = evaluation.labels, evaluation.ids
    confidence_T = attacked_calibration.rows(both, *examples, "attacked", names, split, evaluation.seed)
    return [_of_trial(findings, evaluation, t, split, keep, confidence_T[t]) for t in range(trials)]


def _of_trial(
    findings: Findings, evaluation: Evaluation, t: int, split: str, keep: str, confidence: list[Row]
) -> Measured:
    texts, rows = radius_texts(evaluation.radii), []
    arrays = {"radii": evaluation.radii, "norm": np.array(evaluation.norm)}
    for name, outcome in findings.outcomes(t).items():
        for e, text in enumerate(texts):
            rows.append(share_row(split, named("robust_accuracy", name, text), outcome.robust[t, e]))
            if name in findings.flips:
                rows.append(share_row(split, named("mask_flips", name, text), findings.flips[name][t, e]))
            arrays[named("robust", name, text)] = outcome.robust[t, e]
            if name == "worst" or keep == "all":
                arrays[named("adversarial", name, text)] = outcome.adversarial[t, e]
    for name, logits_TENK in {"worst": findings.worst_TENK, "strongest": findings.strongest_TENK}.items():
        for e, text in enumerate(texts):
            arrays[named("adversarial_logits", name, text)] = logits_TENK[t, e]
    if findings.min_eps_TN is not None:
        arrays["min_eps"] = findings.min_eps_TN[t]
        rows += _median(split, findings.min_eps_TN[t])
    if findings.checks is not None:
        rows += _verdict(split, findings.checks[t], findings.checked)
    return Measured(rows + confidence, arrays)


def _verdict(split: str, numbers: dict[str, float], count: int) -> list[Row]:
    word = verdict.WORDS.index(verdict.judge(numbers).word)
    checks = [Row(split, named("verdict", name), value, count) for name, value in numbers.items()]
    return [Row(split, "verdict", float(word), count), *checks]


def _median(split: str, values_N: np.ndarray) -> list[Row]:
    """The median with the interval of its order statistics, free of any law; no row where it lies beyond the search."""
    ordered, count = np.sort(values_N), len(values_N)
    middle = float(np.median(ordered))
    if not math.isfinite(middle):
        return []
    half = Z * math.sqrt(count) / 2
    low, high = ordered[max(0, math.floor(count / 2 - half))], ordered[min(count - 1, math.ceil(count / 2 + half))]
    return [Row(split, "min_eps/median", middle, count, float(low), float(high) if math.isfinite(high) else None)]
