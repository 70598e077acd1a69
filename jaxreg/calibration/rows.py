"""From one trial's device results to rows and arrays: names, suffixes, intervals, and what is computed on the host."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxreg.calibration import bins as binning
from jaxreg.calibration import human as people
from jaxreg.calibration import posthoc
from jaxreg.calibration.check import Split
from jaxreg.calibration.trial import UNCERTAIN, VARIANTS, Columns
from jaxreg.probe import Measured, Row

Tree = Any
SAME_AFTER_TEMPERATURE = ("accuracy", "brier_uncertainty")  # argmax and class frequencies do not move
_of_confidence = jax.jit(binning.of_confidence, static_argnums=3)


def measured(
    found: Tree, splits: Mapping[str, Split], trial: int, bins: int, human: Mapping[Any, np.ndarray] | None
) -> Measured:
    """Returns the rows and arrays of one trial on every split, from what `measure_trial` found."""
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    fitted_on = _columns(found, 0)
    validation = len(splits["validation"].labels)
    for place, (name, split) in enumerate(splits.items()):
        columns, n = _columns(found, place), len(split.labels)
        rows += _temperature(found, name, validation)
        rows += [row for variant in range(len(VARIANTS)) for row in _variant(found, place, variant, name, n)]
        mapped_N = posthoc.isotonic(
            fitted_on.confidence[0, :validation], fitted_on.correct[0, :validation], columns.confidence[0, :n]
        )
        rows += _of_map("_isotonic", name, mapped_N, columns.correct[0, :n], bins, columns.correct.shape[1])
        if human is not None:
            rows += _human(name, split, trial, float(found["temperature"].value), human, bins, columns)
        arrays |= {f"{name}/{key}": array for key, array in _arrays(columns, split, mapped_N).items()}
    return Measured(rows, arrays)


def _columns(found: Tree, place: int) -> Columns:
    """The per-example columns [V, N] of one split as NumPy arrays, with its padding."""
    return Columns(*(column[place].reshape(len(VARIANTS), -1) for column in found["columns"]))


def _temperature(found: Tree, split: str, validation: int) -> list[Row]:
    value, low, high, at_bracket = (float(number) for number in found["temperature"])
    interval = (None, None) if at_bracket else (low, high)
    rows = [Row(split, "temperature", value, validation, *interval)]
    return [*rows, Row(split, "temperature_at_bracket", at_bracket, validation)]


def _variant(found: Tree, place: int, variant: int, split: str, n: int) -> list[Row]:
    """Rows of every metric of one variant of the logits; the n of `mce` is the count of its bin."""
    values = {name: float(array[place, variant]) for name, array in found["values"].items()}
    counts = {"mce": round(values.pop("mce_count"))}
    intervals = (
        {name: [float(a[place, variant]) for a in ends] for name, ends in found["intervals"].items()}
        if variant < UNCERTAIN
        else {}
    )
    suffix = VARIANTS[variant]
    if "ece_floor" in intervals:
        values["ece_floor"], *intervals["ece_floor"] = intervals["ece_floor"]
    skip = SAME_AFTER_TEMPERATURE if suffix == "_ts" else ()
    return [
        Row(split, name + suffix, value, counts.get(name, n), *intervals.get(name, ()))
        for name, value in values.items()
        if name not in skip
    ]


def _of_map(
    suffix: str, split: str, confidence_N: np.ndarray, correct_N: np.ndarray, bins: int, size: int
) -> list[Row]:
    """Rows of the metrics of mapped confidences, padded to `size` so that all splits share one compiled function."""
    n = len(confidence_N)
    columns = (confidence_N, correct_N, np.ones(n))
    padded = (np.pad(np.asarray(column, np.float32), (0, size - n)) for column in columns)
    return [Row(split, name + suffix, float(value), n) for name, value in _of_confidence(*padded, bins).items()]


def _human(
    split_name: str,
    split: Split,
    trial: int,
    temperature: float,
    human: Mapping[Any, np.ndarray],
    bins: int,
    columns: Columns,
) -> list[Row]:
    """Rows against people's votes, before and after temperature; none where no example of the split has votes."""
    ids = np.asarray(split.ids)
    if not any(one in human for one in ids.tolist()):
        return []
    rows, n = [], len(ids)
    logits_NK = np.asarray(split.logits[trial], np.float32)
    human_NK = people.aligned(human, ids, logits_NK.shape[-1])
    for variant, (suffix, scale) in enumerate((("", 1.0), ("_ts", temperature))):
        found = people.agreement(logits_NK / scale, human_NK)
        vote_N = found.pop("human_vote")
        rows += [Row(split_name, name + suffix, float(np.mean(each_N)), n) for name, each_N in found.items()]
        rows += _of_map(
            "_human" + suffix, split_name, columns.confidence[variant, :n], vote_N, bins, columns.correct.shape[1]
        )
    return rows


def _arrays(columns: Columns, split: Split, isotonic_N: np.ndarray) -> dict[str, np.ndarray]:
    """Per-example arrays from which every number can be computed again."""
    n = len(split.labels)
    found = {"id": np.asarray(split.ids), "correct": columns.correct[0, :n] > 0, "confidence_isotonic": isotonic_N}
    for variant, suffix in enumerate(VARIANTS):
        for name in ("confidence", "nll", "brier"):
            found[name + suffix] = getattr(columns, name)[variant, :n]
    return found
