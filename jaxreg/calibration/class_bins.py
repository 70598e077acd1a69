"""Sums over the bins of every class, [K, M]: its probability against 1[label = class], whole and by group of examples.

With K classes at most M - 1 probabilities of an example lie beyond the first of M bins, and nearly always far fewer.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration.bins import Bins

BITS = 16  # of a word: sums of so many powers of two are exact in float32


def empty(zero: Array | float, classes: int, groups: int, bins: int) -> Bins:
    """Returns sums [G, K, M] over no examples; inside shard_map `zero` must vary over the mesh as the data do."""
    nothing = jnp.zeros((groups, classes, bins)) + zero
    return Bins(nothing, nothing, nothing)


def add(
    sums: Bins,
    p_NK: Shaped[Array, "N K"],
    labels_N: Shaped[Array, " N"],
    mask_N: Shaped[Array, " N"],
    groups_N: Shaped[Array, " N"],
) -> Bins:
    """Adds masked examples to `sums`: each to its group, 0 to G - 1, each of its p_k to a bin of equal width."""
    form = functools.partial(jax.lax.platform_dependent, cpu=extracted, default=compared)
    count_GKM, confidence_GKM = form(sums.count, sums.confidence, p_NK, mask_N, groups_N)
    p_label_N = jnp.take_along_axis(p_NK, labels_N[:, None], -1)[:, 0]
    hit = groups_N, labels_N, binning.place(p_label_N, sums.count.shape[-1])
    return Bins(count_GKM, confidence_GKM, sums.correct.at[hit].add(mask_N))


def bins_of(sums: Bins) -> Bins:
    """Returns the sums [K, M] of all groups."""
    return jax.tree.map(lambda array: array.sum(0), sums)


def compared(
    count_GKM: Shaped[Array, "G K M"],
    confidence_GKM: Shaped[Array, "G K M"],
    p_NK: Shaped[Array, "N K"],
    mask_N: Shaped[Array, " N"],
    groups_N: Shaped[Array, " N"],
) -> tuple[Array, Array]:
    """Adds counts and probabilities to their bins: every probability against every bin."""
    inside_NKM = binning.equal_width(p_NK, count_GKM.shape[-1]) * mask_N[:, None, None]
    both_NKM2 = jnp.stack([inside_NKM, inside_NKM * p_NK[..., None]], -1)
    group_NG = jax.nn.one_hot(groups_N, len(count_GKM))
    more_GKM2 = jnp.einsum("ng,nkmv->gkmv", group_NG, both_NKM2, precision=binning.EXACT)
    return count_GKM + more_GKM2[..., 0], confidence_GKM + more_GKM2[..., 1]


def extracted(
    count_GKM: Shaped[Array, "G K M"],
    confidence_GKM: Shaped[Array, "G K M"],
    p_NK: Shaped[Array, "N K"],
    mask_N: Shaped[Array, " N"],
    groups_N: Shaped[Array, " N"],
) -> tuple[Array, Array]:
    """The same, much faster on a CPU: sums the first bin whole, and adds one by one what lies beyond it.

    The classes of an example that do are a set of bits, W words of `BITS` each; each round takes one out of every set,
    until all are empty.
    """
    groups, classes, bins = confidence_GKM.shape
    p_NK = p_NK * mask_N[:, None]
    beyond_NK = p_NK > binning.edges_of(bins)[1]

    def put(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        words_NW, count_X, confidence_X = state
        words_NW, class_N, found_N = _taken(words_NW)
        p_N = jnp.take_along_axis(p_NK, class_N[:, None], -1)[:, 0]
        at_N = (groups_N * classes + class_N) * bins + binning.place(p_N, bins)
        return words_NW, count_X.at[at_N].add(found_N), confidence_X.at[at_N].add(p_N * found_N)

    start = _words(beyond_NK), count_GKM.ravel(), confidence_GKM.ravel()
    _, count_X, confidence_X = jax.lax.while_loop(lambda state: jnp.any(state[0] > 0), put, start)
    near = jnp.where(beyond_NK, 0.0, mask_N[:, None]), jnp.where(beyond_NK, 0.0, p_NK)
    found = zip((count_X, confidence_X), near)
    first, second = (
        all_X.reshape(count_GKM.shape).at[:, :, 0].add(_by_group(own, groups_N, groups)) for all_X, own in found
    )
    return first, second


def _words(inside_NK: Array) -> Array:
    """Packs sets of classes into int32 words [N, W], by a product of exact powers of two: sums of integers are slow."""
    class_K = np.arange(inside_NK.shape[-1])
    bits_KW = np.zeros((len(class_K), -(-len(class_K) // BITS)), np.float32)
    bits_KW[class_K, class_K // BITS] = 2.0 ** (class_K % BITS)
    return jnp.matmul(inside_NK.astype(jnp.float32), bits_KW, precision=binning.EXACT).astype(jnp.int32)


def _taken(words_NW: Array) -> tuple[Array, Array, Array]:
    """Takes the first class out of every set: the sets, the classes (0 of an empty set), and 1 where there was one."""
    word_1W = jnp.arange(words_NW.shape[-1], dtype=jnp.int32)[None]
    first_N = jnp.min(jnp.where(words_NW > 0, word_1W, word_1W.size), -1)
    here_NW = word_1W == first_N[:, None]
    lowest_N = jnp.sum(jnp.where(here_NW, words_NW & -words_NW, 0), -1, dtype=jnp.int32)
    class_N = first_N * BITS + jax.lax.population_count(lowest_N - 1)
    found_N = lowest_N > 0
    return words_NW - here_NW * lowest_N[:, None], jnp.where(found_N, class_N, 0), found_N.astype(jnp.float32)


def _by_group(values_NK: Array, groups_N: Array, groups: int) -> Array:
    group_GN = jnp.ones((1, len(groups_N))) if groups == 1 else jax.nn.one_hot(groups_N, groups).T
    return jnp.matmul(group_GN, values_NK, precision=binning.EXACT)
