"""Residual networks in their CIFAR form: a 3x3 stem without pooling, post-activation basic blocks.

He et al., 2016, https://arxiv.org/abs/1512.03385. The shortcut of a block that changes shape is a 1x1 convolution with
normalisation (option B there), which gives the customary counts: 272,474 (ResNet-20) and 11,173,962 (ResNet-18)
parameters for 3 channels and 10 classes. Convolutions start He-normal, fan-out.
"""

from collections.abc import Sequence
from typing import Any

from flax import nnx
from jax import Array

from jaxreg.models.conv import conv_layer
from jaxreg.models.layers import check_image, linear_head, norm_layer, pooled


class Shortcut(nnx.Module):
    """A 1x1 convolution and normalisation, where a block changes the shape."""

    def __init__(self, channels: int, width: int, stride: int, *, dtype: Any, rngs: nnx.Rngs):
        self.conv = conv_layer(channels, width, 1, stride, dtype=dtype, rngs=rngs)
        self.norm = norm_layer(width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        """The feature maps after it."""
        return self.norm(self.conv(x_BHWC), use_running_average=not train)


class Block(nnx.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, channels: int, width: int, stride: int, *, zero: bool, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = conv_layer(channels, width, 3, stride, dtype=dtype, rngs=rngs)
        self.norm1 = norm_layer(width, dtype=dtype, rngs=rngs)
        self.conv2 = conv_layer(width, width, 3, dtype=dtype, rngs=rngs)
        self.norm2 = norm_layer(width, dtype=dtype, rngs=rngs, zero=zero)
        changes = stride != 1 or channels != width
        self.shortcut = nnx.data(Shortcut(channels, width, stride, dtype=dtype, rngs=rngs) if changes else None)

    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        """The feature maps after it."""
        y_BHWC = nnx.relu(self.norm1(self.conv1(x_BHWC), use_running_average=not train))
        y_BHWC = self.norm2(self.conv2(y_BHWC), use_running_average=not train)
        return nnx.relu(y_BHWC + (x_BHWC if self.shortcut is None else self.shortcut(x_BHWC, train=train)))


class ResNet(nnx.Module):
    """Stem, stages of `Block` (all but the first halve the sides), mean over space, linear layer."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        channels: int,
        classes: int,
        dtype: Any,
        zero: bool,
    ):
        self.stem = conv_layer(channels, widths[0], 3, dtype=dtype, rngs=rngs)
        self.norm = norm_layer(widths[0], dtype=dtype, rngs=rngs)
        self.stages: Any = nnx.List([])
        inputs = widths[0]
        for index, (depth, width) in enumerate(zip(blocks, widths)):
            stage: Any = nnx.List([])
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(Block(inputs, width, stride, zero=zero, dtype=dtype, rngs=rngs))
                inputs = width
            self.stages.append(stage)
        self.head = linear_head(inputs, classes, rngs)

    def __call__(self, x_BHWC: Array, *, train: bool) -> tuple[Array, Array]:
        """Logits [B, K] and features [B, D] of images."""
        x_BHWC = nnx.relu(self.norm(self.stem(x_BHWC), use_running_average=not train))
        for stage in self.stages:
            for block in stage:
                x_BHWC = block(x_BHWC, train=train)
        features_BD = pooled(x_BHWC)
        return self.head(features_BD), features_BD


def resnet20(
    rngs: nnx.Rngs,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    dtype: Any,
    width: int = 16,
    zero_init: bool = False,
) -> ResNet:
    """ResNet-20: 3 stages of 3 blocks, (1, 2, 4) `width` channels, D = 64. `zero_init`: blocks start as their input."""
    _check("resnet20", image_shape, width)
    return ResNet(
        rngs,
        blocks=(3, 3, 3),
        widths=(width, 2 * width, 4 * width),
        channels=image_shape[2],
        classes=classes,
        dtype=dtype,
        zero=zero_init,
    )


def resnet18(
    rngs: nnx.Rngs,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    dtype: Any,
    width: int = 64,
    zero_init: bool = False,
) -> ResNet:
    """ResNet-18: 4 stages of 2 blocks, 1, 2, 4, 8 times `width` channels, D = 512. `zero_init` as in `resnet20`."""
    _check("resnet18", image_shape, width)
    return ResNet(
        rngs,
        blocks=(2, 2, 2, 2),
        widths=(width, 2 * width, 4 * width, 8 * width),
        channels=image_shape[2],
        classes=classes,
        dtype=dtype,
        zero=zero_init,
    )


def _check(name: str, image_shape: tuple[int, int, int], width: int) -> None:
    check_image(name, image_shape, 8)
    if width < 1:
        raise ValueError(f"width must be 1 or more, got {width}: it is the number of channels of the first stage.")
