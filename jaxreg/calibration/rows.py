"""From one trial's sums to rows and arrays: names, suffixes, intervals."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from jaxreg.calibration import bins as binning
from jaxreg.calibration import floors, human, metrics, uncertainty
from jaxreg.calibration.metrics import Sums
from jaxreg.calibration.temperature import Temperature
from jaxreg.calibration.trial import COLUMNS, VARIANTS, ColumnResults, LogitResults
from jaxreg.checks import Arrays
from jaxreg.measured import Measured, Row

SAME_AFTER_TEMPERATURE = ("accuracy", "brier_uncertainty")  # argmax and class frequencies do not move
ISOTONIC, HUMAN = "_isotonic", floors.OF_VOTES  # suffixes of maps of the confidence, behind the VARIANTS
OF_LABELS = ("accuracy", "nll", "brier")  # what the confidence of the top label does not tell, or not anew
Numbers = tuple[dict[str, Any], dict[str, tuple[Any, Any]]]  # values, and (low, high), by metric


def measured(
    of_logits: tuple[Temperature, LogitResults],
    columns_SV4N: Shaped[np.ndarray, "S V 4 N"],
    of_columns: ColumnResults,
    ids: Mapping[str, np.ndarray],
    asked: Mapping[str, human.Asked],
) -> Measured:
    """The rows and arrays of one trial, from what `trial.measure_logits` and, of `columns`, `measure_columns` returned.

    `ids` [N] by split, "validation" first; `asked`: of the splits that people saw.
    """
    (temperature, by_class), rows = of_logits, list[Row]()
    arrays: dict[str, np.ndarray] = {}
    for place, (name, ids_N) in enumerate(ids.items()):
        n = len(ids_N)
        rows += _temperature(temperature, name, len(ids["validation"]))
        for at, suffix in enumerate((*VARIANTS, ISOTONIC, *(HUMAN if name in asked else ()))):
            own = _float64(of_columns, place, at)
            sums = uncertainty.unpack(own.resampled)
            data = jax.tree.map(lambda sums_R: sums_R[0], sums)  # replicate 0
            if suffix in HUMAN:
                drawn = human.noise(columns_SV4N[place, at, 1, :n], asked[name], data.width.count.shape[-1])
                found = _of_votes(sums, drawn)
            else:
                found = _of_confidence(own, sums, data)
            if suffix in VARIANTS:
                found = _with_classes(found, data, _float64(by_class, place, at))
            rows += _rows(found, data, name, suffix, n)
        arrays |= {f"{name}/{key}": array for key, array in _arrays(columns_SV4N[place, ..., :n]).items()}
        arrays[f"{name}/id"] = ids_N
    return Measured(rows, arrays)


def _float64(tree: Any, place: int, variant: int) -> Any:
    """One variant on one split."""
    return jax.tree.map(lambda array: np.asarray(array[place, variant], np.float64), tree)


def _arrays(columns_V4N: np.ndarray) -> dict[str, np.ndarray]:
    """Per-example arrays [N] of one split, from which every number can be computed again."""
    arrays: dict[str, np.ndarray] = {}
    for suffix, columns_4N in zip(VARIANTS, columns_V4N):
        arrays |= dict(zip((name + suffix for name in COLUMNS), columns_4N))
    arrays["confidence" + ISOTONIC] = columns_V4N[len(VARIANTS), COLUMNS.index("confidence")]
    del arrays["correct_ts"]  # a label is as right after temperature as before
    return {name: array > 0 if name.startswith("correct") else array for name, array in arrays.items()}


def _temperature(temperature: Temperature, split: str, n: int) -> list[Row]:
    value, low, high, at_bracket = (float(number) for number in temperature)
    interval = (None, None) if at_bracket else (low, high)
    return [Row(split, "temperature", value, n, *interval), Row(split, "temperature_at_bracket", at_bracket, n)]


def _of_confidence(own: ColumnResults, sums: Sums, data: Sums) -> Numbers:
    """What confidence and correctness tell; the values of what is ranked come as they are, not as means."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a replicate of few examples may hold none
        values_R = metrics.summary(sums)
    values = {name: value_R[0] for name, value_R in values_R.items()} | own.ranked
    ends = uncertainty.intervals(values_R | {"smece": own.smece})
    return _with_floors(values, ends, floors.of_bins(own.floor, data) | {"smece": own.smece_floor})


def _with_classes(found: Numbers, data: Sums, by_class: LogitResults) -> Numbers:
    """Adds what the bins of every class tell."""
    values = metrics.summary(dataclasses.replace(data, classes=by_class.classes)) | found[0]
    ends = found[1] | uncertainty.intervals({"ece_classwise": by_class.classwise})
    return _with_floors(values, ends, {"ece_classwise": by_class.floor})


def _of_votes(sums: Sums, drawn: Mapping[str, Arrays]) -> Numbers:
    """Against people there are votes instead of labels; cross-entropy and KL stand in the columns of NLL and Brier."""
    every = metrics.summary(sums)
    kept = {name: every[name] for name in (*(name for name in every if name in drawn), "confidence_gap")}
    values_R = {"cross_entropy": every["nll"], "kl": every["brier"], **kept}
    values = {name: value_R[0] for name, value_R in values_R.items()}
    return _with_floors(values, uncertainty.intervals(values_R), drawn)


def _with_floors(values: dict[str, Any], ends: dict[str, tuple[Any, Any]], drawn: Mapping[str, Arrays]) -> Numbers:
    """Adds the noise floors of errors, from their values [R] in draws of a perfectly calibrated model."""
    summaries = {f"{name}_floor": floors.summary(drawn_R) for name, drawn_R in drawn.items()}
    means = {name: mean for name, (mean, _) in summaries.items()}
    return values | means, ends | {name: pair for name, (_, pair) in summaries.items()}


def _rows(found: Numbers, data: Sums, split: str, suffix: str, n: int) -> list[Row]:
    """Rows in the order of values; the n of `mce` is the count of its bin; what is not defined has no interval."""
    skipped = {"_ts": SAME_AFTER_TEMPERATURE, ISOTONIC: OF_LABELS}.get(suffix, ())
    counts = {"mce": round(float(binning.mce_count(data.width)))}
    return [
        Row(split, name + suffix, float(value), counts.get(name, n), *_interval(value, found[1].get(name, ())))
        for name, value in found[0].items()
        if name not in skipped
    ]


def _interval(value: Any, ends: tuple[Any, ...]) -> tuple[float, ...]:
    return tuple(map(float, ends)) if np.isfinite(value) else ()
