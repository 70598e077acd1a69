"""A suite on trained trials: attack after attack, and the radii that are minimal in the end."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

from jaxreg.robustness.attacks import ATTACKS, Attack, Suite
from jaxreg.robustness.audit import sizes, wrong
from jaxreg.robustness.trial import WRONG
from jaxreg.robustness.trials import Evaluation, Outcome, distances, nearest, worst

Report = Callable[[str, slice, np.ndarray], None]  # (attack, examples of a finished call, smallest radii [T, n])


def run(evaluation: Evaluation, chosen: Suite, report: Report) -> dict[str, Outcome]:
    """Every attack of a suite, in order; in a cascade each starts from what the ones before it broke.

    There an attack with a `reach` leaves out, at each radius, the examples whose nearest known adversary lies beyond
    `reach` radii, once a search has told how far each is from being fooled.
    """
    outcomes: dict[str, Outcome] = {}
    away_TN = np.full(evaluation.clean.shape[:2], np.inf)
    for name, attack in chosen.attacks.items():
        told, known = functools.partial(report, name), list(outcomes.values()) if chosen.cascade else []
        broken = known[-1].smallest if known else None
        if attack.method == "minimal":
            outcomes[name], beyond_TN = _surveyed(evaluation, attack, worst(known) if known else None, told)
            away_TN = np.minimum(away_TN, beyond_TN)
        else:
            within = _within(evaluation, attack, away_TN) if known else None
            outcomes[name] = _masked(evaluation, evaluation.attack(attack, within, broken=broken, report=told))
        away_TN = np.minimum(away_TN, _nearest_hit(evaluation, outcomes[name]))
    return outcomes


def minimal_radii(evaluation: Evaluation, overall: Outcome, steps: int, report: Report) -> np.ndarray:
    """The minimal radius [T, N]: the nearest adversary of suite and search; 0 if misclassified, inf if none fooled."""
    attack, told = ATTACKS["minimal"]._replace(steps=steps), functools.partial(report, "minimal")
    searched = _search(evaluation, attack, overall, told)
    best_TN = np.min([distances(outcome, evaluation) for outcome in (searched, overall)], axis=0)
    return np.where(wrong(evaluation.clean, evaluation.labels), 0.0, best_TN).astype(np.float32)


def _search(
    evaluation: Evaluation, attack: Attack, known: Outcome | None, report: Callable[..., None], target: int = 0
) -> Outcome:
    """One search below the smallest radius that fooled, or up to twice the largest tried; from the nearest adversary,
    or the image where there is none.
    """
    far = 2 * evaluation.radii[-1]
    far = np.float32(min(far, 1.0) if evaluation.norm == "linf" else far)
    if known is None:
        limits = np.broadcast_to(far, evaluation.clean.shape[:2])
        return evaluation.attack(attack, limits[:, None], report=report, target=target)
    smallest, images = known.smallest, evaluation.images
    limits = np.where(np.isfinite(smallest) & (smallest > 0), smallest, far)
    starts = np.where(known.robust[:, -1, :, None, None, None], images, nearest(known))
    return evaluation.attack(attack, limits[:, None], starts=starts, report=report, target=target)


def _surveyed(
    evaluation: Evaluation, attack: Attack, known: Outcome | None, report: Callable[..., None]
) -> tuple[Outcome, np.ndarray]:
    """A search for each of the attack's targets, one after another: what it means at the radii, and how far the nearest
    adversary lies [T, N], beyond the largest radius too.
    """
    best_TN, best, evaluations = np.full(evaluation.clean.shape[:2], np.inf), None, 0
    for rank in range(max(1, attack.targets)):
        found = _search(evaluation, attack, known, report, rank)
        away_TN = np.where(found.robust[:, 0], np.inf, _away(evaluation, found)[:, 0])
        nearer_TN = away_TN < best_TN
        best_TN = np.minimum(away_TN, best_TN)
        own = found.adversarial[:, 0]
        best = own if best is None else np.where(nearer_TN[..., None, None, None], own, best)
        evaluations = evaluations + found.evaluations
    return _at_radii(evaluation, best_TN, np.asarray(best), known, evaluations), best_TN


def _at_radii(
    evaluation: Evaluation,
    away_TN: Shaped[np.ndarray, "T N"],
    adversarial_TNHWC: Shaped[np.ndarray, "T N H W C"],
    known: Outcome | None,
    evaluations: np.ndarray | int,
) -> Outcome:
    """The outcome at all radii of adversaries that lie `away`, and of what was known before."""
    wrong_TN, radii_E1 = wrong(evaluation.clean, evaluation.labels), evaluation.radii[:, None]
    hits_TEN = (away_TN[:, None] <= radii_E1) & ~wrong_TN[:, None]
    smallest_TN = np.where(hits_TEN, radii_E1, np.float32(np.inf)).min(axis=1)
    smallest_TN = np.where(wrong_TN, np.float32(WRONG), smallest_TN)
    smallest_TN = smallest_TN if known is None else np.minimum(smallest_TN, known.smallest)
    adversarial = np.where(hits_TEN[..., None, None, None], adversarial_TNHWC[:, None], evaluation.images)
    found = Outcome(adversarial, hits_TEN, smallest_TN, hits_TEN, np.asarray(evaluations))
    return _masked(evaluation, found)


def _masked(evaluation: Evaluation, found: Outcome) -> Outcome:
    """The same with its masks as the smallest radii say: an example left out stands where nothing has fooled it."""
    return found._replace(robust=~(found.smallest[:, None] <= evaluation.radii[:, None]))


def _within(evaluation: Evaluation, attack: Attack, away_TN: Shaped[np.ndarray, "T N"]) -> np.ndarray | None:
    """The radii [T, E, N] at which an attack with a reach looks at each example, below 0: not; None: at all."""
    if np.isinf(attack.reach):
        return None
    radii_E1 = evaluation.radii[:, None]
    return np.where(away_TN[:, None] <= attack.reach * radii_E1, radii_E1, np.float32(-1))


def _away(evaluation: Evaluation, outcome: Outcome) -> np.ndarray:
    """How far the points [T, E, N] of an outcome lie from the images."""
    x_ETNHWC = np.moveaxis(outcome.adversarial, 1, 0)
    return np.stack([sizes(x_TNHWC - evaluation.images, evaluation.norm) for x_TNHWC in x_ETNHWC], axis=1)


def _nearest_hit(evaluation: Evaluation, outcome: Outcome) -> np.ndarray:
    """How far the nearest adversary lies that this very outcome found [T, N]; inf: none."""
    return np.where(outcome.hits, _away(evaluation, outcome), np.inf).min(axis=1)
