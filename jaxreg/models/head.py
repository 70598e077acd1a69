"""What every network ends with: pooled float32 features and a linear layer."""

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from jaxreg.models.initial import normal


def linear_head(features: int, classes: int, rngs: nnx.Rngs) -> nnx.Linear:
    """Maps features to logits = features W + b, float32 at full precision.

    W ~ N(0, 1/D) (LeCun normal), b = 0 at the start.
    """
    return nnx.Linear(
        features,
        classes,
        dtype=jnp.float32,
        precision=lax.Precision.HIGHEST,
        kernel_init=nnx.initializers.zeros,
        kernel_metadata=normal(features**-0.5),
        rngs=rngs,
    )


def pooled(x_BHWC: Array) -> Array:
    """The mean over space, in float32: [B, H, W, C] -> [B, C]."""
    return x_BHWC.astype(jnp.float32).mean((1, 2))


def max_pool(x_BHWC: Array) -> Array:
    """The maximum of each 2 x 2 window of x >= 0, odd sides padded with 0: [B, H, W, C] -> [B, ⌈H/2⌉, ⌈W/2⌉, C].

    Maxima of pairs, first over rows: on CPU the gradient of a reduction takes three times as long, and that of a window
    reduction more. Where values tie, the gradient is shared.
    """
    x_BHWC = jnp.pad(x_BHWC, ((0, 0), (0, x_BHWC.shape[1] % 2), (0, x_BHWC.shape[2] % 2), (0, 0)))
    b, h, w, c = x_BHWC.shape
    pairs = x_BHWC.reshape(b, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(pairs[:, :, 0], pairs[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def check_image(name: str, image_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises ValueError unless the image (H, W, C) is large enough to keep a pixel at the deepest stage."""
    if min(image_shape[:2]) < smallest:
        raise ValueError(
            f"{name} needs images of {smallest}x{smallest} pixels or more, got {image_shape[0]}x{image_shape[1]}: "
            "choose a network with fewer stages or larger images."
        )
