"""What benchmarks/geometry.py compares jaxreg with: the same numbers of one trial in NumPy and SciPy, and in PyTorch.

Both are written as their users would: whole arrays, no loop over examples or rivals, threads as the libraries come.
`core` is t*, angular margins and class centers; `rest` is norms, cosines to three centers, and neural collapse.
geometry_whole_peers.py makes the whole probe of these parts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

Trial = tuple[Any, Any, Any, Any]  # features [N, D], labels [N], kernel [D, K], bias [K]
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]  # of a point [D]: its value and its slope [D]


# --- NumPy and SciPy --------------------------------------------------------------------------------------------------
def numpy_core(trial: Trial) -> dict[str, np.ndarray]:
    """Examples in NumPy, float32; centers by L-BFGS in float64, a class at a time."""
    features, _, kernel, bias = trial
    products, lengths = features @ kernel, np.linalg.norm(features, axis=1)
    radius = lengths.mean()
    found = [scipy_center(kernel, bias, k, radius) for k in range(len(bias))]
    return {**numpy_examples(products, lengths, kernel, bias), "centers": np.stack(found)}


def numpy_examples(
    products: np.ndarray, lengths: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> dict[str, np.ndarray]:
    """t* and angular margins of the prediction."""
    last = products.argmax(1)[:, None]
    fall, lead = np.take_along_axis(products, last, 1) - products, bias - bias[last]
    start = np.divide(lead, fall, out=np.zeros_like(fall), where=(fall > 0) & (lead > 0)).max(1)
    return {"t_star": start, "margin": numpy_margin(products, lengths, kernel, bias, (products + bias).argmax(1))}


def numpy_margin(
    products: np.ndarray, lengths: np.ndarray, kernel: np.ndarray, bias: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """The least angle to a rival of the given class of each example, negative where a rival is ahead."""
    own = classes[:, None]
    apart = cdist(kernel.T, kernel.T).astype(kernel.dtype)[classes] * lengths[:, None]
    offset = bias[own] - bias
    reached = np.abs(offset) < apart
    safe = np.where(reached, apart, 1)
    here = np.arccos(np.clip((np.take_along_axis(products, own, 1) - products) / safe, -1, 1))
    beyond = np.copysign(np.float32(np.pi), offset)
    angles = np.where(reached, np.arccos(np.clip(-offset / safe, -1, 1)) - here, beyond)
    np.put_along_axis(angles, own, np.pi, 1)
    return angles.min(1)


def scipy_center(kernel: np.ndarray, bias: np.ndarray, k: int, radius: float, nonnegative: bool = False) -> np.ndarray:
    """The least log odds against class k in the ball, with `nonnegative` also z >= 0: L-BFGS is faster than SLSQP."""
    gaps_DJ = np.delete(kernel, k, 1).astype(float) - kernel[:, k : k + 1]
    offsets = np.delete(bias, k).astype(float) - bias[k]

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        logits = z @ gaps_DJ + offsets
        top = logits.max()
        weights = np.exp(logits - top)
        return top + np.log(weights.sum()), gaps_DJ @ (weights / weights.sum())

    start = kernel[:, k].astype(float) - kernel.mean(1)
    inside = np.maximum(start, 1e-3 * np.linalg.norm(start))
    return in_ball(loss, inside if nonnegative else start, radius, nonnegative)


def in_ball(loss: Loss, start: np.ndarray, radius: float, nonnegative: bool = False) -> np.ndarray:
    """The least of a convex loss over |z| <= radius by L-BFGS, with the bounds z >= 0 where asked.

    On the sphere, z = r u / |u|; only where the loss rises outward there is a point inside better, found without it.
    """

    def of_direction(u: np.ndarray) -> tuple[float, np.ndarray]:
        length = np.linalg.norm(u)
        value, slope = loss(radius / length * u)
        return value, radius / length * (slope - (slope @ u) * u / length**2)

    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-6}
    bounds = [(0, None)] * len(start) if nonnegative else None
    first = start / np.linalg.norm(start)
    u = minimize(of_direction, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    z = radius / np.linalg.norm(u) * u
    if loss(z)[1] @ z <= 0:
        return z
    return minimize(loss, z, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def numpy_rest(trial: Trial, centers: np.ndarray) -> dict[str, np.ndarray]:
    """Norms, cosines plain and centred, neural collapse."""
    features, labels, kernel, bias = trial
    means = numpy_means(features, labels, len(bias))
    tables = {"center": centers.astype(np.float32), "weight": kernel.T, "mean": means}
    found = {"norm": np.linalg.norm(features, axis=1), **numpy_cosines(features, labels, tables, features.mean(0))}
    return found | numpy_collapse(features, labels, kernel, bias, means)


def numpy_means(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The mean feature of each class [K, D]."""
    count = np.bincount(labels, minlength=classes)[:, None].astype(features.dtype)
    return (labels == np.arange(classes)[:, None]).astype(features.dtype) @ features / count


