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
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg.robustness.balls import spread
from jaxreg.robustness.method import Examples, Logits, Method, Settings, Step
from jaxreg.robustness.slots import Book, Slots, flush, idle, opened, refill

FEW = 4  # the last rows run in this share of the slots, and again,
LEAST = 8  # down to so many slots,
LARGE = 128  # where all devices together have so many: elsewhere compiling it would cost more than it saves


class Found(NamedTuple):
    """`adversarial_ENHWC`, `robust_EN`, lowest fooling pass per radius (-1: none or skipped), smallest radius, cost."""

    adversarial_ENHWC: Array
    robust_EN: Array
    pass_EN: Array
    broken_N: Array
    evaluations: Array


def run(
    method: Method,
    logits_fn: Logits,
    examples: Examples,
    eps_EN: Array,
    settings: Settings,
    *,
    evaluations: Array | int,
    passes: Array | int,
    slots: int,
    devices: int = 1,
    early_exit: Array | bool = True,
) -> Found:
    """Attacks every example at every radius (ascending along E; negative: not at all) with at most `evaluations` a row.

    `passes` (at most P, the width of `targets_NP`) counts restarts or targets. Without `early_exit` nothing is skipped
    and every row runs to its end. `slots` are those of one device, `devices` those that share the work in this way.
    """
    early, large = jnp.asarray(early_exit), slots * devices >= LARGE
    plain, fewer = method._replace(look=None), _fewer(slots) if large else []
    rows = eps_EN.size * examples.targets_NP.shape[1]

    def due(carry: tuple[Slots, Book]) -> Array:
        work, book = carry
        free = jnp.sum(~work.busy_B)
        return (book.cursor < rows) & (free >= max(1, slots // 8)) | (free == slots) & jnp.any(work.index_B >= 0)

    def turn_over(carry: tuple[Slots, Book]) -> tuple[Slots, Book]:
        return refill(method, examples, eps_EN, settings, passes, early, *flush(*carry, examples.targets_NP.shape[1]))

    def advance(of: Method, work: Slots) -> Slots:
        return _advance(of, logits_fn, settings, early, evaluations, work)

    ahead = functools.partial(advance, method if large else plain)

    def step(carry: tuple[Slots, Book]) -> tuple[Slots, Book]:
        work, book = lax.while_loop(due, turn_over, carry)
        book = book._replace(evaluations=book.evaluations + jnp.sum(work.busy_B, dtype=book.evaluations.dtype))
        return lax.cond(jnp.any(work.busy_B), ahead, lambda work: work, work), book

    def unfinished(carry: tuple[Slots, Book]) -> Array:
        work, book = carry
        return (book.cursor < rows) | (jnp.sum(work.busy_B) > (fewer[0] if fewer else 0))

    start = idle(method, examples, settings, slots), opened(examples, eps_EN)
    work, book = lax.while_loop(unfinished, step, start)
    work, book = flush(work, book, examples.targets_NP.shape[1])
    for few, least in zip(fewer, (*fewer[1:], 0)):
        work, book = _go_on(functools.partial(advance, plain), _gathered(work, few), book, least)
        work, book = flush(work, book, examples.targets_NP.shape[1])
    return _close(book, eps_EN, examples.targets_NP.shape[1])


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


def _advance(
    method: Method, logits_fn: Logits, settings: Settings, early: Array, evaluations: Array | int, work: Slots
) -> Slots:
    out = _evaluated(method, logits_fn, settings, jnp.all(~work.busy_B | (work.k_B + 1 >= evaluations)), work)
    now_B = work.busy_B & out.fooled_B
    keep_B = work.busy_B & ~work.hit_B
    over_B = now_B & early if out.over_B is None else out.over_B
    return Slots(
        row=work.row,
        state=out.state,
        index_B=work.index_B,
        k_B=work.k_B + 1,
        busy_B=work.busy_B & ~over_B & (work.k_B + 1 < evaluations),
        hit_B=work.hit_B | now_B,
        x_BHWC=jnp.where(spread(keep_B, out.x_BHWC), out.x_BHWC, work.x_BHWC),
    )


def _evaluated(method: Method, logits_fn: Logits, settings: Settings, last: Array, work: Slots) -> Step:
    """A step; at the `last` evaluation of all slots only a look, where the method has one."""

    def step() -> Step:
        return method.step(logits_fn, work.row, work.state, work.k_B, settings)

    look = method.look
    if look is None:
        return step()
    return lax.cond(last, lambda: Step(work.state, *look(logits_fn, work.row, work.state)), step)


def _close(book: Book, eps_EN: Array, most: int) -> Found:
    """Carries each example's adversary of its smallest radius to the larger ones."""
    radii = len(eps_EN)
    own_E1 = jnp.arange(radii)[:, None]
    found_EN = book.first_EN < most
    smallest_EN = lax.cummin(jnp.where(found_EN, own_E1, radii), axis=0)
    from_EN = jnp.where(smallest_EN < radii, smallest_EN, own_E1)
    x_ENHWC = jax.vmap(lambda x_EHWC, from_E: x_EHWC[from_E], (1, 1), 1)(book.x_ENHWC, from_EN)
    pass_EN = jnp.where(found_EN, book.first_EN, -1)
    return Found(x_ENHWC, ~(book.broken_N <= eps_EN), pass_EN, book.broken_N, book.evaluations)
