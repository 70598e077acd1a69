"""From one trial's sums to rows and arrays: names, suffixes, intervals, and what is computed on the host."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxreg.calibration import bins as binning
from jaxreg.calibration import floors, metrics, posthoc, uncertainty
from jaxreg.calibration import human as people
from jaxreg.calibration.confidences import Numbers
from jaxreg.calibration.temperature import Temperature
from jaxreg.calibration.trial import COLUMNS, VARIANTS, Found
from jaxreg.calibration.uncertainty import Resampled
from jaxreg.checks import Split
from jaxreg.measured import Measured, Row

SAME_AFTER_TEMPERATURE = ("accuracy", "brier_uncertainty")  # argmax and class frequencies do not move
ISOTONIC, HUMAN = "_isotonic", ("_human", "_human_ts")  # suffixes of maps of the confidence, behind the VARIANTS
OF_CONFIDENCE = ("confidence", "confidence_gap", "ece", "ece_debiased", "ece_adaptive", "mce", "aurc", "auroc")
Metric = tuple[Callable[[Resampled], Any], float, float]
# Against people there are votes instead of labels, and cross-entropy and KL stand in the columns of NLL and Brier.
AGAINST_PEOPLE: dict[str, Metric] = {
    "cross_entropy": uncertainty.INTERVALS["nll"],
    "kl": (lambda sums: sums.brier / sums.count, 0.0, np.inf),
    **{name: uncertainty.INTERVALS[name] for name in ("ece", "mce", "confidence_gap")},
}


def columns(
    found: tuple[Temperature, Found], splits: Mapping[str, Split], trial: int, human: people.Votes | None
) -> np.ndarray:
    """Returns the columns [S, V, 4, C, B] of one trial's variants, and behind them those of isotonic regression and,
    with `human`, of the votes of people before and after temperature; 0 where a split has no votes.
    """
    known = np.asarray(found[1].columns)  # [S, V, 4, C, B]
    fitted = known[0, 0].reshape(len(COLUMNS), -1)[:, : len(splits["validation"].labels)]
    maps = []
    for own, split in zip(known[:, 0], splits.values()):
        correct_CB, confidence_CB = own[:2]
        mapped = posthoc.isotonic(fitted[1], fitted[0], confidence_CB.ravel()).reshape(confidence_CB.shape)
        nothing = np.zeros_like(mapped)
        votes = [] if human is None else _votes(split, trial, float(found[0].value), human, mapped.shape)
        maps.append(np.stack([np.stack([correct_CB, mapped, nothing, nothing]), *votes]))
    return np.concatenate([known, np.stack(maps).astype(known.dtype)], 1)


def _votes(
    split: Split, trial: int, temperature: float, human: people.Votes, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """The columns [4, C, B] against people, before and after temperature."""
    if not people.has_votes(human, split):
        return [np.zeros((len(COLUMNS), *shape))] * len(HUMAN)
    logits_NK = np.asarray(split.logits[trial], np.float64)
    votes_NK = people.aligned(human, np.asarray(split.ids), logits_NK.shape[-1])
    human_NK = votes_NK / votes_NK.sum(1, keepdims=True)
    each = [people.agreement(logits_NK / scale, human_NK) for scale in (1.0, temperature)]
    stacked = [np.stack([one[name] for name in ("vote", "confidence", "cross_entropy", "kl")]) for one in each]
    missing = int(np.prod(shape)) - len(human_NK)
    return [np.pad(one, [(0, 0), (0, missing)]).reshape(-1, *shape) for one in stacked]


def measured(
    found: tuple[Temperature, Found],
    seen: np.ndarray,
    numbers: Numbers,
    splits: Mapping[str, Split],
    asked: Mapping[str, people.Asked],
) -> Measured:
    """Returns the rows and arrays of one trial: `found` by `trial`, `seen` by `columns`, `numbers` by `confidences`.

    `asked`: of the splits that people saw.
    """
    (temperature, sums), rows = found, list[Row]()
    arrays: dict[str, np.ndarray] = {}
    for place, (name, split) in enumerate(splits.items()):
        n = len(split.labels)
        rows += _temperature(temperature, name, len(splits["validation"].labels))
        for variant, suffix in enumerate(VARIANTS):
            rows += _variant(_at(sums, place, variant), _at(numbers, place, variant), name, suffix, n)
        rows += _of_confidence(_at(numbers, place, len(VARIANTS)), name, ISOTONIC, n)
        for at, suffix in enumerate(HUMAN if name in asked else ()):
            variant = len(VARIANTS) + 1 + at
            confidence_N = seen[place, variant, COLUMNS.index("confidence")].ravel()[:n]
            floor = people.noise(confidence_N, asked[name], sums.classes.count.shape[-1])
            rows += _against_people(_at(numbers, place, variant), floor, name, suffix, n)
        arrays |= {f"{name}/{key}": array for key, array in _arrays(seen[place], n).items()}
        arrays[f"{name}/id"] = np.asarray(split.ids)
    return Measured(rows, arrays)


def _at(tree: Any, place: int, variant: int) -> Any:
    """One variant on one split; sums in float64."""
    return jax.tree.map(lambda array: np.asarray(array[place, variant], np.float64), tree)


def _arrays(seen: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Per-example arrays [N] of one split, without padding, from which every number can be computed again."""
    arrays: dict[str, np.ndarray] = {}
    for variant, suffix in enumerate(VARIANTS):
        arrays |= dict(zip((name + suffix for name in COLUMNS), seen[variant].reshape(len(COLUMNS), -1)[:, :n]))
    arrays["confidence" + ISOTONIC] = seen[len(VARIANTS), COLUMNS.index("confidence")].ravel()[:n]
    del arrays["correct_ts"]  # a label is as right after temperature as before
    return {name: array > 0 if name.startswith("correct") else array for name, array in arrays.items()}


