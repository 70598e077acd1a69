"""What a change of length alone does: calibration of s h for many s, and the best s against temperature scaling."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.calibration import bins, metrics, temperature
from jaxreg.models.functional import Head
from jaxreg.runtime.passes import Rows, total

SCALES = tuple(float(2**e) for e in np.arange(-3, 3.5, 0.5))
FITTED = ("best_scale", "inverse_temperature")  # on validation
Sums = tuple[bins.Bins, Array]  # of the top label in 15 equal-width bins, and of the NLL


def sums_of(counts_B: Shaped[Array, " B"], logits_BK: Shaped[Array, "B K"], labels_B: Shaped[Array, " B"]) -> Sums:
    """Sums over examples, each counted `counts_B` times."""
    each = metrics.examples(logits_BK, labels_B)
    top = bins.bins_of(bins.equal_width(each.confidence), each.confidence, each.correct, counts_B)
    return top, jnp.sum(counts_B * each.nll)


def calibration(sums: Sums) -> dict[str, Array]:
    """ECE (15 equal-width bins), NLL, accuracy, and mean confidence less accuracy: scalars."""
    top, nll = sums
    count, right = top.count.sum(-1), top.correct.sum(-1)
    gap = (top.confidence.sum(-1) - right) / count
    return {"ece": bins.ece(top), "nll": nll / count, "accuracy": right / count, "confidence_gap": gap}


def curve(
    features_ND: Rows,
    labels_N: Shaped[Array, " N"],
    head: Head,
    scales_S: Shaped[Array, " S"],
    bias_scales_S: Shaped[Array, " S"],
) -> dict[str, Array]:
    """`calibration` of s W h + u b for each pair (s, u): arrays [S]. u = 1: s scales features; u = s: T = 1/s."""

    def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> Sums:
        products_BK = features_BD @ head.kernel

        def one(pair: tuple[Array, Array]) -> Sums:
            return sums_of(counts_B, pair[0] * products_BK + pair[1] * head.bias[None], labels_B)

        return lax.map(one, (scales_S, bias_scales_S))

    return calibration(total(sums, features_ND, labels_N))


def _search(features_ND: Rows, labels_N: Array, head: Head) -> temperature.Temperature:
    """1/s of the s in [0.01, 100] with the least NLL of s h, and T: [2]. NLL is convex in s, as in 1/T: one search."""

    def slope_at(log_s_2: Array) -> temperature.Slope:
        def sums(counts_B: Array, features_BD: Array, labels_B: Array) -> temperature.Slope:
            products_BK = features_BD @ head.kernel
            scaled_2BK = jnp.stack([products_BK, products_BK + head.bias[None]])
            slopes = jax.vmap(_slope, in_axes=(0, 0, 0, None, None))
            return slopes(log_s_2, scaled_2BK, jnp.stack([head.bias, 0 * head.bias]), labels_B, counts_B)

        return total(sums, features_ND, labels_N)

    return temperature.solve(slope_at, jnp.zeros(2) + 0 * head.bias[0])


def _slope(log_s: Array, scaled_BK: Array, kept_K: Array, labels_B: Array, counts_B: Array) -> temperature.Slope:
    """The sums of `temperature.slope` for the logits s z + kept."""
    centred_BK = scaled_BK - jnp.take_along_axis(scaled_BK, labels_B[:, None], 1)
    p_BK = jax.nn.softmax(jnp.exp(log_s) * scaled_BK + kept_K[None])
    mean_B = jnp.sum(p_BK * centred_BK, 1)
    variance_B = jnp.sum(p_BK * (centred_BK - mean_B[:, None]) ** 2, 1)
    each = (mean_B, mean_B**2, variance_B)
    return temperature.Slope(*(jnp.sum(counts_B * one_B) for one_B in each))


def measure(fit: tuple[Rows, Array], report: tuple[Rows, Array], head: Head) -> dict[str, Array]:
    """Calibration of s h on one split (features [N, D], labels [N]); the best s and 1/T fitted on another, compared.

    Returns: `calibration` of s h for each s of SCALES [S], and as `tempered_METRIC` [S] of all logits times s, which is
      T = 1/s; best_scale, inverse_temperature, each with `_at_bracket`, 1 where the search ended at an end of its
      bracket; and METRIC_best_scale, METRIC_temperature, what the two give on the reported split.
    """
    searched = _search(*fit, head)
    best_2 = 1 / searched.value
    grid_S = jnp.asarray(SCALES) + 0 * best_2[0]
    scales = jnp.concatenate([grid_S, grid_S, best_2])
    of_bias = jnp.concatenate([0 * grid_S + 1, grid_S, 0 * best_2[:1] + 1, best_2[1:]])
    found = curve(*report, head, scales, of_bias)
    size = len(SCALES)
    ends = {"best_scale": 2 * size, "temperature": 2 * size + 1}
    compared = {f"{name}_{end}": value[i] for name, value in found.items() for end, i in ends.items()}
    curves = {name: value[:size] for name, value in found.items()}
    curves |= {f"tempered_{name}": value[size : 2 * size] for name, value in found.items()}
    fitted = {name: best_2[i] for i, name in enumerate(FITTED)}
    fitted |= {f"{name}_at_bracket": searched.at_bracket[i] for i, name in enumerate(FITTED)}
    return {**fitted, **curves, **compared}
