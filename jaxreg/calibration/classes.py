"""Sums over the bins of every class, [K, M]: its probability against 1[label = class], whole and by group of examples.

With K classes at most M - 1 probabilities of an example lie beyond the first of M bins, and nearly always far fewer.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.calibration import bins as binning
from jaxreg.calibration.bins import Bins

BITS = 16  # of a word: sums of so many powers of two are exact in float32


@flax.struct.dataclass
class Classes:
    """Sums over examples: `count` [K, M]; `confidence` and `correct` [G, K, M], by group. `+` merges batches."""

    count: Any  # a JAX or a NumPy array
    confidence: Any
    correct: Any

    def __add__(self, other: "Classes") -> "Classes":
        return jax.tree.map(jnp.add, self, other)


def empty(p_NK: Array, groups: int, bins: int) -> Classes:
    """Returns sums of no examples, for probabilities such as `p_NK`."""
    anchor = p_NK[0, 0] * 0  # inside shard_map sums must vary over the mesh as the data do
    classes = p_NK.shape[-1]
    by_group = jnp.zeros((groups, classes, bins)) + anchor
    return Classes(jnp.zeros((classes, bins)) + anchor, by_group, by_group)


def add(sums: Classes, p_NK: Array, labels_N: Array, mask_N: Array, groups_N: Array) -> Classes:
    """Returns `sums` with masked examples: each is in its group, 0 to G - 1, and each p_k in an equal-width bin."""
    form = functools.partial(jax.lax.platform_dependent, cpu=extracted, default=compared)
    count_KM, confidence_GKM = form(sums.count, sums.confidence, p_NK, mask_N, groups_N)
    p_label_N = jnp.take_along_axis(p_NK, labels_N[:, None], -1)[:, 0]
    hit = groups_N, labels_N, binning.place(p_label_N, sums.count.shape[-1])
    return Classes(count_KM, confidence_GKM, sums.correct.at[hit].add(mask_N))


def bins_of(sums: Classes) -> Bins:
    """Returns the sums [K, M] of all groups."""
    return Bins(sums.count, sums.confidence.sum(0), sums.correct.sum(0))


def compared(
    count_KM: Array, confidence_GKM: Array, p_NK: Array, mask_N: Array, groups_N: Array
) -> tuple[Array, Array]:
    """Adds counts and probabilities to their bins: every probability against every bin."""
    inside_NKM = binning.equal_width(p_NK, count_KM.shape[-1]) * mask_N[:, None, None]
    group_NG = jax.nn.one_hot(groups_N, len(confidence_GKM))
    product = jnp.einsum("ng,nkm,nk->gkm", group_NG, inside_NKM, p_NK, precision=binning.EXACT)
    return count_KM + inside_NKM.sum(0), confidence_GKM + product


def extracted(
    count_KM: Array, confidence_GKM: Array, p_NK: Array, mask_N: Array, groups_N: Array
) -> tuple[Array, Array]:
    """The same, much faster on a CPU: sums the first bin whole, and places one by one what lies beyond it.

    Which classes of an example do is a set of bits, W words of `BITS` each; each round takes one out of every set,
    until all are empty.
    """
    groups, classes, bins = confidence_GKM.shape
    p_NK = p_NK * mask_N[:, None]
    beyond_NK = p_NK > binning.edges_of(bins)[1]

    def put(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        words_NW, count_X, confidence_X = state
        words_NW, class_N, found_N = _taken(words_NW)
        p_N = jnp.take_along_axis(p_NK, class_N[:, None], -1)[:, 0]
        at_N = class_N * bins + binning.place(p_N, bins)
        count_X = count_X.at[at_N].add(found_N)
        return words_NW, count_X, confidence_X.at[groups_N * classes * bins + at_N].add(p_N * found_N)

    start = _words(beyond_NK), (count_KM * 0).ravel(), confidence_GKM.ravel()
    _, far_X, confidence_X = jax.lax.while_loop(lambda state: jnp.any(state[0] > 0), put, start)
    far_KM = far_X.reshape(classes, bins)
    far_KM = far_KM.at[:, 0].add(jnp.sum(mask_N) - far_KM.sum(-1))
    near_NK = jnp.where(beyond_NK, 0.0, p_NK)
    near_GK = near_NK.sum(0)[None] if groups == 1 else _by_group(near_NK, groups_N, groups)
    return count_KM + far_KM, confidence_X.reshape(confidence_GKM.shape).at[:, :, 0].add(near_GK)


def _words(inside_NK: Array) -> Array:
    """Packs sets of classes into int32 words [N, W], by a product of exact powers of two: sums of integers are slow."""
    class_K = np.arange(inside_NK.shape[-1])
    bits_KW = np.zeros((len(class_K), -(-len(class_K) // BITS)), np.float32)
    bits_KW[class_K, class_K // BITS] = 2.0 ** (class_K % BITS)
    return jnp.matmul(inside_NK.astype(jnp.float32), bits_KW, precision=binning.EXACT).astype(jnp.int32)


def _taken(words_NW: Array) -> tuple[Array, Array, Array]:
    """Takes the first class out of every set: the sets, the classes (0 of an empty set), and 1 where there was one."""
    word_W = jnp.arange(words_NW.shape[-1], dtype=jnp.int32)
    first_N = jnp.min(jnp.where(words_NW > 0, word_W, len(word_W)), -1)
    here_NW = word_W == first_N[:, None]
    lowest_N = jnp.sum(jnp.where(here_NW, words_NW & -words_NW, 0), -1)
    class_N = first_N * BITS + jax.lax.population_count(lowest_N - 1)
    found_N = lowest_N > 0
    return words_NW - here_NW * lowest_N[:, None], jnp.where(found_N, class_N, 0), found_N.astype(jnp.float32)


def _by_group(values_NK: Array, groups_N: Array, groups: int) -> Array:
    return jnp.matmul(jax.nn.one_hot(groups_N, groups).T, values_NK, precision=binning.EXACT)
