"""FGSM, BIM, PGD and APGD: one ascent whose numbers tell them apart, hence one program for all of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.robustness.balls import Norm, project, random_point, spread, steepest
from jaxreg.robustness.losses import chosen, fooled
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step

RHO = 0.75  # share of a window's steps that must raise the loss


class StepSchedule(NamedTuple):
    """The length of each slot's step and what it follows from.

    `window`: steps between checkpoints; `since`: steps since the last one; `rises`: how many of them raised the loss.
    """

    best_loss_B: Array
    checked_loss_B: Array  # best at the last checkpoint
    last_loss_B: Array
    length_B: Array  # of the step
    halved_B: Array  # at the last checkpoint
    window_B: Array
    since_B: Array
    rises_B: Array


def first_schedule(row: QueueRow, numbers: AttackNumbers) -> StepSchedule:
    """Before the first evaluation; the first window has max(0.22 n, 1) of n steps."""
    zero_B, count_B = jnp.zeros_like(row.eps_B), jnp.zeros_like(row.label_B)
    window = jnp.maximum(22 * jnp.asarray(numbers.steps, row.label_B.dtype) // 100, 1)
    length_B = row.eps_B * jnp.asarray(numbers.step_size, row.eps_B.dtype)
    return StepSchedule(zero_B - jnp.inf, zero_B, zero_B, length_B, zero_B == 0, count_B + window, count_B, count_B)


def follow(
    schedule: StepSchedule, loss_B: Shaped[Array, " B"], k_B: Shaped[Array, " B"], numbers: AttackNumbers
) -> tuple[StepSchedule, Array]:
    """The schedule after evaluation `k`, and which examples halve their step and return to their best point."""
    first_B = k_B == 0
    schedule = schedule._replace(
        best_loss_B=jnp.maximum(loss_B, schedule.best_loss_B),
        checked_loss_B=jnp.where(first_B, loss_B, schedule.checked_loss_B),
        since_B=jnp.where(first_B, 0, schedule.since_B + 1),
        # The loss before the first step counts as 0, as in the reference implementation.
        rises_B=jnp.where(first_B, 0, schedule.rises_B + (loss_B > schedule.last_loss_B)),
        last_loss_B=jnp.where(first_B, 0, loss_B),
    )
    return _check(schedule, numbers)


def _check(schedule: StepSchedule, numbers: AttackNumbers) -> tuple[StepSchedule, Array]:
    """At the end of a window: halve where fewer than rho of its steps rose, or nothing improved since the last one.

    Windows shrink by max(0.03 n, 1) down to max(0.06 n, 1) steps.
    """
    steps = jnp.asarray(numbers.steps, schedule.window_B.dtype)
    due_B = (schedule.since_B == schedule.window_B) & (jnp.asarray(numbers.adaptive) > 0)
    stalled_B = schedule.rises_B <= RHO * schedule.window_B
    no_gain_B = ~schedule.halved_B & (schedule.checked_loss_B >= schedule.best_loss_B)
    halve_B = due_B & (stalled_B | no_gain_B)
    shorter_B = jnp.maximum(schedule.window_B - jnp.maximum(3 * steps // 100, 1), jnp.maximum(6 * steps // 100, 1))
    schedule = schedule._replace(
        length_B=jnp.where(halve_B, schedule.length_B / 2, schedule.length_B),
        halved_B=jnp.where(due_B, halve_B, schedule.halved_B),
        checked_loss_B=jnp.where(due_B, schedule.best_loss_B, schedule.checked_loss_B),
        window_B=jnp.where(due_B, shorter_B, schedule.window_B),
        since_B=jnp.where(due_B, 0, schedule.since_B),
        rises_B=jnp.where(due_B, 0, schedule.rises_B),
    )
    return schedule, halve_B


MOMENTUM = 0.75  # of an adaptive ascent: the weight of the new step against the last move; 1 at the first step


class AscentState(NamedTuple):
    """The next point, where the last step began, and the best point so far with its gradient: [B, H, W, C] each."""

    x: Array
    before: Array
    best: Array
    best_gradient: Array
    schedule: StepSchedule


def ascend(
    logits_fn: Logits, row: QueueRow, x_BHWC: Shaped[Array, "B H W C"], numbers: AttackNumbers
) -> tuple[Array, Array, Array]:
    """The loss of each example [B], its gradient [B, H, W, C] (the loss is summed), and the logits [B, K]."""

    def total(x_BHWC: Array) -> tuple[Array, tuple[Array, Array]]:
        logits_BK = logits_fn(x_BHWC)
        loss_B = chosen(jnp.asarray(numbers.loss), logits_BK, row.label_B, row.target_B)
        return jnp.sum(loss_B), (loss_B, logits_BK)

    gradient_BHWC, (loss_B, logits_BK) = jax.grad(total, has_aux=True)(x_BHWC)
    return loss_B, gradient_BHWC, logits_BK


def start(row: QueueRow, numbers: AttackNumbers, norm: Norm) -> Array:
    """The clean image; or a random point of the ball; or, for an adaptive ascent, of the full radius."""
    edge = jnp.asarray(numbers.adaptive) > 0
    point_BHWC = random_point(row.key_B, row.clean_BHWC, edge, norm)
    reach_B = row.eps_B * jnp.asarray(numbers.random_start, row.eps_B.dtype)
    moved_BHWC = row.clean_BHWC + spread(reach_B, row.clean_BHWC) * point_BHWC
    return project(moved_BHWC, row.clean_BHWC, row.eps_B, norm)


def begin(x_BHWC: Shaped[Array, "B H W C"], row: QueueRow, numbers: AttackNumbers) -> AscentState:
    """The state at a given start."""
    schedule = first_schedule(row, numbers)
    return AscentState(x_BHWC, x_BHWC, x_BHWC, jnp.zeros_like(x_BHWC), schedule)


def step(
    logits_fn: Logits, row: QueueRow, state: AscentState, k_B: Shaped[Array, " B"], numbers: AttackNumbers, norm: Norm
) -> Step:
    """x <- P(x + length * steepest(gradient)); an adaptive ascent adds momentum and goes back to its best point."""
    loss_B, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, numbers)
    better_B = loss_B > state.schedule.best_loss_B
    best_BHWC = _where(better_B, state.x, state.best)
    best_gradient_BHWC = _where(better_B, gradient_BHWC, state.best_gradient)
    schedule, restart_B = follow(state.schedule, loss_B, k_B, numbers)
    x_BHWC = _where(restart_B, best_BHWC, state.x)
    uphill_BHWC = _where(restart_B, best_gradient_BHWC, gradient_BHWC)
    plain_B = (k_B == 0) | (jnp.asarray(numbers.adaptive) == 0)
    # `before` is where the last step began, also after a return to the best point.
    moved_BHWC = _move(x_BHWC, state.before, uphill_BHWC, schedule.length_B, plain_B, row, norm)
    following = AscentState(moved_BHWC, x_BHWC, best_BHWC, best_gradient_BHWC, schedule)
    highest = jnp.asarray(numbers.highest)
    return Step(following, jnp.where(highest, best_BHWC, state.x), fooled(logits_BK, row.label_B) & ~highest)


def look(logits_fn: Logits, row: QueueRow, state: AscentState) -> tuple[Array, Array]:
    """The next point, and whether it is misclassified: a step without its gradient."""
    return state.x, fooled(logits_fn(state.x), row.label_B)


def _where(mask_B: Array, a_BHWC: Array, b_BHWC: Array) -> Array:
    return jnp.where(spread(mask_B, a_BHWC), a_BHWC, b_BHWC)


def _move(
    x_BHWC: Array, before_BHWC: Array, uphill_BHWC: Array, length_B: Array, plain_B: Array, row: QueueRow, norm: Norm
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

    def first(row: QueueRow, numbers: AttackNumbers) -> AscentState:
        return begin(start(row, numbers, norm), row, numbers)

    return Method(first, functools.partial(step, norm=norm), look)
