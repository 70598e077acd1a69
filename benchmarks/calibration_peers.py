"""What benchmarks/calibration.py compares jaxreg with: the same numbers of one trial by NumPy and packages.

Each function takes logits [N, K] and labels [N] and returns numbers by the names of jaxreg, as far as its packages know
them. relplot is that of the authors of smECE; without it smECE is left out.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import sklearn.metrics
from sklearn.isotonic import IsotonicRegression

BINS = 15
FLOOR_DRAWS = 50  # of smECE, as jaxreg takes
Arrays = Mapping[str, np.ndarray]


# --- NumPy, SciPy, scikit-learn, relplot ------------------------------------------------------------------------------
def place(p: np.ndarray) -> np.ndarray:
    """The right-closed bin of each probability."""
    return np.clip(np.ceil(p * np.float32(BINS)).astype(int) - 1, 0, BINS - 1)


def numpy_examples(z: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of each example: p [N, K], and confidence, correct, nll and brier [N]."""
    p = scipy.special.softmax(z, -1)
    target = np.eye(z.shape[1], dtype=np.float32)[y]
    nll = scipy.special.logsumexp(z, -1) - z[np.arange(len(y)), y]
    each = {"confidence": p.max(-1), "correct": p.argmax(-1) == y, "nll": nll, "brier": ((p - target) ** 2).sum(-1)}
    return {"p": p, **each}


def numpy_top(each: Arrays, smooth: bool = True) -> dict[str, float]:
    """The numbers that are means over examples, or need confidence and correctness alone: a bootstrap has these."""
    confidence, correct = each["confidence"], each["correct"].astype(float)
    risk = np.cumsum(1 - correct[np.argsort(-confidence, kind="stable")]) / np.arange(1, len(correct) + 1)
    means = {name: array.mean(dtype=float) for name, array in each.items() if name in ("confidence", "nll", "brier")}
    return {
        **means,
        "accuracy": correct.mean(),
        "confidence_gap": means["confidence"] - correct.mean(),
        "aurc": risk.mean(),
        "auroc": sklearn.metrics.roc_auc_score(correct, confidence),
        **numpy_errors(confidence, correct, smooth),
    }


def numpy_errors(confidence: np.ndarray, correct: np.ndarray, smooth: bool = True) -> dict[str, float]:
    """The calibration errors of the top label, those that have a noise floor."""
    at, n = place(confidence), len(correct)
    count, right = np.bincount(at, minlength=BINS), np.bincount(at, correct, BINS)
    gap, rate = (np.bincount(at, confidence, BINS) - right) / np.maximum(count, 1), right / np.maximum(count, 1)
    square = np.where(count > 1, gap**2 - rate * (1 - rate) / np.maximum(count - 1, 1), 0)
    parts = np.array_split(np.argsort(confidence, kind="stable"), BINS)
    found = {
        "ece": count @ np.abs(gap) / n,
        "ece_debiased": np.sqrt(max(count @ square / n, 0)),
        "ece_adaptive": sum(abs(confidence[i].sum(dtype=float) - correct[i].sum()) for i in parts) / n,
        "mce": np.abs(gap).max(),
    }
    return found | (relplot_numbers(confidence, correct) if smooth else {})


