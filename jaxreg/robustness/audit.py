"""Does every mask hold? Radius, box and prediction of stored adversarial examples, looked at afresh."""

from typing import NamedTuple

import numpy as np

from jaxreg.robustness.balls import Norm

SLACK = 1e-6  # of a radius, for rounding in float32
TIE = 1e-3  # of the largest logit: a margin that another shape of the batch may turn by rounding (TF32 has ten bits)


class Audit(NamedTuple):
    """`excess`: the most by which a perturbation leaves its ball; `outside`: by which a pixel leaves [0, 1];
    `mismatches`: the share of examples whose mask a fresh forward pass contradicts, other than in a tie.
    """

    excess: float
    outside: float
    mismatches: float

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.excess <= SLACK and self.outside <= 0 and self.mismatches == 0


def sizes(delta: np.ndarray, norm: Norm, axes: int = 3) -> np.ndarray:
    """The norms of perturbations over their last `axes` axes, in float64."""
    flat = delta.astype(np.float64).reshape(*delta.shape[:-axes], -1)
    return np.abs(flat).max(-1) if norm == "linf" else np.sqrt((flat**2).sum(-1))


def wrong(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the prediction is wrong, or no number: the shape of the logits without its last axis."""
    logits = np.asarray(logits)
    return (np.argmax(logits, axis=-1) != np.asarray(labels)) | ~np.all(np.isfinite(logits), axis=-1)


def decided(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether rounding cannot turn right into wrong: |z_y - max over j != y of z_j| > TIE max |z|, or no number."""
    logits = np.asarray(logits, np.float64)
    is_label = np.arange(logits.shape[-1]) == np.asarray(labels)[..., None]
    margin = np.where(is_label, logits, 0).sum(-1) - np.where(is_label, -np.inf, logits).max(-1)
    return ~(np.abs(margin) <= TIE * np.abs(logits).max(-1))


def audit(
    images: np.ndarray,
    adversarial: np.ndarray,
    logits: np.ndarray,
    robust: np.ndarray,
    labels: np.ndarray,
    eps: np.ndarray | float,
    norm: Norm,
) -> Audit:
    """Checks adversarial examples [..., N, H, W, C] of radius `eps` against images [N, H, W, C] and masks [..., N].

    `logits` [..., N, K] come from a forward pass over the stored examples. A robust example must be right there, too:
    what is stored for it is the last point that was looked at.
    """
    excess = float(np.max(sizes(adversarial - images, norm) - eps, initial=-np.inf))
    outside = float(max(np.max(-adversarial, initial=-np.inf), np.max(adversarial - 1, initial=-np.inf)))
    contradicted = (wrong(logits, labels) == robust) & decided(logits, labels)
    return Audit(max(0.0, excess), max(0.0, outside), float(np.mean(contradicted)))
