"""The call that runs an attack on any `logits_fn(x_BHWC) -> logits_BK`, on one device or on several."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness import search
from jaxreg.robustness.attacks import Attack, check, evaluations_of, named, settings_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.border import check_examples, check_inputs, check_labels, check_logits
from jaxreg.robustness.method import Logits
from jaxreg.robustness.search import Attacked, Common, Rows
from jaxreg.runtime import parallel

Tree = Any
Devices = tuple[jax.Device, ...]
AXES = Attacked._make((1, 1, 0, parallel.SUM))  # of examples, in what an attack finds


def run_attack(
    logits_fn: Logits,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    eps: Array | np.ndarray | float,
    attack: Attack | str = "pgd_ce",
    *,
    key: Array,
    norm: Norm = "linf",
    ids: Array | np.ndarray | None = None,
    slots: int = 256,
    early_exit: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Attacked:
    """Attacks `images` [N, H, W, C] in [0, 1] at radius `eps`: one number, or radii [E] that share one batch.

    Pure: may be jitted, with `eps` traced. Randomness is a function of `key` and an example's `ids` [N] (default: its
    place; equal ids draw equal numbers) alone, so results depend neither on `slots` (the batch that runs at once) nor
    on the order of examples. Outside jit examples and radii are padded, inertly: few sizes compile (`capacity`).
    `devices` (default: where jax computes): examples and slots are dealt out to them, and no device waits for another.

    Raises: ValueError: images that are not float32 in [0, 1], eps below 0, labels or ids that do not fit, an attack
      that cannot run, a `logits_fn` that returns probabilities (values are seen where concrete, as outside jit),
      several devices inside jit.
    """
    images, labels, attack = jnp.asarray(images), jnp.asarray(labels), named(attack)
    ids = None if ids is None else jnp.asarray(ids)
    radii_E = jnp.atleast_1d(jnp.asarray(eps, jnp.promote_types(images.dtype, jnp.float32)))
    check_inputs(images, radii_E)
    check_examples(images, labels, ids)
    count, radii = len(images), len(radii_E)
    tracing = any(isinstance(value, jax.core.Tracer) for value in (images, labels, radii_E, key))
    on, program = tuple(devices or ()), traced if tracing else compiled
    ids = jnp.arange(count, dtype=jnp.uint32) if ids is None else ids.astype(jnp.uint32)
    if not tracing:
        most = room(count, on)
        images, labels, ids = (filled(a, most, fill) for a, fill in ((images, 0), (labels, -1), (ids, 0)))
        radii_E = filled(radii_E, 1 << (radii - 1).bit_length(), -1)
    each = share(slots, on)
    clean_NK = program(on, search.clean_logits, (logits_fn, each[0]), 0)(images)
    check_logits(clean_NK[:count])
    check_labels(labels, clean_NK.shape[1])
    check(attack, norm, clean_NK.shape[1])
    shape = attack._replace(loss="ce", steps=1, step_size=1.0, random_start=False, adaptive=False)
    rows = Rows(images, labels.astype(jnp.int32), clean_NK, ids)
    common = Common(key, radii_E, settings_of(attack), evaluations_of(attack), early_exit)
    found = program(on, search.attacked, (shape, norm, logits_fn, *each), AXES)(rows, common)
    return cut(found, count, radii if np.ndim(eps) else None)


@functools.lru_cache(maxsize=64)
def compiled(devices: Devices, fn: Callable[..., Tree], fixed: tuple[Any, ...], axes: Tree) -> Callable[..., Tree]:
    """`fn(*fixed, rows, *shared)` as a program of (rows, *shared), by `parallel.per_example` where devices are named.

    One program per (restarts, targets and method, norm, function, array shapes): a function made anew for each call
    compiles anew; losses, steps, step sizes and radii do not, nor does another N or E of the same capacity.
    """
    own = functools.partial(fn, *fixed)
    return parallel.per_example(own, devices, axes) if devices else jax.jit(own)


def traced(devices: Devices, fn: Callable[..., Tree], fixed: tuple[Any, ...], axes: Tree) -> Callable[..., Tree]:
    """The same as a part of an outer program.

    Raises: ValueError: for several devices.
    """
    del axes
    if devices:
        raise ValueError(f"devices must be left out inside jit, got {len(devices)}: the outer program places them.")
    return functools.partial(fn, *fixed)


def share(slots: int, devices: Devices) -> tuple[int, int]:
    """The slots of each device, and how many devices there are."""
    count = max(1, len(devices))
    return -(-slots // count), count


def room(count: int, devices: Devices) -> int:
    """Examples that a program holds, at least `count`: as many on each device."""
    each, parts = share(count, devices)
    return parts * capacity(each)


def capacity(count: int) -> int:
    """Examples that a program holds, at least `count`: eight sizes between one power of two and the next.

    So the number of compilations grows with the logarithm of N, and padding is at most an eighth.
    """
    step = max(1, (1 << (count - 1).bit_length()) // 8)
    return -(-count // step) * step


def filled(rows: Array, count: int, fill: float) -> Array:
    """The rows, filled up to `count` of them."""
    missing = count - len(rows)
    return jnp.pad(rows, [(0, missing), *[(0, 0)] * (rows.ndim - 1)], constant_values=fill) if missing else rows


def cut(found: Attacked, count: int, radii: int | None) -> Attacked:
    """What was found of the first `count` examples and `radii` (None: of the first radius alone)."""
    if found.robust.shape[1] > count:
        found = found._replace(
            adversarial=found.adversarial[:, :count], robust=found.robust[:, :count], smallest=found.smallest[:count]
        )
    which = 0 if radii is None else slice(radii)
    if radii == len(found.robust):
        return found
    return found._replace(adversarial=found.adversarial[which], robust=found.robust[which])
