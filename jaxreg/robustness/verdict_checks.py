"""The numbers behind the verdict, gathered for all trials at once on a few of their examples."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg.robustness import trial
from jaxreg.robustness.attacks import ATTACKS, Attack
from jaxreg.robustness.audit import Audit, audit, decided, wrong
from jaxreg.robustness.border import probabilities
from jaxreg.robustness.trials import Bench, Data, Outcome, logits, run_attack

EXAMPLES = 48  # of the split that the checks look at


class Effort(NamedTuple):
    """How hard the checks look: examples, restarts against one, queries of the black-box attack (0: none)."""

    examples: int = EXAMPLES
    restarts: int = 3
    queries: int = 100


def attacks_needed(effort: Effort) -> dict[str, Attack]:
    """Every attack that the checks run: their programs must hold them."""
    base = ATTACKS["pgd_margin"]
    square = {"square": ATTACKS["square"]._replace(steps=effort.queries)} if effort.queries else {}
    return {
        "base": base,
        "steps": base._replace(steps=2 * base.steps, step_size=base.step_size / 2),
        "restarts": base._replace(restarts=effort.restarts),
        **square,
    }


def gather(
    bench: Bench,
    diagnose: Callable[[Any, Any], Any],
    data: Data,
    radii: np.ndarray,
    outcomes: Mapping[str, Outcome],
    worst: Outcome,
    worst_logits: np.ndarray,
    transfer: Outcome | None,
    effort: Effort,
) -> list[dict[str, float]]:
    """For each trial the number of every check that can be made; `transfer`: another trial's adversaries on it."""
    few = data.take(slice(0, effort.examples))
    middle = len(radii) // 2
    numbers = {
        **_outputs(bench, few),
        **_gradients(bench, diagnose, few),
        **_audits(data, radii, worst, worst_logits, bench),
        **_attacks(bench, few, radii[middle], worst.robust[:, middle, : effort.examples], effort),
        **_losses(outcomes, worst),
    }
    if transfer is not None:
        numbers["transfer"] = (worst.robust & ~transfer.robust)[:, middle].mean(1)
    return [{name: float(values[t]) for name, values in numbers.items()} for t in range(bench.trials)]


def _outputs(bench: Bench, few: Data) -> dict[str, np.ndarray]:
    """Are the outputs logits, numbers, the same twice, and the same in another batch?"""
    own = np.broadcast_to(few.images, (bench.trials, *few.images.shape))
    again, turned = logits(bench, own), logits(bench, _among_others(bench, own))[:, ::-1][:, : len(few.labels)]
    z = few.clean
    largest = np.maximum(np.abs(np.nan_to_num(z)).max((1, 2)), 1e-30)

    def change(other: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.abs(other - z)).max((1, 2)) / largest

    return {
        "probabilities": probabilities(z).mean(1),
        "not_finite": (~np.isfinite(z).all(-1)).mean(1),
        "not_deterministic": change(again),
        "batch_dependent": change(turned),
    }


def _among_others(bench: Bench, own: np.ndarray) -> np.ndarray:
    """A whole call's batch with the images last and backward, after others (their negatives)."""
    others = np.repeat(1 - own, -(-bench.chunk // own.shape[1]), axis=1)[:, : bench.chunk - own.shape[1]]
    return np.concatenate([others, own[:, ::-1]], axis=1)


def _gradients(bench: Bench, diagnose: Callable[[Any, Any], Any], few: Data) -> dict[str, np.ndarray]:
    found = trial.host(diagnose(bench.models, (few.images, few.labels, few.ids, np.uint32(bench.seed))))
    share = {name: values.mean(1) for name, values in found._asdict().items()}
    return {
        "input_quantised": share["unmoved"],
        "gradient_zero": share["margin_zero"],
        "gradient_wrong": share["slope_wrong"],
        "ce_gradient_zero": share["ce_zero"],
    }


def _audits(
    data: Data, radii: np.ndarray, worst: Outcome, worst_logits: np.ndarray, bench: Bench
) -> dict[str, np.ndarray]:
    def one(t: int) -> Audit:
        stored = worst.adversarial[t], worst_logits[t], worst.robust[t]
        return audit(data.images, *stored, data.labels, radii[:, None], bench.norm)

    columns = np.array([one(t) for t in range(bench.trials)]).T
    return dict(zip(("audit_excess", "audit_outside", "audit_mismatch"), columns))


def _attacks(bench: Bench, few: Data, eps: float, withstood: np.ndarray, effort: Effort) -> dict[str, np.ndarray]:
    """Radius 0 and one that holds every image; what twice the steps, restarts and a black box add to the suite."""
    attacks, unbroken = attacks_needed(effort), trial.unbroken(few.clean, few.labels)
    whole = 1.0 if bench.norm == "linf" else float(np.sqrt(few.images[0].size))
    radii = np.array([0, eps, whole], np.float32)
    base = run_attack(bench, attacks.pop("base"), radii, few, unbroken, early_exit=False)
    right = ~wrong(few.clean, few.labels)
    alone = right[:, None] & ~base.hits
    numbers = {
        "zero_radius": ((alone[:, 0] != right) & decided(few.clean, few.labels)).mean(1),
        "large_radius": alone[:, 2].mean(1),
        "rises_with_radius": np.max(np.diff(alone.mean(2), axis=1), axis=1),
    }
    # In the order of the table: every process of a job runs the same attack at the same time.
    for name, attack in attacks.items():
        more = run_attack(bench, attack, radii[1:2], few, unbroken)
        numbers["black_box" if name == "square" else name] = (withstood & ~more.robust[:, 0]).mean(1)
    return numbers


def _losses(outcomes: Mapping[str, Outcome], worst: Outcome) -> dict[str, np.ndarray]:
    """By how much the worst case lies below the best attack on the cross-entropy, at the radius where it does most."""
    ce = [outcome.robust for name, outcome in outcomes.items() if name.endswith("_ce")]
    if not ce or len(ce) == len(outcomes):
        return {}
    return {"ce_overstates": (np.all(ce, axis=0).mean(2) - worst.robust.mean(2)).max(1)}
