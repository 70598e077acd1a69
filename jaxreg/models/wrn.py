"""Wide residual networks: pre-activation blocks, wide stages.

Zagoruyko and Komodakis, 2016, https://arxiv.org/abs/1605.07146, without dropout. WRN-28-10 has 36,479,194 parameters
for 3 channels and 10 classes. Convolutions start He-normal, fan-out.
"""

from typing import Any

from flax import nnx
from jax import Array

from jaxreg.models.conv import conv_layer
from jaxreg.models.layers import check_image, linear_head, norm_layer, pooled


class WideBlock(nnx.Module):
    """x + conv(relu(norm(conv(a)))), a = relu(norm(x)); where the shape changes, a 1x1 convolution of a replaces x."""

    def __init__(self, channels: int, width: int, stride: int, *, dtype: Any, rngs: nnx.Rngs):
        self.norm1 = norm_layer(channels, dtype=dtype, rngs=rngs)
        self.conv1 = conv_layer(channels, width, 3, stride, dtype=dtype, rngs=rngs)
        self.norm2 = norm_layer(width, dtype=dtype, rngs=rngs)
        self.conv2 = conv_layer(width, width, 3, dtype=dtype, rngs=rngs)
        changes = stride != 1 or channels != width
        self.shortcut = nnx.data(conv_layer(channels, width, 1, stride, dtype=dtype, rngs=rngs) if changes else None)

    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        """The feature maps after it."""
        active_BHWC = nnx.relu(self.norm1(x_BHWC, use_running_average=not train))
        y_BHWC = self.conv2(nnx.relu(self.norm2(self.conv1(active_BHWC), use_running_average=not train)))
        return y_BHWC + (x_BHWC if self.shortcut is None else self.shortcut(active_BHWC))


class WideResNet(nnx.Module):
    """Stem of 16 channels, 3 stages of `WideBlock` (the last two halve the sides), norm, relu, mean, linear layer."""

    def __init__(self, rngs: nnx.Rngs, *, blocks: int, widen: int, channels: int, classes: int, dtype: Any):
        self.stem = conv_layer(channels, 16, 3, dtype=dtype, rngs=rngs)
        self.stages: Any = nnx.List([])
        inputs = 16
        for index, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            stage: Any = nnx.List([])
            for position in range(blocks):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(WideBlock(inputs, width, stride, dtype=dtype, rngs=rngs))
                inputs = width
            self.stages.append(stage)
        self.norm = norm_layer(inputs, dtype=dtype, rngs=rngs)
        self.head = linear_head(inputs, classes, rngs)

    def __call__(self, x_BHWC: Array, *, train: bool) -> tuple[Array, Array]:
        """Logits [B, K] and features [B, D] of images."""
        x_BHWC = self.stem(x_BHWC)
        for stage in self.stages:
            for block in stage:
                x_BHWC = block(x_BHWC, train=train)
        features_BD = pooled(nnx.relu(self.norm(x_BHWC, use_running_average=not train)))
        return self.head(features_BD), features_BD


def wrn28_10(
    rngs: nnx.Rngs, *, image_shape: tuple[int, int, int], classes: int, dtype: Any, widen: int = 10
) -> WideResNet:
    """WRN-28-`widen`: 4 blocks a stage, 16 to 64 times `widen` channels, D = 64 `widen`."""
    if widen < 1:
        raise ValueError(f"widen must be 1 or more, got {widen}: it multiplies the channels of every stage.")
    check_image("wrn28_10", image_shape, 8)
    return WideResNet(rngs, blocks=4, widen=widen, channels=image_shape[2], classes=classes, dtype=dtype)
