"""The set `probe` of benchmarks/geometry.py: all that the geometry probe says of a trial, by NumPy/SciPy and PyTorch.

A peer has two functions: `probe` finds the parts of one trial, `pair` what interventions do to its baseline; `numbers`
makes of both what `jaxreg.geometry.measure` returns, by its names: rows SPLIT/METRIC, each with its interval, and
arrays SPLIT/METRIC[]. Both peers are written as their users would, in whole arrays, of the parts in geometry_peers.py.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import geometry_peers as peers
import numpy as np
import scipy.optimize
import scipy.special

SCALES = 2.0 ** np.arange(-3, 3.5, 0.5)
BRACKET = (-math.log(100), math.log(100))  # of log s
FITTED = ("best_scale", "inverse_temperature", "best_scale_at_bracket", "inverse_temperature_at_bracket")
EDGES = np.arange(1, 15, dtype=np.float32) / np.float32(15)  # of right-closed bins of confidence
Numbers = dict[str, Any]


class Trial(NamedTuple):
    """Features [N, D] and labels [N] by split (train, validation, test), kernel [D, K], bias [K], label smoothing."""

    splits: Mapping[str, tuple[Any, Any]]
    kernel: Any
    bias: Any
    smoothing: float


class Found(NamedTuple):
    """Of one trial: arrays [N] by split, common mode by split, numbers of train, of scaling, and class vectors."""

    examples: dict[str, Numbers]
    common_mode: Numbers
    once: Numbers
    scaling: Numbers
    vectors: Numbers


# --- NumPy and SciPy --------------------------------------------------------------------------------------------------
def numpy_probe(trial: Trial) -> Found:
    """All of one trial but its interventions."""
    splits, kernel, bias, _ = trial
    vectors, about = numpy_vectors(trial)
    once = {
        **about,
        **peers.numpy_collapse(*splits["train"], kernel, bias, vectors["mean"]),
        **numpy_regime(trial),
        "cone_by_construction": np.ptp(bias) == 0,
        "classes": len(bias),
        "width": len(kernel),
    }
    return Found(
        {name: numpy_split(*split, kernel, bias, vectors) for name, split in splits.items()},
        {name: (x.mean(0) ** 2).sum() / (x**2).sum(1).mean() for name, (x, _) in splits.items()},
        once,
        numpy_scaling(splits["validation"], splits["test"], kernel, bias),
        vectors,
    )


def numpy_vectors(trial: Trial) -> tuple[Numbers, Numbers]:
    """The class vectors, and how exact they are and agree. Centers in float64, a class at a time."""
    (features, labels), kernel, bias = trial.splits["train"], trial.kernel, trial.bias
    classes, radius = range(len(bias)), np.linalg.norm(features, axis=1).mean()
    free = np.stack([peers.scipy_center(kernel, bias, k, radius) for k in classes])
    inside = np.stack([peers.scipy_center(kernel, bias, k, radius, nonnegative=True) for k in classes])
    targets, soft = soft_targets(len(bias), trial.smoothing), free
    if trial.smoothing:
        soft = np.stack([scipy_soft_center(kernel, bias, target, radius) for target in targets])
    far = np.stack([scipy_far(kernel, k) for k in classes])
    residuals = {
        "center_residual": numpy_residual(free, kernel, bias, radius),
        "center_residual_nonnegative": numpy_residual(inside, kernel, bias, radius, nonnegative=True),
        "center_residual_soft": numpy_residual(soft, kernel, bias, radius, targets if trial.smoothing else None),
        "center_residual_far": numpy_far_gap(far, kernel),
    }
    tables = {"center": free, "nonnegative_center": inside, "soft_center": soft}
    vectors = {name: table.astype(kernel.dtype) for name, table in tables.items()}
    vectors |= {"weight": kernel.T, "mean": peers.numpy_means(features, labels, len(bias)), "mean_D": features.mean(0)}
    return vectors, {"center_radius": radius, **residuals, **numpy_agreements(vectors, peers.numpy_unit(far))}


def scipy_soft_center(kernel: np.ndarray, bias: np.ndarray, target: np.ndarray, radius: float) -> np.ndarray:
    """The least cross-entropy to a soft target in the ball: first without the ball, in it where that ends outside."""
    rows, offsets = kernel.astype(float), bias.astype(float)

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        logits = z @ rows + offsets
        total = scipy.special.logsumexp(logits)
        return total - target @ logits, rows @ (np.exp(logits - total) - target)

    options = {"maxiter": 2000, "ftol": 1e-16, "gtol": 1e-8}
    start = rows @ (target - target.mean())
    z = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return z if np.linalg.norm(z) <= radius else peers.in_ball(loss, z, radius)


def scipy_far(kernel: np.ndarray, k: int) -> np.ndarray:
    """The point of least norm in the convex hull of w_k - w_j, j != k; zeros where it is the origin.

    Least |A x| on the simplex is, up to a factor, least |A x|^2 + (sum x - 1)^2 over x >= 0 (Lawson and Hanson, 1974).
    """
    apart = kernel[:, k : k + 1].astype(float) - np.delete(kernel, k, 1)
    largest = np.linalg.norm(apart, axis=0).max()
    system = np.vstack([apart / largest, np.ones(apart.shape[1])])
    weights, _ = scipy.optimize.nnls(system, np.append(np.zeros(len(kernel)), 1.0), maxiter=100 * len(system))
    point = apart @ (weights / weights.sum())
    return point if np.linalg.norm(point) > np.sqrt(1e-5) * spread_of(kernel) else 0 * point


def spread_of(kernel: np.ndarray) -> float:
    """The largest distance between two class rows."""
    return peers.cdist(kernel.T, kernel.T).max()


def soft_targets(classes: int, smoothing: float) -> np.ndarray:
    """Label smoothing's target of each class [K, K]."""
    return (1 - smoothing) * np.eye(classes) + smoothing / classes


