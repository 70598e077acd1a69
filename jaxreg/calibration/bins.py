"""Bins over [0, 1]: which example belongs to which bin, and sums over bins that add."""

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

BINS = 15


@flax.struct.dataclass
class Bins:
    """Sums over the examples of each bin, [..., M] each; `+` merges batches, devices and hosts exactly."""

    count: Array
    confidence: Array
    correct: Array

    def __add__(self, other: "Bins") -> "Bins":
        return jax.tree.map(jnp.add, self, other)


def bins_of(membership_NM: Array, confidence_N: Array, correct_N: Array, mask_N: Array) -> Bins:
    """Returns the sums [M] of masked examples, each shared out by its row of `membership_NM`."""
    weight_NM = membership_NM * mask_N[:, None]
    return Bins(jnp.sum(weight_NM, 0), confidence_N @ weight_NM, correct_N @ weight_NM)


def equal_width(values: Array, bins: int = BINS) -> Array:
    """One-hot membership [..., M] of `bins` right-closed bins (l, u] of [0, 1]; exactly 0 is in the first one.

    A value exactly 1 is in the last bin, by the same rule as every other upper edge; there is no bin beyond it.
    """
    inner = jnp.arange(1, bins, dtype=jnp.float32) / bins
    lower = jnp.concatenate([jnp.full(1, -jnp.inf), inner])
    upper = jnp.concatenate([inner, jnp.full(1, jnp.inf)])
    values = values[..., None]
    return ((values > lower) & (values <= upper)).astype(jnp.float32)


def ranks(values_N: Array, mask_N: Array) -> tuple[Array, Array]:
    """Returns (low, high), int32 [N]: in ascending order, each value's group of ties fills positions [low, high)."""
    masked_N = jnp.where(mask_N > 0, values_N, jnp.inf)
    order_N = jnp.argsort(masked_N)
    differs = masked_N[order_N][1:] != masked_N[order_N][:-1]
    position_N = jnp.arange(len(order_N)) + order_N * 0
    first_N = jnp.where(jnp.concatenate([order_N[:1] >= 0, differs]), position_N, 0)
    last_N = jnp.where(jnp.concatenate([differs, order_N[:1] >= 0]), position_N + 1, len(order_N))
    low_N, high_N = jax.lax.cummax(first_N), jax.lax.cummin(last_N, reverse=True)
    return order_N.at[order_N].set(low_N), order_N.at[order_N].set(high_N)


def equal_mass(low_N: Array, high_N: Array, count: Array, bins: int = BINS) -> Array:
    """Membership [N, M] of bins that hold equally many examples, from the `ranks` of `count` masked examples.

    Sort and split: the first `count % bins` bins hold one example more. A group of ties that crosses an edge is shared
    in proportion, so that ties collapse no bin and the order of the examples changes nothing.
    """
    count = count.astype(jnp.int32)
    position = jnp.arange(bins + 1)
    edges = position * (count // bins) + jnp.minimum(position, count % bins)
    inside = jnp.minimum(high_N[:, None], edges[1:]) - jnp.maximum(low_N[:, None], edges[:-1])
    return jnp.maximum(inside, 0) / jnp.maximum(high_N - low_N, 1)[:, None]


def ece(bins: Bins) -> Array:
    """Expected calibration error sum_m n_m/N |acc_m - conf_m|, in [0, 1], of sums [..., M].

    References: Naeini et al., 2015, AAAI; Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return jnp.sum(jnp.abs(bins.correct - bins.confidence), -1) / jnp.sum(bins.count, -1)


def gaps(bins: Bins) -> Array:
    """Returns |acc_m - conf_m| of each bin, [..., M]; 0 where the bin is empty."""
    return jnp.abs(bins.correct - bins.confidence) / jnp.where(bins.count > 0, bins.count, 1.0)


def mce(bins: Bins) -> Array:
    """Maximum calibration error: the largest gap of a bin that is not empty, in [0, 1]."""
    return jnp.max(gaps(bins), -1)


def mce_count(bins: Bins) -> Array:
    """Returns the number of examples in the bin with the largest gap: how far `mce` can be trusted."""
    worst = jnp.argmax(gaps(bins), -1)
    return jnp.take_along_axis(bins.count, worst[..., None], -1)[..., 0]


def debiased(bins: Bins) -> Array:
    """Debiased L2 calibration error, in [0, 1].

    sqrt(max(0, sum_m n_m/N ((acc_m - conf_m)^2 - acc_m (1 - acc_m) / (n_m - 1)))); bins of one example carry no
    information about their variance and add nothing.

    References: Kumar, Liang and Ma, 2019, https://arxiv.org/abs/1909.10155, section 4.
    """
    usable = bins.count >= 2
    count = jnp.where(usable, bins.count, 2.0)
    accuracy = bins.correct / count
    square = gaps(bins) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    total = jnp.sum(jnp.where(usable, bins.count * square, 0.0), -1) / jnp.sum(bins.count, -1)
    return jnp.sqrt(jnp.maximum(total, 0.0))


def of_confidence(confidence_N: Array, correct_N: Array, mask_N: Array, bins: int = BINS) -> dict[str, Array]:
    """Returns the metrics that need the confidence of the top label alone, whatever map it went through.

    `correct_N` may be a share in [0, 1], such as the votes of people for the predicted class.
    """
    sums = bins_of(equal_width(confidence_N, bins), confidence_N, correct_N, mask_N)
    gap = jnp.sum(sums.confidence - sums.correct) / jnp.sum(sums.count)
    return {"ece": ece(sums), "ece_debiased": debiased(sums), "mce": mce(sums), "confidence_gap": gap}
