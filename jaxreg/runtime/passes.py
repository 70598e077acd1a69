"""Passes over examples in chunks: memory beyond the examples themselves does not grow with their number."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Tree = Any
CHUNK = 2048  # examples in flight


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Placed:
    """Examples [N, ...] of one trial where they lie, in stacks [T, N, ...]: a slice of their own would be a copy."""

    stacks: Array
    trial: Array

    def __len__(self) -> int:
        return self.stacks.shape[1]

    def cut(self, start: Array | int, size: int) -> Array:
        shape = self.stacks.shape[2:]
        at = [jnp.asarray(index, jnp.int32) for index in (self.trial, start, *[0] * len(shape))]
        return lax.dynamic_slice(self.stacks, at, (1, size, *shape))[0]


Rows = Array | Placed


def total(of_chunk: Callable[..., Tree], *arrays: Rows) -> Tree:
    """Sums `of_chunk(counts_B, *chunk)` over chunks of `arrays` [N, ...].

    `counts_B` is 1, and 0 for examples that the chunk before has had: the last chunk is as long as the others.
    """
    count = len(arrays[0])
    if count <= CHUNK:
        return of_chunk(jnp.ones(count), *_cut(arrays, 0, count))

    def look(place: Array | int) -> Tree:
        start = jnp.minimum(place * CHUNK, count - CHUNK)
        counts_B = (start + jnp.arange(CHUNK) >= place * CHUNK).astype(jnp.float32)
        return of_chunk(counts_B, *_cut(arrays, start, CHUNK))

    varying = (
        _cut(arrays[:1], 0, 1)[0].ravel()[0] * 0
    )  # inside shard_map a carry must vary over the mesh as the data do
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + varying.astype(s.dtype), jax.eval_shape(look, 0))
    return lax.fori_loop(0, -(-count // CHUNK), lambda i, sums: jax.tree.map(jnp.add, sums, look(i)), zeros)


def each(of_chunk: Callable[..., Tree], parts: Mapping[str, tuple[Rows, ...]]) -> dict[str, Tree]:
    """Applies `of_chunk(*chunk)`, a tree of arrays [B, ...], to every part; compiled once, whatever their sizes."""
    counts = [len(arrays[0]) for arrays in parts.values()]
    size = min(CHUNK, max(counts))
    padded = [tuple(_pad(a, size) for a in arrays) for arrays in parts.values()]
    starts = [[min(low, max(n - size, 0)) for low in range(0, n, size)] for n in counts]
    places = np.array([(i, start) for i, own in enumerate(starts) for start in own], np.int32)
    cuts = [lambda start, arrays=arrays: _cut(arrays, start, size) for arrays in padded]

    def look(place: Array) -> Tree:
        return of_chunk(*(lax.switch(place[0], cuts, place[1]) if len(cuts) > 1 else cuts[0](place[1])))

    found = lax.map(look, places)
    ends = np.cumsum([len(own) for own in starts])
    return {
        name: jax.tree.map(lambda a, end=end, own=own, n=n: _joined(a[end - len(own) : end], n), found)
        for name, end, own, n in zip(parts, ends, starts, counts)
    }


def _cut(arrays: tuple[Rows, ...], start: Array | int, size: int) -> tuple[Array, ...]:
    return tuple(
        a.cut(start, size) if isinstance(a, Placed) else lax.dynamic_slice_in_dim(a, start, size) for a in arrays
    )


def _pad(rows: Rows, size: int) -> Rows:
    missing = size - len(rows)
    if missing <= 0:
        return rows
    (array,) = _cut((rows,), 0, len(rows))
    return jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))


def _joined(chunks: Array, count: int) -> Array:
    """[C, B, ...] -> [N, ...]: the last chunk ends with the last example, or with padding where it is the only one."""
    if len(chunks) == 1:
        return chunks[0, :count]
    *shape, size = (*chunks.shape[2:], chunks.shape[1])
    before = (len(chunks) - 1) * size
    return jnp.concatenate([chunks[:-1].reshape(before, *shape), chunks[-1, size - (count - before) :]])
