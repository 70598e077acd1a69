"""The minimal radius of each example on one model, and the whole robustness curve that follows from it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness import loop
from jaxreg.robustness.attack import (
    ATTACKS,
    check,
    check_inputs,
    check_logits,
    evaluations_of,
    examples_of,
    search_jit,
    settings_of,
)
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.minimal import minimal_radius


def minimal_eps(
    logits_fn: loop.Logits,
    images: Array,
    labels: Array,
    limit: float,
    *,
    key: Array,
    norm: Norm = "linf",
    targets: int = 3,
    steps: int = 100,
    slots: int = 256,
) -> tuple[Array, Array]:
    """The smallest radius up to `limit` at which each example is fooled [N], and the adversary there [N, H, W, C].

    One search per target class (the likeliest wrong ones), each only below what those before it found. An upper bound;
    0 where misclassified without attack, inf where nothing within `limit` was found.

    Raises: ValueError: as `run_attack` does.
    """
    images, labels = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
    attack = ATTACKS["minimal"]._replace(loss="targeted_margin", targets=targets, steps=steps)
    check_inputs(images, jnp.asarray(limit))
    clean_NK = logits_fn(images)
    check_logits(clean_NK)
    check(attack, norm, clean_NK.shape[1])
    examples = examples_of(images, labels, clean_NK, key, jnp.arange(len(images), dtype=jnp.uint32), attack)
    radius_N = jnp.where(examples.broken_N < 0, 0.0, jnp.inf).astype(images.dtype)
    best_NHWC = images
    for rank in range(targets):
        one = examples._replace(targets_NP=examples.targets_NP[:, rank : rank + 1])
        eps_EN = jnp.minimum(radius_N, limit)[None]
        counts = evaluations_of(attack), 1, True, min(slots, len(images))
        found = search_jit("minimal", norm, logits_fn, one, eps_EN, settings_of(attack), *counts)
        nearer_N = minimal_radius(found.adversarial_ENHWC[0], images, ~found.robust_EN[0], norm)
        better_N = (nearer_N < radius_N) & (examples.broken_N >= 0)
        radius_N = jnp.where(better_N, nearer_N, radius_N)
        best_NHWC = jnp.where(better_N[:, None, None, None], found.adversarial_ENHWC[0], best_NHWC)
    return radius_N, best_NHWC


def robustness_curve(min_eps_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust accuracy as a step function of the radius: ascending radii [M], and the share that survives each [M].

    An example is robust at eps if its minimal radius lies above eps. Starts at radius 0 with the clean accuracy.
    """
    minimal = np.asarray(min_eps_N, np.float64)
    radii = np.unique(np.concatenate([[0.0], minimal[np.isfinite(minimal)]]))
    return radii, np.mean(minimal[:, None] > radii, axis=0)
