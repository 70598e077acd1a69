"""Bins over [0, 1]: which example belongs to which bin, sums over bins that add, and the errors of them (`ERRORS`).

What is computed from sums uses operators alone, so it takes JAX arrays under jit as well as NumPy arrays on the host.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration.ranking import Ascending, Ranking, running_total

BINS = 15
EXACT = jax.lax.Precision.HIGHEST  # accelerators otherwise round the factors of a product to 8 or 11 bits


@flax.struct.dataclass
class Bins:
    """Sums over the examples of each bin, [..., M] each; `+` merges batches, devices and hosts exactly."""

    count: Any  # a JAX or a NumPy array
    confidence: Any
    correct: Any

    def __add__(self, other: "Bins") -> "Bins":
        return jax.tree.map(jnp.add, self, other)


def bins_of(
    membership_NM: Shaped[Array, "N M"],
    confidence_N: Shaped[Array, " N"],
    correct_N: Shaped[Array, " N"],
    mask_N: Shaped[Array, " N"],
) -> Bins:
    """Returns the sums [M] of masked examples, each shared out by its row of `membership_NM`."""
    columns_N3 = jnp.stack([mask_N, confidence_N * mask_N, correct_N * mask_N], -1)
    return Bins(*jnp.matmul(columns_N3.T, membership_NM, precision=EXACT))


def equal_width(values: Array, bins: int = BINS) -> Array:
    """One-hot membership [..., M] of `bins` right-closed bins (l, u] of [0, 1]; exactly 0 is in the first one.

    A value exactly 1 is in the last bin, by the same rule as every other upper edge; there is no bin beyond it.
    """
    edges, values = np.expand_dims(edges_of(bins), tuple(range(values.ndim))), values[..., None]
    return ((values > edges[..., :-1]) & (values <= edges[..., 1:])).astype(jnp.float32)


def place(values: Array, bins: int = BINS) -> Array:
    """Returns the bin of each value, int32 of the same shape: where `equal_width` has its 1."""
    edges = np.expand_dims(edges_of(bins)[1:-1], tuple(range(values.ndim)))
    return jnp.sum(values[..., None] > edges, -1, dtype=jnp.int32)


def edges_of(bins: int) -> np.ndarray:
    """Returns the edges [M + 1] of equal-width bins, float32; the outer ones are infinite: no value is beyond them.

    Divided by NumPy: XLA multiplies by 1/M instead, which moves half of the edges by the last bit.
    """
    inner = np.arange(1, bins, dtype=np.float32) / np.float32(bins)
    return np.concatenate([[-np.inf], inner, [np.inf]]).astype(np.float32)


def place_on_host(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Returns the bin of each value of a NumPy array, as `place` does."""
    return np.searchsorted(edges_of(bins)[1:-1], np.ravel(values).astype(np.float32), side="left")


def on_host(confidence_N: Shaped[np.ndarray, "..."], correct_N: Shaped[np.ndarray, "..."], bins: int = BINS) -> Bins:
    """The sums [M] of `bins_of(equal_width(...))` of NumPy arrays, in float64; `correct_N` may be shares."""
    place_N = place_on_host(confidence_N, bins)
    weights = np.ones(len(place_N)), np.ravel(confidence_N), np.ravel(correct_N)
    return Bins(*(np.bincount(place_N, weight_N, bins) for weight_N in weights))


def equal_mass(ranking: Ranking, count: Array, bins: int = BINS) -> Array:
    """Membership [N, M] of bins that hold equally many of the `count` ranked examples.

    Sort and split: the first `count % bins` bins hold one example more. A group of ties that crosses an edge is shared
    in proportion, so that ties collapse no bin and the order of the examples changes nothing.
    """
    edges = _mass_edges(count.astype(jnp.int32), bins)[None]
    low_N1, high_N1 = ranking.low[:, None], ranking.high[:, None]
    inside_NM = jnp.minimum(high_N1, edges[:, 1:]) - jnp.maximum(low_N1, edges[:, :-1])
    return jnp.maximum(inside_NM, 0) / jnp.maximum(high_N1 - low_N1, 1)


