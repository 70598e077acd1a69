"""FGSM, BIM, PGD and APGD: one ascent whose settings tell them apart, hence one program for all of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.balls import Norm, project, random_point, spread, steepest
from jaxreg.robustness.losses import chosen
from jaxreg.robustness.method import Logits, Method, Row, Settings, Step

RHO = 0.75  # share of a window's steps that must raise the loss


class Progress(NamedTuple):
    """Per slot. `window`: steps between checkpoints; `since`: steps since the last; `rises`: of them, that rose."""

    best_loss_B: Array
    checked_loss_B: Array  # best at the last checkpoint
    last_loss_B: Array
    length_B: Array  # of the step
    halved_B: Array  # at the last checkpoint
    window_B: Array
    since_B: Array
    rises_B: Array


def nothing_seen(row: Row, settings: Settings) -> Progress:
    """Nothing seen yet; the first window has max(0.22 n, 1) of n steps."""
    zero_B, count_B = jnp.zeros_like(row.eps_B), jnp.zeros_like(row.label_B)
    window = jnp.maximum(22 * jnp.asarray(settings.steps, row.label_B.dtype) // 100, 1)
    length_B = row.eps_B * jnp.asarray(settings.step_size, row.eps_B.dtype)
    return Progress(zero_B - jnp.inf, zero_B, zero_B, length_B, zero_B == 0, count_B + window, count_B, count_B)


def follow(seen: Progress, loss_B: Array, k_B: Array, settings: Settings) -> tuple[Progress, Array]:
    """Takes in the loss of evaluation `k`; says for which examples the step is halved and the best point taken up."""
    first_B = k_B == 0
    seen = seen._replace(
        best_loss_B=jnp.maximum(loss_B, seen.best_loss_B),
        checked_loss_B=jnp.where(first_B, loss_B, seen.checked_loss_B),
        since_B=jnp.where(first_B, 0, seen.since_B + 1),
        # The loss before the first step counts as 0, as in the reference implementation.
        rises_B=jnp.where(first_B, 0, seen.rises_B + (loss_B > seen.last_loss_B)),
        last_loss_B=jnp.where(first_B, 0, loss_B),
    )
    return _check(seen, settings)


def _check(seen: Progress, settings: Settings) -> tuple[Progress, Array]:
    """At the end of a window: halve where fewer than rho of its steps rose, or nothing improved since the last one.

    Windows shrink by max(0.03 n, 1) down to max(0.06 n, 1) steps.
    """
    steps = jnp.asarray(settings.steps, seen.window_B.dtype)
    due_B = (seen.since_B == seen.window_B) & (jnp.asarray(settings.adaptive) > 0)
    stalled_B = seen.rises_B <= RHO * seen.window_B
    no_gain_B = ~seen.halved_B & (seen.checked_loss_B >= seen.best_loss_B)
    halve_B = due_B & (stalled_B | no_gain_B)
    shorter_B = jnp.maximum(seen.window_B - jnp.maximum(3 * steps // 100, 1), jnp.maximum(6 * steps // 100, 1))
    seen = seen._replace(
        length_B=jnp.where(halve_B, seen.length_B / 2, seen.length_B),
        halved_B=jnp.where(due_B, halve_B, seen.halved_B),
        checked_loss_B=jnp.where(due_B, seen.best_loss_B, seen.checked_loss_B),
        window_B=jnp.where(due_B, shorter_B, seen.window_B),
        since_B=jnp.where(due_B, 0, seen.since_B),
        rises_B=jnp.where(due_B, 0, seen.rises_B),
    )
    return seen, halve_B


MOMENTUM = 0.75  # of an adaptive ascent: the weight of the new step against the last move; 1 at the first step


class State(NamedTuple):
    """The next point, where the last step began, and the best point so far with its gradient: [B, H, W, C] each."""

    x: Array
    before: Array
    best: Array
    best_gradient: Array
    progress: Progress


def ascend(logits_fn: Logits, row: Row, x_BHWC: Array, settings: Settings) -> tuple[Array, Array, Array]:
    """The loss of each example [B], its gradient [B, H, W, C] (the loss is summed), and the logits [B, K]."""

    def total(x_BHWC: Array) -> tuple[Array, tuple[Array, Array]]:
        logits_BK = logits_fn(x_BHWC)
        loss_B = chosen(jnp.asarray(settings.loss), logits_BK, row.label_B, row.target_B)
        return jnp.sum(loss_B), (loss_B, logits_BK)

    gradient_BHWC, (loss_B, logits_BK) = jax.grad(total, has_aux=True)(x_BHWC)
    return loss_B, gradient_BHWC, logits_BK


def fooled(logits_BK: Array, row: Row) -> Array:
    """Whether the prediction is wrong: [B]. Logits that are not numbers count as wrong."""
    return (jnp.argmax(logits_BK, axis=1) != row.label_B) | ~jnp.all(jnp.isfinite(logits_BK), axis=1)


def start(row: Row, settings: Settings, norm: Norm) -> Array:
    """The clean image; or a random point of the ball; or, for an adaptive ascent, of the full radius."""
    edge = jnp.asarray(settings.adaptive) > 0
    point_BHWC = random_point(row.key_B, row.clean_BHWC, edge, norm)
    reach_B = row.eps_B * jnp.asarray(settings.random_start, row.eps_B.dtype)
    moved_BHWC = row.clean_BHWC + spread(reach_B, row.clean_BHWC) * point_BHWC
    return project(moved_BHWC, row.clean_BHWC, row.eps_B, norm)


def begin(x_BHWC: Array, row: Row, settings: Settings) -> State:
    """The state at a given start."""
    tracked = nothing_seen(row, settings)
    return State(x_BHWC, x_BHWC, x_BHWC, jnp.zeros_like(x_BHWC), tracked)


def step(logits_fn: Logits, row: Row, state: State, k_B: Array, settings: Settings, norm: Norm) -> Step:
    """x <- P(x + length * steepest(gradient)); an adaptive ascent adds momentum and goes back to its best point."""
    loss_B, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, settings)
    better_B = loss_B > state.progress.best_loss_B
    best_BHWC = _where(better_B, state.x, state.best)
    best_gradient_BHWC = _where(better_B, gradient_BHWC, state.best_gradient)
    tracked, restart_B = follow(state.progress, loss_B, k_B, settings)
    x_BHWC = _where(restart_B, best_BHWC, state.x)
    uphill_BHWC = _where(restart_B, best_gradient_BHWC, gradient_BHWC)
    plain_B = (k_B == 0) | (jnp.asarray(settings.adaptive) == 0)
    # `before` is where the last step began, also after a return to the best point.
    moved_BHWC = _move(x_BHWC, state.before, uphill_BHWC, tracked.length_B, plain_B, row, norm)
    following = State(moved_BHWC, x_BHWC, best_BHWC, best_gradient_BHWC, tracked)
    return Step(following, state.x, fooled(logits_BK, row))


def look(logits_fn: Logits, row: Row, state: State) -> tuple[Array, Array]:
    """The next point, and whether it is misclassified: a step without its gradient."""
    return state.x, fooled(logits_fn(state.x), row)


def _where(mask_B: Array, a_BHWC: Array, b_BHWC: Array) -> Array:
    return jnp.where(spread(mask_B, a_BHWC), a_BHWC, b_BHWC)


def _move(
    x_BHWC: Array, before_BHWC: Array, uphill_BHWC: Array, length_B: Array, plain_B: Array, row: Row, norm: Norm
) -> Array:
    """z = P(x + length * steepest); plain: z; else P(x + a (z - x) + (1 - a) (x - before))."""
    straight_BHWC = x_BHWC + spread(length_B, x_BHWC) * steepest(uphill_BHWC, norm)
    straight_BHWC = project(straight_BHWC, row.clean_BHWC, row.eps_B, norm)
    mixed_BHWC = x_BHWC + (straight_BHWC - x_BHWC) * MOMENTUM + (x_BHWC - before_BHWC) * (1 - MOMENTUM)
    return _where(plain_B, straight_BHWC, project(mixed_BHWC, row.clean_BHWC, row.eps_B, norm))


def method(norm: Norm) -> Method:
    """Projected gradient ascent in a norm; adaptive, it is Auto-PGD.

    References: FGSM, Goodfellow et al., 2015, https://arxiv.org/abs/1412.6572; BIM, Kurakin et al., 2017,
    https://arxiv.org/abs/1607.02533; PGD, Madry et al., 2018, https://arxiv.org/abs/1706.06083; APGD, Croce and Hein,
    2020, https://arxiv.org/abs/2003.01690, algorithm 1.
    """

    def first(row: Row, settings: Settings) -> State:
        return begin(start(row, settings, norm), row, settings)

    return Method(first, functools.partial(step, norm=norm), look)
