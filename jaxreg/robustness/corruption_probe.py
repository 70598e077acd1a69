"""Accuracy under common corruptions for all trials of a program, and the logits for calibration under them."""

from typing import Any

import numpy as np

from jaxreg.measured import Measured, Row, share_row
from jaxreg.rng import Stream, key_of
from jaxreg.robustness import attacked_calibration, trial
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from jaxreg.robustness.trials import Bench, capacity, logits

Tree = Any


def measure(
    per_trial: trial.PerTrial,
    apply: trial.Apply,
    params: Tree,
    stats: Tree,
    images: np.ndarray,
    labels: np.ndarray,
    key_ids: np.ndarray,
    *,
    names: tuple[str, ...] = tuple(CORRUPTIONS),
    severities: tuple[int, ...] = tuple(range(1, SEVERITIES + 1)),
    seed: int = 0,
    split: str = "test",
    trials: int | None = None,
    chunk: int = 512,
) -> list[Measured]:
    """Corrupts images [N, H, W, C] in [0, 1] by every family and severity, the same for every trial.

    Returns: for each trial the rows corruption_accuracy/NAME/SEVERITY, corruption_METRIC/NAME/SEVERITY (calibration),
      the mean of each over families and severities (.../mean), and arrays corruption_logits/NAME/SEVERITY [N, K].
    Raises: ValueError: for an unknown family or severity.
    """
    forward = trial.logits_program(apply, per_trial)
    bench = Bench((params, stats), forward, {}, {}, capacity(len(images), chunk), seed, "linf")
    key, found = key_of(seed, Stream.CORRUPTION), {}
    for name in names:
        for severity in severities:
            x = np.asarray(corrupt(images, name, severity, key=key, ids=key_ids))
            found[f"{name}/{severity}"] = logits(bench, np.broadcast_to(x, (bench.trials, *x.shape)))
    stacked = np.stack(list(found.values()), axis=1)[: bench.trials if trials is None else trials]
    doubt = attacked_calibration.rows(stacked, labels, key_ids, "corruption", list(found), split, seed)
    return [_measured(dict(zip(found, z)), more, np.asarray(labels), split) for z, more in zip(stacked, doubt)]


def _measured(found: dict[str, np.ndarray], doubt: list[Row], labels: np.ndarray, split: str) -> Measured:
    total, right = len(labels), {name: ~wrong(z, labels) for name, z in found.items()}
    rows = [share_row(split, f"corruption_accuracy/{name}", mask) for name, mask in right.items()] + doubt
    arrays = {f"corruption_logits/{name}": z for name, z in found.items()}
    return Measured([*rows, *_means(rows, split, total)], arrays)


def _means(rows: list[Row], split: str, count: int) -> list[Row]:
    """Of every metric; the range of a noise floor as if noise moved all families and severities together: no less."""
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(row.metric.split("/")[0], []).append(row)

    def mean(metric: str, own: list[Row]) -> Row:
        fields = ("value", "low", "high") if metric.endswith("_floor") else ("value",)
        value, *ends = (float(np.mean([getattr(row, field) for row in own])) for field in fields)
        return Row(split, f"{metric}/mean", value, count, *ends)

    return [mean(metric, own) for metric, own in named.items()]
