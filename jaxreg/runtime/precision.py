"""The precision of products of float32 matrices: JAX's default is TF32 on recent GPUs, bfloat16 on a TPU."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

HIGHEST = "highest"
P = ParamSpec("P")
R = TypeVar("R")


def told() -> str | None:
    """The precision that JAX was told to use, None if it was told none."""
    found: str | None = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009  (unknown to the type checker)
    return found


def chosen() -> str:
    """What measurements run at: what JAX was told, else the highest."""
    return told() or HIGHEST


def careful(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn` at the precision that JAX was told to use, and at the highest where it was told none."""

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision(chosen()):
            return fn(*args, **kwargs)

    return run
