"""What every network ends with: pooled float32 features and a linear layer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax


def norm_layer(channels: int, *, dtype: Any, rngs: nnx.Rngs, zero: bool = False) -> nnx.BatchNorm:
    """Batch normalisation over batch and space, computed in float32, returned in `dtype`.

    y = scale (x - mean) / sqrt(var + 1e-5) + bias, with the batch's mean and (biased) variance when training, else the
    running averages m <- 0.9 m + 0.1 m_batch. `scale` starts at 1, at 0 if `zero`.
    Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """
    return nnx.BatchNorm(
        channels,
        use_running_average=None,  # always said at the call
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=nnx.initializers.zeros if zero else nnx.initializers.ones,
        promote_dtype=_in_float32,
        rngs=rngs,
    )


def _in_float32(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    return tuple(array.astype(jnp.float32) for array in arrays)


STD = "initial_std"


def normal(std: float) -> Mapping[str, Any]:
    """Metadata of a parameter that starts as N(0, std^2)."""
    return {STD: std}


def stds_of(abstract_params: Any) -> Any:
    """The state with every parameter replaced by its initial std, 0.0 where its layer has another initialiser."""
    return nnx.map_state(lambda _, variable: variable.get_metadata().get(STD, 0.0), abstract_params)


def draw(key: Array, params: Any, stds: Any) -> Any:
    """Fills the parameters of std > 0 with normal numbers from one draw, in the order of the tree's leaves."""
    leaves, structure = jax.tree.flatten(params)
    spread = jax.tree.leaves(stds)
    sizes = [leaf.size if std > 0 else 0 for leaf, std in zip(leaves, spread)]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    filled = [std * part.reshape(leaf.shape) if std > 0 else leaf for leaf, std, part in zip(leaves, spread, parts)]
    return jax.tree.unflatten(structure, filled)


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
