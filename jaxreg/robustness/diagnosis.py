"""Is the gradient that attacks follow the gradient of the function that is evaluated?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.robustness.losses import cross_entropy, margin
from jaxreg.robustness.method import Logits

TINY = 1e-4  # noise that must change some logit of a network that sees its input as it is
POKE = 1e-5  # so must a change of one value, were it not quantised: up or down, it seldom crosses one of 256 levels
POKED = 4  # values of an image that are changed, one at a time
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


def diagnose(
    logits_fn: Logits,
    images_BHWC: Shaped[Array, "B H W C"],
    labels_B: Shaped[Array, " B"],
    noise_BHWC: Shaped[Array, "B H W C"],
) -> Diagnosis:
    """Compares gradients at `images` with what the function does near them; `noise` in [-1, 1].

    The slope is taken along the sign of the margin's gradient, where it is the sum of its magnitudes (along the noise
    where it is 0), by central differences. Logits are unmoved where tiny noise changes none of them; or, where the
    gradient is 0, where none of several values can be changed in both directions with effect: through fine levels tiny
    noise over a whole image does move something.
    """
    logits_BK, pull = jax.vjp(logits_fn, images_BHWC)
    slopes = (jax.grad(lambda z, of=of: jnp.sum(of(z, labels_B)))(logits_BK) for of in (cross_entropy, margin))
    ce_BHWC, margin_BHWC = (pull(slope_BK)[0] for slope_BK in slopes)
    ce_zero_B, margin_zero_B = (jnp.all(g.reshape(len(g), -1) == 0, axis=1) for g in (ce_BHWC, margin_BHWC))
    along_BHWC = jnp.where(margin_zero_B[:, None, None, None], jnp.sign(noise_BHWC), jnp.sign(margin_BHWC))
    pokes = [sign * POKE * poke_BHWC for poke_BHWC in _pokes(noise_BHWC) for sign in (1, -1)]
    moves = [0 * noise_BHWC, TINY * noise_BHWC, STEP * along_BHWC, -STEP * along_BHWC, *pokes]
    # In one loop: what another program would round otherwise must not count as moved.
    seen_MBK = lax.map(lambda move_BHWC: logits_fn(images_BHWC + move_BHWC), jnp.stack(moves))
    moved_MB = jnp.any(seen_MBK != seen_MBK[:1], axis=2)
    ahead_B, behind_B = (margin(seen_MBK[place], labels_B) for place in (2, 3))
    slope_B = (ahead_B - behind_B) / (2 * STEP)
    promised_B = jnp.sum(margin_BHWC * along_BHWC, axis=(1, 2, 3))
    largest_B = jnp.maximum(jnp.abs(slope_B), jnp.abs(promised_B))
    free_B = jnp.any(jnp.all(moved_MB[4:].reshape(-1, 2, len(labels_B)), axis=1), axis=0)
    return Diagnosis(
        ce_zero=ce_zero_B,
        margin_zero=margin_zero_B,
        slope_wrong=jnp.abs(slope_B - promised_B) > AGREE * largest_B,
        unmoved=~moved_MB[1] | margin_zero_B & ~free_B,
    )


def _pokes(noise_BHWC: Array) -> list[Array]:
    """1 at one value of each image, else 0: at the places of the largest noise, one after another."""
    flat_BD = noise_BHWC.reshape(len(noise_BHWC), -1)
    places_BP = lax.top_k(flat_BD, min(POKED, flat_BD.shape[1]))[1]
    pokes_PBD = jax.nn.one_hot(places_BP.T, flat_BD.shape[1], dtype=flat_BD.dtype)
    return [poke_BD.reshape(noise_BHWC.shape) for poke_BD in pokes_PBD]
