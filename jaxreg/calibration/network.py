"""Calibration of one network in one call: logits [N, K] and labels [N] in, a number out, by the sums of the probe.

Logits may be any floats, also log-probabilities (their softmax is the probabilities) of probabilities above 0; as far
apart as float32 goes, differences beyond 1e16 count as 1e16. N examples and K classes of one call compile a program
once, and later calls of that shape are fast. For many networks, or with intervals and floors: `evaluate`, `measure`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from jaxreg.arithmetic import single
from jaxreg.calibration import bins as binning
from jaxreg.calibration import metrics, posthoc, selective, smooth_error, temperature
from jaxreg.calibration.bins import BINS
from jaxreg.calibration.ranking import ascend
from jaxreg.calibration.temperature import Temperature
from jaxreg.checks import Arrays, check_count, check_labels, checked_logits
from jaxreg.runtime.compiling import cheaply

_sums: Callable[..., Any] = cheaply(metrics.sums_of, static_argnums=3)
_each: Callable[..., Any] = cheaply(metrics.examples)


@single
def accuracy(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Share of examples whose largest logit is that of the label; of equal ones the first counts. In [0, 1]."""
    return _summary(logits_NK, labels_N)["accuracy"]


@single
def nll(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Mean of -log p of the label, in nats."""
    return _summary(logits_NK, labels_N)["nll"]


@single
def brier(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Mean of sum_k (p_k - y_k)^2, in [0, 2]: the sum over classes, twice the two-class score of scikit-learn."""
    return _summary(logits_NK, labels_N)["brier"]


@single
def brier_parts(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> dict[str, float]:
    """Brier = reliability - resolution + uncertainty + within, over bins of every class: by these four names.

    References: Murphy, 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.
    """
    names = ("reliability", "resolution", "uncertainty", "within")
    found = _summary(logits_NK, labels_N, bins)
    return {name: found[f"brier_{name}"] for name in names}


@single
def confidence_gap(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Mean confidence - accuracy, in [-1, 1]: above 0 over-confident."""
    return _summary(logits_NK, labels_N)["confidence_gap"]


@single
def ece(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> float:
    """Expected calibration error, sum_m n_m/N |acc_m - conf_m|, in [0, 1], over bins (l, u] of equal width.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return _summary(logits_NK, labels_N, bins)["ece"]


@single
def ece_adaptive(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> float:
    """ECE over bins that hold equally many examples; ties are shared in proportion, so their order means nothing.

    References: Nguyen and O'Connor, 2015, https://arxiv.org/abs/1508.05154.
    """
    check_count("bins", bins, 1)
    return float(_of_top(logits_NK, labels_N, _adaptive, bins))


@single
def ece_classwise(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> float:
    """Mean over classes of the ECE of p_k against 1[label = k]; every bin counts, also that of small p.

    References: Kull et al., 2019, https://arxiv.org/abs/1910.12656.
    """
    return _summary(logits_NK, labels_N, bins)["ece_classwise"]


@single
def ece_debiased(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> float:
    """L2 calibration error less what the noise of each bin adds to it; see `bins.debiased`.

    References: Kumar, Liang and Ma, 2019, https://arxiv.org/abs/1909.10155.
    """
    return _summary(logits_NK, labels_N, bins)["ece_debiased"]


@single
def mce(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"], bins: int = BINS) -> float:
    """Maximum calibration error: the largest |acc_m - conf_m| of a bin that is not empty, however few it holds."""
    return _summary(logits_NK, labels_N, bins)["mce"]


@single
def smece(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Smooth ECE: no bins, and a bandwidth chosen by the data.

    References: Blasiok and Nakkiran, 2023, https://arxiv.org/abs/2309.12236.
    """
    return float(_of_top(logits_NK, labels_N, smooth_error.smece))


@single
def aurc(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """Mean error rate among the n most confident, over all n: area under the risk-coverage curve, in [0, 1].

    References: Geifman, Uziel and El-Yaniv, 2019, https://arxiv.org/abs/1805.08206.
    """
    return float(_of_top(logits_NK, labels_N, selective.aurc))


@single
def auroc(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> float:
    """P(a correct prediction is more confident than a wrong one), ties half; NaN where all are right or all wrong."""
    return float(_of_top(logits_NK, labels_N, selective.auroc))


def _checked(logits_NK: Arrays, labels_N: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 logits and int32 labels. Raises ValueError: naming the first example that cannot be measured."""
    shape = np.shape(logits_NK)
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(f"logits must be [N, K] with at least 2 classes, got shape {shape}: give one a class.")
    labels = check_labels("", labels_N, shape[1], count=shape[0])
    return checked_logits("", logits_NK, shape), labels


def _summary(logits_NK: Arrays, labels_N: Arrays, bins: int = BINS) -> dict[str, float]:
    check_count("bins", bins, 1)
    sums = _sums(*_checked(logits_NK, labels_N), None, bins)
    wide = jax.tree.map(lambda array: np.asarray(array, np.float64), sums)
    return {name: float(value) for name, value in metrics.summary(wide).items()}


def _of_top(logits_NK: Arrays, labels_N: Arrays, metric: Callable[..., Any], *static: int) -> Any:
    each = _each(*_checked(logits_NK, labels_N))
    return _jitted(metric)(each.confidence, each.correct, jnp.ones_like(each.confidence), *static)


def _adaptive(confidence_N: Array, correct_N: Array, mask_N: Array, bins: int) -> Array:
    return binning.ece(binning.adaptive(ascend(confidence_N, correct_N, mask_N), bins))


@functools.cache
def _jitted(metric: Callable[..., Any]) -> Callable[..., Any]:
    return cheaply(metric, static_argnums=() if metric is not _adaptive else 3)


_temperature: Callable[..., Any] = cheaply(temperature.fit)
_vector: Callable[..., Any] = cheaply(posthoc.fit_vector)


@single
def fit_temperature(logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]) -> Temperature:
    """T in [0.01, 100] with the least NLL of z / T, its 95 % interval, and whether the search ended at its bracket.

    Fit it on a validation split; divide other logits by `.value`. T < 1: the network was under-confident.

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return jax.tree.map(float, _temperature(*_checked(logits_NK, labels_N)))


@single
def fit_vector_scaling(
    logits_NK: Shaped[Arrays, "N K"], labels_N: Shaped[Arrays, " N"]
) -> tuple[np.ndarray, np.ndarray]:
    """Scales a [K] and biases b [K] with the least NLL of a * z + b, pulled a little towards (1/T, 0).

    References: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    narrow, labels = _checked(logits_NK, labels_N)
    found = _vector(narrow, labels, jnp.ones(len(labels)), _temperature(narrow, labels).value)
    scale, bias = np.split(np.asarray(found), 2)
    return scale, bias
