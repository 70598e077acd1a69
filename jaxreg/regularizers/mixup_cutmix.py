"""CutMix with some probability, else Mixup: the usual recipe of large image classifiers."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.regularizers import cutmix, mixup
from jaxreg.regularizers.regularizer import PER_BATCH, Hyper, Mix, Number, Regularizer, drawn


def mix_either(key: Array, shape_BHW: tuple[int, int, int], hyper: Hyper) -> Mix:
    """CutMix (Beta of `cutmix_alpha`) where a coin of `probability` says so, else Mixup (Beta of `alpha`).

    References: Wightman et al., 2021, https://arxiv.org/abs/2110.00476 (the timm library).
    """
    coin, boxes, blends = jax.random.split(key, 3)
    one = jnp.ones_like(hyper["probability"])
    pasted = cutmix.paste_box(boxes, shape_BHW, {**hyper, "alpha": hyper["cutmix_alpha"], "probability": one})
    blended = mixup.mix_images(blends, shape_BHW, hyper)
    cut_B = drawn(jax.random.uniform(coin, shape_BHW[:1]), hyper) < hyper["probability"]
    mask_BHW1 = jnp.where(cut_B[:, None, None, None], pasted.mask_BHW1, blended.mask_BHW1)
    return Mix(mask_BHW1, jnp.where(cut_B, pasted.weight_B, blended.weight_B))


mixup_cutmix = Regularizer(
    numbers={
        "alpha": Number(1.0, "(0, inf)"),
        "cutmix_alpha": Number(1.0, "(0, inf)"),
        "probability": Number(0.5, "[0, 1]"),
        "odd_sides": cutmix.ODD_SIDES,
        "per_batch": PER_BATCH,
    },
    mix=mix_either,
)
