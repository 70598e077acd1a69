"""The minimal radius of each example on one model, and the whole robustness curve that follows from it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness.attack import ATTACKS, check, evaluations_of, settings_of
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.border import check_examples, check_inputs, check_labels, check_logits
from jaxreg.robustness.method import Logits
from jaxreg.robustness.minimal import minimal_radius
from jaxreg.robustness.run import capacity, filled
from jaxreg.robustness.search import clean_logits_jit, examples_of, search_jit


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
) -> tuple[Array, Array]:
    """The smallest radius up to `limit` at which each example is fooled [N], and the adversary there [N, H, W, C].

    One search per target class (the likeliest wrong ones, `targets` of them where there are so many), each only below
    what those before it found. An upper bound; 0 where misclassified without attack, inf where nothing within `limit`
    was found. `key`, `ids` and `slots` as in `run_attack`.

    Raises: ValueError: as `run_attack` does.
    """
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    ids = jnp.arange(len(images), dtype=jnp.uint32) if ids is None else jnp.asarray(ids)
    check_inputs(images, jnp.asarray(limit))
    check_examples(images, labels, ids)
    count, most = len(images), capacity(len(images))
    images, labels, ids = (filled(a, most, fill) for a, fill in ((images, 0), (labels, -1), (ids, 0)))
    clean_NK = clean_logits_jit(logits_fn, images, min(slots, most))
    check_logits(clean_NK[:count])
    check_labels(labels, clean_NK.shape[1])
    targets = min(targets, clean_NK.shape[1] - 1)
    attack = ATTACKS["minimal"]._replace(loss="targeted_margin", targets=targets, steps=steps)
    check(attack, norm, clean_NK.shape[1])
    examples = examples_of(images, labels.astype(jnp.int32), clean_NK, key, ids.astype(jnp.uint32), attack)
    radius_N = jnp.where(examples.broken_N < 0, 0.0, jnp.inf).astype(images.dtype)
    best_NHWC = images
    for rank in range(targets):
        one = examples._replace(targets_NP=examples.targets_NP[:, rank : rank + 1])
        eps_EN = jnp.minimum(radius_N, limit)[None]
        counts = evaluations_of(attack), 1, True, min(slots, most)
        found = search_jit("minimal", norm, logits_fn, one, eps_EN, settings_of(attack), *counts)
        nearer_N = minimal_radius(found.adversarial_ENHWC[0], images, ~found.robust_EN[0], norm)
        better_N = (nearer_N < radius_N) & (examples.broken_N >= 0)
        radius_N = jnp.where(better_N, nearer_N, radius_N)
        best_NHWC = jnp.where(better_N[:, None, None, None], found.adversarial_ENHWC[0], best_NHWC)
    return radius_N[:count], best_NHWC[:count]


def robustness_curve(min_eps_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust accuracy as a step function of the radius: ascending radii [M], and the share that survives each [M].

    An example is robust at eps if its minimal radius lies above eps. Starts at radius 0 with the clean accuracy.
    """
    minimal = np.asarray(min_eps_N, np.float64)
    radii = np.unique(np.concatenate([[0.0], minimal[np.isfinite(minimal)]]))
    return radii, np.mean(minimal[:, None] > radii, axis=0)
