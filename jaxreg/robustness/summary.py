"""From masks and adversarial examples of all trials to the rows and arrays of one."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg.probe import Measured, Row
from jaxreg.robustness.balls import Norm
from jaxreg.robustness.intervals import Z, metric, radius_text, wilson


class Findings(NamedTuple):
    """What a suite found on all trials; `worst` is the per-example worst case of all attacks."""

    outcomes: Mapping[str, Any]
    worst: Any
    clean_TNK: np.ndarray
    attacked_TENK: np.ndarray
    min_eps_TN: np.ndarray | None


def sizes(delta: np.ndarray, norm: Norm, axes: int = 3) -> np.ndarray:
    """The norms of perturbations over their last `axes` axes, in float64."""
    flat = delta.astype(np.float64).reshape(*delta.shape[:-axes], -1)
    return np.abs(flat).max(-1) if norm == "linf" else np.sqrt((flat**2).sum(-1))


def carried(robust_TEN: np.ndarray, adversarial_TENHWC: np.ndarray) -> np.ndarray:
    """The adversary of an example's smallest fooling radius, at that radius and all larger ones."""
    own_E1 = np.arange(robust_TEN.shape[1])[:, None]
    first_T1N = np.argmax(~robust_TEN, axis=1)[:, None]
    from_TEN = np.where(robust_TEN, own_E1, np.maximum(first_T1N, 0))
    spread = (..., *(None,) * (adversarial_TENHWC.ndim - 3))
    return np.take_along_axis(adversarial_TENHWC, from_TEN[spread], axis=1)


def worst(outcomes: list[Any]) -> Any:
    """Robust only against all; the adversary of the first attack, in the suite's order, that fools."""
    robust_ATEN = np.stack([outcome.robust for outcome in outcomes])
    first_TEN = np.argmax(~robust_ATEN, axis=0)
    adversarial = outcomes[0].adversarial.copy()
    for a, outcome in enumerate(outcomes):
        adversarial[first_TEN == a] = outcome.adversarial[first_TEN == a]
    smallest = np.min([outcome.smallest for outcome in outcomes], axis=0)
    evaluations = sum(outcome.evaluations for outcome in outcomes)
    return outcomes[0]._replace(
        robust=np.all(robust_ATEN, axis=0), adversarial=adversarial, smallest=smallest, evaluations=evaluations
    )


def minimal_radii(found: Any, worst: Any, images: np.ndarray, broken: np.ndarray, norm: Norm) -> np.ndarray:
    """Minimal radius [T, N]: the nearest adversary of search and suite; 0 if misclassified, inf if none fooled."""
    searched = sizes(found.adversarial[:, 0] - images, norm)
    best = np.where(found.robust[:, 0], np.inf, searched)
    for e in range(worst.robust.shape[1]):
        best = np.minimum(best, np.where(worst.robust[:, e], np.inf, sizes(worst.adversarial[:, e] - images, norm)))
    return np.where(broken < 0, 0.0, best).astype(np.float32)


def measured(found: Findings, t: int, radii: np.ndarray, labels: np.ndarray, split: str, keep: str) -> Measured:
    """The rows and arrays of trial `t`."""
    del labels
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    for name, outcome in {**found.outcomes, "worst": found.worst}.items():
        for e, eps in enumerate(radii):
            rows.append(_share(split, metric(name, eps), outcome.robust[t, e]))
            arrays[f"robust/{name}/{radius_text(eps)}"] = outcome.robust[t, e]
            if name == "worst" or keep == "all":
                arrays[f"adversarial/{name}/{radius_text(eps)}"] = outcome.adversarial[t, e]
    for e, eps in enumerate(radii):
        arrays[f"adversarial_logits/worst/{radius_text(eps)}"] = found.attacked_TENK[t, e]
    if found.min_eps_TN is not None:
        arrays["min_eps"] = found.min_eps_TN[t]
        rows.extend(_median(split, found.min_eps_TN[t]))
    return Measured(rows, arrays)


def _share(split: str, name: str, mask_N: np.ndarray) -> Row:
    count, total = int(np.sum(mask_N)), len(mask_N)
    return Row(split, name, count / total, total, *wilson(count, total))


def _median(split: str, values_N: np.ndarray) -> list[Row]:
    """The median with the interval of its order statistics, free of any law; no row where it lies beyond the search."""
    ordered, count = np.sort(values_N), len(values_N)
    middle = float(np.median(ordered))
    if not math.isfinite(middle):
        return []
    half = Z * math.sqrt(count) / 2
    low, high = ordered[max(0, math.floor(count / 2 - half))], ordered[min(count - 1, math.ceil(count / 2 + half))]
    return [Row(split, "min_eps/median", middle, count, float(low), float(high) if math.isfinite(high) else None)]
