"""Newton's method for convex problems in the unit ball, where projected gradients take too long."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Shaped

CHECKED = 20  # steps from one check of the residual to the next


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
    tolerance: Array | float,
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
        # Before a check nothing is extrapolated: the gradient of the step is then that of the checked point.
        push = jnp.where(uphill | (best.steps % CHECKED == 0), 0.0, (momentum - 1) / following)
        return new, new + push[:, None] * (new - points), following, best

    nothing = Descent(start, jnp.inf + 0 * start[:, 0], 0 * start[0, 0].astype(jnp.int32))
    return lax.while_loop(unfinished, one, (start, start, 1 + 0 * start[:, 0], nothing))[-1]


def _better(best: Descent, points: Array, residual: Array) -> Descent:
    """Counts a step, and at a check (the first, and each CHECKED steps after) keeps what is better than before."""
    better = (residual < best.residual) & (best.steps % CHECKED == 0)
    kept = jnp.where(better[:, None], points, best.points)
    return Descent(kept, jnp.where(better, residual, best.residual), best.steps + 1)


BATCH = 16  # problems side by side: each holds a matrix D x D
HALVINGS = tuple(2.0**-i for i in range(16))
SECULAR = 5  # steps to the multiplier of the ball
STEPS = 200
IDLE = 12  # steps without a better point after which a search ends: float32 has no more
EASY = 1e3  # the scale of logits from which on a problem is solved flattened first


class Problem(NamedTuple):
    """Minimise (log sum exp(l) - target.l) / scale, l = scale x @ matrix + bias, over |x| <= 1."""

    without: Array  # bool [K]: classes that are left out of the sum
    target: Array  # [K]
    nonnegative: Array  # bool []: also x >= 0


class NewtonState(NamedTuple):
    """Where a search stands: its point [D], the best one so far and its residual, what logits are multiplied with."""

    point: Array
    best: Array
    residual: Array
    sharpness: Array
    moves: Array
    steps: Array
    idle: Array


def project(points: Array, nonnegative: Array | bool) -> Array:
    """The nearest |x| <= 1, and x >= 0 where asked: the orthant is a cone, so the ball may come second."""
    points = jnp.where(nonnegative, jnp.maximum(points, 0), points)
    return points / jnp.maximum(jnp.linalg.norm(points, axis=-1, keepdims=True), 1)


def residual(points: Array, slopes: Array, nonnegative: Array | bool) -> Array:
    """|x - P(x - g / max(|g|, 1/10))|: zero at the minimum alone."""
    length = jnp.maximum(jnp.linalg.norm(slopes, axis=-1, keepdims=True), 0.1)
    return jnp.linalg.norm(points - project(points - slopes / length, nonnegative), axis=-1)


def polish(
    problems: Problem,
    matrix_DK: Shaped[Array, "D K"],
    bias_K: Shaped[Array, " K"],
    scale: Array,
    points_PD: Shaped[Array, "P D"],
    residual_P: Shaped[Array, " P"],
    tolerance: Array | float,
) -> tuple[Array, Array]:
    """Takes P points whose residual is above `tolerance` on to the minimum: points [P, D] and residuals [P].

    Each step is least over the ball of the quadratic at its start, then halved until it no longer ends uphill. Scales
    above `EASY` are reached in stages. Logits count as exact up to a rounding of 1e-7 of their scale: beyond a scale of
    1e3 no point in float32 has better ones. Beyond 1e4 the residual may stay above `tolerance`, and says so.
    """

    def one(given: tuple[Problem, Array, Array]) -> tuple[Array, Array]:
        problem, point_D, residual = given
        step = _step(problem, matrix_DK, bias_K, scale)
        count = 0 * residual.astype(jnp.int32)
        sharpness = jnp.minimum(1, EASY / scale) + 0 * residual
        start = NewtonState(point_D, point_D, residual, sharpness, residual > tolerance, count, count)
        found = lax.while_loop(
            lambda state: state.moves & (state.steps < STEPS), lambda state: step(state, tolerance), start
        )
        return found.best, found.residual

    # On CPU a batched Cholesky waits for threads of the pool that it runs in: devices side by side wait for each other.
    most = 1 if jax.default_backend() == "cpu" else BATCH
    size = max(n for n in range(1, most + 1) if len(points_PD) % n == 0)
    return lax.map(one, (problems, points_PD, residual_P), batch_size=None if size == 1 else size)


class _Loss(NamedTuple):
    """A problem with its logits flattened: slopes of it, and the step to the least of its quadratic."""

    problem: Problem
    matrix_DK: Array
    bias_K: Array
    scale: Array

    def logits(self, points: Array) -> Array:
        products = points @ self.matrix_DK
        return self.scale * products + jnp.broadcast_to(self.bias_K, products.shape)

    def weights(self, logits: Array) -> Array:
        without = jnp.broadcast_to(self.problem.without, logits.shape)
        return jax.nn.softmax(jnp.where(without, -jnp.inf, logits), -1)

    def slopes(self, logits: Array) -> Array:
        return (self.weights(logits) - jnp.broadcast_to(self.problem.target, logits.shape)) @ self.matrix_DK.T

    def push(self, point_D: Array, logits_K: Array) -> Array:
        """Newton's step within the ball; entries that the orthant holds at 0 stay there."""
        weights_K, slope_D = self.weights(logits_K), self.slopes(logits_K)
        free_D = ~(self.problem.nonnegative & (point_D < 1e-6) & (slope_D > 0))
        root_K = jnp.sqrt(weights_K)
        factor_DK = jnp.where(free_D[:, None], self.matrix_DK, 0) * root_K[None]
        factor_DK = factor_DK - (factor_DK @ root_K)[:, None] * root_K[None]
        hessian_DD = self.scale * factor_DK @ factor_DK.T
        return jnp.where(free_D, _within_ball(hessian_DD, slope_D * free_D, point_D * free_D), -point_D)


