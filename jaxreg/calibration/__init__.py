"""Calibration: metrics of arrays in one call, of many trials at once, and with all doubts as the probe of a study.

from jaxreg import calibration
calibration.ece(logits, labels)                                        a number, of arrays [N, K] and [N]
calibration.fit_temperature(validation_logits, validation_labels).value
calibration.evaluate(splits)                                           all numbers of all trials
calibration.measure(splits)                                            with intervals, floors, post-hoc calibration
"""

from jaxreg.calibration.check import Split
from jaxreg.calibration.plain import (
    accuracy,
    aurc,
    auroc,
    brier,
    confidence_gap,
    ece,
    ece_adaptive,
    ece_classwise,
    ece_debiased,
    fit_temperature,
    mce,
    nll,
    smece,
)
from jaxreg.calibration.probe import evaluate, measure

__all__ = [
    "Split",
    "accuracy",
    "aurc",
    "auroc",
    "brier",
    "confidence_gap",
    "ece",
    "ece_adaptive",
    "ece_classwise",
    "ece_debiased",
    "evaluate",
    "fit_temperature",
    "mce",
    "measure",
    "nll",
    "smece",
]
