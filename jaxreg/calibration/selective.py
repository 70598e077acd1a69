"""Does confidence know which predictions are wrong: risk against coverage, and errors against correct ones."""

import jax.numpy as jnp
from jax import Array

from jaxreg.calibration.bins import ranks


def aurc(confidence_N: Array, correct_N: Array, mask_N: Array) -> Array:
    """Area under the risk-coverage curve: mean over n of the error rate among the n most confident, in [0, 1].

    Within a group of ties the expectation over their orders is taken, so the order of the examples changes nothing.

    References: Geifman, Uziel and El-Yaniv, 2019, https://arxiv.org/abs/1805.08206.
    """
    count = jnp.sum(mask_N)
    low_N, high_N = ranks(confidence_N, mask_N)
    order_N = jnp.argsort(jnp.where(mask_N > 0, -confidence_N, jnp.inf))
    wrong_N = ((1 - correct_N) * mask_N)[order_N]
    errors = jnp.concatenate([wrong_N[:1] * 0, jnp.cumsum(wrong_N)])
    first_N = count.astype(jnp.int32) - high_N[order_N]
    last_N = count.astype(jnp.int32) - low_N[order_N]
    covered_N = jnp.arange(1, len(wrong_N) + 1)
    share_N = (covered_N - first_N) / jnp.maximum(last_N - first_N, 1)
    risk_N = (errors[first_N] + share_N * (errors[last_N] - errors[first_N])) / covered_N
    return jnp.sum(jnp.where(covered_N <= count, risk_N, 0.0)) / count


def auroc(confidence_N: Array, correct_N: Array, mask_N: Array) -> Array:
    """P(a correct prediction is more confident than a wrong one), ties half: in [0, 1]; NaN without both kinds."""
    low_N, high_N = ranks(confidence_N, mask_N)
    right_N = correct_N * mask_N
    right, wrong = jnp.sum(right_N), jnp.sum((1 - correct_N) * mask_N)
    mean_rank = jnp.sum(right_N * (low_N + high_N + 1) / 2) / right
    return (mean_rank - (right + 1) / 2) / wrong
