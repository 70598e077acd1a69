"""The minimal radius of each example on one model, and the whole robustness curve that follows from it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg.robustness import loop, minimal
from jaxreg.robustness.attacks import ATTACKS, check, evaluations_of, settings_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.border import check_examples, check_inputs, check_labels, check_logits
from jaxreg.robustness.method import Logits
from jaxreg.robustness.network import compiled, filled, room, share
from jaxreg.robustness.search import Common, Rows, clean_logits, examples_of


def minimal_eps(
    logits_fn: Logits,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    limit: float,
    *,
    key: Array,
    norm: Norm = "linf",
    ids: Array | np.ndarray | None = None,
    targets: int = 3,
    steps: int = 100,
    slots: int = 256,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[Array, Array]:
    """The smallest radius up to `limit` at which each example is fooled [N], and the adversary there [N, H, W, C].

    One search per target class (the likeliest wrong ones, `targets` of them where there are so many), each only below
    what those before it found. An upper bound; 0 where misclassified without attack, inf where nothing within `limit`
    was found. `key`, `ids`, `slots` and `devices` as in `run_attack`.

    Raises: ValueError: as `run_attack` does.
    """
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    ids = jnp.arange(len(images), dtype=jnp.uint32) if ids is None else jnp.asarray(ids)
    check_inputs(images, jnp.asarray(limit))
    check_examples(images, labels, ids)
    count, on = len(images), tuple(devices or ())
    each, most = share(slots, on), room(count, on)
    images, labels, ids = (filled(a, most, fill) for a, fill in ((images, 0), (labels, -1), (ids, 0)))
    clean_NK = compiled(on, clean_logits, (logits_fn, each[0]), 0)(images)
    check_logits(clean_NK[:count])
    check_labels(labels, clean_NK.shape[1])
    targets = min(targets, clean_NK.shape[1] - 1)
    attack = ATTACKS["minimal"]._replace(loss="targeted_margin", targets=targets, steps=steps)
    check(attack, norm, clean_NK.shape[1])
    rows = Rows(images, labels.astype(jnp.int32), clean_NK, ids.astype(jnp.uint32))
    limits_E = jnp.asarray([limit], images.dtype)
    common = Common(key, limits_E, settings_of(attack), evaluations_of(attack), True)
    radius_N, adversarial = compiled(on, nearest, (norm, targets, logits_fn, *each), (0, 0))(rows, common)
    return radius_N[:count], adversarial[:count]


def nearest(
    norm: Norm, targets: int, logits_fn: Logits, slots: int, devices: int, rows: Rows, common: Common
) -> tuple[Array, Array]:
    """`minimal_eps` as a pure function of arrays; the limit is the radius of `common`."""
    examples = examples_of(rows, common.key, ATTACKS["minimal"]._replace(targets=targets))
    limits: Any = {"evaluations": common.evaluations, "passes": 1, "early_exit": common.early_exit}
    limits |= {"slots": min(slots, len(rows.images)), "devices": devices}
    right_N = examples.broken_N >= 0

    def toward(rank: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        radius_N, best_NHWC = best
        aimed_N1 = lax.dynamic_slice_in_dim(examples.targets_NP, rank, 1, axis=1)
        eps_EN, aimed = jnp.minimum(radius_N, common.radii_E[:, None]), examples._replace(targets_NP=aimed_N1)
        found = loop.run(minimal.method(norm), logits_fn, aimed, eps_EN, common.settings, **limits)
        nearer_N = minimal.minimal_radius(found.adversarial_ENHWC[0], rows.images, ~found.robust_EN[0], norm)
        better_N = (nearer_N < radius_N) & right_N
        chosen_NHWC = jnp.where(better_N[:, None, None, None], found.adversarial_ENHWC[0], best_NHWC)
        return jnp.where(better_N, nearer_N, radius_N), chosen_NHWC

    start_N = jnp.where(right_N, jnp.inf, 0.0).astype(rows.images.dtype)
    return lax.fori_loop(0, targets, toward, (start_N, rows.images))


def robustness_curve(min_eps_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust accuracy as a step function of the radius: ascending radii [M], and the share that survives each [M].

    An example is robust at eps if its minimal radius lies above eps. Starts at radius 0 with the clean accuracy.
    """
    minimal = np.asarray(min_eps_N, np.float64)
    radii = np.unique(np.concatenate([[0.0], minimal[np.isfinite(minimal)]]))
    return radii, np.mean(minimal[:, None] > radii, axis=0)
