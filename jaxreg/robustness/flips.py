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
        return {name: contradicted(evaluation, outcome) for name, outcome in outcomes.items()}


def contradicted(evaluation: Evaluation, outcome: Outcome) -> np.ndarray:
    """Where fresh logits at the stored examples say otherwise than the mask [T, E, N].

    What a cascade knows of an example from an earlier attack does not count: its example is stored there.
    """
    again_TEN = wrong(evaluation.logits(outcome.adversarial), evaluation.labels)
    own_TEN = outcome.robust | np.logical_or.accumulate(outcome.hits, axis=1)
    known_TEN = own_TEN | wrong(evaluation.clean, evaluation.labels)[:, None]
    return known_TEN & (again_TEN == outcome.robust)
