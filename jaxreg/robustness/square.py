"""Square: random search with square-shaped changes, a black box's view of the network. Windows and keys per example."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.robustness.balls import SMALL, Norm, size, spread
from jaxreg.robustness.losses import fooled, margin
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step

SHARE = 0.8  # of the image, changed by the first squares
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the share halves


class SquareState(NamedTuple):
    """The point to evaluate, the best one so far, and its loss."""

    x: Array
    best: Array
    loss_B: Array


def share(k_B: Shaped[Array, " B"], steps: Array | int) -> Array:
    """The share of the image that query `k` changes.

    The schedule is made for 10,000 queries; fewer than 5,000 run through it faster, 5,000 as AutoAttack does.
    """
    steps = jnp.asarray(steps)
    query_B = jnp.where(steps < 5000, (k_B * (10000.0 / steps)).astype(k_B.dtype), k_B)
    return SHARE / 2.0 ** jnp.sum(query_B[:, None] > np.array(HALVINGS)[None], axis=1)


def _draws(row: QueueRow, k_B: Array, count: int) -> Array:
    """`count` uniform numbers in [0, 1) for each example at its query: [B, count]."""
    keys_B = jax.vmap(jax.random.fold_in)(row.key_B, k_B)
    return jax.vmap(lambda key: jax.random.uniform(key, (count,), row.eps_B.dtype))(keys_B)


def _sign(uniform: Array) -> Array:
    return jnp.where(uniform < 0.5, -1.0, 1.0).astype(uniform.dtype)


def _window(place_B2: Array, side_B: Array, like_BHWC: Array) -> tuple[Array, Array, Array]:
    """A square of `side` placed uniformly: its mask [B, H, W], and row and column numbers within it [B, H], [B, W]."""
    _, h, w, _ = like_BHWC.shape
    top_B = jnp.floor(place_B2[:, 0] * (h - side_B + 1)).astype(side_B.dtype)
    left_B = jnp.floor(place_B2[:, 1] * (w - side_B + 1)).astype(side_B.dtype)
    i_BH, j_BW = jnp.arange(h)[None] - top_B[:, None], jnp.arange(w)[None] - left_B[:, None]
    rows_BH, columns_BW = ((at >= 0) & (at < side_B[:, None]) for at in (i_BH, j_BW))
    return rows_BH[:, :, None] & columns_BW[:, None, :], i_BH, j_BW


def _side(share_B: Array, like_BHWC: Array, least: int) -> Array:
    _, h, w, _ = like_BHWC.shape
    side_B = jnp.maximum(jnp.round(jnp.sqrt(share_B * h * w)).astype(jnp.int32), least)
    return jnp.minimum(side_B + (side_B % 2 == 0) * (least == 3), min(h, w))


def start_linf(row: QueueRow, numbers: AttackNumbers) -> SquareState:
    """Vertical stripes of +-eps."""
    del numbers
    b, _, w, c = row.clean_BHWC.shape
    signs = _sign(_draws(row, jnp.zeros_like(row.label_B), w * c)).reshape(b, 1, w, c)
    x_BHWC = jnp.clip(row.clean_BHWC + spread(row.eps_B, row.clean_BHWC) * signs, 0, 1)
    return SquareState(x_BHWC, x_BHWC, row.eps_B * 0 + jnp.inf)


def propose_linf(
    row: QueueRow, best_BHWC: Shaped[Array, "B H W C"], k_B: Shaped[Array, " B"], numbers: AttackNumbers
) -> Array:
    """One square a query, set to +-2 eps by channel, then clipped to the ball."""
    c = best_BHWC.shape[3]
    uniform = _draws(row, k_B, 2 + c)
    mask_BHW, _, _ = _window(uniform[:, :2], _side(share(k_B - 1, numbers.steps), best_BHWC, 1), best_BHWC)
    change = mask_BHW[..., None] * _sign(uniform[:, None, None, 2:]) * 2 * spread(row.eps_B, best_BHWC)
    eps = spread(row.eps_B, best_BHWC)
    return jnp.clip(jnp.clip(best_BHWC + change, row.clean_BHWC - eps, row.clean_BHWC + eps), 0, 1)


def bumps(
    i_BH: Shaped[Array, "B H"], j_BW: Shaped[Array, "B W"], side_B: Shaped[Array, " B"], turn_B: Shaped[Array, " B"]
) -> Array:
    """Two opposite pyramids side by side in a square of `side`, of norm 1: [B, H, W] (garbage outside the square)."""
    a_BHW = jnp.where(turn_B[:, None, None], j_BW[:, None, :], i_BH[:, :, None])
    b_BHW = jnp.where(turn_B[:, None, None], i_BH[:, :, None], j_BW[:, None, :])
    side, half = side_B[:, None, None], (side_B // 2)[:, None, None]
    first = _pyramid(a_BHW, b_BHW, half, side)
    second = _pyramid(a_BHW - half, b_BHW, side - half, side)
    inside = (a_BHW >= 0) & (a_BHW < side) & (b_BHW >= 0) & (b_BHW < side)
    both = jnp.where(inside, _unit(jnp.where(a_BHW < half, first, 0) * inside), 0)
    both -= jnp.where(inside, _unit(jnp.where(a_BHW >= half, second, 0) * inside), 0)
    return _unit(both)


def _unit(a_BHW: Array) -> Array:
    return a_BHW / (jnp.sqrt(jnp.sum(a_BHW**2, axis=(1, 2), keepdims=True)) + SMALL)


def _pyramid(a: Array, b: Array, height: Array, width: Array) -> Array:
    """Sum of 1 / (m + 1)^2 over the nested squares m about the middle of a rectangle that hold the place (a, b)."""
    middle_a, middle_b = height // 2, width // 2
    ring = jnp.maximum(jnp.abs(a - middle_a), jnp.abs(b - middle_b))
    last = jnp.maximum(middle_a, middle_b)  # of the rings
    table = np.concatenate([[0], np.cumsum(1 / np.arange(1, 513) ** 2)])
    sums = jnp.asarray(table, jnp.float32)
    return jnp.where(ring <= last, sums[jnp.minimum(last + 1, 512)] - sums[jnp.clip(ring, 0, 512)], 0)


def start_l2(row: QueueRow, numbers: AttackNumbers) -> SquareState:
    """A grid of 5 x 5 pairs of pyramids of random signs, scaled to the radius."""
    del numbers
    b, h, w, c = row.clean_BHWC.shape
    tile = max(h // 5, 1)
    down, across = h // tile, w // tile
    uniform = _draws(row, jnp.zeros_like(row.label_B), 1 + down * across * c)
    signs = _sign(uniform[:, 1:]).reshape(b, down, across, c)
    i_H, j_W = jnp.arange(h), jnp.arange(w)
    side_B = jnp.full_like(row.label_B, tile)
    shape = bumps(
        jnp.broadcast_to(i_H % tile, (b, h)), jnp.broadcast_to(j_W % tile, (b, w)), side_B, uniform[:, 0] < 0.5
    )
    tiles_BHWC = signs[:, jnp.minimum(i_H // tile, down - 1)][:, :, jnp.minimum(j_W // tile, across - 1)]
    covered = (i_H < down * tile)[:, None] & (j_W < across * tile)[None]
    delta_BHWC = (shape * covered[None])[..., None] * tiles_BHWC
    x_BHWC = _rescaled(row, delta_BHWC)
    return SquareState(x_BHWC, x_BHWC, row.eps_B * 0 + jnp.inf)


def _rescaled(row: QueueRow, delta_BHWC: Array) -> Array:
    length = spread(size(delta_BHWC, "l2") + SMALL, delta_BHWC)
    return jnp.clip(row.clean_BHWC + delta_BHWC / length * spread(row.eps_B, delta_BHWC), 0, 1)


def propose_l2(
    row: QueueRow, best_BHWC: Shaped[Array, "B H W C"], k_B: Shaped[Array, " B"], numbers: AttackNumbers
) -> Array:
    """The mass of one window moves to another, onto pyramids of random signs added to what is there."""
    c = best_BHWC.shape[3]
    uniform = _draws(row, k_B, 5 + c)
    side_B = _side(share(k_B - 1, numbers.steps), best_BHWC, 3)
    to_BHW, i_BH, j_BW = _window(uniform[:, :2], side_B, best_BHWC)
    from_BHW, _, _ = _window(uniform[:, 2:4], side_B, best_BHWC)
    to, source = to_BHW[..., None], from_BHW[..., None]
    delta = best_BHWC - row.clean_BHWC

    def length(a: Array) -> Array:
        return jnp.sqrt(jnp.sum(a**2, axis=(1, 2), keepdims=True))

    shape = bumps(i_BH, j_BW, side_B, uniform[:, 4] < 0.5)[..., None] * to
    new = shape * _sign(uniform[:, None, None, 5:]) + delta * to / (SMALL + length(delta * to))
    unused = jnp.maximum(spread(row.eps_B**2 - size(delta, "l2") ** 2, delta), 0)
    mass = jnp.sqrt(unused / c + length(delta * (to | source)) ** 2)
    return _rescaled(row, jnp.where(to, new / (SMALL + length(new)) * mass, jnp.where(source, 0, delta)))


PROPOSALS = {"linf": propose_linf, "l2": propose_l2}
STARTS = {"linf": start_linf, "l2": start_l2}


def step(
    logits_fn: Logits, row: QueueRow, state: SquareState, k_B: Shaped[Array, " B"], numbers: AttackNumbers, norm: Norm
) -> Step:
    """Keeps the proposal where it lowers the margin of the label, then proposes the next."""
    logits_BK = logits_fn(state.x)
    loss_B = -margin(logits_BK, row.label_B)
    better_B = loss_B < state.loss_B
    best_BHWC = jnp.where(spread(better_B, state.x), state.x, state.best)
    proposal_BHWC = PROPOSALS[norm](row, best_BHWC, k_B + 1, numbers)
    following = SquareState(proposal_BHWC, best_BHWC, jnp.where(better_B, loss_B, state.loss_B))
    return Step(following, state.x, fooled(logits_BK, row.label_B))


def method(norm: Norm) -> Method:
    """Square attack on the margin, without gradients; `steps` counts queries.

    References: Andriushchenko et al., 2020, https://arxiv.org/abs/1912.00049, algorithms 1 to 3.
    """
    return Method(STARTS[norm], functools.partial(step, norm=norm))
