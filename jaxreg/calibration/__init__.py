"""Calibration: metrics of arrays in one call, of many trials at once, and with all doubts as the probe of a study.

from jaxreg import calibration
calibration.ece(logits, labels)                                        a number, of arrays [N, K] and [N]
calibration.fit_temperature(validation_logits, validation_labels).value
calibration.evaluate(splits)                                           all numbers of all trials
calibration.measure(splits)                                            with intervals, floors, post-hoc calibration

`splits` is {"validation": Logits(logits, labels), "test": Logits(logits, labels)}, logits [N, K] of one network or
[T, N, K] of T. Pictures: `jaxreg.calibration.figures`.
"""

from jaxreg.calibration.network import (
    accuracy,
    aurc,
    auroc,
    brier,
    brier_parts,
    confidence_gap,
    ece,
    ece_adaptive,
    ece_classwise,
    ece_debiased,
    fit_temperature,
    fit_vector_scaling,
    mce,
    nll,
    smece,
)
from jaxreg.calibration.posthoc import isotonic
from jaxreg.calibration.probe import Logits, evaluate, measure

__all__ = [
    "Logits",
    "accuracy",
    "aurc",
    "auroc",
    "brier",
    "brier_parts",
    "confidence_gap",
    "ece",
    "ece_adaptive",
    "ece_classwise",
    "ece_debiased",
    "evaluate",
    "fit_temperature",
    "fit_vector_scaling",
    "isotonic",
    "mce",
    "measure",
    "nll",
    "smece",
]
