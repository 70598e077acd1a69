"""From the arrays of one trial to the rows of the results table."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxreg.geometry.interventions import share_closed
from jaxreg.geometry.scaling import FITTED, SCALES
from jaxreg.geometry.trial import EXAMPLES, KEPT
from jaxreg.measured import Measured, Row, mean_row, share_row

QUANTILES = (50, 95, 100)
MARGIN_NOISE = 0.01  # radians: a smaller gap has no share
CALIBRATION_NOISE = 0.002  # of ECE and NLL
# Metrics, by how they begin, that mean something where all features are zero.
PLAIN = (
    *("feature_", "weighted_norm", "logit_", "common_mode", "train_", "cone_by_construction", "classes", "width"),
    *("scaled_", "tempered_"),
)


def measured(trial: Mapping[str, Any], labels: Mapping[str, np.ndarray], floor_known: bool = True) -> Measured:
    """Rows and arrays of one trial from what `measure_trial` found.

    `train_loss` and `train_loss_floor` are nan unless the floor is known. Where all features of a split are zero, so is
    all of it that needs a direction; where those of train are, which gives centers and means, that of every split.
    """
    rows: list[Row] = []
    for split, arrays in trial["examples"].items():
        rows += example_rows(split, arrays, labels[split])
        rows.append(Row(split, "common_mode", float(trial["common_mode"][split]), len(labels[split])))
    once = {name: value for found in trial["scalars"] for name, value in found.items()}
    if not floor_known:
        once |= {"train_loss": math.nan, "train_loss_floor": math.nan}
    once |= dict(zip(("classes", "width"), np.shape(trial["vectors"]["center"])))
    rows += [Row(KEPT, name, float(value), len(labels[KEPT])) for name, value in once.items()]
    rows += scaling_rows(trial["scaling"], labels)
    dead = {split for split, arrays in trial["examples"].items() if not np.any(arrays["feature_norm"])}
    rows = [_undirected(row) if dead & {row.split, KEPT} else row for row in rows]
    vectors = {f"class/{name}": array for name, array in trial["vectors"].items()}
    return Measured(rows, _arrays(trial["examples"]) | vectors)


def _undirected(row: Row) -> Row:
    """The row of a split without any feature: nan unless its number asks for no direction."""
    return row if row.metric.startswith(PLAIN) else Row(row.split, row.metric, math.nan, row.n)


def scaling_rows(found: Mapping[str, Any], labels: Mapping[str, np.ndarray]) -> list[Row]:
    """`scaled_ece/S`, `tempered_ece/S` and so on for each scale S, then those of the best scale and of temperature."""
    rows = []
    for name, value in found.items():
        if np.ndim(value):
            full = name if name.startswith("tempered_") else f"scaled_{name}"
            rows += [Row("test", f"{full}/{s:.3g}", float(v), len(labels["test"])) for s, v in zip(SCALES, value)]
        else:
            split = "validation" if name.removesuffix("_at_bracket") in FITTED else "test"
            rows.append(Row(split, name, float(value), len(labels[split])))
    return rows


def with_random(own: Measured, found: Mapping[str, np.ndarray], ids_N: np.ndarray, split: str) -> Measured:
    """The same with ids, and what random features of equal lengths showed: quantiles, nan where all are zero."""
    alive = np.any(own.arrays[f"{split}/norm"])
    more = [row for name, values_N in found.items() for row in _quantile_rows(split, name, values_N)]
    more = more if alive else [_undirected(row) for row in more]
    arrays = {f"{split}/{name}": values_N for name, values_N in {**found, "id": ids_N}.items()}
    return Measured(own.rows + more, own.arrays | arrays)


def of_pair(
    split: str,
    interventions: tuple[Mapping[str, Any], Mapping[str, np.ndarray]],
    own: Mapping[str, Any],
    base: Mapping[str, Any],
) -> Measured:
    """What interventions on the baseline gave, and the share of each gap that they close (nan for a gap too small).

    All are nan where every feature of either trial is zero: such features have no norm to swap and no way to turn.
    """
    found, arrays = interventions
    count = len(own["examples"][split]["label_margin"])
    alive = all(np.any(trial["examples"][split]["feature_norm"]) for trial in (base, own))
    found = found if alive else dict.fromkeys(found, math.nan)
    rows = [Row(split, name, float(value), count) for name, value in found.items()]
    margins = [float(trial["examples"][split]["label_margin"].mean()) for trial in (base, own)]
    gaps = {"margin": (*margins, MARGIN_NOISE)}
    if own["scaling"]:
        one = SCALES.index(1.0)
        for name in ("ece", "nll"):
            gaps[name] = (float(base["scaling"][name][one]), float(own["scaling"][name][one]), CALIBRATION_NOISE)
    for name, (before, goal, noise) in gaps.items():
        for change in ("norm_swap", "turn"):
            share = share_closed(before, float(found[f"{change}_{name}"]), goal, noise)
            rows.append(Row(split, f"{change}_{name}_share", share, count))
    return Measured(rows, {f"{split}/{name}": array for name, array in arrays.items()})


def _arrays(examples: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    short = {"feature_norm": "norm"}
    return {f"{split}/{short.get(k, k)}": v for split, found in examples.items() for k, v in found.items()}


def example_rows(split: str, arrays: Mapping[str, np.ndarray], labels_N: Shaped[np.ndarray, " N"]) -> list[Row]:
    """The rows of every number of an example; lengths by class and by correctness."""
    rows = [row for name, one in EXAMPLES.items() for row in OF_EXAMPLES[one.rows](split, name, arrays[name])]
    rows.append(share_row(split, "unturnable_fraction", arrays["angular_margin"] >= math.pi))
    rows.append(Row(split, "feature_norm_sd", float(np.std(arrays["feature_norm"])), len(labels_N)))
    groups = {"correct": arrays["correct"], "wrong": ~arrays["correct"]}
    groups |= {f"class/{k}": labels_N == k for k in np.unique(labels_N)}
    for group, chosen in groups.items():
        rows.append(mean_row(split, f"feature_norm/{group}", arrays["feature_norm"][chosen]))
    return rows


def _quantile_rows(split: str, name: str, values_N: np.ndarray) -> list[Row]:
    return [Row(split, f"{name}/q{q}", float(np.percentile(values_N, q)), len(values_N)) for q in QUANTILES]


# Means and shares have a 95 % interval over examples.
OF_EXAMPLES: Mapping[str, Callable[[str, str, np.ndarray], list[Row]]] = {
    "mean": lambda *given: [mean_row(*given)],
    "share": lambda *given: [share_row(*given)],
    "quantiles": _quantile_rows,
    "none": lambda *given: [],
}
