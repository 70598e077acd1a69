"""Are decision regions cones? Answered exactly, example by example, without sampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import standard
from jaxreg.calibration.metrics import predicted

MORE_BIAS = 10.0  # times the bias: a control, whose regions are less like cones


class Cone(NamedTuple):
    """Per example [N]: the last breakpoint t*, its distance t* |h| from the origin, the class that wins beyond it."""

    breakpoint: Array
    radius: Array
    winner: Array

    def final(self) -> Array:
        """Whether the prediction at t = 1 is the one that holds all the way out: [N], bool."""
        return self.breakpoint < 1


@standard
def cone(features_ND: Shaped[Array, "N D"], kernel_DK: Shaped[Array, "D K"], bias_K: Shaped[Array, " K"]) -> Cone:
    """Follows the prediction along the ray t h, t > 0, to the point where it changes for the last time.

    On the ray the logits are the lines t a_j + b_j, a = W h, and the prediction is their upper envelope. Its last line
    c has the largest a (among equals the largest b) and begins at t* = max_j (b_j - b_c) / (a_c - a_j), or at 0.
    Without bias t* = 0: every region is a cone by construction. A zero feature has t* = 0 too; what is not finite, nan.
    """
    bias_1K = bias_K[None]
    with jax.default_matmul_precision("highest"):
        slopes_NK = features_ND @ kernel_DK
    steepest_N1 = slopes_NK.max(1, keepdims=True)
    # By comparison: a compiler may fuse a product into the difference, which is then not 0 at the largest.
    fall_NK = jnp.where(slopes_NK >= steepest_N1, 0, steepest_N1 - slopes_NK)
    last_NK = jnp.where(fall_NK <= 0, bias_1K, -jnp.inf)
    winner_N = jnp.argmax(last_NK, 1)
    # By the maximum, not by the winner's index: a compiler leaves out an arg max whose result is unused.
    lead_NK = bias_1K - last_NK.max(1, keepdims=True)
    start_NK = jnp.where((lead_NK > 0) & (fall_NK > 0), lead_NK / jnp.where(fall_NK > 0, fall_NK, 1), 0)
    known_N = jnp.isfinite(slopes_NK.max(1)) & jnp.isfinite(slopes_NK.min(1)) & jnp.isfinite(bias_K).all()
    breakpoint_N = jnp.where(known_N, start_NK.max(1), jnp.nan)  # comparisons with what is not finite are all false
    return Cone(breakpoint_N, breakpoint_N * jnp.linalg.norm(features_ND, axis=1), winner_N)


@standard
def shrinkable(
    features_ND: Shaped[Array, "N D"], kernel_DK: Shaped[Array, "D K"], bias_K: Shaped[Array, " K"]
) -> Shaped[Array, " N"]:
    """t_star in [0, 1]: how far each feature can be shrunk toward the origin before its prediction changes.

    t_star = max over j of (b_j - b_c) / (a_c - a_j), a = W h, c the class at h; over rivals with a larger bias and a
    smaller product, 0 without any: t h has the prediction of h for all t in (t_star, 1]. Where that of h is final
    (`Cone.final`) it is the last breakpoint. Without bias 0, by construction; what is not finite, nan.
    """
    with jax.default_matmul_precision("highest"):
        products_NK = features_ND @ kernel_DK
    class_N1 = predicted(products_NK + bias_K[None])[:, None]
    fall_NK = jnp.take_along_axis(products_NK, class_N1, 1) - products_NK
    lead_NK = bias_K[None] - bias_K[class_N1[:, 0]][:, None]
    level_NK = jnp.where((lead_NK > 0) & (fall_NK > 0), lead_NK / jnp.where(fall_NK > 0, fall_NK, 1), 0)
    known_N = jnp.isfinite(products_NK).all(1) & jnp.isfinite(bias_K).all()
    return jnp.where(known_N, jnp.minimum(level_NK.max(1), 1), jnp.nan)
