"""Is the gradient that attacks follow the gradient of the function that is evaluated?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.loop import Logits
from jaxreg.robustness.losses import cross_entropy, margin

TINY = 1e-4  # noise that must change some logit of a network that sees its input as it is
STEP = 1e-3  # of the finite differences
AGREE = 0.5  # relative error of a directional derivative above which it is called wrong


class Diagnosis(NamedTuple):
    """Booleans [B]: CE gradient exactly 0; margin gradient exactly 0; margin gradient not the slope of the margin;
    logits unmoved by tiny noise.
    """

    ce_zero: Array
    margin_zero: Array
    slope_wrong: Array
    unmoved: Array


def diagnose(logits_fn: Logits, images_BHWC: Array, labels_B: Array, noise_BHWC: Array) -> Diagnosis:
    """Compares gradients at `images` with what the function does near them; `noise` in [-1, 1].

    The slope is taken along the sign of the margin's gradient, where it is the sum of its magnitudes (along the noise
    where it is 0), by central differences.
    """
    logits_BK, pull = jax.vjp(logits_fn, images_BHWC)
    ce_BHWC, margin_BHWC = (_pulled(pull, loss, logits_BK, labels_B) for loss in (cross_entropy, margin))
    ce_zero_B, margin_zero_B = (jnp.all(g.reshape(len(g), -1) == 0, axis=1) for g in (ce_BHWC, margin_BHWC))
    sign_BHWC = jnp.sign(margin_BHWC)
    along_BHWC = jnp.where(margin_zero_B[:, None, None, None], jnp.sign(noise_BHWC), sign_BHWC)
    ahead_B, behind_B = (
        margin(logits_fn(images_BHWC + step * along_BHWC), labels_B, labels_B) for step in (STEP, -STEP)
    )
    seen_B = (ahead_B - behind_B) / (2 * STEP)
    promised_B = jnp.sum(margin_BHWC * along_BHWC, axis=(1, 2, 3))
    largest_B = jnp.maximum(jnp.abs(seen_B), jnp.abs(promised_B))
    moved_BK = logits_fn(images_BHWC + TINY * noise_BHWC) != logits_BK
    return Diagnosis(
        ce_zero=ce_zero_B,
        margin_zero=margin_zero_B,
        slope_wrong=jnp.abs(seen_B - promised_B) > AGREE * largest_B,
        unmoved=~jnp.any(moved_BK, axis=1),
    )


def _pulled(pull: object, loss: object, logits_BK: Array, labels_B: Array) -> Array:
    slope_BK = jax.grad(lambda z: jnp.sum(loss(z, labels_B, labels_B)))(logits_BK)  # type: ignore[operator]
    return pull(slope_BK)[0]  # type: ignore[operator]
