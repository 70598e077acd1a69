"""Does confidence know which predictions are wrong: risk against coverage, and errors against correct ones."""

import jax.numpy as jnp
from jax import Array

from jaxreg.calibration.ranking import Ranking, rank, running_total


def aurc(confidence_N: Array, correct_N: Array, mask_N: Array, ranking: Ranking | None = None) -> Array:
    """Area under the risk-coverage curve: mean over n of the error rate among the n most confident, in [0, 1].

    Within a group of ties the expectation over their orders is taken, so the order of the examples changes nothing.
    `ranking` is the one of the confidences, where it is known already.

    References: Geifman, Uziel and El-Yaniv, 2019, https://arxiv.org/abs/1805.08206.
    """
    low_N, high_N, order_N = rank(confidence_N, mask_N) if ranking is None else ranking
    wrong_N = ((1 - correct_N) * mask_N)[order_N]
    errors = running_total(wrong_N)
    low_N, high_N = low_N[order_N], high_N[order_N]
    position_N = jnp.arange(len(wrong_N))
    share_N = (position_N - low_N) / jnp.maximum(high_N - low_N, 1)
    below_N = errors[low_N] + share_N * (errors[high_N] - errors[low_N])
    covered_N = jnp.sum(mask_N) - position_N
    risk_N = (errors[-1] - below_N) / jnp.maximum(covered_N, 1)
    return jnp.sum(jnp.where(covered_N > 0, risk_N, 0.0)) / jnp.sum(mask_N)


def auroc(confidence_N: Array, correct_N: Array, mask_N: Array, ranking: Ranking | None = None) -> Array:
    """P(a correct prediction is more confident than a wrong one), ties half: in [0, 1]; NaN without both kinds."""
    low_N, high_N, _ = rank(confidence_N, mask_N) if ranking is None else ranking
    right_N = correct_N * mask_N
    right, wrong = jnp.sum(right_N), jnp.sum((1 - correct_N) * mask_N)
    mean_rank = jnp.sum(right_N * (low_N + high_N + 1) / 2) / right
    return (mean_rank - (right + 1) / 2) / wrong