def numpy_residual(
    points: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    radius: float,
    targets: Any = None,
    nonnegative: bool = False,
) -> float:
    """The largest |z - P(z - t g)| / radius of the centers, as jaxreg defines it: zero at the optimum."""
    logits, rows = points @ kernel + bias, kernel.T.astype(float)
    if targets is None:
        targets = np.eye(len(bias))
        logits = np.where(targets > 0, -np.inf, logits)
    slopes = (scipy.special.softmax(logits, 1) - targets) @ rows
    steepness = np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), spread_of(kernel) / 10)
    moved = points - radius / steepness * slopes
    moved = np.maximum(moved, 0) if nonnegative else moved
    moved *= radius / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), radius)
    return np.linalg.norm(points - moved, axis=1).max() / radius


def numpy_far_gap(points: np.ndarray, kernel: np.ndarray) -> float:
    """The largest duality gap of the points of least norm, over their squared length: zero at the optimum."""
    slopes = points @ kernel
    leads = np.diagonal(slopes)[:, None] - slopes
    np.fill_diagonal(leads, np.inf)
    square = (points**2).sum(1)
    return ((square - leads.min(1)) / np.maximum(square, spread_of(kernel) ** 2 / 1000)).max()


def numpy_agreements(vectors: Mapping[str, np.ndarray], far: np.ndarray) -> Numbers:
    """Mean cosines between the class vectors, plain and centred."""

    def agreement(a: np.ndarray, b: np.ndarray) -> float:
        return (peers.numpy_unit(a) * peers.numpy_unit(b)).sum(1).mean()

    center, won = vectors["center"], far.any(1)
    found = {
        "center_far_agreement": agreement(center[won], far[won]) if won.any() else np.nan,
        "center_nonnegative_agreement": agreement(center, vectors["nonnegative_center"]),
        "center_soft_agreement": agreement(center, vectors["soft_center"]),
        "soft_center_norm": np.linalg.norm(vectors["soft_center"], axis=1).mean(),
    }
    for one, other in (("center", "weight"), ("center", "mean"), ("weight", "mean")):
        a, b = vectors[one], vectors[other]
        found[f"{one}_{other}_agreement"] = agreement(a, b)
        found[f"{one}_{other}_agreement_centred"] = agreement(a - a.mean(0), b - b.mean(0))
    return found


