"""The smallest radius that fools each example: bisection over radii, each tried by warm-started margin ascent."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxreg.robustness.balls import SMALL, Norm, project, size, spread, steepest
from jaxreg.robustness.gradient import ascend, fooled, start
from jaxreg.robustness.loop import Logits, Method, Row, Settings, Step

TRIES = 10  # steps at one radius before it counts as safe
TOLERANCE = 1e-2  # relative width of the bracket at which the search ends


class State(NamedTuple):
    """Per slot: the next point, the nearest adversary, the bracket of its radius, the radius tried, steps at it."""

    x: Array
    best: Array
    low_B: Array
    high_B: Array
    radius_B: Array
    tried_B: Array
    found_B: Array


def begin(row: Row, settings: Settings, norm: Norm) -> State:
    """Starts at the largest radius, the row's."""
    x_BHWC = start(row, settings, norm)
    zero_B = row.eps_B * 0
    return State(x_BHWC, x_BHWC, zero_B, row.eps_B, row.eps_B, row.label_B * 0, zero_B > 0)


def step(logits_fn: Logits, row: Row, state: State, k_B: Array, settings: Settings, norm: Norm) -> Step:
    """A fooled point lowers the upper end to its distance; `TRIES` steps in vain raise the lower end; else ascend."""
    _, gradient_BHWC, logits_BK = ascend(logits_fn, row, state.x, settings)
    hit_B = fooled(logits_BK, row)
    distance_B = size(state.x - row.clean_BHWC, norm)
    vain_B = ~hit_B & (state.tried_B >= TRIES)
    high_B = jnp.where(hit_B, jnp.minimum(state.high_B, distance_B), state.high_B)
    low_B = jnp.where(vain_B, state.radius_B, state.low_B)
    found_B = state.found_B | hit_B
    best_BHWC = jnp.where(spread(hit_B, state.x), state.x, state.best)
    radius_B = jnp.where(hit_B | vain_B, (low_B + high_B) / 2, state.radius_B)
    turn_B = hit_B | vain_B
    x_BHWC = _next(row, state.x, gradient_BHWC, turn_B, radius_B, distance_B, norm)
    closed_B = high_B - low_B <= TOLERANCE * high_B
    over_B = closed_B | (k_B >= jnp.asarray(settings.steps))
    tried_B = jnp.where(turn_B, 0, state.tried_B + 1)
    following = State(x_BHWC, best_BHWC, low_B, high_B, radius_B, tried_B, found_B)
    shown_BHWC = jnp.where(spread(found_B, best_BHWC), best_BHWC, state.x)
    return Step(following, shown_BHWC, over_B & found_B, over_B)


def _next(
    row: Row, x_BHWC: Array, gradient_BHWC: Array, turn_B: Array, radius_B: Array, distance_B: Array, norm: Norm
) -> Array:
    """Along the ray to the new radius where the radius turned, else one step uphill inside the ball."""
    shrink_B = jnp.minimum(radius_B / (distance_B + SMALL), 1)
    scaled_BHWC = row.clean_BHWC + spread(shrink_B, x_BHWC) * (x_BHWC - row.clean_BHWC)
    moved_BHWC = x_BHWC + spread(0.25 * radius_B, x_BHWC) * steepest(gradient_BHWC, norm)
    next_BHWC = jnp.where(spread(turn_B, x_BHWC), scaled_BHWC, moved_BHWC)
    return project(next_BHWC, row.clean_BHWC, radius_B, norm)


def method(norm: Norm) -> Method:
    """Bisection over radii up to the row's.

    The distance of the adversary found is an upper bound of the minimal radius, tight to `TOLERANCE` where the ascent
    finds what there is (as on a linear model); no such search proves that a smaller one does not exist.
    """
    return Method(functools.partial(begin, norm=norm), functools.partial(step, norm=norm))


def minimal_radius(adversarial_NHWC: Array, clean_NHWC: Array, found_N: Array, norm: Norm) -> Array:
    """The distance of each adversary, inf where none was found: [N]."""
    return jnp.where(found_N, size(adversarial_NHWC - clean_NHWC, norm), jnp.inf)
