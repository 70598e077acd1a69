"""Attacks on one network, any `logits_fn(x_BHWC) -> logits_BK`, on one device or on several.

Matrix products are taken at the highest precision unless JAX was told another (`jax.default_matmul_precision`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.arithmetic import standard
from jaxreg.checks import (
    check_attack_inputs,
    check_attacked_labels,
    check_count,
    check_devices,
    check_one_radius,
    check_radii,
    check_raw_logits,
    check_reach,
    plain,
)
from jaxreg.rng import own_key
from jaxreg.robustness import attacks, loop, minimal, trial
from jaxreg.robustness.attacks import ATTACKS, Attack, Suite, check, named, numbers_of, passes_of
from jaxreg.robustness.balls import Norm, size, spread
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.losses import fooled
from jaxreg.robustness.method import AttackNumbers, Logits
from jaxreg.robustness.trial import AttackedExamples, Prior, Shape, filled
from jaxreg.runtime import parallel
from jaxreg.runtime.compiling import kept, options
from jaxreg.runtime.precision import careful

Tree = Any
AnyArray = Array | np.ndarray
Rows = tuple[AttackedExamples, Array]  # with their logits [N, K]
Shared = tuple[Array, AttackNumbers, Array]  # radii [E], the numbers of the attack, the key
AXES = Attacked(1, 1, 0, 1, parallel.SUM)  # of examples, in the result of an attack


@kept
@standard
@careful
def run_attack(
    logits_fn: Logits,
    images: AnyArray,
    labels: AnyArray,
    eps: AnyArray | Sequence[float] | float,
    attack: Attack | str = "pgd_ce",
    *,
    key: Array,
    norm: Norm = "linf",
    ids: AnyArray | None = None,
    slots: int = 256,
    early_exit: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Attacked:
    """Attacks `images` [N, H, W, C] in [0, 1] at radius `eps`: one number, or radii [E] that share one batch.

    Pure: may be jitted, with `eps` traced. Randomness is a function of `key` and an example's `ids` [N] (default: its
    place; equal ids draw equal numbers) alone, so results depend neither on `slots` (the batch that runs at once) nor
    on the order of examples. Outside jit examples and radii are padded, inertly: few sizes compile (`capacity`).
    `devices` (default: where jax computes): examples and slots are dealt out to them, and no device waits for another.

    Returns: arrays with a first axis E, but without it where `eps` is one number.
    Raises: ValueError: images that are not float32 in [0, 1], eps below 0, labels or ids that do not fit, an attack
      that cannot run, a `logits_fn` that returns probabilities (values are checked where concrete, as outside jit),
      several devices inside jit.
    """
    chosen = named(attack)
    prepared, radii_E, key = _prepared(logits_fn, images, labels, ids, eps, key, norm, slots, devices)
    result = _attacked(prepared, chosen, norm, radii_E, key, early_exit)
    return result if np.ndim(eps) else _at_radii(result, 0)


class Ensemble(NamedTuple):
    """Worst case: adversarial [N, H, W, C] and robust [N]; `masks`: against each attack (in a cascade: up to it)."""

    adversarial: np.ndarray
    robust: np.ndarray
    masks: dict[str, np.ndarray]

    def __repr__(self) -> str:
        each = ", ".join(f"{name} {np.mean(mask):.3f}" for name, mask in self.masks.items())
        return f"Ensemble({len(self.robust)} examples: robust {np.mean(self.robust):.3f}; {each})"


@kept
@standard
@careful
def run_suite(
    logits_fn: Logits,
    images: AnyArray,
    labels: AnyArray,
    eps: float,
    suite: str | Suite = "quick",
    *,
    key: Array,
    norm: Norm = "linf",
    ids: AnyArray | None = None,
    slots: int = 256,
    devices: Sequence[jax.Device] | None = None,
) -> Ensemble:
    """Attacks `images` [N, H, W, C] in [0, 1] with every attack of a suite at one radius; no search for minimal radii.

    In a cascade an example that one attack broke is not attacked by those after it: it costs nothing, and shapes stay.
    An adversarial example is that of the first attack that fools; of a robust example, the clean image.

    Raises: ValueError: as `run_attack` does, and for an unknown suite.
    """
    check_one_radius(eps)
    prepared, radii_E, key = _prepared(logits_fn, images, labels, ids, eps, key, norm, slots, devices)
    chosen = attacks.suite(suite, prepared.classes) if isinstance(suite, str) else suite
    robust, adversarial, masks = ~np.asarray(prepared.wrong), np.array(prepared.examples.images[: prepared.real]), {}
    for name, attack in chosen.attacks.items():
        left = prepared.only(robust) if chosen.cascade else prepared
        result = _at_radii(_attacked(left, attack, norm, radii_E, key), 0)
        masks[name] = np.asarray(result.robust)
        fresh = robust & ~masks[name]
        adversarial[fresh] = np.asarray(result.adversarial)[fresh]
        robust &= masks[name]
    return Ensemble(adversarial, robust, masks)


@kept
@standard
@careful
def minimal_eps(
    logits_fn: Logits,
    images: AnyArray,
    labels: AnyArray,
    eps: float,
    *,
    key: Array,
    norm: Norm = "linf",
    ids: AnyArray | None = None,
    targets: int = 3,
    steps: int = 100,
    slots: int = 256,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[Array, Array]:
    """The smallest radius up to `eps` at which each example is fooled [N], and the adversary there [N, H, W, C].

    One search per target class (the likeliest wrong ones, `targets` of them where there are so many), each only below
    what those before it found. An upper bound; 0 where misclassified without attack, inf where nothing within `eps`
    was found. `key`, `ids`, `slots` and `devices` as in `run_attack`.

    Raises: ValueError: as `run_attack` does.
    """
    check_one_radius(eps)
    prepared, limit_1, key = _prepared(logits_fn, images, labels, ids, eps, key, norm, slots, devices)
    targets = min(targets, prepared.classes - 1)
    attack = ATTACKS["minimal"]._replace(loss="targeted_margin", targets=targets, steps=steps)
    shape, numbers = prepared.shape(attack, norm), numbers_of(attack)._replace(passes=1)
    radius_N, adversarial = prepared.run(_nearest, shape, (0, 0), (limit_1, numbers, key))
    return radius_N[: prepared.real], adversarial[: prepared.real]


class Prepared(NamedTuple):
    """A network and examples that passed the checks; outside jit, examples are padded to a capacity."""

    logits_fn: Logits
    examples: AttackedExamples
    clean: Array  # logits [N, K]
    real: int  # examples that are no padding
    slots: int  # of each device
    devices: tuple[jax.Device, ...]
    program: Callable[..., Callable[..., Tree]]  # `compiled`, or, inside jit, `inlined`

    @property
    def classes(self) -> int:
        """The number of logits."""
        return self.clean.shape[1]

    @property
    def wrong(self) -> Array:
        """Which examples are misclassified without attack."""
        return fooled(self.clean, self.examples.labels)[: self.real]

    def only(self, attacked: np.ndarray) -> "Prepared":
        """The same, but only `attacked` examples [N] are attacked: the others have a label of -1."""
        chosen = filled(jnp.asarray(attacked), len(self.clean), False)
        labels = jnp.where(chosen, self.examples.labels, -1)
        return self._replace(examples=self.examples._replace(labels=labels))

    def shape(self, attack: Attack, norm: Norm) -> Shape:
        """What is compiled into the attack.

        Raises: ValueError: for an attack that cannot run.
        """
        check(attack, norm, self.classes)
        return Shape(attack.method, norm, passes_of(attack), self.slots, max(1, len(self.devices)))

    def run(self, fn: Callable[..., Tree], shape: Shape, axes: Tree, shared: Shared) -> Tree:
        """`fn(shape, logits_fn, rows, shared)`; `axes` of examples in its results."""
        return self.program(self.devices, fn, (shape, self.logits_fn), axes)((self.examples, self.clean), shared)


def _prepared(
    logits_fn: Logits,
    images: AnyArray,
    labels: AnyArray,
    ids: AnyArray | None,
    eps: AnyArray | Sequence[float] | float,
    key: Array,
    norm: Norm,
    slots: int,
    devices: Sequence[jax.Device] | None,
) -> tuple[Prepared, Array, Array]:
    """The checked and padded network, its radii [E] and the key."""
    key = own_key(key)
    on = tuple(devices or ())
    check_radii(eps, norm)
    check_count("slots", slots, 1)
    check_devices(on)
    images, labels = (jnp.asarray(_native(name, a)) for name, a in {"images": images, "labels": labels}.items())
    parts, count = max(1, len(on)), len(images)
    radii_E = jnp.atleast_1d(jnp.asarray(eps, jnp.promote_types(images.dtype, jnp.float32)))
    ids = jnp.arange(len(images), dtype=jnp.uint32) if ids is None else jnp.asarray(ids)
    check_attack_inputs(images, labels, ids)
    check_reach(eps, norm, images.shape[1:])
    examples = AttackedExamples(images, labels.astype(jnp.int32), ids.astype(jnp.uint32))
    inside_jit = any(isinstance(value, jax.core.Tracer) for value in (images, labels, radii_E, key))
    if inside_jit and on:
        raise ValueError(f"devices must be left out inside jit, got {len(on)}: the outer program places them.")
    if not inside_jit:
        most = parts * capacity(-(-count // parts))
        examples = AttackedExamples(*(filled(a, most, fill) for a, fill in zip(examples, (0, -1, 0))))
    program, each = inlined if inside_jit else compiled, -(-slots // parts)
    clean_NK = _clean(program(on, _clean_logits, (logits_fn, each), 0), examples.images)
    check_raw_logits(clean_NK[:count])
    check_attacked_labels(labels, clean_NK.shape[1])
    return Prepared(logits_fn, examples, clean_NK, count, each, on, program), radii_E, key


def _native(name: str, values: Any) -> Any:
    """What JAX holds as it is, traced or not; all else as a plain array."""
    return values if isinstance(values, Array) else plain(name, values)


def _clean(program: Callable[[Array], Array], images: Array) -> Array:
    """Logits [N, K] of the images. Raises ValueError for a function that JAX cannot trace, or of another shape."""
    try:
        clean_NK = program(images)
    except (TypeError, AttributeError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        cure = "write it with jax.numpy, for any number of images [B, H, W, C]"
        raise ValueError(f"JAX cannot trace logits_fn ({told}): {cure}.") from error
    if clean_NK.ndim != 2 or clean_NK.shape[1] < 2:
        shape = ", ".join(map(str, ("B", *clean_NK.shape[1:])))
        raise ValueError(f"logits_fn must return logits [B, K] of at least 2 classes, got [{shape}]: a row an image.")
    return clean_NK


@functools.lru_cache(maxsize=64)
def compiled(
    devices: tuple[jax.Device, ...], fn: Callable[..., Tree], fixed: tuple[Any, ...], axes: Tree
) -> Callable[..., Tree]:
    """`fn(*fixed, rows, *shared)` as a program of (rows, *shared), by `parallel.per_example` where devices are named.

    One program per (shape of the attack, function, array shapes): a function made anew for each call compiles anew;
    losses, steps, step sizes and radii do not, nor does another N or E of the same capacity. Compiled quickly: a first
    answer is mostly compiling, and XLA_FLAGS=--xla_backend_optimization_level=3 asks for full effort.
    """
    bound = functools.partial(fn, *fixed)
    if devices:
        return parallel.per_example(bound, devices, axes, "quick")
    return jax.jit(bound, compiler_options=options("quick", jax.default_backend()))


def inlined(
    devices: tuple[jax.Device, ...], fn: Callable[..., Tree], fixed: tuple[Any, ...], axes: Tree
) -> Callable[..., Tree]:
    """The same as a part of an outer program."""
    del devices, axes
    return functools.partial(fn, *fixed)


def capacity(count: int) -> int:
    """Examples that a program holds, at least `count`: eight sizes between one power of two and the next.

    So the number of compilations grows with the logarithm of N, and padding is at most an eighth.
    """
    step = max(1, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step


def _clean_logits(logits_fn: Logits, batch_size: int, images: Array) -> Array:
    """Logits [N, K], a batch at a time."""
    whole = precise(logits_fn)
    return lax.map(lambda x_HWC: whole(x_HWC[None])[0], images, batch_size=min(batch_size, len(images)))


def precise(logits_fn: Logits) -> Logits:
    """The same in the precision of the images: a loss of bfloat16 has no room for small steps.

    Raises: ValueError: when called, for a function that returns no array.
    """

    def logits(x_BHWC: Array) -> Array:
        found = logits_fn(x_BHWC)
        if not isinstance(found, Array):
            kind = type(found).__name__
            raise ValueError(f"logits_fn must return logits [B, K], got a {kind}: return the array of logits alone.")
        return found.astype(x_BHWC.dtype)

    return logits


def _attacked(
    prepared: Prepared, attack: Attack, norm: Norm, radii_E: Array, key: Array, early_exit: bool = True
) -> Attacked:
    """The result of an attack at all radii, without padding."""
    shape, radii = prepared.shape(attack, norm), len(radii_E)
    if prepared.program is compiled:
        radii_E = filled(radii_E, 1 << (radii - 1).bit_length(), -1)
    result = prepared.run(_at_shared_radii, shape, AXES, (radii_E, numbers_of(attack, early_exit), key))
    if result.robust.shape[1] > prepared.real:
        adversarial, robust, hits = (a[:, : prepared.real] for a in (result.adversarial, result.robust, result.hits))
        result = Attacked(adversarial, robust, result.smallest[: prepared.real], hits, result.evaluations)
    return _at_radii(result, slice(radii)) if len(result.robust) > radii else result


def _at_radii(result: Attacked, which: int | slice | Array) -> Attacked:
    """The result at some of the radii."""
    return result._replace(adversarial=result.adversarial[which], robust=result.robust[which], hits=result.hits[which])


def _at_shared_radii(shape: Shape, logits_fn: Logits, rows: Rows, shared: Shared) -> Attacked:
    """The attack at radii that all examples share, in any order. By counting: a sort is slow to compile."""
    (examples, clean_NK), (radii_E, numbers, key) = rows, shared
    place_E = jnp.arange(len(radii_E))
    earlier_EE = place_E[:, None] > place_E[None]
    before_EE = (radii_E[:, None] > radii_E[None]) | (radii_E[:, None] == radii_E[None]) & earlier_EE
    rank_E = jnp.sum(before_EE, axis=1)
    ascending_E = jnp.zeros_like(radii_E).at[rank_E].set(radii_E)
    prior = Prior(clean_NK, jnp.broadcast_to(ascending_E[:, None], (len(radii_E), len(clean_NK))))
    return _at_radii(trial.attack(shape, precise(logits_fn), (examples, prior), numbers, key), rank_E)


def _nearest(shape: Shape, logits_fn: Logits, rows: Rows, shared: Shared) -> tuple[Array, Array]:
    """The minimal radius and its adversary: one search a target, each below what those before it found."""
    (examples, clean_NK), (limit_1, numbers, key) = rows, shared
    queue = trial.queue_of(shape.passes, (examples, Prior(clean_NK, limit_1[:, None])), numbers, key)
    method, right_N = minimal.method(shape.norm), queue.broken_N >= 0

    def toward(rank: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        radius_N, best_NHWC = best
        aimed_N1 = lax.dynamic_slice_in_dim(queue.targets_NP, rank, 1, axis=1)
        aimed = queue._replace(targets_NP=aimed_N1, eps_EN=jnp.minimum(radius_N[None], limit_1[:, None]))
        result = loop.run(method, precise(logits_fn), aimed, numbers, slots=shape.slots, devices=shape.devices)
        x_NHWC = result.adversarial[0]
        nearer_N = jnp.where(result.robust[0], jnp.inf, size(x_NHWC - examples.images, shape.norm))
        better_N = (nearer_N < radius_N) & right_N
        return jnp.where(better_N, nearer_N, radius_N), jnp.where(spread(better_N, x_NHWC), x_NHWC, best_NHWC)

    start_N = jnp.where(right_N, jnp.inf, 0.0).astype(examples.images.dtype)
    return lax.fori_loop(0, shape.passes, toward, (start_N, examples.images))
