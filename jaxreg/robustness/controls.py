"""What an attack must beat: noise of the same radius, and the adversaries of another trial."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm, project, random_point, spread
from jaxreg.robustness.bench import Bench, Data, Outcome, logits
from jaxreg.robustness.programs import keys_of, unbroken


@functools.partial(jax.jit, static_argnames=("norm",))
def noisy(images_NHWC: Array, keys_N: Array, eps: Array, norm: Norm) -> Array:
    """Images with one draw each of noise of size `eps`, clipped to [0, 1]."""
    eps_N = jnp.full(images_NHWC.shape[0], eps, images_NHWC.dtype)
    moved = images_NHWC + spread(eps_N, images_NHWC) * random_point(keys_N, images_NHWC, True, norm)
    return project(moved, images_NHWC, eps_N, norm)


def noise(bench: Bench, data: Data, radii: np.ndarray) -> Outcome:
    """Every trial on the same noisy images, one draw an example: the control."""
    keys_N = jax.random.wrap_key_data(jnp.asarray(keys_of(bench.seed, data.ids, 1)))[:, 0]
    drawn = np.stack([noisy(jnp.asarray(data.images), keys_N, eps, bench.norm) for eps in radii])
    return looked_at(bench, data, np.broadcast_to(drawn, (bench.trials, *drawn.shape)), radii)


def transfer(bench: Bench, data: Data, adversarial: np.ndarray, sources: np.ndarray, radii: np.ndarray) -> Outcome:
    """Every trial on the adversaries [T, E, N, H, W, C] of its source trial, `sources` [T]."""
    return looked_at(bench, data, adversarial[sources], radii)


def looked_at(bench: Bench, data: Data, x_TENHWC: np.ndarray, radii: np.ndarray) -> Outcome:
    """The outcome of given images: one forward pass each."""
    shown = np.stack([logits(bench, x_TENHWC[:, e]) for e in range(len(radii))], axis=1)
    hits = wrong(shown, data.labels) & ~wrong(data.clean, data.labels)[:, None]
    smallest = unbroken(data.clean, data.labels)
    for e in reversed(range(len(radii))):
        smallest = np.where(hits[:, e] & (smallest >= 0), radii[e], smallest)
    robust = (smallest >= 0)[:, None] & ~hits
    return Outcome(robust, x_TENHWC, smallest, hits, np.full(bench.trials, len(radii) * len(data.labels)))
