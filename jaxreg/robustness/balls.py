"""Balls around clean images, cut with the box [0, 1]: projections, steepest directions, random points.

Radii are traced, one per example, so that many radii share a batch and a program.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Shaped

Norm = Literal["linf", "l2"]
NORMS = ("linf", "l2")
SMALL = 1e-12


def spread(values_B: Shaped[Array, " B"], like_BHWC: Shaped[Array, "B ..."]) -> Array:
    """[B] -> [B, 1, ...]: one number per example, ready to meet an image batch."""
    return values_B.reshape(-1, *(1,) * (like_BHWC.ndim - 1))


def size(delta_BHWC: Shaped[Array, "B ..."], norm: Norm) -> Shaped[Array, " B"]:
    """The norm of each example's perturbation: [B]."""
    flat_BD = delta_BHWC.reshape(delta_BHWC.shape[0], -1)
    return jnp.max(jnp.abs(flat_BD), axis=1) if norm == "linf" else jnp.sqrt(jnp.sum(flat_BD**2, axis=1))


def project(
    x_BHWC: Shaped[Array, "B ..."], clean_BHWC: Shaped[Array, "B ..."], eps_B: Shaped[Array, " B"], norm: Norm
) -> Shaped[Array, "B ..."]:
    """The nearest point of the ball, then clipped to [0, 1]; clipping moves toward the clean image: it stays inside."""
    if norm == "linf":
        eps = spread(eps_B, x_BHWC)  # bounds of x, not of x - clean: no rounding beyond the radius
        return jnp.clip(jnp.clip(x_BHWC, clean_BHWC - eps, clean_BHWC + eps), 0, 1)
    safe_B = jnp.maximum(eps_B, SMALL)  # the projection divides 0 by 0 at radius 0
    delta_BHWC = jax.vmap(optax.projections.projection_l2_ball)(x_BHWC - clean_BHWC, safe_B)
    return jnp.clip(clean_BHWC + delta_BHWC, 0, 1)


def steepest(gradient_BHWC: Shaped[Array, "B ..."], norm: Norm) -> Shaped[Array, "B ..."]:
    """The direction of unit size that a linear loss rises in fastest: sign(g) for linf, g/|g| for l2."""
    if norm == "linf":
        return jnp.sign(gradient_BHWC)
    return gradient_BHWC / spread(size(gradient_BHWC, "l2") + SMALL, gradient_BHWC)


def uniform(keys_B: Shaped[Array, " B"], like_BHWC: Shaped[Array, "B ..."]) -> Shaped[Array, "B ..."]:
    """Uniform in [-1, 1], one image per key: [B, H, W, C]."""
    shape, dtype = like_BHWC.shape[1:], like_BHWC.dtype
    return jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1, 1))(keys_B)


def random_point(
    keys_B: Shaped[Array, " B"], like_BHWC: Shaped[Array, "B ..."], edge: Array | bool, norm: Norm
) -> Array:
    """A point of the unit ball per key: uniform in it, or, where `edge` (traced), of size 1, as APGD starts.

    On the edge: uniform numbers divided by the largest (linf), or a uniform direction (l2).
    """
    point_BHWC = uniform(keys_B, like_BHWC)
    if norm == "linf":
        scale_B = jnp.where(edge, size(point_BHWC, norm) + SMALL, 1)
        return point_BHWC / spread(scale_B, point_BHWC)
    # The quantile of a uniform number is a normal one; only -1 itself has none.
    normal_BHWC = jax.scipy.special.erfinv(jnp.maximum(point_BHWC, jnp.asarray(-1 + 1e-7, point_BHWC.dtype)))
    radius_B = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (), like_BHWC.dtype))(keys_B)
    scale_B = jnp.where(edge, 1, radius_B ** (1 / like_BHWC[0].size)) / (size(normal_BHWC, "l2") + SMALL)
    return normal_BHWC * spread(scale_B, normal_BHWC)
