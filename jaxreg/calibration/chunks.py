"""Sums over the chunks of one split, and what is fitted by them: memory is that of one chunk."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg.calibration import posthoc, temperature

Tree = Any


def total(of_chunk: Callable[..., tuple[Tree, Tree]], *chunks: Array) -> tuple[Tree, Tree]:
    """Adds up the first result of `of_chunk` over the first axis of `chunks`, one at a time; stacks the second."""
    shapes = jax.eval_shape(of_chunk, *(chunk[0] for chunk in chunks))[0]
    anchor = chunks[0].ravel()[0] * 0  # inside shard_map a carry must vary over the mesh as the data do
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + anchor.astype(s.dtype), shapes)

    def step(sums: Tree, chunk: tuple[Array, ...]) -> tuple[Tree, Tree]:
        more, each = of_chunk(*chunk)
        return jax.tree.map(jnp.add, sums, more), each

    return jax.lax.scan(step, zeros, chunks)


def fit_temperature(logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> temperature.Temperature:
    """Returns the temperature of one split: of its first chunk, and from there of all of them in two or three looks."""

    def search(begin: Array, *chunks: Array) -> temperature.Temperature:
        def look(log_b: Array) -> temperature.Slope:
            return total(lambda *chunk: (temperature.slope(log_b, *chunk), None), *chunks)[0]

        return temperature.solve(look, begin)

    every, begin = (logits_CBK, labels_CB, mask_CB), mask_CB[0, 0] * 0
    if len(mask_CB) > 1:
        first = search(begin, *(chunks[:1] for chunks in every))
        begin = jnp.where(first.at_bracket > 0, 0.0, -jnp.log(first.value))
    found = search(begin, *every)

    def differ() -> Array:
        return total(lambda *chunk: (temperature.differ(*chunk).astype(jnp.int32), None), logits_CBK, mask_CB)[0] > 0

    return temperature.where_it_matters(found, differ)


def fit_vector(anchor: Array, logits_CBK: Array, labels_CB: Array, mask_CB: Array) -> Array:
    """Returns the parameters [2K] of vector scaling on one split, searched from `anchor`."""

    def curve(parameters: Array) -> posthoc.Curve:
        return total(lambda *chunk: (posthoc.curve(parameters, *chunk), None), logits_CBK, labels_CB, mask_CB)[0]

    return posthoc.solve(curve, anchor)
