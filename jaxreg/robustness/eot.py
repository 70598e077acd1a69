"""Expectation over transformations: attack the mean of a stochastic model instead of one of its draws."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.method import Logits


def expectation(stochastic_fn: Callable[[Array, Array], Array], key: Array, samples: int) -> Logits:
    """A deterministic `logits_fn` from `stochastic_fn(x_BHWC, key) -> logits_BK`: the log of the mean probabilities.

    log (1/S) sum_s softmax(z(x, key_s)), the same `samples` keys at every step: the gradient is that of what is
    evaluated, so that the loop's best point and its mask mean the same function. More samples, less luck in both.
    `stochastic_fn` sees one image at a time, with the same keys for each: draws do not depend on its place in a batch.

    Raises: ValueError: if samples is below 1.
    References: Athalye et al., 2018, https://arxiv.org/abs/1707.07397.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    keys_S = jax.random.split(key, samples)

    def logits_fn(x_BHWC: Array) -> Array:
        def drawn(key: Array) -> Array:
            return jax.vmap(lambda x_HWC: jax.nn.log_softmax(stochastic_fn(x_HWC[None], key)[0]))(x_BHWC)

        each_SBK = jax.lax.map(drawn, keys_S)
        return jax.nn.logsumexp(each_SBK, axis=0) - jnp.log(jnp.asarray(samples, each_SBK.dtype))

    return logits_fn
