"""Batch normalisation with float32 arithmetic and statistics, whatever the compute dtype."""

from typing import Any

import jax.numpy as jnp
from flax import nnx


def norm_layer(channels: int, *, dtype: Any, rngs: nnx.Rngs, zero: bool = False) -> nnx.BatchNorm:
    """Batch normalisation over batch and space, computed in float32, returned in `dtype`.

    y = scale (x - mean) / sqrt(var + 1e-5) + bias, with the batch's mean and (biased) variance when training, else the
    running averages m <- 0.9 m + 0.1 m_batch. `scale` starts at 1, at 0 if `zero`.
    Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """
    return nnx.BatchNorm(
        channels,
        use_running_average=None,  # always said at the call
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=nnx.initializers.zeros if zero else nnx.initializers.ones,
        promote_dtype=_in_float32,
        rngs=rngs,
    )


def _in_float32(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    return tuple(array.astype(jnp.float32) for array in arrays)