def _temperature(temperature: Temperature, split: str, n: int) -> list[Row]:
    value, low, high, at_bracket = (float(number) for number in temperature)
    interval = (None, None) if at_bracket else (low, high)
    return [Row(split, "temperature", value, n, *interval), Row(split, "temperature_at_bracket", at_bracket, n)]


def _variant(found: Found, numbers: Numbers, split: str, suffix: str, n: int) -> list[Row]:
    """Rows of every metric of one variant of the logits."""
    values, intervals = _numbers(numbers)
    data = _data(numbers)
    every = (data.count, data.correct, data.confidence, data.nll, data.brier)
    values |= metrics.summary(metrics.Sums(*every, data.bins, found.classes))
    intervals["ece_classwise"] = uncertainty.interval(found.classwise)
    values["ece_classwise_floor"], intervals["ece_classwise_floor"] = floors.summary(found.floor)
    skip = SAME_AFTER_TEMPERATURE if suffix == "_ts" else ()
    values = {name: value for name, value in values.items() if name not in skip}
    return _rows(values, intervals, numbers, split, suffix, n)


def _of_confidence(numbers: Numbers, split: str, suffix: str, n: int) -> list[Row]:
    """Rows of the metrics that need the confidence of the top label alone."""
    values, intervals = _numbers(numbers)
    shown = (*OF_CONFIDENCE, "smece", *(name for name in values if name.endswith("_floor")))
    return _rows({name: values[name] for name in shown}, intervals, numbers, split, suffix, n)


def _against_people(numbers: Numbers, floor: Mapping[str, np.ndarray], split: str, suffix: str, n: int) -> list[Row]:
    """Rows against votes, and the noise floors of as many people, whose errors [R] are given by metric."""
    sums, data = uncertainty.unpack(numbers.resampled), _data(numbers)
    values = {name: metric(data) for name, (metric, *_) in AGAINST_PEOPLE.items()}
    intervals: dict[str, tuple[Any, Any]] = {
        name: uncertainty.interval(metric(sums), *limits) for name, (metric, *limits) in AGAINST_PEOPLE.items()
    }
    for name, drawn_R in floor.items():
        values[f"{name}_floor"], intervals[f"{name}_floor"] = floors.summary(drawn_R)
    return _rows(values, intervals, numbers, split, suffix, n)


def _numbers(numbers: Numbers) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Values and intervals of what confidence and correctness tell."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a replicate of few examples may hold none
        intervals = uncertainty.intervals(uncertainty.unpack(numbers.resampled))
    data = _data(numbers)
    values = {name: uncertainty.INTERVALS[name][0](data) for name in OF_CONFIDENCE} | numbers.ranked
    intervals["smece"] = uncertainty.interval(numbers.smece)
    drawn = floors.of_bins(numbers.floor, data) | {"smece": numbers.smece_floor}
    ends = {f"{name}_floor": floors.summary(drawn_R) for name, drawn_R in drawn.items()}
    values |= {name: mean for name, (mean, _) in ends.items()}
    return values, intervals | {name: pair for name, (_, pair) in ends.items()}


def _data(numbers: Numbers) -> Resampled:
    """The sums of the data themselves: replicate 0."""
    return jax.tree.map(lambda sums_R: sums_R[0], uncertainty.unpack(numbers.resampled))


def _rows(
    values: Mapping[str, Any],
    intervals: Mapping[str, Any],
    numbers: Numbers,
    split: str,
    suffix: str,
    n: int,
) -> list[Row]:
    """Rows in the order of `values`; the n of `mce` is the count of its bin; what is not defined has no interval."""
    counts = {"mce": round(float(binning.mce_count(_data(numbers).bins)))}
    ends = {name: tuple(map(float, pair)) for name, pair in intervals.items() if np.isfinite(values.get(name, np.nan))}
    return [
        Row(split, name + suffix, float(value), counts.get(name, n), *ends.get(name, ()))
        for name, value in values.items()
    ]
