"""An attack as a pure function of arrays: logits, keys and targets of the examples, then the loop over all radii."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg.rng import example_keys
from jaxreg.robustness import loop
from jaxreg.robustness.attacks import METHODS, Attack, passes_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.method import WRONG, Examples, Logits, Settings


class Attacked(NamedTuple):
    """Adversarial examples [E, N, H, W, C] (no E where eps was one number), robust [E, N], smallest fooling radius [N].

    `robust` holds where no evaluated point of the ball was misclassified; a wrong clean prediction is not robust (its
    smallest radius is -1; inf where nothing fooled). `evaluations`: passes through the network spent on examples.
    """

    adversarial: Array
    robust: Array
    smallest: Array
    evaluations: Array


def clean_logits(logits_fn: Logits, batch_size: int, images: Array) -> Array:
    """Logits [N, K], a batch at a time."""
    return lax.map(lambda x_HWC: logits_fn(x_HWC[None])[0], images, batch_size=min(batch_size, len(images)))


class Rows(NamedTuple):
    """The examples of an attack; a label of -1: not attacked. Random numbers follow the ids."""

    images: Array  # [N, H, W, C]
    labels: Array
    clean_NK: Array
    ids: Array


class Common(NamedTuple):
    """What all examples share: traced, so that attacks that differ only here are one program."""

    key: Array
    radii_E: Array
    settings: Settings
    evaluations: Array | int
    early_exit: Array | bool


def attacked(
    shape: Attack, norm: Norm, logits_fn: Logits, slots: int, devices: int, rows: Rows, common: Common
) -> Attacked:
    """An attack whose numbers are traced; of `shape` only the method, restarts and targets are used."""
    radii_E = common.radii_E
    examples, passes = examples_of(rows, common.key, shape), passes_of(shape)
    place_E = jnp.arange(len(radii_E))
    before_EE = (radii_E[:, None] > radii_E) | (radii_E[:, None] == radii_E) & (place_E[:, None] > place_E)
    rank_E = jnp.sum(before_EE, axis=1)  # of each radius among all: a sort is slow to compile
    sorted_E = jnp.zeros_like(radii_E).at[rank_E].set(radii_E)
    eps_EN = jnp.broadcast_to(sorted_E[:, None], (len(radii_E), len(rows.images)))
    limits: Any = {"evaluations": common.evaluations, "passes": passes, "early_exit": common.early_exit}
    limits |= {"slots": min(slots, eps_EN.size * passes), "devices": devices}
    found = loop.run(METHODS[shape.method](norm), logits_fn, examples, eps_EN, common.settings, **limits)
    return Attacked(found.adversarial_ENHWC[rank_E], found.robust_EN[rank_E], found.broken_N, found.evaluations)


def examples_of(rows: Rows, key: Array, attack: Attack) -> Examples:
    """The examples of an attack, with keys, targets, and the misclassified ones marked as broken."""
    wrong_N = (jnp.argmax(rows.clean_NK, axis=1) != rows.labels) | ~jnp.all(jnp.isfinite(rows.clean_NK), axis=1)
    broken_N = jnp.where(wrong_N, WRONG, jnp.inf).astype(rows.images.dtype)
    keys_NP = pass_keys(key, rows.ids, passes_of(attack))
    return Examples(rows.images, rows.labels, keys_NP, targets_of(rows.clean_NK, rows.labels, attack), broken_N)


def targets_of(logits_NK: Array, labels_N: Array, attack: Attack) -> Array:
    """The class each pass aims at, [N, P]: the likeliest wrong classes of the clean image, restart by restart."""
    most = passes_of(attack)
    if not attack.targets:
        return jnp.zeros((len(labels_N), most), jnp.int32) + labels_N[:, None]
    is_label_NK = jax.nn.one_hot(labels_N, logits_NK.shape[1], dtype=bool)
    order_NK = jnp.argsort(jnp.where(is_label_NK, -jnp.inf, logits_NK), axis=1, descending=True)
    ranks_P = jnp.arange(most) % attack.targets
    return order_NK[:, ranks_P].astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("passes",))
def pass_keys(key: Array, ids_N: Array, passes: int) -> Array:
    """A key for each pass of each example, a function of `key`, the example's id and the pass alone: [N, P]."""
    return jax.vmap(lambda one: example_keys(one, jnp.arange(passes, dtype=jnp.uint32)))(example_keys(key, ids_N))
