"""FAB: steps to the boundary between label and target, linearised, biased back toward the clean image."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.robustness.balls import SMALL, Norm, size, spread
from jaxreg.robustness.losses import fooled, pick
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step

ALPHA_MAX = 0.1  # largest share of the step from the clean image
ETA = 1.05  # overshoot
BETA = 0.9  # how far an adversary is drawn back before the next step
ROUNDS = 24  # of the exact line search; each saturates at least one more coordinate or ends


class FabState(NamedTuple):
    """The current point, the nearest adversary so far, and its distance."""

    x: Array
    best: Array
    distance_B: Array


def to_hyperplane(
    point_BD: Shaped[Array, "B D"], w_BD: Shaped[Array, "B D"], b_B: Shaped[Array, " B"], norm: Norm
) -> Array:
    """The smallest move within [0, 1] onto w.x = b: [B, D]; where out of reach, every coordinate as far as it helps.

    Coordinate i moves by min(tau v_i, room_i), v = 1 (linf) or |w| (l2), and tau solves
    sum_i |w_i| min(tau v_i, room_i) = |w.x - b|: increasing, concave and piecewise linear, so that Newton's method from
    below is exact after as many rounds as slopes are passed.
    """
    gap_B = jnp.sum(w_BD * point_BD, axis=1) - b_B
    direction_BD = -jnp.sign(w_BD) * jnp.where(gap_B >= 0, 1, -1).astype(w_BD.dtype)[:, None]
    room_BD = jnp.where(direction_BD > 0, 1 - point_BD, point_BD)
    weight_BD = jnp.abs(w_BD)
    speed_BD = (weight_BD > 0).astype(w_BD.dtype) if norm == "linf" else weight_BD
    need_B = jnp.abs(gap_B)

    def newton(_: Array, tau_B: Array) -> Array:
        free_BD = tau_B[:, None] * speed_BD < room_BD
        fixed_B = jnp.sum(jnp.where(free_BD, 0, weight_BD * room_BD), axis=1)
        slope_B = jnp.sum(jnp.where(free_BD, weight_BD * speed_BD, 0), axis=1)
        solved_B = (need_B - fixed_B) / jnp.maximum(slope_B, SMALL)
        full_B = jnp.max(room_BD / jnp.maximum(speed_BD, SMALL), axis=1)
        return jnp.maximum(tau_B, jnp.where(slope_B > SMALL, solved_B, full_B))

    tau_B = lax.fori_loop(0, ROUNDS, newton, need_B * 0)
    return direction_BD * jnp.minimum(tau_B[:, None] * speed_BD, room_BD)


def start(row: QueueRow, numbers: AttackNumbers) -> FabState:
    """The clean image."""
    del numbers
    return FabState(row.clean_BHWC, row.clean_BHWC, row.eps_B * 0 + jnp.inf)


def step(
    logits_fn: Logits, row: QueueRow, state: FabState, k_B: Shaped[Array, " B"], numbers: AttackNumbers, norm: Norm
) -> Step:
    """A step to the linearised boundary; where it fools, the nearest is kept and the next step starts closer.

    What it shows is the nearest adversary once that lies within the radius, and the clean image until then.
    """
    del k_B, numbers

    def gap(x_BHWC: Array) -> tuple[Array, Array]:
        logits_BK = logits_fn(x_BHWC)
        gap_B = pick(logits_BK, row.target_B) - pick(logits_BK, row.label_B)
        return jnp.sum(gap_B), gap_B

    w_BHWC, gap_B = jax.grad(gap, has_aux=True)(state.x)
    x_BHWC = _step(row.clean_BHWC, state.x, w_BHWC, gap_B, norm)
    hit_B = fooled(logits_fn(x_BHWC), row.label_B)
    distance_B = size(x_BHWC - row.clean_BHWC, norm)
    nearer_B = hit_B & (distance_B < state.distance_B)
    best_BHWC = jnp.where(spread(nearer_B, x_BHWC), x_BHWC, state.best)
    distance_B = jnp.where(nearer_B, distance_B, state.distance_B)
    back_BHWC = row.clean_BHWC + (x_BHWC - row.clean_BHWC) * BETA
    following = FabState(jnp.where(spread(hit_B, x_BHWC), back_BHWC, x_BHWC), best_BHWC, distance_B)
    inside_B = distance_B <= row.eps_B
    return Step(following, jnp.where(spread(inside_B, x_BHWC), best_BHWC, row.clean_BHWC), inside_B)


def _step(clean_BHWC: Array, x_BHWC: Array, w_BHWC: Array, gap_B: Array, norm: Norm) -> Array:
    """A mean of the overshot steps from the point and from the clean image, weighted by their lengths."""
    count, shape = x_BHWC.shape[0], x_BHWC.shape
    w_BD, x_BD, clean_BD = (a.reshape(count, -1) for a in (w_BHWC, x_BHWC, clean_BHWC))
    b_B = jnp.sum(w_BD * x_BD, axis=1) - gap_B
    here_BD, there_BD = (to_hyperplane(point, w_BD, b_B, norm) for point in (x_BD, clean_BD))
    near_B, far_B = (jnp.maximum(size(move, norm), 1e-8) for move in (here_BD, there_BD))
    alpha_B1 = jnp.clip(near_B / (near_B + far_B), 0, ALPHA_MAX)[:, None]
    mixed_BD = (x_BD + ETA * here_BD) * (1 - alpha_B1) + (clean_BD + ETA * there_BD) * alpha_B1
    return jnp.clip(mixed_BD, 0, 1).reshape(shape)


def method(norm: Norm) -> Method:
    """Fast adaptive boundary attack, targeted (FAB-T); fools at radius eps once an adversary as near was found.

    References: Croce and Hein, 2020, https://arxiv.org/abs/1907.02044, algorithm 1.
    """
    return Method(start, functools.partial(step, norm=norm))
