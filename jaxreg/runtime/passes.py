"""Passes over examples in pieces and over trials in groups: memory grows neither with examples nor with trials.

On the device, of one trial: `fold`, `total` and `each` read pieces of its examples where they lie. On the host, of all
trials: `TrialGroups` places so many at a time on the mesh as `GROUP_BYTES` hold.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import Effort

Tree = Any
CHUNK = 2048  # examples of a piece
CHEAP_BYTES = 2**27  # of all trials: to measure no more takes less time than full effort of compiling adds
GROUP_BYTES = 2**26  # of stacks on the devices in a group, of which two are there at a time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Placed:
    """Examples [N, ...] of one trial where they lie, in stacks [T, M, ...]: a slice of their own would be a copy.

    Of the M examples of the trial they are `count` from `first` on; by default all.
    """

    stacks: Array
    trial: Array
    first: Array | int = 0
    count: int | None = dataclasses.field(default=None, metadata={"static": True})

    def __len__(self) -> int:
        return self.stacks.shape[1] if self.count is None else self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array of these examples."""
        return (len(self), *self.stacks.shape[2:])

    def cut(self, start: Array | int, size: int) -> Array:
        """The examples [size, ...] from `start` on."""
        shape = self.stacks.shape[2:]
        at = [jnp.asarray(index, jnp.int32) for index in (self.trial, self.first + start, *[0] * len(shape))]
        return lax.dynamic_slice(self.stacks, at, (1, size, *shape))[0]


Rows = Array | Placed


def cut(arrays: tuple[Rows, ...], start: Array | int, size: int) -> tuple[Array, ...]:
    """The same examples [size, ...] of each of `arrays`, from `start` on."""
    return tuple(
        a.cut(start, size) if isinstance(a, Placed) else lax.dynamic_slice_in_dim(a, start, size) for a in arrays
    )


def fold(
    step: Callable[..., tuple[Tree, Tree]], begin: Tree, *arrays: Rows, size: int | None = None
) -> tuple[Tree, Tree]:
    """Carries `begin` through the pieces of `arrays` [N, ...]: `step(carry, counts_B, *piece)` -> (carry, of_piece).

    `counts_B` is 1, and 0 for examples that the piece before has had: the last piece is as long as the others.
    Returns: the last carry, and what is of each piece, stacked.
    """
    count = len(arrays[0])
    size = min(size or CHUNK, count)

    def look(carry: Tree, place: Array) -> tuple[Tree, Tree]:
        start = jnp.minimum(place * size, count - size)
        counts_B = (start + jnp.arange(size) >= place * size).astype(jnp.float32)
        return step(carry, counts_B, *cut(arrays, start, size))

    return lax.scan(look, begin, jnp.arange(-(-count // size)))


def zero_of(rows: Rows) -> Array:
    """0, varying over the mesh as the examples do: inside shard_map a carry must begin with it."""
    return cut((rows,), 0, 1)[0].ravel()[0] * 0


def total(of_piece: Callable[..., Tree], *arrays: Rows, size: int | None = None) -> Tree:
    """Sums `of_piece(counts_B, *piece)` over the pieces of `arrays` [N, ...], as `fold` cuts them."""
    length = min(size or CHUNK, len(arrays[0]))
    if length == len(arrays[0]):
        return of_piece(jnp.ones(length), *cut(arrays, 0, length))
    shapes = jax.eval_shape(lambda: of_piece(jnp.ones(length), *cut(arrays, 0, length)))
    zero = zero_of(arrays[0])
    begin = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + zero.astype(s.dtype), shapes)

    def add(sums: Tree, *piece: Array) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, sums, of_piece(*piece)), None

    return fold(add, begin, *arrays, size=size)[0]


def each(of_piece: Callable[..., Tree], parts: Mapping[str, tuple[Rows, ...]]) -> dict[str, Tree]:
    """Applies `of_piece(*piece)`, a tree of arrays [B, ...], to every part; compiled once, whatever their sizes."""
    counts = [len(arrays[0]) for arrays in parts.values()]
    size = min(CHUNK, max(counts))
    padded = [tuple(_pad(a, size) for a in arrays) for arrays in parts.values()]
    starts = [[min(low, max(n - size, 0)) for low in range(0, n, size)] for n in counts]
    places = np.array([(i, start) for i, own in enumerate(starts) for start in own], np.int32)
    cuts = [lambda start, arrays=arrays: cut(arrays, start, size) for arrays in padded]

    def look(place: Array) -> Tree:
        return of_piece(*(lax.switch(place[0], cuts, place[1]) if len(cuts) > 1 else cuts[0](place[1])))

    found = lax.map(look, places)
    ends = np.cumsum([len(own) for own in starts])
    return {
        name: jax.tree.map(lambda a, end=end, own=own, n=n: _joined(a[end - len(own) : end], n), found)
        for name, end, own, n in zip(parts, ends, starts, counts)
    }


def _pad(rows: Rows, size: int) -> Rows:
    missing = size - len(rows)
    if missing <= 0:
        return rows
    (array,) = cut((rows,), 0, len(rows))
    return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))


