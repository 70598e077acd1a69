"""Temperature scaling: one number per trial, by a search that always converges and says when it hits an end."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

LOG_LOW, LOG_HIGH = math.log(1e-2), math.log(1e2)  # bracket of log b, b = 1 / T
TOLERANCE = 1e-5  # of log b: the relative error of T
STEPS = 64
NORMAL_95 = 1.959964


@flax.struct.dataclass
class Slope:
    """Sums over examples, at one b: dNLL/db, its square per example, d2NLL/db2, and the count. `+` merges batches."""

    gradient: Array
    square: Array
    curvature: Array
    count: Array

    def __add__(self, other: "Slope") -> "Slope":
        return jax.tree.map(jnp.add, self, other)


class Search(NamedTuple):
    """A bracket of log b, the place to look at next, and the last step: scalars, or [T] for all trials at once."""

    low: Array
    high: Array
    log_b: Array
    step: Array


class Temperature(NamedTuple):
    """T with a 95 % interval over examples, and 1 where the search ended at T = 0.01 or 100, else 0."""

    value: Array
    low: Array
    high: Array
    at_bracket: Array


def slope(log_b: Array, logits_NK: Array, labels_N: Array, mask_N: Array) -> Slope:
    """Returns the sums of a batch: with p = softmax(b z), the gradient is E_p z - z_y and the curvature Var_p z."""
    z_NK = logits_NK.astype(jnp.float32)
    z_NK = z_NK - jnp.max(z_NK, -1, keepdims=True)
    p_NK = jax.nn.softmax(jnp.exp(log_b) * z_NK)
    mean_N = jnp.sum(p_NK * z_NK, -1)
    gradient_N = (mean_N - jnp.take_along_axis(z_NK, labels_N[:, None], -1)[:, 0]) * mask_N
    variance_N = jnp.sum(p_NK * (z_NK - mean_N[:, None]) ** 2, -1) * mask_N
    return Slope(jnp.sum(gradient_N), jnp.sum(gradient_N**2), jnp.sum(variance_N), jnp.sum(mask_N))


def start(like: Array) -> Search:
    """Returns the search at b = 1, shaped as `like`."""
    zero = like.astype(jnp.float32) * 0
    return Search(zero + LOG_LOW, zero + LOG_HIGH, zero, zero + (LOG_HIGH - LOG_LOW))


def advance(search: Search, at: Slope) -> Search:
    """Moves by Newton in log b; by bisection where Newton leaves the bracket or does not halve its step."""
    too_high = at.gradient > 0
    low = jnp.where(too_high, search.low, search.log_b)
    high = jnp.where(too_high, search.log_b, search.high)
    newton = -at.gradient / (jnp.exp(search.log_b) * at.curvature)
    to = search.log_b + newton
    trusted = (to >= low) & (to <= high) & (jnp.abs(newton) <= jnp.abs(search.step) / 2)
    step = jnp.where(trusted, newton, (low + high) / 2 - search.log_b)
    return Search(low, high, search.log_b + step, step)


def converged(search: Search) -> Array:
    """True where the last step no longer changes T."""
    return jnp.abs(search.step) < TOLERANCE


def finish(search: Search, at: Slope) -> Temperature:
    """Returns T = 1/b; the interval is T exp(+-1.96 s), s the sandwich error of log b, and NaN at an end.

    `at` is the slope at the last place but one: it differs from the one at T by less than the tolerance.
    """
    hit = (search.log_b < LOG_LOW + 1e-3) | (search.log_b > LOG_HIGH - 1e-3)
    log_b = jnp.where(hit, jnp.where(search.log_b > 0, LOG_HIGH, LOG_LOW), search.log_b)
    error = jnp.where(hit, jnp.nan, jnp.sqrt(at.square) / (jnp.exp(log_b) * at.curvature))
    low, high = jnp.exp(-log_b - NORMAL_95 * error), jnp.exp(-log_b + NORMAL_95 * error)
    return Temperature(jnp.exp(-log_b), low, high, hit.astype(jnp.float32))


def solve(look: Callable[[Array], Slope], like: Array) -> Temperature:
    """Searches with `look`, which returns the summed slope of all examples at a log b shaped as `like`."""

    def unfinished(state: tuple[Array, Search, Slope]) -> Array:
        return (state[0] < STEPS) & ~jnp.all(converged(state[1]))

    def move(state: tuple[Array, Search, Slope]) -> tuple[Array, Search, Slope]:
        at = look(state[1].log_b)
        return state[0] + 1, advance(state[1], at), at

    begin = start(like)
    zero = begin.log_b
    steps = jnp.max(zero).astype(jnp.int32)
    return finish(*jax.lax.while_loop(unfinished, move, (steps, begin, Slope(zero, zero, zero, zero)))[1:])


def fit(logits_NK: Array, labels_N: Array, mask_N: Array | None = None) -> Temperature:
    """Minimises the NLL of z/T over T in [0.01, 100] on a validation split: convex in 1/T, so the search cannot fail.

    Shapes as in `metrics.sums_of`. T < 1 means that the model was under-confident. Works under jit, vmap and lax.map.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    mask_N = jnp.ones(labels_N.shape, jnp.float32) if mask_N is None else mask_N.astype(jnp.float32)
    return solve(lambda log_b: slope(log_b, logits_NK, labels_N, mask_N), jnp.sum(mask_N))
