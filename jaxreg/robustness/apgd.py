"""APGD: gradient ascent with momentum that halves its step, and returns to its best point, where progress stalls."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.balls import Norm, on_sphere, project, spread, steepest
from jaxreg.robustness.gradient import ascend, fooled
from jaxreg.robustness.loop import Logits, Method, Row, Settings, Step

MOMENTUM = 0.75  # weight of the new step against the last move; 1 at the first step
RHO = 0.75  # share of steps that must raise the loss


class State(NamedTuple):
    """All per slot. `window`: steps between checkpoints; `since`: steps since the last; `rises`: of them, that rose."""

    x: Array
    before: Array
    best: Array
    best_gradient: Array
    best_loss_B: Array
    checked_loss_B: Array
    last_loss_B: Array
    length_B: Array
    halved_B: Array
    window_B: Array
    since_B: Array
    rises_B: Array


def begin(x_BHWC: Array, row: Row, settings: Settings) -> State:
    """The state at a given start."""
    zero_B = jnp.zeros_like(row.eps_B)
    count_B = jnp.zeros_like(row.label_B)
    window = jnp.maximum(22 * jnp.asarray(settings.steps, row.label_B.dtype) // 100, 1)
    return State(
        x=x_BHWC,
        before=x_BHWC,
        best=x_BHWC,
        best_gradient=jnp.zeros_like(x_BHWC),
        best_loss_B=zero_B - jnp.inf,
        checked_loss_B=zero_B,
        last_loss_B=zero_B,
        length_B=2 * row.eps_B,
        halved_B=zero_B == 0,
        window_B=count_B + window,
        since_B=count_B,
        rises_B=count_B,
    )


def start(row: Row, settings: Settings, norm: Norm) -> State:
    """A random point at the full radius (or, without random start, the clean image)."""
    reach_B = row.eps_B * jnp.asarray(settings.random_start, row.eps_B.dtype)
    moved_BHWC = row.clean_BHWC + spread(reach_B, row.clean_BHWC) * on_sphere(row.key_B, row.clean_BHWC, norm)
    return begin(jnp.clip(moved_BHWC, 0, 1), row, settings)


def step(logits_fn: Logits, row: Row, state: State, k_B: Array, settings: Settings, norm: Norm) -> Step:
    """Evaluates the point, keeps the best, checks progress where a window ends, and moves."""
    loss_B, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, settings)
    first_B = k_B == 0
    better_B = loss_B > state.best_loss_B
    kept = state._replace(
        best=_where(better_B, state.x, state.best),
        best_gradient=_where(better_B, gradient_BHWC, state.best_gradient),
        best_loss_B=jnp.where(better_B, loss_B, state.best_loss_B),
        checked_loss_B=jnp.where(first_B, loss_B, state.checked_loss_B),
        since_B=jnp.where(first_B, 0, state.since_B + 1),
        # The loss before the first step counts as 0, as in the reference implementation.
        rises_B=jnp.where(first_B, 0, state.rises_B + (loss_B > state.last_loss_B)),
        last_loss_B=jnp.where(first_B, 0, loss_B),
    )
    checked, restart_B = _check(kept, settings)
    x_BHWC = _where(restart_B, checked.best, state.x)
    uphill_BHWC = _where(restart_B, checked.best_gradient, gradient_BHWC)
    # `before` is where the last step began, also after a return to the best point.
    weight_B = jnp.where(first_B, 1.0, MOMENTUM).astype(x_BHWC.dtype)
    moved_BHWC = _move(x_BHWC, state.before, uphill_BHWC, checked.length_B, weight_B, row, norm)
    return Step(checked._replace(x=moved_BHWC, before=x_BHWC), state.x, fooled(logits_BK, row))


def _where(mask_B: Array, a_BHWC: Array, b_BHWC: Array) -> Array:
    return jnp.where(spread(mask_B, a_BHWC), a_BHWC, b_BHWC)


def _check(state: State, settings: Settings) -> tuple[State, Array]:
    """At the end of a window: halve the step where fewer than rho of its steps rose, or nothing improved since."""
    steps = jnp.asarray(settings.steps, state.window_B.dtype)
    due_B = state.since_B == state.window_B
    stalled_B = state.rises_B <= RHO * state.window_B
    no_gain_B = ~state.halved_B & (state.checked_loss_B >= state.best_loss_B)
    halve_B = due_B & (stalled_B | no_gain_B)
    shorter_B = jnp.maximum(state.window_B - jnp.maximum(3 * steps // 100, 1), jnp.maximum(6 * steps // 100, 1))
    state = state._replace(
        length_B=jnp.where(halve_B, state.length_B / 2, state.length_B),
        halved_B=jnp.where(due_B, halve_B, state.halved_B),
        checked_loss_B=jnp.where(due_B, state.best_loss_B, state.checked_loss_B),
        window_B=jnp.where(due_B, shorter_B, state.window_B),
        since_B=jnp.where(due_B, 0, state.since_B),
        rises_B=jnp.where(due_B, 0, state.rises_B),
    )
    return state, halve_B


def _move(
    x_BHWC: Array, before_BHWC: Array, uphill_BHWC: Array, length_B: Array, weight_B: Array, row: Row, norm: Norm
) -> Array:
    """z = P(x + length * steepest); x <- P(x + a (z - x) + (1 - a) (x - before))."""
    straight_BHWC = x_BHWC + spread(length_B, x_BHWC) * steepest(uphill_BHWC, norm)
    straight_BHWC = project(straight_BHWC, row.clean_BHWC, row.eps_B, norm)
    a = spread(weight_B, x_BHWC)
    mixed_BHWC = x_BHWC + (straight_BHWC - x_BHWC) * a + (x_BHWC - before_BHWC) * (1 - a)
    return project(mixed_BHWC, row.clean_BHWC, row.eps_B, norm)


def method(norm: Norm) -> Method:
    """Auto-PGD.

    The step starts at 2 eps. Checkpoints: the first after max(0.22 n, 1) of n steps, then windows that shrink by
    max(0.03 n, 1) down to max(0.06 n, 1). CE, DLR and targeted DLR are choices of the loss.

    References: Croce and Hein, 2020, https://arxiv.org/abs/2003.01690, algorithm 1.
    """
    return Method(functools.partial(start, norm=norm), functools.partial(step, norm=norm))
