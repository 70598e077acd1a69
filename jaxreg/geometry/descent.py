"""Accelerated projected gradient descent with restarts, many problems side by side."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

LOOK = 20  # steps from one look at the residual to the next


class Descent(NamedTuple):
    """The best points found [P, D], their residuals [P], and the steps taken []."""

    points: Array
    residual: Array
    steps: Array


Carry = tuple[Array, Array, Array, Descent]  # points, points ahead, momentum, the best


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

    def unfinished(carry: Carry) -> Array:
        *_, best = carry
        return (jnp.max(best.residual) > tolerance) & (best.steps < max_steps)

    def one(carry: Carry) -> Carry:
        points, ahead, momentum, best = carry
        slopes = gradient(ahead)
        best = _better(best, ahead, residual(ahead, slopes))
        new = project(ahead - step * slopes)
        uphill = jnp.sum((ahead - new) * (new - points), 1) > 0
        momentum = jnp.where(uphill, 1.0, momentum)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        # Before a look nothing is extrapolated: the gradient of the step is then that of the point looked at.
        push = jnp.where(uphill | (best.steps % LOOK == 0), 0.0, (momentum - 1) / following)
        return new, new + push[:, None] * (new - points), following, best

    nothing = Descent(start, jnp.inf + 0 * start[:, 0], 0 * start[0, 0].astype(jnp.int32))
    return lax.while_loop(unfinished, one, (start, start, 1 + 0 * start[:, 0], nothing))[-1]


def _better(best: Descent, points: Array, residual: Array) -> Descent:
    """Counts a step, and at a look (the first, and each LOOK steps after) keeps what is better than before."""
    better = (residual < best.residual) & (best.steps % LOOK == 0)
    kept = jnp.where(better[:, None], points, best.points)
    return Descent(kept, jnp.where(better, residual, best.residual), best.steps + 1)
