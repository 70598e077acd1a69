"""MODELS: networks chosen by name, as pure functions. A new one is one file, one line here and one test case."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxreg.models import cnn, functional, resnet, wrn
from jaxreg.models.functional import Head, Model, head

__all__ = ["DTYPES", "MODELS", "Head", "Model", "head", "make", "options_of"]

MODELS: Mapping[str, Callable[..., Any]] = {
    "cnn": cnn.cnn,
    "resnet20": resnet.resnet20,
    "resnet18": resnet.resnet18,
    "wrn28_10": wrn.wrn28_10,
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_COMMON = ("rngs", "image_shape", "classes", "dtype")


def make(
    name: str,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: str = "float32",
    **options: Any,
) -> Model:
    """The model `name` for images (H, W, C) in [0, 1] and K `classes`.

    Args:
      mean, std: per channel, of the training images; the network sees (x - mean) / std.
      dtype: of the network's computation, "float32" or "bfloat16"; parameters, BatchNorm statistics, features and
        logits are float32 either way.
      options: of the model: see its maker in `MODELS`.

    Raises: ValueError: for an unknown name, option or dtype, an image too small, or mean and std that do not fit.
    """
    maker = _known("model", name, MODELS)
    compute = _known("dtype", dtype, DTYPES)
    _check_options(name, maker, options)
    _check_numbers(classes, image_shape, mean, std)
    shape = tuple(image_shape)

    def network(rngs: nnx.Rngs) -> Any:
        return maker(rngs, image_shape=shape, classes=classes, dtype=compute, **options)

    return functional.functional(network, mean, std)


def _known(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"Unknown {kind} {name!r}; known: {sorted(table)}.")
    return table[name]


def options_of(maker: Callable[..., Any]) -> list[str]:
    """The options of a model's maker, by name."""
    return [option for option in inspect.signature(maker).parameters if option not in _COMMON]


def _check_options(name: str, maker: Callable[..., Any], options: Mapping[str, Any]) -> None:
    known = options_of(maker)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"Unknown option {unknown[0]!r} of model {name!r}; known: {known}.")


def _check_numbers(
    classes: int, image_shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
) -> None:
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (height, width, channels), got {tuple(image_shape)}.")
    if classes < 2:
        raise ValueError(f"classes must be 2 or more, got {classes}: a classifier needs something to tell apart.")
    for name, value in (("mean", mean), ("std", std)):
        if np.shape(value) != tuple(image_shape[2:]):
            raise ValueError(f"{name} must hold one number a channel of {tuple(image_shape)}, got {value}.")
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(std)) and np.min(std) > 0):
        raise ValueError(f"mean and std must be finite and std > 0, got {mean} and {std}: drop constant channels.")
