"""The geometry probe's second half: where an attack moved the features, for all trials of a program."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import parallel
from jaxreg.calibration.metrics import predicted
from jaxreg.geometry import displacement
from jaxreg.geometry.check import check_finite, check_heads, check_labels
from jaxreg.geometry.examples import Head
from jaxreg.geometry.summary import mean_row
from jaxreg.probe import Measured


def measure_displacement(
    clean_TND: np.ndarray | Array,
    attacked_TND: np.ndarray | Array,
    labels_N: np.ndarray | Array,
    kernel_TDK: np.ndarray | Array,
    bias_TK: np.ndarray | Array,
    centers_TKD: np.ndarray | Array,
    *,
    differs_TN: np.ndarray | None = None,
    split: str = "test",
    mesh: Any = None,
) -> list[Measured]:
    """Measures the change of features [T, N, D] under attack, with one compiled program for all trials.

    Args:
      centers_TKD: of the classes, as `probe.measure` finds them.
      differs_TN: whether the attacked image is another one than the clean one; by default whether its features are.
      mesh: from `parallel.make_mesh`; by default all devices, trials side by side.
    Returns: for each trial rows of the means (with intervals) over the examples that are right without attack and whose
      adversary is another image: an attack leaves the others where they are. Among them `adversarial_radial_cosine` and
      the shares of `displacement.displacement`. Arrays [N] of all examples named SPLIT/METRIC, and which of them the
      means are over as SPLIT/adversarial_counted.
    Raises: ValueError: if shapes disagree, a label is no class, or a last layer is not finite.
    """
    if clean_TND.shape != attacked_TND.shape or clean_TND.ndim != 3:
        told = f"clean and attacked features must be [T, N, D] both, got {clean_TND.shape} and {attacked_TND.shape}"
        raise ValueError(f"{told}: attack the same examples.")
    heads = check_heads(kernel_TDK, bias_TK, clean_TND.shape[:1], clean_TND.shape[2])
    check_finite(heads)
    labels = check_labels(split, labels_N, clean_TND.shape[1], heads.bias_K.shape[1])
    expected = (len(clean_TND), heads.bias_K.shape[1], clean_TND.shape[2])
    if np.shape(centers_TKD) != expected:
        raise ValueError(f"centers must be [T, K, D] = {expected}, got {np.shape(centers_TKD)}.")
    mesh = parallel.make_mesh() if mesh is None else mesh
    moved = (jnp.asarray(clean_TND, jnp.float32), jnp.asarray(attacked_TND, jnp.float32))
    given = (*moved, heads, jnp.asarray(centers_TKD, jnp.float32))
    found = parallel.fetch(
        _program(mesh)(parallel.put_trials(given, mesh), parallel.put_shared(labels, mesh)), len(clean_TND)
    )
    if differs_TN is None:
        differs_TN = np.any(np.asarray(clean_TND) != np.asarray(attacked_TND), axis=-1)
    counted_TN = np.asarray(found.pop("right")) & differs_TN
    return [
        _measured({name: array[t] for name, array in found.items()}, counted_TN[t], split)
        for t in range(len(clean_TND))
    ]


def _measured(arrays: dict[str, np.ndarray], counted_N: np.ndarray, split: str) -> Measured:
    rows = [mean_row(split, name, array[counted_N]) for name, array in arrays.items()]
    arrays = arrays | {"adversarial_counted": counted_N}
    return Measured(rows, {f"{split}/{name}": array for name, array in arrays.items()})


@functools.lru_cache(maxsize=4)
def _program(mesh: Any) -> Any:
    return parallel.per_trial(_one_trial, mesh)


def _one_trial(trial: tuple[Array, Array, Head, Array], labels_N: Array) -> dict[str, Array]:
    clean_ND, attacked_ND, head, centers_KD = trial
    with jax.default_matmul_precision("highest"):
        right_N = predicted(clean_ND @ head.kernel_DK + head.bias_K) == labels_N
        return displacement.displacement(clean_ND, attacked_ND, labels_N, head, centers_KD) | {"right": right_N}
