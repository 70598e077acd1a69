"""From one trial's sums to rows and arrays: names, suffixes, intervals, and what is computed on the host."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxreg.calibration import bins as binning
from jaxreg.calibration import human as people
from jaxreg.calibration import metrics, posthoc, uncertainty
from jaxreg.calibration.check import Split
from jaxreg.calibration.temperature import Temperature
from jaxreg.calibration.trial import COLUMNS, VARIANTS, Found
from jaxreg.probe import Measured, Row

SAME_AFTER_TEMPERATURE = ("accuracy", "brier_uncertainty")  # argmax and class frequencies do not move
Human = Mapping[Any, np.ndarray]


def measured(
    found: tuple[Temperature, Found], splits: Mapping[str, Split], trial: int, bins: int, human: Human | None
) -> Measured:
    """Returns the rows and arrays of one trial on every split, from what `measure_trial` found (on the host)."""
    (temperature, sums), rows = found, list[Row]()
    arrays: dict[str, np.ndarray] = {}
    columns = {name: _columns(sums, place, len(split.labels)) for place, (name, split) in enumerate(splits.items())}
    fitted = columns["validation"]
    for place, (name, split) in enumerate(splits.items()):
        own = columns[name]
        rows += _temperature(temperature, name, len(fitted["correct"]))
        for variant, suffix in enumerate(VARIANTS):
            rows += _variant(_at(sums, place, variant), name, suffix, len(split.labels))
        own["confidence_isotonic"] = posthoc.isotonic(fitted["confidence"], fitted["correct"], own["confidence"])
        rows += _of_map("_isotonic", name, own["confidence_isotonic"], own["correct"], bins)
        if human is not None:
            rows += _human(name, split, trial, float(temperature.value), human, bins)
        arrays |= {f"{name}/{key}": array for key, array in own.items()} | {f"{name}/id": np.asarray(split.ids)}
    return Measured(rows, arrays)


def _at(found: Found, place: int, variant: int) -> Found:
    """One variant on one split; sums in float64."""
    return jax.tree.map(lambda array: np.asarray(array[place, variant], np.float64), found)


def _columns(found: Found, place: int, n: int) -> dict[str, np.ndarray]:
    """Per-example arrays [N] of one split, without padding, from which every number can be computed again."""
    arrays: dict[str, np.ndarray] = {}
    for variant, suffix in enumerate(VARIANTS):
        columns_4N = np.moveaxis(found.columns[place, variant], 1, 0).reshape(len(COLUMNS), -1)[:, :n]
        arrays |= {name + suffix: column_N for name, column_N in zip(COLUMNS, columns_4N)}
    del arrays["correct_ts"]  # a label is as right after temperature as before
    return {name: array > 0 if name.startswith("correct") else array for name, array in arrays.items()}


def _temperature(temperature: Temperature, split: str, n: int) -> list[Row]:
    value, low, high, at_bracket = (float(number) for number in temperature)
    interval = (None, None) if at_bracket else (low, high)
    return [Row(split, "temperature", value, n, *interval), Row(split, "temperature_at_bracket", at_bracket, n)]


def _variant(found: Found, split: str, suffix: str, n: int) -> list[Row]:
    """Rows of every metric of one variant of the logits; the n of `mce` is the count of its bin."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a replicate of few examples may hold none
        resampled = uncertainty.unpack(found.resampled)
        intervals = uncertainty.intervals(resampled)
    data = jax.tree.map(lambda sums_R: sums_R[0], resampled)
    sums = metrics.Sums(data.count, data.correct, data.confidence, data.nll, data.brier, data.bins, found.classes)
    values = metrics.summary(sums) | found.ranked | {"ece_adaptive": binning.ece(data.mass)}
    values["ece_floor"], low, high = uncertainty.floor(found.floor, data.bins)
    intervals["ece_floor"] = low, high
    counts = {"mce": round(float(binning.mce_count(data.bins)))}
    skip = SAME_AFTER_TEMPERATURE if suffix == "_ts" else ()
    return [
        Row(split, name + suffix, float(value), counts.get(name, n), *map(float, intervals.get(name, ())))
        for name, value in values.items()
        if name not in skip
    ]


def _of_map(suffix: str, split: str, confidence_N: np.ndarray, correct_N: np.ndarray, bins: int) -> list[Row]:
    """Rows of the metrics that need the confidence of the top label alone; `correct_N` may be a share of votes."""
    sums = binning.on_host(confidence_N, correct_N, bins)
    gap = float((sums.confidence - sums.correct).sum() / sums.count.sum())
    values: dict[str, Any] = {"ece": binning.ece(sums), "mce": binning.mce(sums), "confidence_gap": gap}
    return [Row(split, name + suffix, float(value), len(confidence_N)) for name, value in values.items()]


def _human(split_name: str, split: Split, trial: int, temperature: float, human: Human, bins: int) -> list[Row]:
    """Rows against people's votes, before and after temperature; none where no example of the split has votes."""
    if not any(one in human for one in np.asarray(split.ids).tolist()):
        return []
    logits_NK = np.asarray(split.logits[trial], np.float64)
    human_NK = people.aligned(human, np.asarray(split.ids), logits_NK.shape[-1])
    rows = []
    for suffix, scale in (("_human", 1.0), ("_human_ts", temperature)):
        each = people.agreement(logits_NK / scale, human_NK)
        for name in ("cross_entropy", "kl"):
            rows.append(Row(split_name, name + suffix, float(np.mean(each[name])), len(human_NK)))
        rows += _of_map(suffix, split_name, each["confidence"], each["vote"], bins)
    return rows
