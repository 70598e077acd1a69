"""Batch normalisation with float32 statistics whatever the compute dtype."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array


class Norm(nnx.BatchNorm):
    """Batch normalisation over the batch and space, computed in float32 and returned in `dtype`.

    y = scale (x - mean) / sqrt(var + 1e-5) + bias, with the (biased) variance of the batch if `train`, else the running
    averages m <- 0.9 m + 0.1 m_batch. Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, channels: int, *, dtype: Any, rngs: nnx.Rngs, zero: bool = False):
        scale = nnx.initializers.zeros if zero else nnx.initializers.ones
        super().__init__(
            channels,
            use_running_average=None,
            momentum=0.9,
            epsilon=1e-5,
            dtype=jnp.float32,
            scale_init=scale,
            rngs=rngs,
        )
        self.output_dtype = dtype

    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        return super().__call__(x_BHWC, use_running_average=not train).astype(self.output_dtype)
