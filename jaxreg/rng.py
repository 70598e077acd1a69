"""Named streams of random numbers: every key is a pure function of (seed, stream, step, example), never carried.

Resuming, changing the batch size, the device count or the host count, or adding a stream shifts no other number.
"""

import enum

import jax
import jax.numpy as jnp
from jax import Array


class Stream(enum.IntEnum):
    """What a key is for. Never renumber: the numbers are part of every published result."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    MIX = 3
    PARTNER = 4
    DROPOUT = 5
    ATTACK = 6
    CORRUPTION = 7
    RANDOM_FEATURE = 8
    INPUT_NOISE = 9


IMPLEMENTATION = "threefry2x32"  # named with every key: draws of rbg depend on what is drawn beside them


def key(seed: Array | int) -> Array:
    """Returns the typed key of a seed, whatever implementation JAX is set to."""
    return jax.random.key(seed, impl=IMPLEMENTATION)


def key_from(bits: Array) -> Array:
    """Returns the key of `IMPLEMENTATION` whose words are `bits`."""
    return jax.random.wrap_key_data(bits, impl=IMPLEMENTATION)


def own_key(given: Array) -> Array:
    """Returns a user's key as one of `IMPLEMENTATION`, made of its first two words where it is of another.

    Raises: ValueError: for anything but one typed key.
    """
    if not isinstance(given, jax.Array) or not jnp.issubdtype(given.dtype, jax.dtypes.prng_key) or given.ndim:
        raise ValueError(f"key must be one typed key, got {given!r}: give jax.random.key(0).")
    if jax.random.key_impl(given) == IMPLEMENTATION:
        return given
    return key_from(jax.random.key_data(given)[:2])


def key_of(seed: Array | int, stream: Stream, step: Array | int = 0) -> Array:
    """Returns the typed key of `stream` at `step` (both integer scalars, traced or not) for a trial's `seed`."""
    return jax.random.fold_in(jax.random.fold_in(key(seed), int(stream)), step)


def example_keys(key: Array, example_ids_B: Array) -> Array:
    """Returns one key per example, a function of `key` and the example's id (uint32 [B]) alone: keys [B]."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, example_ids_B)