def _mass_edges(count: Array, bins: int) -> Array:
    position = jnp.arange(bins + 1)
    return position * (count // bins) + jnp.minimum(position, count % bins)


def adaptive(sorted_N: Ascending, bins: int = BINS) -> Bins:
    """The sums [M] of `bins_of(equal_mass(...))` of what is sorted already: differences between running totals."""
    count = jnp.sum(sorted_N.mask).astype(jnp.int32)
    edges = _mass_edges(count, bins)
    confidence, correct = running_total(sorted_N.confidence), running_total(sorted_N.correct)
    at_edge = jnp.minimum(edges, len(sorted_N.mask) - 1)
    low = jnp.minimum(sorted_N.ranking.low[at_edge], edges)
    high = jnp.maximum(jnp.minimum(sorted_N.ranking.high[at_edge], count), edges)
    share = (edges - low) / jnp.maximum(high - low, 1)
    right = correct[low] + share * (correct[high] - correct[low])
    return Bins(jnp.diff(edges).astype(jnp.float32), jnp.diff(confidence[edges]), jnp.diff(right))


def ece(bins: Bins) -> Array:
    """Expected calibration error sum_m n_m/N |acc_m - conf_m|, in [0, 1], of sums [..., M].

    References: Naeini et al., 2015, AAAI; Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return abs(bins.correct - bins.confidence).sum(-1) / bins.count.sum(-1)


def gaps(bins: Bins) -> Array:
    """Returns |acc_m - conf_m| of each bin, [..., M]; 0 where the bin is empty."""
    return abs(bins.correct - bins.confidence) / (bins.count + (bins.count == 0))


def mce(bins: Bins) -> Array:
    """Maximum calibration error: the largest gap of a bin that is not empty, in [0, 1]."""
    return gaps(bins).max(-1)


def mce_count(bins: Bins) -> Array:
    """Returns the number of examples in the bin with the largest gap: how far `mce` can be trusted."""
    gap = gaps(bins)
    return (bins.count * (gap == gap.max(-1, keepdims=True))).max(-1)


def debiased(bins: Bins) -> Array:
    """Debiased L2 calibration error, in [0, 1].

    sqrt(max(0, sum_m n_m/N ((acc_m - conf_m)^2 - acc_m (1 - acc_m) / (n_m - 1)))); bins of one example carry no
    information about their variance and add nothing.

    References: Kumar, Liang and Ma, 2019, https://arxiv.org/abs/1909.10155, section 4.
    """
    usable = bins.count >= 2
    count = bins.count + 2 * (bins.count < 2)
    accuracy = bins.correct / count
    square = gaps(bins) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    total = (usable * bins.count * square).sum(-1) / bins.count.sum(-1)
    return (total * (total > 0)) ** 0.5


class CalibrationError(NamedTuple):
    """A calibration error, in [0, 1]. Noise alone puts it above 0, so it has a noise floor."""

    title: str  # in tables
    of: Callable[[Bins], Any] | None = None  # of the bins [..., M] of the top label; None: it is computed elsewhere
    mass: bool = False  # of bins of equal mass instead of equal width
    votes: bool = False  # has a meaning where shares of people's votes stand for correctness


# Values, intervals, floors, rows of every variant and columns of the report follow from this table.
ERRORS: dict[str, CalibrationError] = {
    "ece": CalibrationError("ECE", ece, votes=True),
    "ece_adaptive": CalibrationError("adaptive", ece, mass=True),
    "ece_classwise": CalibrationError("classwise"),
    "ece_debiased": CalibrationError("debiased", debiased),
    "smece": CalibrationError("smECE"),
    "mce": CalibrationError("MCE", mce, votes=True),
}


def errors(width: Bins, mass: Bins | None = None) -> dict[str, Any]:
    """The errors of `ERRORS` that are of bins [..., M], of equal width and, where they are given, of equal mass."""
    found = {name: (error.of, mass if error.mass else width) for name, error in ERRORS.items()}
    return {name: of(bins) for name, (of, bins) in found.items() if of is not None and bins is not None}