def relplot_numbers(confidence: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """The smooth ECE of its authors; nothing where it is not installed."""
    if importlib.util.find_spec("relplot") is None:
        return {}
    import relplot

    return {"smece": relplot.smECE(confidence, correct)}


def numpy_classes(p: np.ndarray, y: np.ndarray, brier: float) -> dict[str, float]:
    """Classwise ECE, and Brier in its parts."""
    n, classes = p.shape
    cell = (place(p) + BINS * np.arange(classes)).ravel()
    hit = cell.reshape(p.shape)[np.arange(n), y]
    count, total = (np.bincount(cell, weights, classes * BINS) for weights in (None, p.ravel()))
    right = np.bincount(hit, minlength=classes * BINS)
    share = np.where(count > 0, right / np.maximum(count, 1), 0).reshape(classes, BINS)
    base, weight = right.reshape(classes, BINS).sum(1, keepdims=True) / n, count.reshape(classes, BINS) / n
    reliability = (weight.ravel() * ((total - right) / np.maximum(count, 1)) ** 2).sum()
    resolution, uncertainty = (weight * (share - base) ** 2).sum(), (base * (1 - base)).sum()
    parts = {"reliability": reliability, "resolution": resolution, "uncertainty": uncertainty}
    parts["within"] = brier - (reliability - resolution + uncertainty)
    found = {f"brier_{name}": value for name, value in parts.items()}
    return {"ece_classwise": np.abs(total - right).sum() / n / classes, **found}


def numpy_numbers(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Every number of one network, in NumPy."""
    each = numpy_examples(z, y)
    top = numpy_top(each)
    return top | numpy_classes(each["p"], y, top["brier"])


def numpy_fit(z: np.ndarray, y: np.ndarray) -> float:
    """The temperature."""

    def nll(log_t: float) -> float:
        scaled = z / np.exp(log_t, dtype=np.float32)
        return (scipy.special.logsumexp(scaled, -1) - scaled[np.arange(len(y)), y]).mean(dtype=float)

    return float(np.exp(scipy.optimize.minimize_scalar(nll, bounds=(-4.6, 4.6), method="bounded").x))


# --- with intervals and floors ----------------------------------------------------------------------------------------
def numpy_doubt(each: Arrays, replicates: int, random: np.random.Generator) -> dict[str, float]:
    """`numpy_top`, the widths of its 95 % intervals, each example drawn anew, and the means of the noise floors."""
    n = len(each["correct"])
    top = {name: array for name, array in each.items() if name != "p"}
    numbers = numpy_top(top)
    drawn = [numpy_top({k: a[i] for k, a in top.items()}) for i in random.integers(0, n, (replicates, n))]
    noise = [
        numpy_errors(top["confidence"], (random.random(n) < top["confidence"]).astype(float), at < FLOOR_DRAWS)
        for at in range(replicates)
    ]
    least = dict.fromkeys(numbers, 0.0) | {"confidence_gap": -1.0}
    widths = {f"{name}_width": width(of(drawn, name), value, least[name]) for name, value in numbers.items()}
    return numbers | widths | {f"{name}_floor": float(np.mean(of(noise, name))) for name in noise[0]}


def width(values: list[float], estimate: float, least: float) -> float:
    """Of the percentiles, moved so that their median is the estimate, without what lies below `least`."""
    low, middle, high = np.percentile(values, [2.5, 50, 97.5])
    return float(high - middle + min(middle - low, estimate - least))


def of(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """One number of every trial that has it."""
    return [row[name] for row in rows if name in row]


def numpy_whole(logits: Arrays, labels: Arrays, replicates: int) -> dict[str, float]:
    """All numbers of one trial on all splits, by "split/name": raw, after temperature, vector scaling and isotonic."""
    fitted = logits["validation"], labels["validation"]
    t, random, found = numpy_fit(*fitted), np.random.default_rng(0), dict[str, float]()
    known = numpy_examples(*fitted)
    vector, isotonic = numpy_vector(*fitted, t), IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    isotonic.fit(known["confidence"], known["correct"])
    scale, bias = np.split(vector.astype(np.float32), 2)
    for split, z in logits.items():
        for end, scaled in {"": z, "_ts": z / np.float32(t), "_vector_scaling": z * scale + bias}.items():
            each, y = numpy_examples(scaled, labels[split]), labels[split]
            numbers = numpy_doubt(each, replicates, random)
            numbers |= numpy_classes(each["p"], y, numbers["brier"])
            found |= {f"{split}/{name}{end}": value for name, value in numbers.items()}
        each = numpy_examples(z, labels[split])
        mapped = {"confidence": isotonic.predict(each["confidence"]), "correct": each["correct"]}
        numbers = numpy_doubt(mapped, replicates, random)
        found |= {f"{split}/{name}_isotonic": value for name, value in numbers.items()}
    return found | {"validation/temperature": t}


def numpy_vector(z: np.ndarray, y: np.ndarray, t: float, ridge: float = 1e-3) -> np.ndarray:
    """Vector scaling: scales and biases [2K] of least NLL, L-BFGS from the temperature."""
    target, start = np.eye(z.shape[1])[y], np.concatenate([np.full(z.shape[1], 1 / t), np.zeros(z.shape[1])])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.split(parameters, 2)
        log_p = scipy.special.log_softmax(z * scale + bias, -1)
        slope = (np.exp(log_p) - target) / len(y)
        apart = parameters - start
        gradient = np.concatenate([(slope * z).sum(0), slope.sum(0)]) + ridge * apart
        return -log_p[np.arange(len(y)), y].mean() + ridge / 2 * apart @ apart, gradient

    return scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x


# --- torchmetrics and netcal ------------------------------------------------------------------------------------------
def torchmetrics_numbers(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What torchmetrics computes of the same."""
    import torch
    from torchmetrics.functional import classification

    logits, labels, classes = torch.from_numpy(z), torch.from_numpy(y).long(), z.shape[1]
    p = torch.softmax(logits, -1)

    def error(norm: str) -> Any:
        return classification.multiclass_calibration_error(p, labels, classes, BINS, norm, validate_args=False)

    return {
        "accuracy": classification.multiclass_accuracy(p, labels, classes, average="micro", validate_args=False),
        "nll": torch.nn.functional.cross_entropy(logits, labels),
        "ece": error("l1"),
        "mce": error("max"),
    }


def torch_fit(z: np.ndarray, y: np.ndarray) -> float:
    """The temperature by LBFGS in log T: it diverges or goes negative in T itself."""
    import torch

    logits, labels, log_t = torch.from_numpy(z), torch.from_numpy(y).long(), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=1.0, max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / log_t.exp(), labels)
        value.backward()
        return value

    optimizer.step(loss)
    return float(log_t.detach().exp())


def netcal_numbers(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What netcal computes of the same."""
    from netcal.metrics import ECE, MCE

    p = scipy.special.softmax(z, -1)
    confidence, correct = p.max(-1), (p.argmax(-1) == y).astype(float)
    return {"ece": ECE(BINS).measure(confidence, correct), "mce": MCE(BINS).measure(confidence, correct)}
