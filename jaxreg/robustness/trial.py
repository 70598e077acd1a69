"""An attack on one network as a function of arrays; `network` lifts it over examples, `trials` over trained trials.

All that differs between attacks of a method, radii, chunks of examples and tails is data, so none of it compiles anew.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Shaped

from jaxreg.rng import Stream, example_keys, key_from, key_of
from jaxreg.robustness import loop
from jaxreg.robustness.attacks import METHODS
from jaxreg.robustness.balls import Norm, uniform
from jaxreg.robustness.diagnosis import Diagnosis, diagnose
from jaxreg.robustness.loop import Attacked, Leaf, Queue
from jaxreg.robustness.losses import fooled
from jaxreg.robustness.method import AttackNumbers, Logits

Tree = Any
Apply = Callable[..., Any]  # (params, stats, x_BHWC, *, train) -> (logits_BK, ...)
Models = tuple[Tree, Tree]  # parameters and statistics
WRONG = -1.0  # the radius that "fools" an example misclassified without any attack


class Shape(NamedTuple):
    """What is compiled into an attack: its method, norm, room for passes, and the arguments of `loop.run`."""

    method: str
    norm: Norm
    passes: int
    slots: int
    devices: int = 1
    batched: bool = False


class AttackedExamples(NamedTuple):
    """What is attacked; arrays on the host before a call, traced within."""

    images: Leaf  # [N, H, W, C] in [0, 1]
    labels: Leaf  # [N]; below 0: not attacked
    ids: Leaf  # [N], from which random numbers come


class Prior(NamedTuple):
    """What is known of the examples on one network before an attack, and at which radii to attack them."""

    clean: Leaf  # logits [N, K] of the images
    radii: Leaf  # [E, N], ascending along E; below 0: not attacked
    broken: Leaf | None = None  # [N]: the smallest radius known to fool; inf: none
    starts: Leaf | None = None  # [N, H, W, C]: where a search for minimal radii begins, if not at the images


Given = tuple[AttackedExamples, Prior]  # what an attack of one network takes


def attack(shape: Shape, logits_fn: Logits, given: Given, numbers: AttackNumbers, key: Array) -> Attacked:
    """Attacks examples at all radii; random numbers are a function of `key`, ids and the pass alone."""
    method, queue = METHODS[shape.method](shape.norm), queue_of(shape.passes, given, numbers, key)
    return loop.run(method, logits_fn, queue, numbers, slots=shape.slots, devices=shape.devices, batched=shape.batched)


def queue_of(passes: int, given: Given, numbers: AttackNumbers, key: Array) -> Queue:
    """The queue of an attack: keys and targets of `passes` passes; misclassified examples count as broken, unless the
    highest loss is looked for.
    """
    (images, labels, ids), prior = given
    broken = jnp.inf if prior.broken is None else prior.broken
    wrong_N = fooled(prior.clean, labels) & ~jnp.asarray(numbers.highest)
    broken_N = jnp.where(wrong_N, WRONG, broken).astype(images.dtype)
    targets_NP = targets_of(prior.clean, labels, numbers.targets, passes, numbers.first_target)
    return Queue(images, labels, pass_keys(key, ids, passes), targets_NP, prior.radii, broken_N, prior.starts)


def targets_of(
    logits_NK: Shaped[Array, "N K"],
    labels_N: Shaped[Array, " N"],
    targets: Array | int,
    passes: int,
    first: Array | int = 0,
) -> Array:
    """The class each pass aims at, [N, P]: the likeliest wrong ones, from the `first` on, restart by restart (any where
    untargeted).
    """
    is_label_NK = jax.nn.one_hot(labels_N, logits_NK.shape[1], dtype=bool)
    likeliest_NP = lax.top_k(jnp.where(is_label_NK, -jnp.inf, logits_NK), min(passes, logits_NK.shape[1]))[1]
    rank_P = (jnp.asarray(first) + jnp.arange(passes)) % jnp.maximum(targets, 1)
    return likeliest_NP[:, rank_P].astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("passes",))
def pass_keys(key: Array, ids_N: Shaped[Array, " N"], passes: int) -> Array:
    """A key for each pass of each example, a function of `key`, the example's id and the pass alone: [N, P]."""
    return jax.vmap(lambda one: example_keys(one, jnp.arange(passes, dtype=jnp.uint32)))(example_keys(key, ids_N))


Shared = tuple[AttackedExamples, AttackNumbers, Array]


def attack_trial(shape: Shape, apply: Apply, one: tuple[Models, Prior], shared: Shared) -> Attacked:
    """`attack` of one trial; `shared` ends with the bits of the key: to derive it here would compile once more."""
    (models, prior), (examples, numbers, bits) = one, shared
    return attack(shape, logits_of(apply, models), (examples, prior), numbers, key_from(bits))


def logits_of(apply: Apply, models: Models) -> Logits:
    """The `logits_fn` of a trained network."""
    return lambda x_BHWC: apply(*models, x_BHWC, train=False)[0]


def forward_trial(apply: Apply, one: tuple[Models, Array], shared: Tree) -> Array:
    """The logits of a trial at its own images."""
    del shared
    return logits_of(apply, one[0])(one[1])


def diagnose_trial(apply: Apply, models: Models, shared: tuple[AttackedExamples, Array]) -> Diagnosis:
    """The diagnosis of one trial; `shared` ends with the seed."""
    (images, labels, ids), seed = shared
    noise = uniform(example_keys(key_of(seed, Stream.ATTACK, 1), ids), images)
    return diagnose(logits_of(apply, models), images, labels, noise)


def filled(rows: Any, count: int, fill: float, axis: int = 0) -> Any:
    """Arrays of NumPy or JAX with `count` rows along an axis: the given ones, then `fill`."""
    missing = count - rows.shape[axis]
    pad = jnp.pad if isinstance(rows, Array) else np.pad
    ends = [(0, missing if place == axis else 0) for place in range(rows.ndim)]
    return pad(rows, ends, constant_values=fill) if missing else rows
