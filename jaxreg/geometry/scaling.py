"""What a change of length alone does: calibration of s h for many s, and the best s against temperature scaling."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.calibration import bins, metrics, temperature

SCALES = tuple(float(2**e) for e in np.arange(-3, 3.5, 0.5))


def calibration(logits_NK: Array, labels_N: Array) -> dict[str, Array]:
    """ECE (15 equal-width bins), NLL and accuracy of logits: scalars."""
    each = metrics.examples(logits_NK, labels_N)
    ones_N = jnp.ones_like(each.confidence)
    sums = bins.bins_of(bins.equal_width(each.confidence), each.confidence, each.correct, ones_N)
    return {"ece": bins.ece(sums), "nll": jnp.mean(each.nll), "accuracy": jnp.mean(each.correct)}


def curve(
    products_NK: Array, bias_K: Array, labels_N: Array, scales_S: Array, bias_scales_S: Array
) -> dict[str, Array]:
    """`calibration` of s W h + u b for each pair (s, u): arrays [S]. u = 1: s scales features; u = s: T = 1/s."""

    def one(pair: tuple[Array, Array]) -> dict[str, Array]:
        return calibration(pair[0] * products_NK + pair[1] * bias_K, labels_N)

    return lax.map(one, (scales_S, bias_scales_S))


def best_scale(products_NK: Array, bias_K: Array, labels_N: Array) -> Array:
    """The s in [0.01, 100] with the least NLL of s h: convex in s, as NLL is in 1/T, and found by the same search.

    With a bias of zero it equals 1/T of temperature scaling.
    """
    centred_NK = products_NK - jnp.take_along_axis(products_NK, labels_N[:, None], 1)

    def look(log_s: Array) -> temperature.Slope:
        p_NK = jax.nn.softmax(jnp.exp(log_s) * products_NK + bias_K)
        mean_N = jnp.sum(p_NK * centred_NK, 1)
        variance_N = jnp.sum(p_NK * (centred_NK - mean_N[:, None]) ** 2, 1)
        return temperature.Slope(mean_N.sum(), (mean_N**2).sum(), variance_N.sum(), jnp.ones_like(mean_N).sum())

    return 1 / temperature.solve(look, products_NK[0, 0]).value


def measure(fit: tuple[Array, Array], report: tuple[Array, Array], bias_K: Array) -> dict[str, Array]:
    """Calibration of s h on one split (products [N, K], labels [N]); the best s and 1/T fitted on another, compared.

    Returns: `calibration` of s h for each s of SCALES [S], and as `tempered_METRIC` [S] of all logits times s, which is
      T = 1/s; best_scale, inverse_temperature; and METRIC_best_scale, METRIC_temperature, what the two give on the
      reported split.
    """
    stacked_2NK = jnp.stack([fit[0], fit[0] + bias_K])
    best_2 = jax.vmap(best_scale, in_axes=(0, 0, None))(stacked_2NK, jnp.stack([bias_K, 0 * bias_K]), fit[1])
    grid_S = jnp.asarray(SCALES) + 0 * best_2[0]
    scales = jnp.concatenate([grid_S, grid_S, best_2])
    of_bias = jnp.concatenate([0 * grid_S + 1, grid_S, 0 * best_2[:1] + 1, best_2[1:]])
    found = curve(report[0], bias_K, report[1], scales, of_bias)
    size = len(SCALES)
    ends = {"best_scale": 2 * size, "temperature": 2 * size + 1}
    compared = {f"{name}_{end}": value[i] for name, value in found.items() for end, i in ends.items()}
    curves = {name: value[:size] for name, value in found.items()}
    curves |= {f"tempered_{name}": value[size : 2 * size] for name, value in found.items()}
    return {"best_scale": best_2[0], "inverse_temperature": best_2[1], **curves, **compared}
