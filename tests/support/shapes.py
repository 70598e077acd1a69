"""How shapes in types are checked in tests: those of arrays of NumPy and of JAX alike, and nothing else."""

import typing

import jax
import numpy as np
from beartype import beartype
from jaxtyping import AbstractArray, Shaped


def checked(function):
    """The function, or the little ones that jaxtyping makes of its signature, with its shapes checked."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: shape for name, hint in hints.items() if (shape := _shape(hint)) is not None}
    return beartype(function)


def _shape(hint):
    """Of `Shaped[kind, "N K"]`, or of a union of such kinds, the same of any kind of array."""
    parts = [part for part in (typing.get_args(hint) or (hint,)) if part is not type(None)]
    shaped = [part for part in parts if isinstance(part, type) and issubclass(part, AbstractArray)]
    if not shaped or len(shaped) < len(parts):
        return None
    same = Shaped[np.ndarray | jax.Array, shaped[0].dim_str]
    return same if len(parts) == len(typing.get_args(hint) or (hint,)) else same | None
