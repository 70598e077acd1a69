"""Order among examples with ties: what equal-mass bins, risk-coverage and AUROC share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

_BLOCK = 256


class Ranking(NamedTuple):
    """In ascending order each value's group of ties fills the positions [low, high): int32 [N], masked ones last."""

    low: Array
    high: Array
    order: Array  # the example at each position


def running_total(counts_N: Shaped[Array, " N"]) -> Array:
    """Returns the sum of all counts before each position, float32 [N + 1], exact below 2^24.

    Two products with triangles of ones: XLA takes ten times longer to compile its own cumulative sum on CPU.
    """
    size = len(counts_N)
    blocks = jnp.pad(counts_N.astype(jnp.float32), (0, -size % _BLOCK)).reshape(-1, _BLOCK)
    within = jnp.matmul(blocks, jnp.triu(jnp.ones((_BLOCK, _BLOCK))), precision=jax.lax.Precision.HIGHEST)
    before = jnp.matmul(jnp.tri(len(blocks), k=-1), within[:, -1:], precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([counts_N[:1] * 0.0, (within + before).ravel()[:size]])


class Ascending(NamedTuple):
    """Confidences [N] from the least to the greatest, and whether each is right: masked ones last, and 0 in both."""

    confidence: Array
    correct: Array
    mask: Array
    ranking: Ranking  # of these, whose order is their own


def ascend(confidence_N: Shaped[Array, " N"], correct_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"]) -> Ascending:
    """Sorts confidences >= 0 that are right or wrong (1 or 0), where the mask is 1.

    One sort of whole numbers instead of a ranking: the bits of a float >= 0 are in its order, the last one says right.
    """
    bits_N = jax.lax.bitcast_convert_type(confidence_N.astype(jnp.float32), jnp.uint32)
    key_N = jnp.sort(jnp.where(mask_N > 0, bits_N * 2 + correct_N.astype(jnp.uint32), jnp.uint32(2**32 - 1)))
    position_N = jnp.arange(len(key_N), dtype=jnp.int32)
    known_N = (position_N < jnp.sum(mask_N).astype(jnp.int32)).astype(jnp.float32)
    own_N = jnp.where(known_N > 0, jax.lax.bitcast_convert_type(key_N >> 1, jnp.float32), 0.0)
    low_N, high_N = _ties(key_N >> 1).T
    right_N = known_N * (key_N & 1).astype(jnp.float32)
    return Ascending(own_N, right_N, known_N, Ranking(low_N, high_N, position_N))


def rank(values_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"]) -> Ranking:
    """Ranks finite values [N] where the mask is 1."""
    masked_N = jnp.where(mask_N > 0, values_N, jnp.inf)
    order_N = jnp.argsort(masked_N)
    both_N2 = _ties(masked_N[order_N])
    low_N, high_N = jnp.zeros_like(both_N2).at[order_N].set(both_N2).T
    return Ranking(low_N, high_N, order_N)


def _ties(ascending_N: Array) -> Array:
    """Returns [N, 2]: where the values equal to each begin, and where they have ended."""
    position_N = jnp.arange(len(ascending_N), dtype=jnp.int32)
    starts_N = jnp.concatenate([ascending_N[:1] == ascending_N[:1], ascending_N[1:] != ascending_N[:-1]])
    group_N = running_total(starts_N)[1:].astype(jnp.int32) - 1
    ends = jnp.full(len(starts_N) + 2, len(starts_N), jnp.int32) + group_N[0] * 0
    first = ends.at[jnp.where(starts_N, group_N, len(starts_N) + 1)].set(position_N)
    return jnp.stack([first[group_N], first[group_N + 1]], -1)