def numpy_regime(trial: Trial) -> Numbers:
    """How far training went: accuracy, NLL, the smoothed loss and its floor."""
    (features, labels), smoothing = trial.splits["train"], trial.smoothing
    log_p = scipy.special.log_softmax(features @ trial.kernel + trial.bias, 1)
    nll = -log_p[np.arange(len(labels)), labels].mean(dtype=float)
    return {
        "train_accuracy": (log_p.argmax(1) == labels).mean(),
        "train_nll": nll,
        "train_loss": (1 - smoothing) * nll - smoothing * log_p.mean(dtype=float),
        "train_loss_floor": scipy.special.entr(soft_targets(len(trial.bias), smoothing)[0]).sum(),
    }


def numpy_split(features: Any, labels: Any, kernel: Any, bias: Any, vectors: Mapping[str, np.ndarray]) -> Numbers:
    """Everything of every example of a split."""
    products, lengths = features @ kernel, np.linalg.norm(features, axis=1)
    predicted = (products + bias).argmax(1)
    tables = {f"{name}_cosine": table for name, table in vectors.items() if name != "mean_D"}
    of_cone = peers.numpy_examples(products, lengths, kernel, bias)
    return {
        "prediction": predicted,
        "correct": predicted == labels,
        "feature_norm": lengths,
        "feature_rms": lengths / np.float32(np.sqrt(len(kernel))),
        **peers.numpy_cosines(features, labels, tables, vectors["mean_D"]),
        "center_angle": numpy_angle(features, vectors["center"][labels]),
        "cone_fraction": of_cone["t_star"] < 1,
        "cone_breakpoint": of_cone["t_star"],
        "cone_radius": of_cone["t_star"] * lengths,
        "angular_margin": of_cone["margin"],
        "label_margin": peers.numpy_margin(products, lengths, kernel, bias, labels),
    }


def numpy_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between rows, by Kahan's formula: the arc cosine loses digits at small angles."""
    a, b = peers.numpy_unit(a), peers.numpy_unit(b)
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))


def numpy_calibration(logits: np.ndarray, labels: np.ndarray) -> Numbers:
    """ECE in 15 bins, NLL, accuracy."""
    log_p = scipy.special.log_softmax(logits, 1)
    confidence, correct = np.exp(log_p.max(1)), logits.argmax(1) == labels
    gaps = np.bincount(np.searchsorted(EDGES, confidence), correct - confidence, len(EDGES) + 1)
    nll = -log_p[np.arange(len(labels)), labels].mean(dtype=float)
    return {"ece": np.abs(gaps).sum() / len(labels), "nll": nll, "accuracy": correct.mean()}


def numpy_scaling(fit: tuple[Any, Any], report: tuple[Any, Any], kernel: np.ndarray, bias: np.ndarray) -> Numbers:
    """Calibration of s h and of tempered logits for each s, and of the best s and 1/T."""
    (fitted, fit_labels), (reported, labels) = fit, report
    logits, products = fitted.astype(float) @ kernel, reported @ kernel
    best = [scipy_scale(logits, bias, fit_labels), scipy_scale(logits + bias, 0.0, fit_labels)]
    found = best_scales(*best)
    for name, s, u in scale_pairs(*best):
        found |= {name.format(k): v for k, v in numpy_calibration(s * products + u * bias, labels).items()}
    return found


def scipy_scale(logits: np.ndarray, kept: Any, labels: np.ndarray) -> float:
    """The s of least NLL of the logits s z + kept, by Brent's method in log s; float64, as values near it are equal."""

    def nll(log_s: float) -> float:
        scaled = np.exp(log_s) * logits + kept
        return (scipy.special.logsumexp(scaled, 1) - scaled[np.arange(len(labels)), labels]).mean()

    found = scipy.optimize.minimize_scalar(nll, bounds=BRACKET, method="bounded", options={"xatol": 1e-7})
    return math.exp(found.x)


