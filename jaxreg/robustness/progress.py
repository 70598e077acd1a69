"""The watch an adaptive ascent keeps over its progress: when to halve the step and go back to the best point."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.method import Row, Settings

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


def begin(row: Row, settings: Settings) -> Progress:
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
