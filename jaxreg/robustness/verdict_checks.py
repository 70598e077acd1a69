"""The numbers behind the verdict, gathered for all trials at once on a few of their examples."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxreg.checks import are_probabilities
from jaxreg.robustness.attacks import ATTACKS, Attack, fitted
from jaxreg.robustness.audit import Audit, audit, decided, wrong
from jaxreg.robustness.rows import Findings
from jaxreg.robustness.trial import AttackedExamples, diagnose_trial
from jaxreg.robustness.trials import Evaluation, Outcome
from jaxreg.runtime import parallel

EXAMPLES = 48  # of the split that the checks look at, but `restarts`, which looks at all that stand
TARGETS = 9  # classes at most that restarts aim at
FEWEST = 20  # standing examples: of fewer, one that falls counts as one of so many
DRAW = 2  # of random numbers: other starts than those of the suite and of the diagnosis


class Effort(NamedTuple):
    """How hard the checks look: examples, restarts a target, queries of the black-box attack (0: none)."""

    examples: int = EXAMPLES
    restarts: int = 1
    queries: int = 100


def attacks_needed(effort: Effort, classes: int) -> dict[str, Attack]:
    """Every attack that the checks run on so many classes: their programs must hold them."""
    base, adaptive = ATTACKS["pgd_margin"], ATTACKS["apgd_ce"]
    restarts = adaptive._replace(loss="targeted_margin", steps=20, targets=TARGETS, restarts=effort.restarts)
    square = {"square": ATTACKS["square"]._replace(steps=effort.queries)} if effort.queries else {}
    return {
        "base": base,
        "steps": base._replace(steps=2 * base.steps, step_size=base.step_size / 2),
        "restarts": fitted(restarts, classes),
        **square,
    }


def gather(evaluation: Evaluation, findings: Findings, effort: Effort) -> list[dict[str, float]]:
    """For each trial the number of every check that can be made."""
    few, middle = evaluation.part(slice(0, effort.examples)), len(evaluation.radii) // 2
    withstood = findings.worst.robust[:, middle]
    numbers = {
        **_outputs(few),
        **_gradients(few),
        **_audits(evaluation, findings.worst, findings.worst_TENK),
        **_attacks(few, evaluation.radii[middle], withstood[:, : effort.examples], effort),
        **_losses(findings.suite, findings.worst),
        "restarts": restarts(evaluation, withstood, effort),
    }
    numbers["precision"] = np.max([flips_TEN.mean(2) for flips_TEN in findings.flips.values()], axis=(0, 2))
    if "transfer" in findings.controls:
        numbers["transfer"] = (withstood & ~findings.controls["transfer"].robust[:, middle]).mean(1)
    return [
        {name: float(values[t]) for name, values in numbers.items() if name != "transfer" or findings.has_transfer(t)}
        for t in range(evaluation.networks.trials)
    ]


def _outputs(few: Evaluation) -> dict[str, np.ndarray]:
    """Are the outputs logits, finite, the same twice, and the same in another batch?"""
    # The clean logits may be those of an interrupted process, which may have rounded otherwise.
    first, again = few.networks.logits_of_all(few.images), few.networks.logits_of_all(few.images)
    turned = few.networks.logits_of_all(_among_others(few.images, few.networks.chunk))[:, ::-1][:, : len(few.labels)]
    largest = np.maximum(np.abs(np.nan_to_num(first)).max((1, 2)), 1e-30)

    def change(other: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.abs(other - first)).max((1, 2)) / largest

    return {
        "probabilities": are_probabilities(first).mean(1),
        "not_finite": (~np.isfinite(first).all(-1)).mean(1),
        "not_deterministic": change(again),
        "batch_dependent": change(turned),
    }


def _among_others(images: np.ndarray, chunk: int) -> np.ndarray:
    """A whole call's batch with the images last and backward, after others (their negatives)."""
    others = np.repeat(1 - images, -(-chunk // len(images)), axis=0)[: chunk - len(images)]
    return np.concatenate([others, images[::-1]])


def _gradients(few: Evaluation) -> dict[str, np.ndarray]:
    diagnose = few.networks.program(diagnose_trial, few.networks.apply)
    examples = AttackedExamples(few.images, few.labels, few.ids), np.uint32(few.seed)
    diagnosis = parallel.fetch(diagnose(few.networks.models, examples))
    share = {name: values.mean(1) for name, values in diagnosis._asdict().items()}
    return {
        "input_quantised": share["unmoved"],
        "gradient_zero": share["margin_zero"],
        "gradient_wrong": share["slope_wrong"],
        "ce_gradient_zero": share["ce_zero"],
    }


def _audits(evaluation: Evaluation, worst: Outcome, worst_TENK: np.ndarray) -> dict[str, np.ndarray]:
    def one(t: int) -> Audit:
        stored = worst.adversarial[t], worst_TENK[t], worst.robust[t]
        return audit(evaluation.images, *stored, evaluation.labels, evaluation.radii[:, None], evaluation.norm)

    columns = np.array([one(t) for t in range(len(worst_TENK))]).T
    return dict(zip(("audit_excess", "audit_outside", "audit_mismatch"), columns))


def _attacks(few: Evaluation, eps: float, withstood: np.ndarray, effort: Effort) -> dict[str, np.ndarray]:
    """Radius 0 and one that holds every image; what twice the steps and a black box add to the suite."""
    attacks, right = attacks_needed(effort, few.clean.shape[2]), ~wrong(few.clean, few.labels)
    attacks.pop("restarts")
    whole = 1.0 if few.norm == "linf" else float(np.sqrt(few.images[0].size))
    three = dataclasses.replace(few, radii=np.array([0, eps, whole], np.float32))
    base = three.attack(attacks.pop("base"), early_exit=False)
    alone = right[:, None] & ~base.hits
    numbers = {
        "zero_radius": ((alone[:, 0] != right) & decided(few.clean, few.labels)).mean(1),
        "large_radius": alone[:, 2].mean(1),
        "rises_with_radius": np.max(np.diff(alone.mean(2), axis=1), axis=1),
    }
    # In the order of the table: every process of a job runs the same attack at the same time.
    at_eps = dataclasses.replace(few, radii=three.radii[1:2])
    for name, attack in attacks.items():
        robust = at_eps.attack(attack).robust[:, 0]
        numbers["black_box" if name == "square" else name] = (withstood & ~robust).mean(1)
    return numbers


def restarts(evaluation: Evaluation, withstood_TN: Shaped[np.ndarray, "T N"], effort: Effort) -> np.ndarray:
    """Of all examples that withstood the suite at the middle radius, the share [T] that starts and targets of the
    check's own still break; of fewer than `FEWEST` examples, of so many.
    """
    radii_E = evaluation.radii[len(evaluation.radii) // 2 :][:1]
    fresh = dataclasses.replace(evaluation, radii=radii_E, draw=DRAW)
    attack = attacks_needed(effort, evaluation.clean.shape[2])["restarts"]
    radii_TEN = np.where(withstood_TN[:, None], radii_E[:, None], np.float32(-1))
    broken_TN = fresh.attack(attack, radii_TEN).hits[:, 0] & withstood_TN
    return broken_TN.sum(1) / np.maximum(withstood_TN.sum(1), FEWEST)


def _losses(suite: Mapping[str, Outcome], worst: Outcome) -> dict[str, np.ndarray]:
    """By how much the worst case lies below the best attack on the cross-entropy, at the radius where it does most."""
    ce = [outcome.robust for name, outcome in suite.items() if name.endswith("_ce")]
    if not ce or len(ce) == len(suite):
        return {}
    return {"ce_overstates": (np.all(ce, axis=0).mean(2) - worst.robust.mean(2)).max(1)}
