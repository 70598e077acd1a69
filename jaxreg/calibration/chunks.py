"""Sums over the chunks of one split, and what is fitted by them: memory is that of one chunk."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import posthoc, temperature

Tree = Any


class Placed(NamedTuple):
    """Logits of all trials of a device [T, S, C, B, K], and which trial is meant; they stay where they are."""

    logits: Array
    trial: Array


class Chunks(NamedTuple):
    """One split of one trial, read a chunk at a time where it lies: a slice of a whole split would be a copy of it."""

    stacks: Placed
    examples: Any  # labels, mask and key_ids, [S, C, B] each
    split: Array

    @property
    def places(self) -> Array:
        return jnp.arange(self.stacks.logits.shape[2])

    @property
    def zero(self) -> Array:
        """0, varying over the mesh as the logits do: what a sum over them begins with."""
        return self.stacks.logits[0, 0, 0, 0, 0] * 0

    def read(self, place: Array) -> tuple[Array, ...]:
        """Returns logits [B, K], labels, mask and key_ids [B] of the chunk at `place`."""
        logits_BK = _at(self.stacks.logits, self.stacks.trial, self.split, place)
        return logits_BK, *(_at(array, self.split, place) for array in self.examples)


def _at(array: Array, *place: Array) -> Array:
    inner = array.shape[len(place) :]
    start = [*(jnp.asarray(index, jnp.int32) for index in place), *[jnp.int32(0)] * len(inner)]
    return jax.lax.dynamic_slice(array, start, (1,) * len(place) + inner).reshape(inner)


def total(of_chunk: Callable[..., tuple[Tree, Tree]], *chunks: Array, anchor: Array | None = None) -> tuple[Tree, Tree]:
    """Adds up the first result of `of_chunk` over the first axis of `chunks`, one at a time; stacks the second."""
    shapes = jax.eval_shape(of_chunk, *(chunk[0] for chunk in chunks))[0]
    # Inside shard_map a carry must vary over the mesh as the data do.
    anchor = chunks[0].ravel()[0] * 0 if anchor is None else anchor
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + anchor.astype(s.dtype), shapes)

    def step(sums: Tree, chunk: tuple[Array, ...]) -> tuple[Tree, Tree]:
        more, each = of_chunk(*chunk)
        return jax.tree.map(jnp.add, sums, more), each

    return jax.lax.scan(step, zeros, chunks)


def summed(of_chunk: Callable[..., Tree], chunks: Chunks, places: Array) -> Tree:
    """Adds up `of_chunk(logits_BK, labels_B, mask_B)` over the chunks at `places`."""
    return total(lambda place: (of_chunk(*chunks.read(place)[:3]), None), places, anchor=chunks.zero)[0]


def fit_temperature(chunks: Chunks) -> temperature.Temperature:
    """Returns the temperature of one split: of its first chunk, and from there of all of them in two or three looks."""

    def search(begin: Array, places: Array) -> temperature.Temperature:
        return temperature.solve(
            lambda log_b: summed(functools.partial(temperature.slope, log_b), chunks, places), begin
        )

    begin = chunks.zero
    if len(chunks.places) > 1:
        first = search(begin, chunks.places[:1])
        begin = jnp.where(first.at_bracket > 0, 0.0, -jnp.log(first.value))

    def differ() -> Array:
        def of_chunk(logits_BK: Array, labels_B: Array, mask_B: Array) -> Array:
            return temperature.differ(logits_BK, mask_B).astype(jnp.int32)

        return summed(of_chunk, chunks, chunks.places) > 0

    return temperature.where_it_matters(search(begin, chunks.places), differ)


def fit_vector(anchor: Array, chunks: Chunks) -> Array:
    """Returns the parameters [2K] of vector scaling on one split, searched from `anchor`."""
    return posthoc.solve(
        lambda parameters: summed(functools.partial(posthoc.curve, parameters), chunks, chunks.places), anchor
    )
