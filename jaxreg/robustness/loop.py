"""The one loop that every attack runs in: start, evaluate, step, until fooled or out of budget.

Radii, restarts, targets and examples fold into rows (e, p, n) of one queue. A fixed number of slots works on rows; a
slot whose row is fooled or out of budget takes the next row. So examples already broken leave the batch at once,
ragged tails cost nothing, and shapes (hence compilations) depend on capacities alone. The last rows, when they are
few, go on in a quarter of the slots, then in a sixteenth (each a copy of the network to compile, so not for small
batches). A row is skipped once a smaller or equal radius fooled its example. What is reported does not depend on the
schedule: an example counts as fooled at radius e by its smallest radius, and there by its lowest pass, and no row
before that one can have been skipped.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.robustness.balls import spread
from jaxreg.robustness.method import AttackNumbers, Logits, Method, QueueRow, Step, Tree


class Queue(NamedTuple):
    """The examples of an attack, its radii and passes: E x P x N rows."""

    images_NHWC: Array
    labels_N: Array  # below 0: not attacked
    keys_NP: Array  # one for each pass
    targets_NP: Array  # the class that a pass aims at
    eps_EN: Array  # ascending along E; below 0: not attacked
    broken_N: Array  # smallest radius known to fool; below 0: misclassified without attack; inf: none
    starts_NHWC: Array | None = None  # where a search for minimal radii begins, if not at the images

    @property
    def passes(self) -> int:
        """The passes that there is room for."""
        return self.targets_NP.shape[1]

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.eps_EN.size * self.passes


Leaf = Any  # an array of JAX or NumPy; of a tree of axes, an axis


class Attacked(NamedTuple):
    """What an attack found: of examples [N] at radii [E], or, with a first axis [T], of many trials.

    `robust` holds where no evaluated point of the ball was misclassified; a wrong clean prediction is not robust, and
    its smallest radius is -1. An adversarial example is that of the smallest radius that fooled, else the last point
    that was evaluated; of an example that was not attacked, the clean image.
    """

    adversarial: Leaf  # [E, N, H, W, C]
    robust: Leaf  # [E, N]
    smallest: Leaf  # [N]: the smallest radius known to fool; inf: none
    hits: Leaf  # [E, N]: whether this attack fooled at this very radius; not where the radius was skipped
    evaluations: Leaf  # passes of examples through the network

    def __repr__(self) -> str:
        if isinstance(self.robust, jax.core.Tracer) or not isinstance(self.robust, Array | np.ndarray):
            return f"Attacked{tuple(self)}"
        shares = np.atleast_1d(np.mean(self.robust, axis=-1)).ravel()
        shown = ", ".join(f"{share:.3f}" for share in shares[:8]) + (", ..." if len(shares) > 8 else "")
        return f"Attacked({self.robust.shape[-1]} examples at {len(shares)} radii: robust {shown})"


class Slots(NamedTuple):
    """What the B slots of a batch work on."""

    row: QueueRow
    state: Tree
    index_B: Array  # row number; -1: none
    k_B: Array  # evaluations done
    busy_B: Array
    hit_B: Array
    x_BHWC: Array  # first fooling point, else the last point looked at


class Book(NamedTuple):
    """What has been found so far, and where the queue stands."""

    cursor: Array  # the next row to consider
    broken_N: Array
    first_EN: Array  # lowest pass that fooled; the number of passes: none
    x_ENHWC: Array
    evaluations: Array


def opened(queue: Queue) -> Book:
    """Nothing found yet."""
    # Every array starts from a traced input: inside shard_map a loop's carry must vary as its results do.
    zero, images = queue.labels_N[0] * 0, queue.images_NHWC
    return Book(
        cursor=zero,
        broken_N=queue.broken_N,
        first_EN=jnp.full(queue.eps_EN.shape, queue.passes, zero.dtype) + zero,
        x_ENHWC=jnp.broadcast_to(images, (len(queue.eps_EN), *images.shape)) + zero,
        evaluations=zero,
    )


def idle(method: Method, queue: Queue, numbers: AttackNumbers, slots: int) -> Slots:
    """Slots that work on no row."""
    zero = queue.labels_N[0] * 0
    zero_B = jnp.zeros(slots, jnp.int32) + zero
    images = jnp.broadcast_to(queue.images_NHWC[0], (slots, *queue.images_NHWC.shape[1:]))
    key_B = jnp.broadcast_to(queue.keys_NP[0, 0], (slots,))
    begin = None if queue.starts_NHWC is None else images
    row = QueueRow(images, zero_B, zero_B, zero_B.astype(images.dtype), key_B, begin)
    shapes = jax.eval_shape(lambda row: method.start(row, numbers), row)  # a draw traced here would compile once more
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) + zero.astype(leaf.dtype), shapes)
    return Slots(row, state, zero_B - 1, zero_B, zero_B > 0, zero_B > 0, images)


def _row(queue: Queue, index_B: Array) -> QueueRow:
    e_B, p_B, n_B = _place(queue.passes, len(queue.labels_N), index_B)
    label_B, target_B = _at(queue.labels_N, n_B), _at(queue.targets_NP, n_B, p_B)
    key_B, image_BHWC = _at(queue.keys_NP, n_B, p_B), _at(queue.images_NHWC, n_B)
    begin_BHWC = None if queue.starts_NHWC is None else _at(queue.starts_NHWC, n_B)
    return QueueRow(image_BHWC, label_B, target_B, _at(queue.eps_EN, e_B, n_B), key_B, begin_BHWC)


def _at(rows: Array, *index_B: Array) -> Array:
    return rows.at[index_B].get(mode="promise_in_bounds")  # without the code for negative and outlying places


def _place(passes: int, count: int, index_B: Array) -> tuple[Array, Array, Array]:
    """Radius, pass and example of rows."""
    of = functools.partial(jnp.full_like, index_B)
    block_B = lax.div(index_B, of(count))  # all are 0 or more: no code for signs
    return lax.div(block_B, of(passes)), lax.rem(block_B, of(passes)), lax.rem(index_B, of(count))


def flush(passes: int, work: Slots, book: Book) -> tuple[Slots, Book]:
    """Writes the results of finished slots into the book."""
    radii, count = book.first_EN.shape
    done_B = ~work.busy_B & (work.index_B >= 0)
    e_B, p_B, n_B = _place(passes, count, jnp.maximum(work.index_B, 0))
    hit_B = done_B & work.hit_B
    broken_N = book.broken_N.at[jnp.where(hit_B, n_B, count)].min(work.row.eps_B, mode="drop")
    first_EN = book.first_EN.at[jnp.where(hit_B, e_B, radii), n_B].min(p_B, mode="drop")
    first_B = _at(first_EN, e_B, n_B)
    keep_B = hit_B & (p_B == first_B) | done_B & ~hit_B & (p_B == 0) & (first_B == passes)
    x_ENHWC = book.x_ENHWC.at[jnp.where(keep_B, e_B, radii), n_B].set(work.x_BHWC, mode="drop")
    idle_B = jnp.where(done_B, -1, work.index_B)
    return work._replace(index_B=idle_B), book._replace(broken_N=broken_N, first_EN=first_EN, x_ENHWC=x_ENHWC)


def refill(method: Method, queue: Queue, numbers: AttackNumbers, work: Slots, book: Book) -> tuple[Slots, Book]:
    """Considers the next B rows and gives idle slots those whose example no smaller or equal radius has fooled yet."""
    ahead_B = book.cursor + jnp.arange(len(work.busy_B), dtype=book.cursor.dtype)
    index_B = jnp.minimum(ahead_B, queue.size - 1)
    e_B, p_B, n_B = _place(queue.passes, len(queue.labels_N), index_B)
    eps_B, broken_B = _at(queue.eps_EN, e_B, n_B), _at(book.broken_N, n_B)
    wanted_B = (ahead_B < queue.size) & (p_B < numbers.passes) & (eps_B >= 0) & (_at(queue.labels_N, n_B) >= 0)
    open_B = wanted_B & ~(jnp.asarray(numbers.early_exit) & (broken_B <= eps_B) | (broken_B < 0))
    new_B, from_B, left = _deal(~work.busy_B, open_B)
    index_B = _at(index_B, from_B)
    row = _row(queue, index_B)
    fresh = Slots(row, method.start(row, numbers), index_B, index_B * 0, new_B, new_B & False, row.clean_BHWC)
    work = jax.tree.map(lambda a, b: jnp.where(spread(new_B, a), a, b), fresh, work)
    return work, book._replace(cursor=jnp.minimum(book.cursor + left, queue.size))


def _deal(idle_B: Array, open_B: Array) -> tuple[Array, Array, Array]:
    """Deals open rows to idle slots in order: which slots got one, which row, and the first row left over."""
    slots, place_B = len(idle_B), jnp.arange(len(idle_B), dtype=jnp.int32)
    before_BB = place_B[:, None] > place_B[None]
    slot_rank_B, row_rank_B = jnp.sum(before_BB & idle_B[None], axis=1), jnp.sum(before_BB & open_B[None], axis=1)
    match_BB = (slot_rank_B[:, None] == row_rank_B[None]) & idle_B[:, None] & open_B[None]
    left_B = open_B & (row_rank_B >= jnp.sum(idle_B))
    left = jnp.min(jnp.where(left_B, place_B, slots))
    from_B = jnp.min(jnp.where(match_BB, place_B, slots), axis=1)
    return from_B < slots, jnp.minimum(from_B, slots - 1), left


FEW = 4  # the last rows run in this share of the slots, and again,
LEAST = 8  # down to so many slots,
LARGE = 128  # where all devices together have so many: elsewhere compiling it would cost more than it saves


def run(
    method: Method,
    logits_fn: Logits,
    queue: Queue,
    numbers: AttackNumbers,
    *,
    slots: int,
    devices: int = 1,
    batched: bool = False,
) -> Attacked:
    """Attacks every example at every radius in at most `numbers.passes` of the queue's passes.

    `slots` are those of one device, `devices` those that share the work in this way. `batched`: within `vmap`, where
    both branches of a condition run and a constant array in one of them cannot be cast to vary over the mesh (JAX
    0.10), so there are none.
    """
    slots, large = min(slots, queue.size), slots * devices >= LARGE
    plain, fewer = method._replace(look=None), _fewer(slots) if large else []
    close_slots = functools.partial(flush, queue.passes)
    advance = functools.partial(_advance, method if large and not batched else plain, logits_fn, numbers)

    def due(carry: tuple[Slots, Book]) -> Array:
        work, book = carry
        free = jnp.sum(~work.busy_B)
        return (book.cursor < queue.size) & (free >= max(1, slots // 8)) | (free == slots) & jnp.any(work.index_B >= 0)

    def turn_over(carry: tuple[Slots, Book]) -> tuple[Slots, Book]:
        return refill(method, queue, numbers, *close_slots(*carry))

    def step(carry: tuple[Slots, Book]) -> tuple[Slots, Book]:
        work, book = lax.while_loop(due, turn_over, carry)
        book = book._replace(evaluations=book.evaluations + jnp.sum(work.busy_B, dtype=book.evaluations.dtype))
        if batched:
            return advance(work), book
        return lax.cond(jnp.any(work.busy_B), advance, lambda work: work, work), book

    def unfinished(carry: tuple[Slots, Book]) -> Array:
        work, book = carry
        return (book.cursor < queue.size) | (jnp.sum(work.busy_B) > (fewer[0] if fewer else 0))

    work, book = lax.while_loop(unfinished, step, (idle(method, queue, numbers, slots), opened(queue)))
    work, book = close_slots(work, book)
    for few, least in zip(fewer, (*fewer[1:], 0)):
        work, book = _go_on(functools.partial(_advance, plain, logits_fn, numbers), _gathered(work, few), book, least)
        work, book = close_slots(work, book)
    return _closed(queue, book)


def _fewer(slots: int) -> list[int]:
    """The numbers of slots that the last rows go on in."""
    return [size for size in (slots // FEW, slots // FEW**2) if size >= LEAST]


def _gathered(work: Slots, few: int) -> Slots:
    """The `few` slots that hold all rows left."""
    from_F = lax.top_k((work.index_B >= 0).astype(jnp.int32), few)[1]
    return jax.tree.map(lambda a: a[from_F], work)


def _go_on(advance: Callable[[Slots], Slots], work: Slots, book: Book, least: int) -> tuple[Slots, Book]:
    """Works on the rows in the slots until at most `least` are left, when none wait."""

    def step(carry: tuple[Slots, Array]) -> tuple[Slots, Array]:
        work, evaluations = carry
        return advance(work), evaluations + jnp.sum(work.busy_B, dtype=evaluations.dtype)

    begin = work, book.evaluations
    work, evaluations = lax.while_loop(lambda carry: jnp.sum(carry[0].busy_B) > least, step, begin)
    return work, book._replace(evaluations=evaluations)


def _advance(method: Method, logits_fn: Logits, numbers: AttackNumbers, work: Slots) -> Slots:
    ends_B = work.k_B + 1 >= numbers.evaluations
    last = jnp.all(~work.busy_B | ends_B) & ~jnp.asarray(numbers.highest)
    out = _evaluated(method, logits_fn, numbers, last, work)
    now_B = work.busy_B & out.fooled_B
    keep_B = work.busy_B & ~work.hit_B
    over_B = now_B & jnp.asarray(numbers.early_exit) if out.over_B is None else out.over_B
    return Slots(
        row=work.row,
        state=out.state,
        index_B=work.index_B,
        k_B=work.k_B + 1,
        busy_B=work.busy_B & ~over_B & ~ends_B,
        hit_B=work.hit_B | now_B,
        x_BHWC=jnp.where(spread(keep_B, out.x_BHWC), out.x_BHWC, work.x_BHWC),
    )


def _evaluated(method: Method, logits_fn: Logits, numbers: AttackNumbers, last: Array, work: Slots) -> Step:
    """A step; at the `last` evaluation of all slots only a look, where the method has one."""

    def step() -> Step:
        return method.step(logits_fn, work.row, work.state, work.k_B, numbers)

    look = method.look
    if look is None:
        return step()
    return lax.cond(last, lambda: Step(work.state, *look(logits_fn, work.row, work.state)), step)


def _closed(queue: Queue, book: Book) -> Attacked:
    """What was found; each example's adversary of its smallest radius is that of the larger ones, too."""
    radii, place_E1 = len(queue.eps_EN), jnp.arange(len(queue.eps_EN))[:, None]
    hits_EN = book.first_EN < queue.passes
    smallest_EN = lax.cummin(jnp.where(hits_EN, place_E1, radii), axis=0)
    from_EN = jnp.where(smallest_EN < radii, smallest_EN, place_E1)
    x_ENHWC = jax.vmap(lambda x_EHWC, from_E: x_EHWC[from_E], (1, 1), 1)(book.x_ENHWC, from_EN)
    return Attacked(x_ENHWC, ~(book.broken_N[None] <= queue.eps_EN), book.broken_N, hits_EN, book.evaluations)
