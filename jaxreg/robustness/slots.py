"""The slots of the loop and the book of results: rows go into idle slots, and what was found goes into the book."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg.robustness.balls import spread
from jaxreg.robustness.method import Examples, Method, Row, Settings, Tree


class Slots(NamedTuple):
    row: Row
    state: Tree
    index_B: Array  # row number; -1: none
    k_B: Array  # evaluations done
    busy_B: Array
    hit_B: Array
    x_BHWC: Array  # first fooling point, else the last point looked at


class Book(NamedTuple):
    cursor: Array  # the next row to consider
    broken_N: Array
    first_EN: Array  # lowest pass that fooled; the number of passes: none
    x_ENHWC: Array
    evaluations: Array


def opened(examples: Examples, eps_EN: Array) -> Book:
    # Every array starts from a traced input: inside shard_map a loop's carry must vary as its results do.
    most, zero = examples.targets_NP.shape[1], examples.labels_N[0] * 0
    return Book(
        cursor=zero,
        broken_N=examples.broken_N,
        first_EN=jnp.full(eps_EN.shape, most) + zero,
        x_ENHWC=jnp.broadcast_to(examples.images_NHWC, (len(eps_EN), *examples.images_NHWC.shape)) + zero,
        evaluations=zero,
    )


def idle(method: Method, examples: Examples, settings: Settings, slots: int) -> Slots:
    zero = examples.labels_N[0] * 0
    zero_B = jnp.zeros(slots, jnp.int32) + zero
    images = jnp.broadcast_to(examples.images_NHWC[0], (slots, *examples.images_NHWC.shape[1:]))
    key_B = jnp.broadcast_to(examples.keys_NP[0, 0], (slots,))
    begin = None if examples.starts_NHWC is None else images
    row = Row(images, zero_B, zero_B, zero_B.astype(images.dtype), key_B, begin)
    shapes = jax.eval_shape(lambda row: method.start(row, settings), row)  # a draw traced here would compile once more
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) + zero.astype(leaf.dtype), shapes)
    return Slots(row, state, zero_B - 1, zero_B, zero_B > 0, zero_B > 0, images)


def _row(examples: Examples, eps_EN: Array, index_B: Array) -> Row:
    count, most = examples.targets_NP.shape
    e_B, p_B, n_B = _place(most, count, index_B)
    label_B, target_B = _at(examples.labels_N, n_B), _at(examples.targets_NP, n_B, p_B)
    key_B, image_BHWC = _at(examples.keys_NP, n_B, p_B), _at(examples.images_NHWC, n_B)
    begin_BHWC = None if examples.starts_NHWC is None else _at(examples.starts_NHWC, n_B)
    return Row(image_BHWC, label_B, target_B, _at(eps_EN, e_B, n_B), key_B, begin_BHWC)


def _at(rows: Array, *index_B: Array) -> Array:
    return rows.at[index_B].get(mode="promise_in_bounds")  # without the code for negative and outlying places


def _place(most: int, count: int, index_B: Array) -> tuple[Array, Array, Array]:
    of = functools.partial(jnp.full_like, index_B)
    block_B = lax.div(index_B, of(count))  # all are 0 or more: no code for signs
    return lax.div(block_B, of(most)), lax.rem(block_B, of(most)), lax.rem(index_B, of(count))


def flush(work: Slots, book: Book, most: int) -> tuple[Slots, Book]:
    """Writes the results of finished slots into the book."""
    radii, count = book.first_EN.shape
    done_B = ~work.busy_B & (work.index_B >= 0)
    e_B, p_B, n_B = _place(most, count, jnp.maximum(work.index_B, 0))
    hit_B = done_B & work.hit_B
    broken_N = book.broken_N.at[jnp.where(hit_B, n_B, count)].min(work.row.eps_B, mode="drop")
    first_EN = book.first_EN.at[jnp.where(hit_B, e_B, radii), n_B].min(p_B, mode="drop")
    first_B = _at(first_EN, e_B, n_B)
    keep_B = hit_B & (p_B == first_B) | done_B & ~hit_B & (p_B == 0) & (first_B == most)
    x_ENHWC = book.x_ENHWC.at[jnp.where(keep_B, e_B, radii), n_B].set(work.x_BHWC, mode="drop")
    idle_B = jnp.where(done_B, -1, work.index_B)
    return work._replace(index_B=idle_B), book._replace(broken_N=broken_N, first_EN=first_EN, x_ENHWC=x_ENHWC)


def refill(
    method: Method,
    examples: Examples,
    eps_EN: Array,
    settings: Settings,
    passes: Array | int,
    early: Array,
    work: Slots,
    book: Book,
) -> tuple[Slots, Book]:
    """Looks at the next B rows and gives idle slots those whose example no smaller or equal radius has fooled yet."""
    slots, most, rows = len(work.busy_B), examples.targets_NP.shape[1], eps_EN.size * examples.targets_NP.shape[1]
    ahead_B = book.cursor + jnp.arange(slots, dtype=book.cursor.dtype)
    index_B = jnp.minimum(ahead_B, rows - 1)
    e_B, p_B, n_B = _place(most, eps_EN.shape[1], index_B)
    eps_B, broken_B = _at(eps_EN, e_B, n_B), _at(book.broken_N, n_B)
    asked_B = (ahead_B < rows) & (p_B < passes) & (eps_B >= 0) & (_at(examples.labels_N, n_B) >= 0)
    open_B = asked_B & ~(early & (broken_B <= eps_B) | (broken_B < 0))
    new_B, from_B, left = _deal(~work.busy_B, open_B)
    index_B = _at(index_B, from_B)
    row = _row(examples, eps_EN, index_B)
    fresh = Slots(row, method.start(row, settings), index_B, index_B * 0, new_B, new_B & False, row.clean_BHWC)
    work = jax.tree.map(lambda a, b: jnp.where(spread(new_B, a), a, b), fresh, work)
    return work, book._replace(cursor=jnp.minimum(book.cursor + left, rows))


def _deal(idle_B: Array, open_B: Array) -> tuple[Array, Array, Array]:
    """Deals open rows to idle slots in order: which slots got one, which row, and the first row left over."""
    slots = len(idle_B)
    before_BB = jnp.arange(slots)[:, None] > jnp.arange(slots)
    slot_rank_B, row_rank_B = jnp.sum(before_BB & idle_B, axis=1), jnp.sum(before_BB & open_B, axis=1)
    match_BB = (slot_rank_B[:, None] == row_rank_B) & idle_B[:, None] & open_B
    left_B = open_B & (row_rank_B >= jnp.sum(idle_B))
    left = jnp.min(jnp.where(left_B, jnp.arange(slots), slots))
    from_B = jnp.min(jnp.where(match_BB, jnp.arange(slots), slots), axis=1)
    return from_B < slots, jnp.minimum(from_B, slots - 1), left
