"""FGSM, BIM and PGD: one method whose settings tell them apart."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.balls import Norm, inside, project, spread, steepest
from jaxreg.robustness.loop import Logits, Method, Row, Settings, Step
from jaxreg.robustness.losses import chosen


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
    """The clean image, or a uniform point of the ball."""
    reach_B = row.eps_B * jnp.asarray(settings.random_start, row.eps_B.dtype)
    moved_BHWC = row.clean_BHWC + spread(reach_B, row.clean_BHWC) * inside(row.key_B, row.clean_BHWC, norm)
    return project(moved_BHWC, row.clean_BHWC, row.eps_B, norm)


def step(logits_fn: Logits, row: Row, x_BHWC: Array, k_B: Array, settings: Settings, norm: Norm) -> Step:
    """x <- clip(project(x + step * steepest(gradient)))."""
    del k_B
    _, gradient_BHWC, logits_BK = ascend(logits_fn, row, x_BHWC, settings)
    length_B = row.eps_B * jnp.asarray(settings.step_size, row.eps_B.dtype)
    moved_BHWC = x_BHWC + spread(length_B, x_BHWC) * steepest(gradient_BHWC, norm)
    return Step(project(moved_BHWC, row.clean_BHWC, row.eps_B, norm), x_BHWC, fooled(logits_BK, row))


def method(norm: Norm) -> Method:
    """Projected gradient ascent in a norm.

    References: FGSM, Goodfellow et al., 2015, https://arxiv.org/abs/1412.6572; BIM, Kurakin et al., 2017,
    https://arxiv.org/abs/1607.02533; PGD, Madry et al., 2018, https://arxiv.org/abs/1706.06083.
    """
    return Method(functools.partial(start, norm=norm), functools.partial(step, norm=norm))
