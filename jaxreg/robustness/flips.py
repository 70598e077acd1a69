"""Which masks turn when every stored example is looked at once more, at the highest precision."""

from collections.abc import Mapping

import jax
import numpy as np

from jaxreg.robustness.audit import wrong
from jaxreg.robustness.trials import Evaluation, Outcome
from jaxreg.runtime.precision import HIGHEST


def recomputed(evaluation: Evaluation, outcomes: Mapping[str, Outcome]) -> dict[str, np.ndarray]:
    """By attack the masks [T, E, N] that a forward pass at the highest precision contradicts."""
    with jax.default_matmul_precision(HIGHEST):
        clean_TN = wrong(evaluation.networks.logits_of_all(evaluation.images), evaluation.labels)
        return {name: contradicted(evaluation, outcome, clean_TN) for name, outcome in outcomes.items()}


def contradicted(evaluation: Evaluation, outcome: Outcome, clean_TN: np.ndarray) -> np.ndarray:
    """Where fresh logits say otherwise than the mask [T, E, N]: at the stored examples, or at the clean images.

    The mask of an example that is wrong without attack is of its clean image: `clean_TN`, whether that is wrong still.
    What a cascade knows of an example from an earlier attack does not count: its example is stored there.
    """
    wrong_TEN = wrong(evaluation.clean, evaluation.labels)[:, None]
    stored_TEN = wrong(evaluation.logits(outcome.adversarial), evaluation.labels)
    again_TEN = np.where(wrong_TEN, clean_TN[:, None], stored_TEN)
    known_TEN = outcome.robust | np.logical_or.accumulate(outcome.hits, axis=1) | wrong_TEN
    return known_TEN & (again_TEN == outcome.robust)
