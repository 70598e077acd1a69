"""Attacks over any `logits_fn(x_BHWC) -> logits_BK`, x in [0, 1], and what they say about robustness.

from jaxreg import robustness
found = robustness.run_attack(logits_fn, images, labels, eps=[2 / 255, 8 / 255], attack="apgd_t", key=jax.random.key(0))
found.robust.mean(axis=1), found.adversarial      robust accuracy a radius; the examples

Many trained networks at once: `jaxreg.robustness.probe.measure`.

Shape letters: B batch, K classes, H W C image, N examples, E radii, P passes (restarts x targets), T trials.
"""

from jaxreg.robustness.attacks import ATTACKS, EXHAUSTIVE, METHODS, SUITES, Attack, Suite
from jaxreg.robustness.curves import gain_curve, robustness_curve
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.network import Ensemble, minimal_eps, run_attack, run_suite

__all__ = [
    "ATTACKS",
    "EXHAUSTIVE",
    "METHODS",
    "SUITES",
    "Attack",
    "Attacked",
    "Ensemble",
    "Suite",
    "gain_curve",
    "minimal_eps",
    "robustness_curve",
    "run_attack",
    "run_suite",
]
