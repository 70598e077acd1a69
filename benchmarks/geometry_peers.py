"""What benchmarks/geometry.py compares jaxreg with: the same numbers of one trial in NumPy and SciPy, and in PyTorch.

Both are written as their users would: whole arrays, no loop over examples or rivals, threads as the libraries come.
`core` is t*, angular margins and class centers; `rest` is norms, cosines to three centers, and neural collapse.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

Trial = tuple[Any, Any, Any, Any]  # features [N, D], labels [N], kernel [D, K], bias [K]


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
    last, predicted = products.argmax(1)[:, None], (products + bias).argmax(1)[:, None]
    fall, lead = np.take_along_axis(products, last, 1) - products, bias - bias[last]
    start = np.divide(lead, fall, out=np.zeros_like(fall), where=(fall > 0) & (lead > 0)).max(1)
    apart = cdist(kernel.T, kernel.T).astype(np.float32)[predicted[:, 0]] * lengths[:, None]
    offset = bias[predicted] - bias
    reached = np.abs(offset) < apart
    safe = np.where(reached, apart, 1)
    here = np.arccos(np.clip((np.take_along_axis(products, predicted, 1) - products) / safe, -1, 1))
    angles = np.where(reached, np.arccos(np.clip(-offset / safe, -1, 1)) - here, np.pi)
    np.put_along_axis(angles, predicted, np.pi, 1)
    return {"t_star": start, "margin": angles.min(1)}


def scipy_center(kernel: np.ndarray, bias: np.ndarray, k: int, radius: float) -> np.ndarray:
    """The log odds against class k on the sphere, z = r u / |u|: L-BFGS is faster on it than SLSQP is in the ball.

    No point inside is better: the gradient of the log odds vanishes nowhere unless w_k lies between the other rows.
    """
    gaps_DJ = np.delete(kernel, k, 1).astype(float) - kernel[:, k : k + 1]
    offsets = np.delete(bias, k).astype(float) - bias[k]

    def loss(u: np.ndarray) -> tuple[float, np.ndarray]:
        length = np.linalg.norm(u)
        z = radius / length * u
        logits = z @ gaps_DJ + offsets
        top = logits.max()
        weights = np.exp(logits - top)
        slope = gaps_DJ @ (weights / weights.sum())
        return top + np.log(weights.sum()), radius / length * (slope - (slope @ u) * u / length**2)

    start = kernel[:, k].astype(float) - kernel.mean(1)
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-6}
    u = minimize(loss, start / np.linalg.norm(start), jac=True, method="L-BFGS-B", options=options).x
    return radius / np.linalg.norm(u) * u


def numpy_rest(trial: Trial, centers: np.ndarray) -> dict[str, np.ndarray]:
    """Norms, cosines plain and centred, neural collapse."""
    features, labels, kernel, bias = trial
    classes = len(bias)
    count = np.bincount(labels, minlength=classes)[:, None]
    means = (labels == np.arange(classes)[:, None]).astype(np.float32) @ features / count
    shifted, lengths = features - features.mean(0), np.linalg.norm(features, axis=1)
    found = {"norm": lengths}
    for name, table in (("center", centers.astype(np.float32)), ("weight", kernel.T), ("mean", means)):
        for suffix, x, c in (("", features, table), ("_centred", shifted, table - table.mean(0))):
            unit = c / np.linalg.norm(c, axis=1, keepdims=True)
            found[f"{name}{suffix}"] = np.einsum("nd,nd->n", x, unit[labels]) / np.linalg.norm(x, axis=1)
    return found | _numpy_collapse(features, labels, kernel, bias, means)


def _numpy_collapse(features: Any, labels: Any, kernel: Any, bias: Any, means: Any) -> dict[str, np.ndarray]:
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
    return {
        "nc1": ((within @ axes.T) ** 2 @ (classes / scale**2)).mean() / classes,
        "nc2_norm": lengths.std() / lengths.mean(),
        "nc2_angle": off.mean(),
        "nc3": np.linalg.norm(kernel.T / np.linalg.norm(kernel) - spread / np.linalg.norm(spread)),
        "nc4": np.mean((features @ kernel + bias).argmax(1) != nearest),
        "effective_rank": np.exp(-(share * np.log(share)).sum()),
    }


# --- PyTorch ----------------------------------------------------------------------------------------------------------
def torch_core(torch: Any, trial: Trial) -> dict[str, Any]:
    """Batched over examples and over classes."""
    features, _, kernel, bias = trial
    products, lengths = features @ kernel, features.norm(dim=1, keepdim=True)
    last, predicted = products.argmax(1, keepdim=True), (products + bias).argmax(1, keepdim=True)
    fall, lead = products.gather(1, last) - products, bias - bias[last]
    start = torch.where((fall > 0) & (lead > 0), lead / fall.clamp_min(1e-30), 0.0).amax(1)
    apart = torch.cdist(kernel.T, kernel.T, compute_mode="donot_use_mm_for_euclid_dist")
    scale = (apart[predicted[:, 0]] * lengths).clamp_min(1e-30)
    offset = bias[predicted] - bias
    here = torch.arccos(((products.gather(1, predicted) - products) / scale).clamp(-1, 1))
    angle = torch.arccos((-offset / scale).clamp(-1, 1)) - here
    margin = torch.where(offset.abs() < scale, angle, torch.pi).scatter(1, predicted, torch.pi).amin(1)
    return {"t_star": start, "margin": margin, "centers": torch_centers(torch, kernel, bias, lengths.mean())}


def torch_centers(torch: Any, kernel: Any, bias: Any, radius: Any, tolerance: float = 5e-6) -> Any:
    """The algorithm of jaxreg: accelerated projected descent with restarts until the same KKT residual."""
    rows, basis = (kernel - kernel.mean(1, keepdim=True)).T, None
    if rows.shape[1] > rows.shape[0]:
        basis, reduced = torch.linalg.qr(rows.T)
        rows = reduced.T
    itself = torch.eye(len(bias), dtype=torch.bool, device=kernel.device)
    spread = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").max()

    def project(z: Any) -> Any:
        return z * (radius / z.norm(dim=1, keepdim=True).clamp_min(radius))

    def gradient(z: Any) -> Any:
        return torch.softmax((z @ rows.T + bias).masked_fill(itself, -torch.inf), 1) @ rows - rows

    points = ahead = project(radius / spread * rows)
    momentum = torch.ones(len(bias), device=kernel.device)
    for step in range(2000):
        slopes = gradient(ahead)
        new = project(ahead - 4 / spread**2 * slopes)
        uphill = ((ahead - new) * (new - points)).sum(1) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + torch.sqrt(1 + 4 * momentum**2)) / 2
        push = torch.where(uphill, 0.0, (momentum - 1) / following)[:, None]
        points, ahead, momentum = new, new + push * (new - points), following
        if step % 20 == 19:
            g = gradient(points)
            moved = project(points - radius / torch.maximum(g.norm(dim=1, keepdim=True), spread / 10) * g)
            if ((points - moved).norm(dim=1) / radius).max() < tolerance:
                break
    return points if basis is None else points @ basis.T


def torch_rest(torch: Any, trial: Trial, centers: Any) -> dict[str, Any]:
    """Norms, cosines plain and centred, neural collapse."""
    features, labels, kernel, bias = trial
    onehot = torch.nn.functional.one_hot(labels, len(bias)).to(features.dtype)
    means = onehot.T @ features / onehot.sum(0)[:, None]
    shifted = features - features.mean(0)
    found = {"norm": features.norm(dim=1)}
    for name, table in (("center", centers), ("weight", kernel.T), ("mean", means)):
        for suffix, x, c in (("", features, table), ("_centred", shifted, table - table.mean(0))):
            found[f"{name}{suffix}"] = torch.cosine_similarity(x, c[labels], dim=1)
    return found | _torch_collapse(torch, features, labels, kernel, bias, means)


def _torch_collapse(torch: Any, features: Any, labels: Any, kernel: Any, bias: Any, means: Any) -> dict[str, Any]:
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
    return {
        "nc1": ((within @ axes.T) ** 2 @ (classes / scale**2)).mean() / classes,
        "nc2_norm": lengths.std(correction=0) / lengths.mean(),
        "nc2_angle": off.mean(),
        "nc3": (kernel.T / kernel.norm() - spread / spread.norm()).norm(),
        "nc4": ((features @ kernel + bias).argmax(1) != nearest).to(features.dtype).mean(),
        "effective_rank": (-(share * share.log()).sum()).exp(),
    }
