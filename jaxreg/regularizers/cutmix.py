"""CutMix: a box of the partner's image is pasted in; targets weigh by the area that is left."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.regularizers.regularizer import PER_BATCH, Hyper, Mix, Number, Regularizer, drawn, mixing_weights

ODD_SIDES = Number(0.0, "[0, 1]")  # 1 keeps odd sides; 0 makes them even, as the authors' program does


def _span(center_B: Array, side_B: Array, size: int, odd: Array) -> Array:
    """Which of `size` pixels lie about the center, half the side to either hand, within the image: bool [B, size].

    One more at the end where the side is odd and odd ones are kept.
    """
    pixel, half_B = jnp.arange(size)[None], side_B // 2
    end_B = center_B + half_B + jnp.where(odd > 0, side_B % 2, 0)
    return (pixel >= (center_B - half_B)[:, None]) & (pixel < end_B[:, None])


def box(key: Array, lam_B: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Array:
    """A box of sides sqrt(1-lam) of the image's, centered anywhere, cut at the borders: bool [B, H, W].

    Sides are int(n sqrt(1-lam)), made even unless `odd_sides` is 1: half of them to either hand of a uniform center.
    """
    batch, *sizes = shape_BHW
    share_B = jnp.sqrt(1 - lam_B)
    centers = [drawn(jax.random.randint(k, (batch,), 0, n), hyper) for k, n in zip(jax.random.split(key), sizes)]
    sides = [(share_B * n).astype(jnp.int32) for n in sizes]
    rows, columns = (_span(c, s, n, hyper["odd_sides"]) for c, s, n in zip(centers, sides, sizes))
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
    numbers={
        "alpha": Number(1.0, "(0, inf)"),
        "probability": Number(1.0, "[0, 1]"),
        "odd_sides": ODD_SIDES,
        "per_batch": PER_BATCH,
    },
    mix=paste_box,
)