def numpy_cosines(
    features: np.ndarray, labels: np.ndarray, tables: Mapping[str, np.ndarray], middle: np.ndarray
) -> dict[str, np.ndarray]:
    """Of each example to the row of its label in each table [K, D], plain and centred: `middle` is the mean feature."""
    shifted, found = features - middle, {}
    for name, table in tables.items():
        for suffix, x, c in (("", features, table), ("_centred", shifted, table - table.mean(0))):
            found[f"{name}{suffix}"] = np.einsum("nd,nd->n", x, numpy_unit(c)[labels]) / positive(
                np.linalg.norm(x, axis=1)
            )
    return found


def numpy_unit(rows: np.ndarray) -> np.ndarray:
    """Each row at length 1; zeros stay zeros."""
    return rows / positive(np.linalg.norm(rows, axis=-1, keepdims=True))


def positive(lengths: np.ndarray) -> np.ndarray:
    """Lengths to divide by: 1 for 0."""
    return np.where(lengths > 0, lengths, lengths.dtype.type(1))


def numpy_collapse(features: Any, labels: Any, kernel: Any, bias: Any, means: Any) -> dict[str, np.ndarray]:
    """Neural collapse around the class means."""
    classes, spread, within = len(means), means - means.mean(0), features - means[labels]
    _, scale, axes = np.linalg.svd(spread, full_matrices=False)
    scale, axes = scale[: classes - 1], axes[: classes - 1]
    lengths = np.linalg.norm(spread, axis=1)
    unit = spread / lengths[:, None]
    off = np.abs(unit @ unit.T + 1 / (classes - 1))[~np.eye(classes, dtype=bool)]
    nearest = ((means**2).sum(1) - 2 * features @ means.T).argmin(1)
    centred = features - features.mean(0)
    values = np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0)
    share = values[values > 0] / values.sum()
    variance, between = (within**2).sum(1).mean(), (lengths**2).mean()
    return {
        "nc1": ((within @ axes.T) ** 2 @ (classes / scale**2)).mean() / classes,
        "nc2_norm": lengths.std() / lengths.mean(),
        "nc2_angle": off.mean(),
        "nc3": np.linalg.norm(kernel.T / np.linalg.norm(kernel) - spread / np.linalg.norm(spread)),
        "nc4": np.mean((features @ kernel + bias).argmax(1) != nearest),
        "within_class_variance": variance,
        "within_class_share": variance / (variance + between),
        "effective_rank": np.exp(-(share * np.log(share)).sum()),
    }


# --- PyTorch ----------------------------------------------------------------------------------------------------------
def torch_core(torch: Any, trial: Trial) -> dict[str, Any]:
    """Batched over examples and over classes."""
    features, _, kernel, bias = trial
    products, lengths = features @ kernel, features.norm(dim=1)
    found = torch_examples(torch, products, lengths, kernel, bias)
    return {**found, "centers": torch_centers(torch, kernel, bias, lengths.mean())[0]}


def torch_examples(torch: Any, products: Any, lengths: Any, kernel: Any, bias: Any) -> dict[str, Any]:
    """t* and angular margins of the prediction."""
    last = products.argmax(1, keepdim=True)
    fall, lead = products.gather(1, last) - products, bias - bias[last]
    start = torch.where((fall > 0) & (lead > 0), lead / fall.clamp_min(1e-30), 0.0).amax(1)
    predicted = (products + bias).argmax(1)
    return {"t_star": start, "margin": torch_margin(torch, products, lengths, kernel, bias, predicted)}


def torch_margin(torch: Any, products: Any, lengths: Any, kernel: Any, bias: Any, classes: Any) -> Any:
    """The least angle to a rival of the given class of each example, negative where a rival is ahead."""
    own = classes[:, None]
    scale = (torch_distances(torch, kernel.T)[classes] * lengths[:, None]).clamp_min(1e-30)
    offset = bias[own] - bias
    here = torch.arccos(((products.gather(1, own) - products) / scale).clamp(-1, 1))
    angle = torch.arccos((-offset / scale).clamp(-1, 1)) - here
    beyond = torch.full_like(offset, torch.pi).copysign(offset)
    return torch.where(offset.abs() < scale, angle, beyond).scatter(1, own, torch.pi).amin(1)


def torch_distances(torch: Any, rows: Any) -> Any:
    """Of each two rows, from their differences."""
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def torch_centers(
    torch: Any, kernel: Any, bias: Any, radius: Any, targets: Any = None, nonnegative: bool = False
) -> tuple[Any, Any]:
    """The algorithm of jaxreg: accelerated projected descent with restarts until the same KKT residual, and that.

    Without `targets` [K, K] they are the classes, and the log odds are minimised.
    """
    basis, rows = torch_reduce(torch, kernel, nonnegative)
    spread, slope = torch_distances(torch, rows).max(), torch_slope(torch, rows, bias, targets)

    def project(z: Any) -> Any:
        z = z.clamp_min(0) if nonnegative else z
        return z * (radius / z.norm(dim=1, keepdim=True).clamp_min(radius))

    def residual(z: Any, g: Any) -> Any:
        moved = project(z - radius / torch.maximum(g.norm(dim=1, keepdim=True), spread / 10) * g)
        return (z - moved).norm(dim=1) / radius

    start, size = project(radius / spread * rows), 4 / spread**2
    points, left = torch_accelerate(torch, slope, project, residual, start, size, 5e-6, 2000)
    return points if basis is None else points @ basis.T, left


