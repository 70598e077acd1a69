"""CutMix: a box of the partner's image is pasted in; targets weigh by the area that is left."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.regularizers.regularizer import PER_BATCH, Hyper, Mix, Number, Regularizer, drawn, mixing_weights


def _span(center_B: Array, half_B: Array, size: int) -> Array:
    """Which of `size` pixels lie in [center - half, center + half), clipped at the borders: bool [B, size]."""
    pixel = jnp.arange(size)[None]
    return (pixel >= (center_B - half_B)[:, None]) & (pixel < (center_B + half_B)[:, None])


def box(key: Array, lam_B: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Array:
    """A box of sides sqrt(1-lam) of the image's, centered anywhere, cut at the borders: bool [B, H, W].

    Sides are int(n sqrt(1-lam)) // 2 pixels to either side of a uniform center, as in the authors' program.
    """
    batch, *sizes = shape_BHW
    side_B = jnp.sqrt(1 - lam_B)
    centers = [drawn(jax.random.randint(k, (batch,), 0, n), hyper) for k, n in zip(jax.random.split(key), sizes)]
    rows, columns = (_span(c, (side_B * n / 2).astype(jnp.int32), n) for c, n in zip(centers, sizes))
    return rows[:, :, None] & columns[:, None, :]


def paste_box(key: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Mix:
    """m = 0 in the box and 1 outside, w = the mean of m (the exact area left), lam ~ Beta(alpha, alpha).

    With probability 1 - `probability` an example is left alone.

    References: Yun et al., 2019, https://arxiv.org/abs/1905.04899.
    """
    area, place, coin = jax.random.split(key, 3)
    lam_B = mixing_weights(area, hyper["alpha"], hyper, shape_BHW[0])
    applied_B = drawn(jax.random.uniform(coin, shape_BHW[:1]), hyper) < hyper["probability"]
    pasted_BHW = box(place, lam_B, shape_BHW, hyper) & applied_B[:, None, None]
    mask_BHW = jnp.where(pasted_BHW, 0.0, 1.0)
    return Mix(mask_BHW[..., None], mask_BHW.mean((1, 2)))


cutmix = Regularizer(
    numbers={"alpha": Number(1.0, "(0, inf)"), "probability": Number(1.0, "[0, 1]"), "per_batch": PER_BATCH},
    mix=paste_box,
)
