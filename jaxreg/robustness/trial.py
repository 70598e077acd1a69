"""The compiled programs of the robustness probe: one forward pass and one attack per method, for all trials at once.

Everything that differs between attacks of a method, radii, chunks of examples and tails is data of fixed shape, so
none of it compiles anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.rng import Stream, example_keys, key_of
from jaxreg.robustness import diagnosis, loop
from jaxreg.robustness.attacks import METHODS, Attack, evaluations_of, passes_of, settings_of
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.balls import Norm, uniform
from jaxreg.robustness.method import WRONG, Examples, Settings
from jaxreg.robustness.search import pass_keys
from jaxreg.runtime import parallel

Tree = Any
Apply = Callable[..., Any]  # (params, stats, x_BHWC, *, train) -> (logits_BK, ...)
PerTrial = Callable[[Callable[[Tree, Tree], Tree]], Callable[[Tree, Tree], Tree]]
GROUP = 4  # radii in one call


class Job(NamedTuple):
    """What differs from trial to trial; arrays, on the host before a call and traced within."""

    params: Tree
    stats: Tree
    targets_CP: Any
    broken_C: Any  # smallest radius known to fool; -1: misclassified; inf: none
    eps_EC: Any  # ascending; -1: not attacked
    starts_CHWC: Any = None


class Chunk(NamedTuple):
    """What trials share: C examples (label -1: padding) and the numbers of the attack."""

    images_CHWC: Any
    labels_C: Any
    keys_CP: Any  # the bits of a key for each pass
    settings: Settings
    evaluations: Any
    passes: Any
    early_exit: Any


def diagnosis_program(apply: Apply, per_trial: PerTrial) -> Callable[[Tree, Tree], Any]:
    """((params, stats), (images [M, H, W, C], labels, ids, seed)) -> a `Diagnosis` of each trial, [T, M] each."""

    def diagnose_one(one: tuple[Tree, Tree], shared: tuple[Array, Array, Array, Array]) -> Any:
        images_MHWC, labels_M, ids_M, seed = shared
        noise = uniform(example_keys(key_of(seed, Stream.ATTACK, 1), ids_M), images_MHWC)
        return diagnosis.diagnose(lambda x: apply(*one, x, train=False)[0], images_MHWC, labels_M, noise)

    return per_trial(diagnose_one)


def logits_program(apply: Apply, per_trial: PerTrial) -> Callable[[Tree, Tree], Array]:
    """((params, stats, x [T, M, H, W, C]), anything shared) -> logits [T, M, K]."""

    def forward(one: tuple[Tree, Tree, Array], shared: Tree) -> Array:
        del shared
        params, stats, x_MHWC = one
        return apply(params, stats, x_MHWC, train=False)[0]

    return per_trial(forward)


def described(apply: Apply, models: tuple[Tree, Tree], norm: Norm, shape: tuple[int, ...]) -> str:
    """What is compiled into an attack beside its arguments: the norm, and the network on images of `shape`, as text.

    The network is that of one trial: on how many devices trials lie changes nothing but rounding.
    """
    own = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), models)
    images = jax.ShapeDtypeStruct((1, *shape), np.float32)
    forward = jax.jit(lambda params, stats, x: apply(params, stats, x, train=False)[0])
    return f"{norm} {jax.devices()[0].platform} {forward.lower(*own, images).as_text()}"


def attack_program(
    apply: Apply, per_trial: PerTrial, method: str, norm: Norm, slots: int
) -> Callable[[Job, Chunk], loop.Found]:
    """(jobs [T, ...], chunk) -> what was found, [T, ...]."""

    def attack_one(job: Job, chunk: Chunk) -> loop.Found:
        def logits_fn(x_BHWC: Array) -> Array:
            return apply(job.params, job.stats, x_BHWC, train=False)[0]

        keys_CP = jax.random.wrap_key_data(chunk.keys_CP)
        examples = Examples(chunk.images_CHWC, chunk.labels_C, keys_CP, job.targets_CP, job.broken_C, job.starts_CHWC)
        limits: Any = {"evaluations": chunk.evaluations, "passes": chunk.passes, "early_exit": chunk.early_exit}
        return loop.run(METHODS[method](norm), logits_fn, examples, job.eps_EC, chunk.settings, slots=slots, **limits)

    return per_trial(attack_one)


def chunk_of(
    images: np.ndarray, labels: np.ndarray, keys: np.ndarray, attack: Attack, early_exit: bool = True
) -> Chunk:
    """A chunk with the numbers of an attack."""
    kinds: Any = (np.int32, np.int32, np.float32, np.float32, np.float32)
    numbers: Any = [kind(value) for kind, value in zip(kinds, settings_of(attack))]
    counts = np.int32(evaluations_of(attack)), np.int32(passes_of(attack))
    return Chunk(images, labels, keys, Settings(*numbers), *counts, np.bool_(early_exit))


def keys_of(seed: int, ids_N: np.ndarray, passes: int) -> np.ndarray:
    """The bits of a key for each pass of each example, from the seed's ATTACK stream: uint32 [N, P, ...]."""
    keys_NP = pass_keys(key_of(seed, Stream.ATTACK), ids_N, passes)
    return np.asarray(jax.random.key_data(keys_NP))


def padded(rows: np.ndarray, count: int, fill: float) -> np.ndarray:
    """The rows, filled up to `count` of them."""
    missing = np.full((count - len(rows), *rows.shape[1:]), fill, rows.dtype)
    return np.concatenate([rows, missing]) if len(missing) else rows


def host(tree: Tree) -> Tree:
    """The arrays of a tree, on the host."""
    return parallel.fetch(tree)


def targets_of(logits_TCK: np.ndarray, labels_C: np.ndarray, attack: Attack, most: int) -> np.ndarray:
    """The class each pass aims at, [T, C, P]: the likeliest wrong ones, restart by restart."""
    if not attack.targets:
        return np.zeros((*logits_TCK.shape[:2], most), np.int32)
    is_label_CK = np.arange(logits_TCK.shape[2]) == labels_C[:, None]
    order_TCK = np.argsort(-np.where(is_label_CK, -np.inf, logits_TCK), axis=2, kind="stable")
    return order_TCK[:, :, np.arange(most) % attack.targets].astype(np.int32)


def unbroken(logits_TCK: np.ndarray, labels_C: np.ndarray) -> np.ndarray:
    """The smallest fooling radius before any attack, [T, C]: -1 where misclassified, else inf."""
    return np.where(wrong(logits_TCK, labels_C), np.float32(WRONG), np.float32(jnp.inf))