def numpy_pair(baseline: Trial, base: Found, own: Found) -> Numbers:
    """Calibration and label margin of the baseline's test features at another length and in another direction."""
    (features, labels), kernel, bias = baseline.splits["test"], baseline.kernel, baseline.bias
    scale, turn = change(base, own)
    turned = numpy_turn(features, base.vectors["center"][labels], turn)
    found = {}
    for name, changed in (("norm_swap", scale * features), ("turn", turned)):
        products, lengths = changed @ kernel, np.linalg.norm(changed, axis=1)
        margin = peers.numpy_margin(products, lengths, kernel, bias, labels).mean()
        of_this = numpy_calibration(products + bias, labels) | {"margin": margin}
        found |= {f"{name}_{k}": v for k, v in of_this.items()}
    return found


def numpy_turn(features: np.ndarray, centers: np.ndarray, turn: np.float32) -> np.ndarray:
    """Each feature turned toward its center at its own length, at most onto it."""
    length, unit = np.linalg.norm(features, axis=1, keepdims=True), peers.numpy_unit(features)
    aside = peers.numpy_unit(centers - (centers * unit).sum(1, keepdims=True) * unit)
    angle = np.minimum(turn, numpy_angle(features, centers))[:, None]
    return length * (np.cos(angle) * unit + np.sin(angle) * aside)


# --- PyTorch ----------------------------------------------------------------------------------------------------------
def torch_probe(torch: Any, trial: Trial) -> Found:
    """All of one trial but its interventions."""
    splits, kernel, bias, _ = trial
    vectors, about = torch_vectors(torch, trial)
    once = {
        **about,
        **peers.torch_collapse(torch, *splits["train"], kernel, bias, vectors["mean"]),
        **torch_regime(torch, trial),
        "cone_by_construction": bias.max() == bias.min(),
        "classes": len(bias),
        "width": len(kernel),
    }
    found = (
        {name: torch_split(torch, *split, kernel, bias, vectors) for name, split in splits.items()},
        {name: x.mean(0).square().sum() / x.square().sum(1).mean() for name, (x, _) in splits.items()},
        once,
        torch_scaling(torch, splits["validation"], splits["test"], kernel, bias),
        vectors,
    )
    return Found(*(to_host(part) for part in found))


def to_torch(torch: Any, device: str, trial: Trial) -> Trial:
    """The trial on a device."""

    def move(array: np.ndarray) -> Any:
        return torch.from_numpy(array).to(device)

    splits = {name: (move(features), move(labels)) for name, (features, labels) in trial.splits.items()}
    return Trial(splits, move(trial.kernel), move(trial.bias), trial.smoothing)


def to_host(part: Any) -> Any:
    """NumPy arrays of a mapping, or of mappings, of tensors."""
    if isinstance(part, dict):
        return {name: to_host(value) for name, value in part.items()}
    return part.cpu().numpy() if hasattr(part, "cpu") else part


def torch_vectors(torch: Any, trial: Trial) -> tuple[Numbers, Numbers]:
    """The class vectors, and how exact they are and agree."""
    (features, labels), kernel, bias = trial.splits["train"], trial.kernel, trial.bias
    radius = features.norm(dim=1).mean()
    free, of_free = peers.torch_centers(torch, kernel, bias, radius)
    inside, of_inside = peers.torch_centers(torch, kernel, bias, radius, nonnegative=True)
    soft, of_soft = free, of_free
    if trial.smoothing:
        targets = torch.from_numpy(soft_targets(len(bias), trial.smoothing)).to(kernel)
        soft, of_soft = peers.torch_centers(torch, kernel, bias, radius, targets)
    far, of_far = torch_far(torch, kernel)
    residuals = {"": of_free, "_nonnegative": of_inside, "_soft": of_soft, "_far": of_far}
    vectors = {"center": free, "nonnegative_center": inside, "soft_center": soft, "weight": kernel.T}
    vectors |= {"mean": peers.torch_means(torch, features, labels, len(bias)), "mean_D": features.mean(0)}
    about = {"center_radius": radius, **{f"center_residual{name}": value for name, value in residuals.items()}}
    return vectors, {**about, **torch_agreements(torch, vectors, far)}


