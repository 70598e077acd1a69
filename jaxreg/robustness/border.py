"""What attacks are given, checked: errors in one line, with the cure. Traced values pass unseen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

ONE = 1e-2  # how far from 1 the sum of probabilities may be: bfloat16 has eight bits


def _traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def check_inputs(images: Array | np.ndarray, eps: Array | np.ndarray) -> None:
    """Raises ValueError for images outside [0, 1] or of too few bits, or a radius that is below 0 or no number."""
    if not _traced(eps) and not np.all(np.asarray(eps) >= 0):
        raise ValueError(f"eps must be 0 or more, got {np.min(np.asarray(eps))}.")
    if images.dtype not in (jnp.float32, jnp.float64):
        cure = "divide by 255 as float32" if jnp.issubdtype(images.dtype, jnp.integer) else "cast within the model"
        raise ValueError(f"images must be float32 (or float64), to hold a radius to 1e-6, got {images.dtype}: {cure}.")
    if _traced(images):
        return
    low, high = float(jnp.min(images)), float(jnp.max(images))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]: divide by 255, normalise in the model.")


def check_examples(images: Array | np.ndarray, labels: Array | np.ndarray, ids: Array | np.ndarray | None) -> None:
    """Raises ValueError unless there is an integer label, and an integer id if any, for each image [N, H, W, C]."""
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be [N, H, W, C] with at least one image, got the shape {images.shape}.")
    for name, values in {"labels": labels, "ids": ids}.items():
        if values is None:
            continue
        if np.shape(values) != (len(images),):
            raise ValueError(f"{name} must be one for each of {len(images)} images, got the shape {np.shape(values)}.")
        if not jnp.issubdtype(values.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}: cast them.")


def check_labels(labels: Array | np.ndarray, classes: int) -> None:
    """Raises ValueError for a label that no class has; one below 0 is left alone: such an example is not attacked."""
    if not _traced(labels) and int(jnp.max(labels)) >= classes:
        raise ValueError(f"labels must be below {classes}, the number of logits, got {int(jnp.max(labels))}.")


def check_logits(logits_NK: Array | np.ndarray) -> None:
    """Raises ValueError where the outputs are probabilities: rows that sum to 1 with no entry below 0."""
    if not _traced(logits_NK) and np.all(probabilities(logits_NK)):
        raise ValueError("logits_fn returns probabilities (rows sum to 1): return raw logits, before the softmax.")


def probabilities(logits_NK: Array | np.ndarray) -> np.ndarray:
    """Whether outputs [..., K] of two or more classes are no logits but sum to 1, also as bfloat16 rounds."""
    logits = np.asarray(logits_NK, np.float32)
    return (logits.shape[-1] > 1) & np.all(logits >= 0, axis=-1) & (np.abs(logits.sum(-1) - 1) < ONE)
