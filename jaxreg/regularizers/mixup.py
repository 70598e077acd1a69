"""Mixup: convex combinations of two examples and of their targets."""

import jax.numpy as jnp
from jax import Array

from jaxreg.regularizers.regularizer import PER_BATCH, Hyper, Mix, Number, Regularizer, mixing_weights


def mix_images(key: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Mix:
    """x = lam x_i + (1-lam) x_j and y = lam y_i + (1-lam) y_j, with lam ~ Beta(alpha, alpha).

    References: Zhang et al., 2018, https://arxiv.org/abs/1710.09412.
    """
    lam_B = mixing_weights(key, hyper["alpha"], hyper, shape_BHW[0])
    return Mix(jnp.broadcast_to(lam_B[:, None, None, None], (*shape_BHW, 1)), lam_B)


mixup = Regularizer(numbers={"alpha": Number(1.0, "(0, inf)"), "per_batch": PER_BATCH}, mix=mix_images)
