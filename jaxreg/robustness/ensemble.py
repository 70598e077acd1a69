"""A suite of attacks on one model, without the rest of jaxreg: the per-example worst case."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.robustness.attacks import Suite, suite
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.border import check_examples, check_inputs
from jaxreg.robustness.method import Logits
from jaxreg.robustness.network import compiled, filled, room, run_attack, share
from jaxreg.robustness.search import clean_logits


class Ensemble(NamedTuple):
    """Worst case: adversarial [N, H, W, C] and robust [N]; `masks`: against each attack (in a cascade: up to it)."""

    adversarial: np.ndarray
    robust: np.ndarray
    masks: dict[str, np.ndarray]


def run_suite(
    logits_fn: Logits,
    images: Array | np.ndarray,
    labels: Array | np.ndarray,
    eps: float,
    suite_name: str | Suite = "quick",
    *,
    key: Array,
    norm: Norm = "linf",
    ids: Array | np.ndarray | None = None,
    slots: int = 256,
    devices: Sequence[jax.Device] | None = None,
) -> Ensemble:
    """Attacks `images` [N, H, W, C] in [0, 1] with every attack of a suite at one radius; no search for minimal radii.

    In a cascade, examples that an attack broke are none of the next one's business: they cost nothing, and shapes stay.
    An adversarial example is that of the first attack that fools; of a robust example, the clean image.

    Raises: ValueError: as `run_attack` does, and for an unknown suite.
    """
    x, y = jnp.asarray(images), np.asarray(labels)
    ids = None if ids is None else np.asarray(ids)
    check_inputs(x, np.asarray(eps))
    check_examples(x, y, ids)
    on = tuple(devices or ())
    forward = compiled(on, clean_logits, (logits_fn, share(slots, on)[0]), 0)
    clean = np.asarray(forward(filled(x, room(len(x), on), 0)))[: len(x)]
    chosen = suite(suite_name, clean.shape[1]) if isinstance(suite_name, str) else suite_name
    robust, adversarial = np.argmax(clean, axis=1) == y, np.array(images)
    masks: dict[str, np.ndarray] = {}
    for name, attack in chosen.attacks.items():
        asked = np.where(robust, y, -1) if chosen.cascade else y  # no prediction equals -1: misclassified, so skipped
        found = run_attack(logits_fn, x, asked, eps, attack, key=key, norm=norm, ids=ids, slots=slots, devices=devices)
        masks[name] = np.asarray(found.robust)
        fresh = robust & ~masks[name]
        adversarial[fresh] = np.asarray(found.adversarial)[fresh]
        robust &= masks[name]
    return Ensemble(adversarial, robust, masks)
