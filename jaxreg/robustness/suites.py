"""A suite on trained trials: attack after attack, and the radii that are minimal in the end."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxreg.robustness.attacks import ATTACKS, Attack, Suite
from jaxreg.robustness.audit import sizes, wrong
from jaxreg.robustness.trial import WRONG
from jaxreg.robustness.trials import Evaluation, Outcome

Report = Callable[[str, slice, np.ndarray], None]  # (attack, examples of a finished call, smallest radii [T, n])
Told = Callable[[slice, np.ndarray], None]  # the same of one attack


class Nearest(NamedTuple):
    """The nearest adversary known of each example, at any radius: how far it lies (inf: there is none) and where."""

    away_TN: Shaped[np.ndarray, "T N"]
    x_TNHWC: Shaped[np.ndarray, "T N H W C"]

    def or_nearer(self, away_TN: np.ndarray, x_TNHWC: np.ndarray) -> "Nearest":
        """The nearer one of two."""
        nearer_TN = away_TN < self.away_TN
        x_TNHWC = np.where(nearer_TN[..., None, None, None], x_TNHWC, self.x_TNHWC)
        return Nearest(np.where(nearer_TN, away_TN, self.away_TN), x_TNHWC)


def run(evaluation: Evaluation, chosen: Suite, report: Report) -> tuple[dict[str, Outcome], Nearest]:
    """Every attack of a suite, in order, and the nearest adversaries that all of them found.

    In a cascade each starts from what the ones before it broke. There an attack with a `reach` leaves out, at each
    radius, the examples whose nearest known adversary lies beyond `reach` radii, or that have none.
    """
    outcomes: dict[str, Outcome] = {}
    images = np.repeat(evaluation.images[None], len(evaluation.clean), 0)
    nothing = Nearest(np.full(images.shape[:2], np.inf), images)
    near, broken = nothing, None
    for name, attack in chosen.attacks.items():
        told, known = functools.partial(report, name), near if chosen.cascade else nothing
        if attack.method == "minimal":
            outcomes[name], found = _surveyed(evaluation, attack, known, broken, told)
        else:
            within = _within(evaluation, attack, known.away_TN)
            outcomes[name] = _masked(evaluation, evaluation.attack(attack, within, broken=broken, report=told))
            found = _nearest_hit(evaluation, outcomes[name])
        near, broken = near.or_nearer(*found), outcomes[name].smallest if chosen.cascade else None
    return outcomes, near


def minimal_radii(evaluation: Evaluation, near: Nearest, steps: int, report: Report) -> np.ndarray:
    """The minimal radius [T, N]: of the nearest adversary known, or that a last search of so many `steps` finds; 0 if
    misclassified, inf if none fooled.
    """
    if steps:
        attack, told = ATTACKS["minimal"]._replace(steps=steps), functools.partial(report, "minimal")
        near, _ = _searched(evaluation, attack, near, told)
    return np.where(wrong(evaluation.clean, evaluation.labels), 0.0, near.away_TN).astype(np.float32)


def _searched(evaluation: Evaluation, attack: Attack, near: Nearest, told: Told) -> tuple[Nearest, np.ndarray]:
    """A search for each target of the attack, one after another, from the nearest adversary and below its distance; or
    from the image up to twice the largest radius; and the evaluations that it took [T].
    """
    evaluations_T = np.zeros(len(evaluation.clean), np.int32)
    far = 2 * evaluation.radii[-1]
    far = np.float32(min(far, 1.0) if evaluation.norm == "linf" else far)
    for rank in range(max(1, attack.targets)):
        limits = np.where(np.isfinite(near.away_TN), near.away_TN, far).astype(np.float32)
        starts = near.x_TNHWC.astype(np.float32)
        found = evaluation.attack(attack, limits[:, None], starts=starts, target=rank, report=told)
        away_TN = np.where(found.robust[:, 0], np.inf, _away(evaluation, found)[:, 0])
        near = near.or_nearer(away_TN, found.adversarial[:, 0])
        evaluations_T = evaluations_T + found.evaluations
    return near, evaluations_T


def _surveyed(
    evaluation: Evaluation, attack: Attack, near: Nearest, broken_TN: np.ndarray | None, told: Told
) -> tuple[Outcome, Nearest]:
    """What searches mean at the radii, beside what is `broken` already; and the nearest adversaries."""
    found, evaluations_T = _searched(evaluation, attack, near, told)
    wrong_TN, radii_E1 = wrong(evaluation.clean, evaluation.labels), evaluation.radii[:, None]
    hits_TEN = (found.away_TN[:, None] <= radii_E1) & ~wrong_TN[:, None]
    smallest_TN = np.where(hits_TEN, radii_E1, np.float32(np.inf)).min(axis=1)
    smallest_TN = np.where(wrong_TN, np.float32(WRONG), smallest_TN)
    smallest_TN = smallest_TN if broken_TN is None else np.minimum(smallest_TN, broken_TN)
    x = np.where(hits_TEN[..., None, None, None], found.x_TNHWC[:, None], evaluation.images).astype(np.float32)
    return _masked(evaluation, Outcome(x, hits_TEN, smallest_TN, hits_TEN, evaluations_T)), found


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


def _nearest_hit(evaluation: Evaluation, outcome: Outcome) -> Nearest:
    """The nearest adversaries that this very outcome found."""
    away_TEN = np.where(outcome.hits, _away(evaluation, outcome), np.inf)
    place_T1N = np.argmin(away_TEN, axis=1)[:, None]
    x_TNHWC = np.take_along_axis(outcome.adversarial, place_T1N[..., None, None, None], axis=1)[:, 0]
    return Nearest(away_TEN.min(axis=1), x_TNHWC)
