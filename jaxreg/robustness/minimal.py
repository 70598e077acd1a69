"""The smallest radius that fools each example: ascent in a ball that shrinks while it fools and grows while not."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.robustness.balls import SMALL, Norm, project, size, spread, steepest
from jaxreg.robustness.gradient import ascend, start
from jaxreg.robustness.losses import fooled
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step

STEPS = (1.0, 0.1)  # of the ascent, in units of the radius: first and last
CHANGES = (0.1, 0.002)  # of the radius, relative: first and last


class SearchState(NamedTuple):
    """Per slot: the next point and its radius, the nearest adversary and its distance (inf: none yet)."""

    x: Array
    radius_B: Array
    best: Array
    distance_B: Array


def begin(row: QueueRow, numbers: AttackNumbers, norm: Norm) -> SearchState:
    """At the row's own start (an adversary already known, say) or the clean image; its radius is the largest."""
    x_BHWC = start(row, numbers, norm) if row.start_BHWC is None else row.start_BHWC
    return SearchState(x_BHWC, row.eps_B, x_BHWC, row.eps_B * 0 + jnp.inf)


def step(
    logits_fn: Logits, row: QueueRow, state: SearchState, k_B: Shaped[Array, " B"], numbers: AttackNumbers, norm: Norm
) -> Step:
    """To the linear estimate of the boundary: inward, by half at most, where fooled; outward until one point fooled.

    From then on a point that does not fool lets the ball grow a little.
    """
    gap_B, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, numbers)
    hit_B, distance_B = fooled(logits_BK, row.label_B), size(state.x - row.clean_BHWC, norm)
    nearer_B = hit_B & (distance_B < state.distance_B)
    best_BHWC = jnp.where(spread(nearer_B, state.x), state.x, state.best)
    best_B = jnp.where(nearer_B, distance_B, state.distance_B)
    late_B = k_B / jnp.asarray(numbers.steps)
    change_B = _between(CHANGES, late_B).astype(distance_B.dtype)
    boundary_B = distance_B - gap_B / (_dual_size(gradient_BHWC, norm) + SMALL)  # the gap is above 0 where fooled
    tried_B = jnp.minimum(state.radius_B, distance_B)
    inward_B = jnp.clip(boundary_B, tried_B / 2, tried_B * (1 - change_B))
    outward_B = jnp.where(jnp.isfinite(best_B), state.radius_B * (1 + change_B), boundary_B * (1 + change_B))
    radius_B = jnp.minimum(jnp.where(hit_B, inward_B, outward_B), row.eps_B)
    length_B = radius_B * _between(STEPS, late_B).astype(radius_B.dtype)
    moved_BHWC = state.x + spread(length_B, state.x) * steepest(gradient_BHWC, norm)
    following = SearchState(project(moved_BHWC, row.clean_BHWC, radius_B, norm), radius_B, best_BHWC, best_B)
    found_B, over_B = jnp.isfinite(best_B), k_B >= jnp.asarray(numbers.steps)
    return Step(following, jnp.where(spread(found_B, best_BHWC), best_BHWC, state.x), over_B & found_B, over_B)


def _between(ends: tuple[float, float], late_B: Array) -> Array:
    """From the first number to the last along half a cosine."""
    return ends[1] + (ends[0] - ends[1]) * (1 + jnp.cos(jnp.pi * late_B)) / 2


def _dual_size(gradient_BHWC: Array, norm: Norm) -> Array:
    return jnp.sum(jnp.abs(gradient_BHWC), axis=(1, 2, 3)) if norm == "linf" else size(gradient_BHWC, "l2")


def method(norm: Norm) -> Method:
    """A fast minimum-norm search up to the row's radius.

    The distance of the adversary found is an upper bound of the minimal radius; nothing proves there is no nearer one.
    Unlike the original, steps are steepest in the norm, in units of the radius, and the linear estimate also shrinks.

    References: Pintor et al., 2021, https://arxiv.org/abs/2102.12827, algorithm 1.
    """
    return Method(functools.partial(begin, norm=norm), functools.partial(step, norm=norm))
