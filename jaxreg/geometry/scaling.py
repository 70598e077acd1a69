"""What a change of length alone does: calibration of s h for many s, and the best s against temperature scaling."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.calibration import bins, metrics, temperature

SCALES = tuple(float(2**e) for e in np.arange(-3, 3.5, 0.5))


def scaled_logits(products_NK: Array, bias_K: Array, scale: Array | float) -> Array:
    """Logits of s h: the products W h grow with s, the bias does not."""
    return scale * products_NK + bias_K


def calibration(logits_NK: Array, labels_N: Array) -> dict[str, Array]:
    """ECE (15 equal-width bins), NLL and accuracy of logits: scalars."""
    each = metrics.examples(logits_NK, labels_N)
    ones_N = jnp.ones_like(each.confidence)
    sums = bins.bins_of(bins.equal_width(each.confidence), each.confidence, each.correct, ones_N)
    return {"ece": bins.ece(sums), "nll": jnp.mean(each.nll), "accuracy": jnp.mean(each.correct)}


def curve(products_NK: Array, bias_K: Array, labels_N: Array, scales_S: Array) -> dict[str, Array]:
    """`calibration` of the logits of s h for each s: arrays [S]."""
    return lax.map(lambda scale: calibration(scaled_logits(products_NK, bias_K, scale), labels_N), scales_S)


def best_scale(products_NK: Array, bias_K: Array, labels_N: Array) -> Array:
    """The s in [0.01, 100] with the least NLL of s h: convex in s, as NLL is in 1/T, and found by the same search.

    With a constant bias it equals 1/T of temperature scaling.
    """
    centred_NK = products_NK - jnp.take_along_axis(products_NK, labels_N[:, None], 1)

    def look(log_s: Array) -> temperature.Slope:
        p_NK = jax.nn.softmax(scaled_logits(products_NK, bias_K, jnp.exp(log_s)))
        mean_N = jnp.sum(p_NK * centred_NK, 1)
        variance_N = jnp.sum(p_NK * (centred_NK - mean_N[:, None]) ** 2, 1)
        return temperature.Slope(mean_N.sum(), (mean_N**2).sum(), variance_N.sum(), jnp.ones_like(mean_N).sum())

    return 1 / temperature.solve(look, products_NK[0, 0]).value


def against_temperature(fit: tuple[Array, Array], report: tuple[Array, Array], bias_K: Array) -> dict[str, Array]:
    """Best s of s h and best 1/T of z/T, fitted on one split (products [N, K], labels [N]), and both on another.

    Keys ending in `_best_scale` and `_temperature`: `calibration` of the second split under each.
    """
    biases_2K = jnp.stack([bias_K, 0 * bias_K])

    def both(products_NK: Array) -> Array:
        return jnp.stack([products_NK, products_NK + bias_K])

    best_2 = jax.vmap(best_scale, in_axes=(0, 0, None))(both(fit[0]), biases_2K, fit[1])
    logits_2NK = jax.vmap(scaled_logits)(both(report[0]), biases_2K, best_2)
    found = jax.vmap(calibration, in_axes=(0, None))(logits_2NK, report[1])
    sides = ("best_scale", "temperature")
    named = {f"{metric}_{side}": value_2[i] for metric, value_2 in found.items() for i, side in enumerate(sides)}
    return {"best_scale": best_2[0], "inverse_temperature": best_2[1], **named}
