"""What every network ends with: pooled float32 features and a linear layer."""

import jax
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

    Among equal values the first, row by row, gets the gradient. Reverse mode only.
    """
    odd = x_BHWC.shape[1] % 2, x_BHWC.shape[2] % 2
    return _even_max_pool(jnp.pad(x_BHWC, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0))))


@jax.custom_vjp
def _even_max_pool(x_BHWC: Array) -> Array:
    """Maxima of pairs, first over rows, because on CPU the reduction of a window and its gradient are slow.

    Its gradient is written out for the same reason: what JAX derives from the pairs pads and adds four arrays.
    """
    b, h, w, c = x_BHWC.shape
    pairs = x_BHWC.reshape(b, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(pairs[:, :, 0], pairs[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def _forward(x_BHWC: Array) -> tuple[Array, tuple[Array, Array]]:
    most = _even_max_pool(x_BHWC)
    return most, (x_BHWC, most)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array]:
    x_BHWC, most = saved
    b, h, w, c = x_BHWC.shape
    pairs = x_BHWC.reshape(b, h // 2, 2, w // 2, 2, c)
    one, two, three = (pairs[:, :, i // 2, :, i % 2] == most for i in range(3))
    chosen = one, two & ~one, three & ~(one | two), ~(one | two | three)
    parts = [jnp.where(mask, g, 0) for mask in chosen]
    rows = [jnp.stack(parts[i : i + 2], 3).reshape(b, h // 2, w, c) for i in (0, 2)]
    return (jnp.stack(rows, 2).reshape(x_BHWC.shape),)


_even_max_pool.defvjp(_forward, _backward)


def check_image(name: str, image_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises ValueError unless the image (H, W, C) is large enough to keep a pixel at the deepest stage."""
    if min(image_shape[:2]) < smallest:
        raise ValueError(
            f"{name} needs images of {smallest}x{smallest} pixels or more, got {image_shape[0]}x{image_shape[1]}: "
            "choose a network with fewer stages or larger images."
        )
