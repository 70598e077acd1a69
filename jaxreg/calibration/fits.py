"""Post-hoc calibration of one network in one call: fitted on logits [N, K] and labels [N] of a validation split."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.calibration import posthoc, temperature
from jaxreg.calibration.plain import Arrays, checked
from jaxreg.calibration.temperature import Temperature

_temperature: Callable[..., Any] = jax.jit(temperature.fit)
_vector: Callable[..., Any] = jax.jit(posthoc.fit_vector)


def fit_temperature(logits_NK: Arrays, labels_N: Arrays) -> Temperature:
    """T in [0.01, 100] with the least NLL of z / T, its 95 % interval, and whether the search ended at its bracket.

    Fit it on a validation split; divide other logits by `.value`. T < 1: the network was under-confident.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return jax.tree.map(float, _temperature(*checked(logits_NK, labels_N)))


def fit_vector_scaling(logits_NK: Arrays, labels_N: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Scales a [K] and biases b [K] with the least NLL of a * z + b, pulled a little towards (1/T, 0).

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    narrow, labels = checked(logits_NK, labels_N)
    found = _vector(narrow, labels, jnp.ones(len(labels)), _temperature(narrow, labels).value)
    scale, bias = np.split(np.asarray(found), 2)
    return scale, bias