def torch_far(torch: Any, kernel: Any) -> tuple[Any, Any]:
    """The points of least norm in the hulls of w_k - w_j, zeros for the origin, and the largest duality gap.

    The algorithm of jaxreg: accelerated descent in the weights of the hull, projected on the simplex.
    """
    basis, rows = peers.torch_reduce(torch, kernel)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    floor = peers.torch_distances(torch, rows).max() ** 2 / 1000

    def slope(weights: Any) -> Any:
        return -(rows - weights @ rows) @ rows.T

    def project(weights: Any) -> Any:
        return torch_simplex(torch, weights.masked_fill(itself, -1e9))

    def gap(weights: Any, slopes: Any) -> Any:
        mean = (weights * slopes).sum(1)
        return (mean - slopes.masked_fill(itself, torch.inf).amin(1)) / (mean - slopes.diagonal()).clamp_min(floor)

    size, start = 1 / torch.linalg.eigvalsh(rows.T @ rows)[-1], project(0 * rows @ rows.T)
    weights, left = peers.torch_accelerate(torch, slope, project, gap, start, size, 1e-6, 4000)
    points = rows - weights @ rows
    points = points.masked_fill(points.square().sum(1, keepdim=True) <= floor / 100, 0)
    return points if basis is None else points @ basis.T, left


def torch_simplex(torch: Any, points: Any) -> Any:
    """The nearest point of the simplex, row by row, by sorting (Held, Wolfe and Crowder, 1974)."""
    ordered = points.sort(1, descending=True).values
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, points.shape[1] + 1, device=points.device)
    kept = (ordered > excess).sum(1, keepdim=True)
    return (points - excess.gather(1, kept - 1)).clamp_min(0)


def torch_agreements(torch: Any, vectors: Mapping[str, Any], far: Any) -> Numbers:
    """Mean cosines between the class vectors, plain and centred."""

    def agreement(a: Any, b: Any) -> Any:
        return torch.cosine_similarity(a, b, dim=1).mean()

    center, won = vectors["center"], far.any(1)
    found = {
        "center_far_agreement": agreement(center[won], far[won]),
        "center_nonnegative_agreement": agreement(center, vectors["nonnegative_center"]),
        "center_soft_agreement": agreement(center, vectors["soft_center"]),
        "soft_center_norm": vectors["soft_center"].norm(dim=1).mean(),
    }
    for one, other in (("center", "weight"), ("center", "mean"), ("weight", "mean")):
        a, b = vectors[one], vectors[other]
        found[f"{one}_{other}_agreement"] = agreement(a, b)
        found[f"{one}_{other}_agreement_centred"] = agreement(a - a.mean(0), b - b.mean(0))
    return found


def torch_regime(torch: Any, trial: Trial) -> Numbers:
    """How far training went: accuracy, NLL, the smoothed loss and its floor."""
    (features, labels), smoothing = trial.splits["train"], trial.smoothing
    logits, entropy = features @ trial.kernel + trial.bias, torch.nn.functional.cross_entropy
    target = torch.from_numpy(soft_targets(len(trial.bias), smoothing)[0])
    return {
        "train_accuracy": (logits.argmax(1) == labels).float().mean(),
        "train_nll": entropy(logits, labels),
        "train_loss": entropy(logits, labels, label_smoothing=smoothing),
        "train_loss_floor": torch.special.entr(target).sum(),
    }


def torch_split(torch: Any, features: Any, labels: Any, kernel: Any, bias: Any, vectors: Mapping[str, Any]) -> Numbers:
    """Everything of every example of a split."""
    products, lengths = features @ kernel, features.norm(dim=1)
    predicted = (products + bias).argmax(1)
    tables = {f"{name}_cosine": table for name, table in vectors.items() if name != "mean_D"}
    of_cone = peers.torch_examples(torch, products, lengths, kernel, bias)
    return {
        "prediction": predicted,
        "correct": predicted == labels,
        "feature_norm": lengths,
        "feature_rms": lengths / math.sqrt(len(kernel)),
        **peers.torch_cosines(torch, features, labels, tables, vectors["mean_D"]),
        "center_angle": torch_angle(torch, features, vectors["center"][labels]),
        "cone_fraction": of_cone["t_star"] < 1,
        "cone_breakpoint": of_cone["t_star"],
        "cone_radius": of_cone["t_star"] * lengths,
        "angular_margin": of_cone["margin"],
        "label_margin": peers.torch_margin(torch, products, lengths, kernel, bias, labels),
    }


