"""Temperature scaling: one number per trial, by a search that always converges and says when it hits an end."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxreg.calibration.metrics import shifted
from jaxreg.measured import Z
from jaxreg.runtime import passes

LOG_LOW, LOG_HIGH = math.log(1e-2), math.log(1e2)  # bracket of log b, b = 1 / T
TOLERANCE = 1e-5  # of log b: the relative error of T
STEPS = 64


class Slope(NamedTuple):
    """Sums over examples, at one b: dNLL/db, its square per example, and d2NLL/db2."""

    gradient: Array
    square: Array
    curvature: Array


class Bracket(NamedTuple):
    """Where a search stands: the bracket of log b, the next place, the last step, and 0 or that step if Newton's."""

    low: Array  # scalars, or [T] for all trials at once
    high: Array
    log_b: Array
    step: Array
    newton: Array


class Temperature(NamedTuple):
    """T with a 95 % interval over examples, and 1 where the search ended at T = 0.01 or 100, else 0."""

    value: Array
    low: Array
    high: Array
    at_bracket: Array


def slope(
    log_b: Array, logits_NK: Shaped[Array, "N K"], labels_N: Shaped[Array, " N"], mask_N: Shaped[Array, " N"]
) -> Slope:
    """Returns the sums of a batch: with p = softmax(b z), the gradient is E_p z - z_y and the curvature Var_p z.

    Three sums over one exponential. E z^2 - (E z)^2 cancels little: z is 0 at the largest logit, whose p is >= 1/K.
    """
    z_NK = shifted(logits_NK)
    exp_NK = jnp.exp(jnp.exp(log_b) * z_NK)
    first_NK = exp_NK * z_NK
    sum_N = jnp.sum(exp_NK, -1)
    mean_N = jnp.sum(first_NK, -1) / sum_N
    gradient_N = (mean_N - jnp.take_along_axis(z_NK, labels_N[:, None], -1)[:, 0]) * mask_N
    variance_N = jnp.maximum(jnp.sum(first_NK * z_NK, -1) / sum_N - mean_N**2, 0.0) * mask_N
    return Slope(jnp.sum(gradient_N), jnp.sum(gradient_N**2), jnp.sum(variance_N))


def start(log_b: Array) -> Bracket:
    """Returns the search from `log_b`, inside the bracket."""
    zero = log_b.astype(jnp.float32) * 0
    return Bracket(zero + LOG_LOW, zero + LOG_HIGH, log_b, zero + (LOG_HIGH - LOG_LOW), zero)


def advance(search: Bracket, at: Slope) -> Bracket:
    """Moves by Newton in log b; by bisection where Newton leaves the bracket or does not halve its step."""
    too_high = at.gradient > 0
    low = jnp.where(too_high, search.low, search.log_b)
    high = jnp.where(too_high, search.log_b, search.high)
    newton = -at.gradient / (jnp.exp(search.log_b) * at.curvature)
    to = search.log_b + newton
    trusted = (to >= low) & (to <= high) & (jnp.abs(newton) <= jnp.abs(search.step) / 2)
    step = jnp.where(trusted, newton, (low + high) / 2 - search.log_b)
    # Newton's error is squared by every step: where two in a row say how fast, the next one need not be made.
    before, now = jnp.abs(search.newton), jnp.abs(jnp.where(trusted, newton, 0.0))
    following = now**2 * jnp.maximum(now / before**2, 1.0)
    done = trusted & (before > 0) & (before < 1) & (following < TOLERANCE)
    moved = Bracket(low, high, search.log_b + step, jnp.where(done, 0.0, step), now)
    return jax.tree.map(lambda new, old: jnp.where(converged(search), old, new), moved, search)


def converged(search: Bracket) -> Array:
    """True where the next step would no longer change T."""
    return jnp.abs(search.step) < TOLERANCE


def finish(search: Bracket, at: Slope) -> Temperature:
    """Returns T = 1/b; the interval is T exp(+-1.96 s), s the sandwich error of log b, and NaN at an end.

    `at` is the slope at the last place but one: the interval moves with it by less than 1 in 1000.
    """
    hit = (search.log_b < LOG_LOW + 1e-3) | (search.log_b > LOG_HIGH - 1e-3)
    log_b = jnp.where(hit, jnp.where(search.log_b > 0, LOG_HIGH, LOG_LOW), search.log_b)
    error = jnp.where(hit, jnp.nan, jnp.sqrt(at.square) / (jnp.exp(log_b) * at.curvature))
    low, high = jnp.exp(-log_b - Z * error), jnp.exp(-log_b + Z * error)
    return Temperature(jnp.exp(-log_b), low, high, hit.astype(jnp.float32))


def solve(slope_at: Callable[[Array], Slope], begin: Array) -> Temperature:
    """Searches from the log b `begin`; `slope_at` returns the summed slope of all examples at any log b."""

    def unfinished(state: tuple[Array, Bracket, Slope]) -> Array:
        return (state[0] < STEPS) & ~jnp.all(converged(state[1]))

    def move(state: tuple[Array, Bracket, Slope]) -> tuple[Array, Bracket, Slope]:
        at = slope_at(state[1].log_b)
        return state[0] + 1, advance(state[1], at), at

    zero = begin.astype(jnp.float32) * 0
    steps = jnp.max(zero).astype(jnp.int32)
    first = steps, start(zero + begin), Slope(zero, zero, zero)
    return finish(*jax.lax.while_loop(unfinished, move, first)[1:])


def fit(
    logits_NK: passes.Rows, labels_N: Shaped[Array, " N"], mask_N: Array | None = None, size: int = passes.CHUNK
) -> Temperature:
    """Minimises the NLL of z/T over T in [0.01, 100] on a validation split: convex in 1/T, so the search cannot fail.

    Shapes as in `metrics.sums_of`; `size` examples are a piece: from the T of the first one that of all of them takes
    two or three steps. T < 1 means that the model was under-confident; where no two logits of any example differ, NLL
    does not depend on T, and it is 1 without an interval. Works under jit, vmap and lax.map.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    mask_N = jnp.ones(labels_N.shape, jnp.float32) if mask_N is None else mask_N.astype(jnp.float32)
    rows, begin = (logits_NK, labels_N, mask_N), passes.zero_of(logits_NK)

    def search(begin: Array, *rows: passes.Rows) -> Temperature:
        slope_at = lambda log_b: passes.total(lambda _, *piece: slope(log_b, *piece), *rows, size=size)  # noqa: E731
        return solve(slope_at, begin)

    def differ(_: Array, logits_BK: Array, labels_B: Array, mask_B: Array) -> Array:
        return jnp.any((jnp.max(logits_BK, -1) > jnp.min(logits_BK, -1)) & (mask_B > 0)).astype(jnp.int32)

    if size < len(labels_N):
        first = search(begin, *passes.cut(rows, 0, size))
        begin = jnp.where(first.at_bracket > 0, 0.0, -jnp.log(first.value))
    found = search(begin, *rows)
    # Where no logits differ the search ends at the bracket: only there it is asked.
    equal = lambda: passes.total(differ, *rows, size=size) == 0  # noqa: E731
    flat = jax.lax.cond(found.at_bracket > 0, equal, lambda: found.at_bracket > 2)
    return Temperature(*(jnp.where(flat, kept, of) for kept, of in zip((1.0, jnp.nan, jnp.nan, 0.0), found)))
