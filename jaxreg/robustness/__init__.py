"""Attacks over any `logits_fn(x_BHWC) -> logits_BK`, x in [0, 1], and what they say about robustness.

Shape letters: B batch, K classes, H W C image, N examples, E radii, P passes (restarts x targets), T trials.
"""

from jaxreg.robustness.attack import ATTACKS, METHODS, Attack, Attacked, run_attack

__all__ = ["ATTACKS", "METHODS", "Attack", "Attacked", "run_attack"]