def torch_angle(torch: Any, a: Any, b: Any) -> Any:
    """Between rows, by Kahan's formula: the arc cosine loses digits at small angles."""
    a, b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
    return 2 * torch.arctan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def torch_calibration(torch: Any, logits: Any, labels: Any) -> Numbers:
    """ECE in 15 bins, NLL, accuracy."""
    confidence, correct = torch.softmax(logits, 1).amax(1), (logits.argmax(1) == labels).float()
    at = torch.bucketize(confidence, torch.from_numpy(EDGES).to(confidence.device))
    gaps = torch.zeros(len(EDGES) + 1, device=at.device).index_add(0, at, correct - confidence)
    nll = torch.nn.functional.cross_entropy(logits, labels)
    return {"ece": gaps.abs().sum() / len(labels), "nll": nll, "accuracy": correct.mean()}


def torch_scaling(torch: Any, fit: tuple[Any, Any], report: tuple[Any, Any], kernel: Any, bias: Any) -> Numbers:
    """Calibration of s h and of tempered logits for each s, and of the best s and 1/T."""
    (fitted, fit_labels), (reported, labels) = fit, report
    logits, products = fitted @ kernel, reported @ kernel
    best = [torch_scale(torch, logits, bias, fit_labels), torch_scale(torch, logits + bias, 0.0, fit_labels)]
    found = best_scales(*best)
    for name, s, u in scale_pairs(*best):
        of_this = torch_calibration(torch, s * products + u * bias, labels)
        found |= {name.format(k): v for k, v in of_this.items()}
    return found


