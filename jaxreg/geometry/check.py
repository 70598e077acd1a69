"""What must hold of the features, last layer and labels of one network: one clear error, naming the example."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg.geometry.examples import Head

Arrays = np.ndarray | Array


def check_network(
    features_ND: Arrays, kernel_DK: Arrays, bias_K: Arrays, labels_N: Arrays
) -> tuple[Array, Head, np.ndarray]:
    """Features, last layer and labels as the probe takes them, float32 and int32.

    Raises: ValueError: if shapes disagree, there is no example, a label is no class, or a number is not finite.
    """
    features, kernel, bias, labels = map(np.asarray, (features_ND, kernel_DK, bias_K, labels_N))
    _check_shapes(features, kernel, bias, labels)
    classes = len(bias)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes) | (labels != np.floor(labels)))
    if len(wrong):
        raise ValueError(
            f"example {wrong[0]}: label must be a class 0 to {classes - 1}, got {labels[wrong[0]]}: "
            "number the classes as the columns of the kernel."
        )
    return _finite("example", "feature", features), _head(kernel, bias), labels.astype(np.int32)


def _head(kernel: np.ndarray, bias: np.ndarray) -> Head:
    rows_KD, bias_K1 = _finite("class", "kernel", kernel.T), _finite("class", "bias", bias[:, None])
    return Head(rows_KD.T, bias_K1[:, 0])


def _check_shapes(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, labels: np.ndarray) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be [N, D], neither of them 0, got {features.shape}: give each example a row.")
    count, width = features.shape
    if kernel.ndim != 2 or len(kernel) != width or kernel.shape[1] < 2:
        rule = f"kernel must be [D, K] = ({width}, K) with at least 2 classes"
        raise ValueError(f"{rule}, got {kernel.shape}: is it transposed, as PyTorch keeps it?")
    if bias.shape != kernel.shape[1:]:
        raise ValueError(f"bias must be [K] = {kernel.shape[1:]}, got {bias.shape}: give zeros for a layer without.")
    if labels.shape != (count,):
        raise ValueError(f"labels must be [N] = ({count},), got {labels.shape}: give each example its class, a number.")


def _finite(place: str, what: str, given: np.ndarray) -> Array:
    """float32, after a look at each row: its squares must have a sum in float32, as they have one in every length."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = given.astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(np.einsum("ij,ij->i", narrow, narrow)))
    if len(wrong):
        row = given[wrong[0]]
        bad = row[~np.isfinite(row)] if not np.isfinite(row).all() else row[[np.abs(row).argmax()]]
        told = "is too large, its square is no float32" if np.isfinite(bad[0]) else "is not finite"
        raise ValueError(f"{place} {wrong[0]}: {what} {bad[0]} {told} ({len(wrong)} in all): did training diverge?")
    return jnp.asarray(narrow)
