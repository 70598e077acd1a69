"""Attacks over any `logits_fn(x_BHWC) -> logits_BK`, x in [0, 1], and what they say about robustness.

Shape letters: B batch, K classes, H W C image, N examples, E radii, P passes (restarts x targets), T trials.
"""

from jaxreg.robustness.attacks import ATTACKS, METHODS, SUITES, Attack, Suite
from jaxreg.robustness.curve import minimal_eps, robustness_curve
from jaxreg.robustness.ensemble import Ensemble, run_suite
from jaxreg.robustness.network import run_attack
from jaxreg.robustness.search import Attacked

__all__ = [
    "ATTACKS",
    "METHODS",
    "SUITES",
    "Attack",
    "Attacked",
    "Ensemble",
    "Suite",
    "minimal_eps",
    "robustness_curve",
    "run_attack",
    "run_suite",
]
