"""Augmentation on the device: pure functions of one image and its own key, the same whatever batch it stands in.

Keys come from `example_keys(key_of(seed, Stream.AUGMENT, step), key_ids)`: a function of seed, step and example alone.
Images keep their type, so that uint8 can be augmented before it is scaled. New pixels are 0, which is black.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Augmentation(NamedTuple):
    """A function of one image, its hyperparameters, and a number for its random stream (never renumber)."""

    apply: Callable[[Array, Array, Mapping[str, Any]], Array]  # key, x_HWC, hp -> x_HWC
    defaults: Mapping[str, int]
    stream: int


def pad_crop(key: Array, x_HWC: Array, hp: Mapping[str, Any]) -> Array:
    """Shifts by up to `padding` pixels (static) in each direction: a random window of the zero-padded image."""
    return _window(key, x_HWC, hp["padding"], "constant")


def pad_crop_reflect(key: Array, x_HWC: Array, hp: Mapping[str, Any]) -> Array:
    """Shifts by up to `padding` pixels (static, below the image size): a random window of the mirrored surround."""
    return _window(key, x_HWC, hp["padding"], "reflect")


def flip(key: Array, x_HWC: Array, hp: Mapping[str, Any]) -> Array:
    """Mirrors left and right with probability 1/2."""
    del hp
    return jnp.where(jax.random.uniform(key) < 0.5, x_HWC[:, ::-1], x_HWC)


def cutout(key: Array, x_HWC: Array, hp: Mapping[str, Any]) -> Array:
    """Erases a square of side `cutout_size` (pixels, may be traced) around a uniform pixel, clipped at the border.

    References: DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552
    """
    size = jnp.asarray(hp["cutout_size"], jnp.int32)
    height, width, _ = x_HWC.shape
    start = [center - size // 2 for center in _two_below(key, height, width)]
    inside = [(jnp.arange(n) >= low) & (jnp.arange(n) < low + size) for n, low in zip((height, width), start)]
    erased_HW = inside[0][:, None] & inside[1][None, :]
    return jnp.where(erased_HW[..., None], jnp.zeros_like(x_HWC), x_HWC)


AUGMENTATIONS = {
    "pad_crop": Augmentation(pad_crop, {"padding": 4}, 0),
    "pad_crop_reflect": Augmentation(pad_crop_reflect, {"padding": 4}, 1),
    "flip": Augmentation(flip, {}, 2),
    "cutout": Augmentation(cutout, {"cutout_size": 8}, 3),
}


def check(names: tuple[str, ...], image_shape: tuple[int, int, int], hp: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line with value, rule and cure, unless `names` with `hp` fit images of this shape."""
    unknown = sorted(set(names) - set(AUGMENTATIONS))
    if unknown:
        raise ValueError(f"Unknown augmentation {unknown[0]!r}; known: {sorted(AUGMENTATIONS)}.")
    if len(set(names)) != len(names):
        raise ValueError(
            f"augmentations must differ, got {list(names)}: one applied twice draws the same numbers twice."
        )
    size, padding = image_shape[0], hp.get("padding", 4)
    if {"pad_crop", "pad_crop_reflect"} & set(names) and not 0 <= padding < size:
        raise ValueError(
            f"padding must be in [0, {size}) for images of {size} pixels, got {padding}: choose a smaller one."
        )
    cutout_size = hp.get("cutout_size", 8)
    if "cutout" in names and not 0 <= cutout_size <= size:
        raise ValueError(f"cutout_size must be in [0, {size}] pixels, got {cutout_size}: choose a smaller one.")


def augment(names: tuple[str, ...], keys_B: Array, x_BHWC: Array, hp: Mapping[str, Any]) -> Array:
    """Applies the named augmentations in turn, each example with its own key.

    Args:
      names: keys of `AUGMENTATIONS`, in the order of application.
      keys_B: typed keys, one per example. x_BHWC: any type, kept.
      hp: `padding` (a Python int) and `cutout_size` (may be traced), pixels; defaults where absent.
    """
    for name in names:
        one = AUGMENTATIONS[name]
        merged = {**one.defaults, **hp}
        x_BHWC = jax.vmap(lambda key, x, one=one, hp=merged: one.apply(jax.random.fold_in(key, one.stream), x, hp))(
            keys_B, x_BHWC
        )
    return x_BHWC


def _window(key: Array, x_HWC: Array, padding: int, mode: str) -> Array:
    # A slice of a padded copy: on CPU twice as fast as gathering rows and columns.
    wide = jnp.pad(x_HWC, ((padding, padding), (padding, padding), (0, 0)), mode=mode)
    row, column = _two_below(key, 2 * padding + 1, 2 * padding + 1)
    return lax.dynamic_slice(wide, (row, column, jnp.zeros_like(row)), x_HWC.shape)


def _two_below(key: Array, rows: int, columns: int) -> tuple[Array, Array]:
    """Draws two integers, uniform to 2^-23: half the work of `randint`, which compiles once an augmentation."""
    u = jax.random.uniform(key, (2,))
    return jnp.floor(u[0] * rows).astype(jnp.int32), jnp.floor(u[1] * columns).astype(jnp.int32)
