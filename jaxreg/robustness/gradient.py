"""FGSM, BIM, PGD and APGD: one ascent whose settings tell them apart, hence one program for all of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness import progress
from jaxreg.robustness.balls import Norm, project, random_point, spread, steepest
from jaxreg.robustness.losses import chosen
from jaxreg.robustness.method import Logits, Method, Row, Settings, Step

MOMENTUM = 0.75  # of an adaptive ascent: the weight of the new step against the last move; 1 at the first step


class State(NamedTuple):
    """The next point, where the last step began, and the best point so far with its gradient: [B, H, W, C] each."""

    x: Array
    before: Array
    best: Array
    best_gradient: Array
    progress: progress.Progress


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
    tracked = progress.begin(row, settings)
    return State(x_BHWC, x_BHWC, x_BHWC, jnp.zeros_like(x_BHWC), tracked)


def step(logits_fn: Logits, row: Row, state: State, k_B: Array, settings: Settings, norm: Norm) -> Step:
    """x <- P(x + length * steepest(gradient)); an adaptive ascent adds momentum and goes back to its best point."""
    loss_B, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, settings)
    better_B = loss_B > state.progress.best_loss_B
    best_BHWC = _where(better_B, state.x, state.best)
    best_gradient_BHWC = _where(better_B, gradient_BHWC, state.best_gradient)
    tracked, restart_B = progress.follow(state.progress, loss_B, k_B, settings)
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
