"""Accelerated projected gradient descent with restarts, many problems side by side."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

CHUNK = 20  # steps between two looks at the residual, which costs a gradient of its own


class Descent(NamedTuple):
    """The best points found [P, D], their residuals [P], and the steps taken []."""

    points: Array
    residual: Array
    steps: Array


def accelerate(
    gradient: Callable[[Array], Array],
    project: Callable[[Array], Array],
    residual: Callable[[Array, Array], Array],
    start: Array,
    step: Array,
    tolerance: float,
    max_steps: int,
) -> Descent:
    """Minimises P problems [P, D] until each `residual(points, gradient(points))` [P] is below `tolerance`.

    The momentum of a problem restarts when it points uphill.
    References: Beck and Teboulle, 2009, doi:10.1137/080716542; O'Donoghue and Candes, 2015, arXiv:1204.3982.
    """

    def one(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        points, ahead, momentum = carry
        new = project(ahead - step * gradient(ahead))
        uphill = jnp.sum((ahead - new) * (new - points), 1) > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return new, new + jnp.where(uphill, 0.0, (momentum - 1) / following)[:, None] * (new - points), following

    def chunk(carry):
        inner, best = carry
        inner = lax.fori_loop(0, CHUNK, one, inner)
        found = residual(inner[0], gradient(inner[0]))
        better = found < best.residual
        points = jnp.where(better[:, None], inner[0], best.points)
        return inner, Descent(points, jnp.where(better, found, best.residual), best.steps + CHUNK)

    def unfinished(carry) -> Array:
        _, best = carry
        return (jnp.max(best.residual) > tolerance) & (best.steps < max_steps)

    zero = start[0, 0].astype(jnp.int32) * 0
    first = Descent(start, residual(start, gradient(start)), zero)
    return lax.while_loop(unfinished, chunk, ((start, start, 1 + 0 * start[:, 0]), first))[1]