def _joined(pieces: Array, count: int) -> Array:
    """[C, B, ...] -> [N, ...]: the last piece ends with the last example, or with padding where it is the only one."""
    if len(pieces) == 1:
        return pieces[0, :count]
    *shape, size = (*pieces.shape[2:], pieces.shape[1])
    before = (len(pieces) - 1) * size
    return jnp.concatenate([pieces[:-1].reshape(before, *shape), pieces[-1, size - (count - before) :]])


class TrialGroups(NamedTuple):
    """T trials on a mesh, `size` at a time: a group. All groups have one size, so that a program compiles once."""

    trials: int
    size: int
    mesh: parallel.Mesh
    effort: Effort = "full"  # of compiling what runs on them

    def place(self, stacks: Tree) -> Tree:
        """Stacks of the trials of a group on the mesh, filled up with copies of the last one."""

        def filled(stack: np.ndarray) -> np.ndarray:
            missing = self.size - len(stack)
            return np.concatenate([stack, np.repeat(stack[-1:], missing, 0)]) if missing else stack

        return parallel.put_trials(jax.tree.map(filled, stacks), self.mesh)

    def run(
        self, program: Callable[[Tree, Tree], Tree], read: Callable[[range], Tree], shared: Tree
    ) -> Iterator[tuple[range, list[Tree]]]:
        """Runs `program(stacks, shared)` on every group: its trials, and the results of each, on the host.

        `read(trials)` returns their stacks as NumPy arrays. The next group is read while the devices are busy with one.
        """
        pending: tuple[range, Tree] | None = None
        for first in range(0, self.trials, self.size):
            group = range(first, min(first + self.size, self.trials))
            found = program(self.place(read(group)), shared)
            if pending is not None:
                yield pending[0], fetch_trials(pending[1], len(pending[0]))
            pending = group, found
        if pending is not None:
            yield pending[0], fetch_trials(pending[1], len(pending[0]))

    def results(self, *given: Any) -> list[Tree]:
        """The results of `run` of each trial, in order."""
        return [one for _, found in self.run(*given) for one in found]


def trial_groups(trials: int, bytes_each: int, mesh: parallel.Mesh | None = None) -> TrialGroups:
    """As many trials at a time as `GROUP_BYTES` hold, at least one a device.

    `mesh`: from `parallel.make_mesh`; by default all devices, trials side by side.
    """
    mesh = parallel.make_mesh() if mesh is None else mesh
    fit = parallel.padded(max(GROUP_BYTES // max(bytes_each, 1), 1), mesh)
    effort: Effort = "cheap" if trials * bytes_each <= CHEAP_BYTES else "full"
    return TrialGroups(trials, min(fit, parallel.padded(trials, mesh)), mesh, effort)


def fetch_trials(stacks: Tree, count: int) -> list[Tree]:
    """Copies stacks [T, ...] to the host: what they hold of each of the first `count` trials."""
    host = parallel.fetch(stacks, count)
    return [jax.tree.map(lambda a, t=t: a[t], host) for t in range(count)]
