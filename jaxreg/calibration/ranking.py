"""Order among examples with ties: what equal-mass bins, risk-coverage and AUROC share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_BLOCK = 256


class Ranking(NamedTuple):
    """In ascending order each value's group of ties fills the positions [low, high): int32 [N], masked ones last."""

    low: Array
    high: Array
    order: Array  # the example at each position


def running_total(counts_N: Array) -> Array:
    """Returns the sum of all counts before each position, float32 [N + 1], exact below 2^24.

    Two products with triangles of ones: XLA takes ten times longer to compile its own cumulative sum on CPU.
    """
    size = len(counts_N)
    blocks = jnp.pad(counts_N.astype(jnp.float32), (0, -size % _BLOCK)).reshape(-1, _BLOCK)
    within = jnp.matmul(blocks, jnp.triu(jnp.ones((_BLOCK, _BLOCK))), precision=jax.lax.Precision.HIGHEST)
    before = jnp.matmul(jnp.tri(len(blocks), k=-1), within[:, -1:], precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([counts_N[:1] * 0.0, (within + before).ravel()[:size]])


def rank(values_N: Array, mask_N: Array) -> Ranking:
    """Ranks finite values [N] where the mask is 1."""
    masked_N = jnp.where(mask_N > 0, values_N, jnp.inf)
    order_N = jnp.argsort(masked_N)
    ascending_N = masked_N[order_N]
    position_N = jnp.arange(len(order_N), dtype=order_N.dtype)
    starts_N = jnp.concatenate([order_N[:1] >= 0, ascending_N[1:] != ascending_N[:-1]])
    group_N = running_total(starts_N)[1:].astype(order_N.dtype) - 1
    ends = jnp.full(len(order_N) + 2, len(order_N), order_N.dtype) + order_N[0] * 0
    first = ends.at[jnp.where(starts_N, group_N, len(order_N) + 1)].set(position_N)
    both = jnp.stack([first[group_N], first[group_N + 1]], -1)
    low_N, high_N = jnp.zeros_like(both).at[order_N].set(both).T
    return Ranking(low_N, high_N, order_N)