def _step(
    problem: Problem, matrix_DK: Array, bias_K: Array, scale: Array
) -> Callable[[NewtonState, Array | float], NewtonState]:
    nonnegative = problem.nonnegative

    def step(state: NewtonState, tolerance: Array | float) -> NewtonState:
        loss = _Loss(problem, matrix_DK, state.sharpness * bias_K, state.sharpness * scale)
        logits_K = loss.logits(state.point)
        push_D = loss.push(state.point, logits_K)
        ends_AD = project(state.point[None] + jnp.asarray(HALVINGS, push_D.dtype)[:, None] * push_D[None], nonnegative)
        slopes_AD = loss.slopes(loss.logits(ends_AD))
        # Of a convex function: not uphill at the end of a step means lower there than at its start.
        lower_A = jnp.sum(slopes_AD * (ends_AD - state.point[None]), 1) <= 0
        chosen = jnp.argmax(lower_A)
        # The whole step once more, with the change of the logits from the step itself: their own rounding drops out.
        whole_D = loss.slopes(logits_K + loss.scale * (push_D @ matrix_DK))
        rounded = jnp.linalg.norm(ends_AD[0] - state.point - push_D)
        tried_2D = jnp.stack([ends_AD[chosen], ends_AD[0]])
        residuals_2 = residual(tried_2D, jnp.stack([slopes_AD[chosen], whole_D]), nonnegative)
        return _after(state, tolerance, ends_AD[chosen], lower_A.any(), tried_2D, residuals_2.at[1].add(rounded))

    return step


def _after(
    state: NewtonState, tolerance: Array | float, point_D: Array, lower: Array, tried_2D: Array, residuals_2: Array
) -> NewtonState:
    """Goes on to the point; keeps the better one of those tried; flattened problems count as stages only."""
    least, full = jnp.argmin(residuals_2), state.sharpness == 1
    better = full & (residuals_2[least] < state.residual)
    kept = jnp.where(better, residuals_2[least], state.residual)
    sharpness = jnp.where(residuals_2[least] < 0.01, jnp.minimum(4 * state.sharpness, 1), state.sharpness)
    idle = jnp.where(full & ~better, state.idle + 1, 0)
    moves = ~full | (lower & (kept > tolerance) & (idle < IDLE))
    return NewtonState(
        point_D, jnp.where(better, tried_2D[least], state.best), kept, sharpness, moves, state.steps + 1, idle
    )


def _within_ball(hessian_DD: Array, slope_D: Array, point_D: Array) -> Array:
    """The step d to the least g.d + d'Hd / 2 over |x + d| <= 1: (H + m) d = -(g + m x), the multiplier m by Newton.

    References: More and Sorensen, 1983, doi:10.1137/0904038.
    """
    eye_DD = jnp.eye(len(slope_D), dtype=slope_D.dtype)
    ridge = 1e-6 * jnp.max(jnp.diagonal(hessian_DD)) + 1e-12

    def solve(multiplier: Array) -> tuple[Array, Array]:
        lower_DD = jnp.linalg.cholesky(hessian_DD + (ridge + multiplier) * eye_DD)
        push_D = -jax.scipy.linalg.cho_solve((lower_DD, True), slope_D + multiplier * point_D)
        return lower_DD, push_D

    def nearer(_: Array, multiplier: Array) -> Array:
        lower_DD, push_D = solve(multiplier)
        end_D = point_D + push_D
        bent_D = jax.scipy.linalg.solve_triangular(lower_DD, end_D, lower=True)
        length = jnp.linalg.norm(end_D)
        return jnp.maximum(multiplier + length**2 * (length - 1) / jnp.maximum(jnp.sum(bent_D**2), 1e-30), 0)

    multiplier = lax.fori_loop(0, SECULAR, nearer, jnp.maximum(-slope_D @ point_D, 0))
    return solve(multiplier)[1]