def torch_reduce(torch: Any, kernel: Any, nonnegative: bool = False) -> tuple[Any, Any]:
    """Class rows less their mean, in an orthonormal basis of their span where that is smaller: basis or None, rows."""
    rows = (kernel - kernel.mean(1, keepdim=True)).T
    if nonnegative or rows.shape[1] <= rows.shape[0]:
        return None, rows
    basis, reduced = torch.linalg.qr(rows.T)
    return basis, reduced.T


def torch_slope(torch: Any, rows: Any, bias: Any, targets: Any) -> Callable[[Any], Any]:
    """Of the cross-entropy to the targets, or of the log odds against each class: [K, D] of points [K, D]."""
    itself = torch.eye(len(bias), dtype=rows.dtype, device=rows.device)
    if targets is None:
        return lambda z: torch.softmax((z @ rows.T + bias).masked_fill(itself > 0, -torch.inf), 1) @ rows - rows
    return lambda z: (torch.softmax(z @ rows.T + bias, 1) - targets) @ rows


def torch_accelerate(
    torch: Any, slope: Any, project: Any, residual: Any, start: Any, size: Any, tolerance: float, most: int
) -> tuple[Any, Any]:
    """Projected descent with momentum that restarts uphill; every 20 steps a look at the largest residual."""
    points = ahead = start
    momentum = torch.ones(len(start), device=start.device)
    for step in range(most):
        new = project(ahead - size * slope(ahead))
        uphill = ((ahead - new) * (new - points)).sum(1) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + torch.sqrt(1 + 4 * momentum**2)) / 2
        push = torch.where(uphill, 0.0, (momentum - 1) / following)[:, None]
        points, ahead, momentum = new, new + push * (new - points), following
        if step % 20 == 19:
            left = residual(points, slope(points)).max()
            if left < tolerance:
                break
    return points, left


def torch_rest(torch: Any, trial: Trial, centers: Any) -> dict[str, Any]:
    """Norms, cosines plain and centred, neural collapse."""
    features, labels, kernel, bias = trial
    means = torch_means(torch, features, labels, len(bias))
    tables = {"center": centers, "weight": kernel.T, "mean": means}
    found = {"norm": features.norm(dim=1), **torch_cosines(torch, features, labels, tables, features.mean(0))}
    return found | torch_collapse(torch, features, labels, kernel, bias, means)


def torch_means(torch: Any, features: Any, labels: Any, classes: int) -> Any:
    """The mean feature of each class [K, D]."""
    onehot = torch.nn.functional.one_hot(labels, classes).to(features.dtype)
    return onehot.T @ features / onehot.sum(0)[:, None]


def torch_cosines(torch: Any, features: Any, labels: Any, tables: Mapping[str, Any], middle: Any) -> dict[str, Any]:
    """Of each example to the row of its label in each table [K, D], plain and centred: `middle` is the mean feature."""
    shifted, found = features - middle, {}
    for name, table in tables.items():
        for suffix, x, c in (("", features, table), ("_centred", shifted, table - table.mean(0))):
            found[f"{name}{suffix}"] = torch.cosine_similarity(x, c[labels], dim=1)
    return found


def torch_collapse(torch: Any, features: Any, labels: Any, kernel: Any, bias: Any, means: Any) -> dict[str, Any]:
    """Neural collapse around the class means."""
    classes, spread, within = len(means), means - means.mean(0), features - means[labels]
    _, scale, axes = torch.linalg.svd(spread, full_matrices=False)
    scale, axes = scale[: classes - 1], axes[: classes - 1]
    lengths = spread.norm(dim=1)
    unit = spread / lengths[:, None]
    off = (unit @ unit.T + 1 / (classes - 1)).abs()[~torch.eye(classes, dtype=torch.bool, device=kernel.device)]
    nearest = ((means**2).sum(1) - 2 * features @ means.T).argmin(1)
    centred = features - features.mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0)
    share = values[values > 0] / values.sum()
    variance, between = (within**2).sum(1).mean(), (lengths**2).mean()
    return {
        "nc1": ((within @ axes.T) ** 2 @ (classes / scale**2)).mean() / classes,
        "nc2_norm": lengths.std(correction=0) / lengths.mean(),
        "nc2_angle": off.mean(),
        "nc3": (kernel.T / kernel.norm() - spread / spread.norm()).norm(),
        "nc4": ((features @ kernel + bias).argmax(1) != nearest).to(features.dtype).mean(),
        "within_class_variance": variance,
        "within_class_share": variance / (variance + between),
        "effective_rank": (-(share * share.log()).sum()).exp(),
    }