def torch_scale(torch: Any, logits: Any, kept: Any, labels: Any) -> float:
    """The s of least NLL of the logits s z + kept, by L-BFGS in log s."""
    log_s = torch.zeros((), device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_s], max_iter=100, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(log_s.exp() * logits + kept, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return math.exp(min(max(log_s.item(), BRACKET[0]), BRACKET[1]))


def torch_pair(torch: Any, baseline: Trial, base: Found, own: Found) -> Numbers:
    """Calibration and label margin of the baseline's test features at another length and in another direction."""
    (features, labels), kernel, bias = baseline.splits["test"], baseline.kernel, baseline.bias
    scale, turn = change(base, own)
    centers = torch.from_numpy(base.vectors["center"]).to(features)[labels]
    found = {}
    for name, changed in (("norm_swap", float(scale) * features), ("turn", torch_turn(torch, features, centers, turn))):
        products, lengths = changed @ kernel, changed.norm(dim=1)
        margin = peers.torch_margin(torch, products, lengths, kernel, bias, labels).mean()
        of_this = torch_calibration(torch, products + bias, labels) | {"margin": margin}
        found |= {f"{name}_{k}": v for k, v in of_this.items()}
    return to_host(found)


def torch_turn(torch: Any, features: Any, centers: Any, turn: float) -> Any:
    """Each feature turned toward its center at its own length, at most onto it."""
    length, unit = features.norm(dim=1, keepdim=True), torch.nn.functional.normalize(features)
    aside = torch.nn.functional.normalize(centers - (centers * unit).sum(1, keepdim=True) * unit)
    angle = torch_angle(torch, features, centers).clamp_max(float(turn))[:, None]
    return length * (angle.cos() * unit + angle.sin() * aside)


# --- of both: from what was found to rows and arrays ------------------------------------------------------------------
def change(base: Found, own: Found) -> tuple[Any, Any]:
    """The factor to the own mean norm, and the turn, in radians, to the own mean angle to the center."""
    norms, angles = (
        [one.examples["test"][name].mean() for one in (base, own)] for name in ("feature_norm", "center_angle")
    )
    return norms[1] / norms[0], angles[0] - angles[1]


def best_scales(scale: float, inverse_temperature: float) -> Numbers:
    """The fitted s and 1/T by their names, and whether each ended at an end of the bracket."""
    found = {"best_scale": scale, "inverse_temperature": inverse_temperature}
    ends = {f"{name}_at_bracket": abs(math.log(s)) > BRACKET[1] - 1e-3 for name, s in found.items()}
    return {**found, **ends}


def scale_pairs(scale: float, inverse_temperature: float) -> list[tuple[str, float, float]]:
    """(name of the number {}, s, u) of all logits s W h + u b that calibration is reported of."""
    pairs = [(f"scaled_{{}}/{s:.3g}", float(s), 1.0) for s in SCALES]
    pairs += [(f"tempered_{{}}/{s:.3g}", float(s), float(s)) for s in SCALES]
    pairs += [("{}_best_scale", scale, 1.0)]
    return [*pairs, ("{}_temperature", inverse_temperature, inverse_temperature)]


def numbers(trial: Trial, found: Found, base: Found, pair: Numbers) -> Numbers:
    """All rows, as [value, low, high], and arrays of a trial."""
    rows: Numbers = {}
    for split, examples in found.examples.items():
        labels = np.asarray(trial.splits[split][1])
        of_split = {**example_rows(examples, labels), "common_mode": found.common_mode[split]}
        rows |= {f"{split}/{name}": value for name, value in of_split.items()}
    rows |= {f"train/{name}": value for name, value in found.once.items()}
    rows |= {f"{'validation' if name in FITTED else 'test'}/{name}": v for name, v in found.scaling.items()}
    rows |= {f"test/{name}": value for name, value in {**pair, **shares(found, base, pair)}.items()}
    arrays = {f"{split}/{name}[]": a for split, examples in found.examples.items() for name, a in examples.items()}
    arrays |= {f"{split}/norm[]": arrays.pop(f"{split}/feature_norm[]") for split in found.examples}
    arrays |= {f"class/{name}[]": table for name, table in found.vectors.items()}
    return {name: interval(value) for name, value in rows.items()} | arrays


def interval(value: Any) -> np.ndarray:
    """[value, low, high] of a row, nan where it has no interval."""
    return np.array(value if np.ndim(value) else [value, np.nan, np.nan], float)


def shares(found: Found, base: Found, pair: Numbers) -> Numbers:
    """Which share of the gap to the baseline each intervention closes; nan for a gap too small."""
    margins = [one.examples["test"]["label_margin"].mean() for one in (base, found)]
    gaps = {"margin": (*margins, 0.01)}
    gaps |= {name: (*(one.scaling[f"scaled_{name}/1"] for one in (base, found)), 0.002) for name in ("ece", "nll")}
    return {
        f"{done}_{name}_share": (before - pair[f"{done}_{name}"]) / (before - goal)
        if abs(before - goal) > noise
        else np.nan
        for name, (before, goal, noise) in gaps.items()
        for done in ("norm_swap", "turn")
    }


def example_rows(examples: Numbers, labels: np.ndarray) -> Numbers:
    """Means with their interval, shares, quantiles of the cone, and norms by class and correctness."""
    lengths, correct = examples["feature_norm"], examples["correct"]
    means = [name for name in examples if name.startswith("feature_") or "cosine" in name or name.endswith("_margin")]
    rows = {name: mean_interval(examples[name]) for name in (*means, "center_angle")}
    rows["cone_fraction"] = share_interval(examples["cone_fraction"])
    rows["unturnable_fraction"] = share_interval(examples["angular_margin"] >= np.float32(np.pi))
    for name in ("cone_breakpoint", "cone_radius"):
        rows |= {f"{name}/q{q}": np.percentile(examples[name], q) for q in (50, 95, 100)}
    rows["feature_norm_sd"] = lengths.std()
    groups = {"correct": correct, "wrong": ~correct, **{f"class/{k}": labels == k for k in np.unique(labels)}}
    return rows | {f"feature_norm/{name}": mean_interval(lengths[chosen]) for name, chosen in groups.items()}


def mean_interval(values: np.ndarray) -> list[float]:
    """Mean and its 95 % interval; none below two examples."""
    if len(values) < 2:
        return [values[0] if len(values) else np.nan, np.nan, np.nan]
    middle, half = values.mean(dtype=float), 1.96 * values.std(ddof=1, dtype=float) / math.sqrt(len(values))
    return [middle, middle - half, middle + half]


def share_interval(hits: np.ndarray) -> list[float]:
    """A share and Wilson's 95 % interval."""
    n, share, z = len(hits), hits.mean(), 1.96
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return [share, max(low, 0), min(high, 1)]
