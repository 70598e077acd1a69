"""A small convolutional network for images of 8x8 to 28x28."""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jax import Array

from jaxreg.models.conv import conv_layer
from jaxreg.models.layers import check_image, linear_head, max_pool, norm_layer, pooled


class Cnn(nnx.Module):
    """Blocks of 3x3 convolution, normalisation, relu, 2x2 max pool; the mean over space; a linear layer."""

    def __init__(self, rngs: nnx.Rngs, *, channels: int, classes: int, dtype: Any, widths: Sequence[int]):
        inputs = (channels, *widths[:-1])
        self.convs = nnx.List([conv_layer(i, o, 3, dtype=dtype, rngs=rngs) for i, o in zip(inputs, widths)])
        self.norms = nnx.List([norm_layer(width, dtype=dtype, rngs=rngs) for width in widths])
        self.head = linear_head(widths[-1], classes, rngs)

    def __call__(self, x_BHWC: Array, *, train: bool) -> tuple[Array, Array]:
        """Logits [B, K] and features [B, D] of images."""
        for conv, norm in zip(self.convs, self.norms):
            x_BHWC = max_pool(nnx.relu(norm(conv(x_BHWC), use_running_average=not train)))
        features_BD = pooled(x_BHWC)
        return self.head(features_BD), features_BD


def cnn(
    rngs: nnx.Rngs,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    dtype: Any,
    widths: Sequence[int] = (32, 64),
) -> Cnn:
    """The `Cnn` of `widths` channels a block, D = widths[-1]; 19,562 parameters for 1 channel and 10 classes."""
    if not widths or min(widths) < 1:
        raise ValueError(f"widths must be one or more positive numbers of channels, got {tuple(widths)}.")
    check_image(f"cnn with {len(widths)} pools", image_shape, 2 ** len(widths))
    return Cnn(rngs, channels=image_shape[2], classes=classes, dtype=dtype, widths=tuple(widths))
