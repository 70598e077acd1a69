"""What a user has set JAX to, strict promotion or 64 bits, does not reach into the measurements."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def standard(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn` under JAX's own rules of type promotion, in the precision of its arguments."""

    @functools.wraps(fn)
    def under_standard(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.numpy_dtype_promotion("standard"):
            return fn(*args, **kwargs)

    return under_standard


def single(fn: Callable[P, R]) -> Callable[P, R]:
    """The same in 32 bits: `fn` copies what it is given to float32 on the host, and returns numbers and NumPy arrays.

    So its random draws, too, are the same whatever `jax_enable_x64` says.
    """

    @functools.wraps(fn)
    def under_single(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
            return fn(*args, **kwargs)

    return under_single


def use_own() -> None:
    """The same for a whole process: a study's numbers depend on no environment."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_enable_x64", False)
