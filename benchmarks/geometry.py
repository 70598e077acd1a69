"""Cones, angular margins and class centers of many trials: jaxreg against loops in NumPy/SciPy and PyTorch.

    python benchmarks/geometry.py                                        64 trials x 10,000 examples x 512 x 100
    python benchmarks/geometry.py --trials 2 --examples 200 --width 16 --classes 5
    python benchmarks/geometry.py --memory                               peak memory of the whole probe at N, 2N, 4N

All three compute the same numbers, compared before anything is timed: t* of every example, its angular margin, the
minimal-loss point of every class. The loops run over trials (PyTorch: accelerated descent on all classes of a trial;
SciPy: SLSQP, a class at a time, and `--scipy_classes` of them, the time multiplied up and said so). Times are the
median of `--repeats` runs; jaxreg's first run, with compilation, is given apart. PyTorch is left out if not installed.

The floor of the full size, worked out beforehand: reading the features once is 64 x 10,000 x 512 x 4 B = 1.3 GB; W h is
2 x 64 x 10,000 x 512 x 100 = 66 GFLOP; 2 x 64 million arc cosines for the margins. The centers of a trial take, a step,
two products of 100 x 100 x 100 in the reduced basis: 4 MFLOP, hence 0.3 TFLOP for 64 trials at a thousand steps.
"""

import argparse
import functools
import json
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxreg.geometry import centers, cones, margins, probe


def make_trial(seed: int, args: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Features around the rows of a random head after a ReLU, labels, kernel, bias: float32."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(args.width, args.classes)) / np.sqrt(args.width)
    labels = np.arange(args.examples) % args.classes
    features = np.maximum(4 * kernel.T[labels] + rng.normal(size=(args.examples, args.width)) * 0.3 + 0.2, 0)
    bias = 0.05 * rng.normal(size=args.classes)
    return features.astype(np.float32), labels, kernel.astype(np.float32), bias.astype(np.float32)


# --- jaxreg -----------------------------------------------------------------------------------------------------------
@jax.jit
def ours(features_TND: jax.Array, kernel_TDK: jax.Array, bias_TK: jax.Array) -> tuple[jax.Array, ...]:
    """t* [T, N], margins [T, N], centers [T, K, D], their residuals [T, K]."""

    def one(trial: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        with jax.default_matmul_precision("highest"):
            features_ND, kernel_DK, bias_K = trial
            predictions_N = jnp.argmax(features_ND @ kernel_DK + bias_K, 1)
            radius = jnp.mean(jnp.linalg.norm(features_ND, axis=1))
            solved = centers.minimal_loss_points(kernel_DK, bias_K, radius)
            turn_N = margins.angular_margin(features_ND, kernel_DK, bias_K, predictions_N)
            return cones.cone(features_ND, kernel_DK, bias_K).breakpoint, turn_N, solved.points, solved.residual

    return jax.lax.map(one, (features_TND, kernel_TDK, bias_TK))


# --- NumPy and SciPy --------------------------------------------------------------------------------------------------
def numpy_examples(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """t* and margins of one trial, a loop over the rivals."""
    products, lengths = features @ kernel, np.linalg.norm(features, axis=1)
    last, predicted = products.argmax(1), (products + bias).argmax(1)
    start, margin = np.zeros(len(features)), np.full(len(features), np.pi)
    rows = np.arange(len(features))
    for j in range(len(bias)):
        fall = products[rows, last] - products[:, j]
        lead = bias[j] - bias[last]
        start = np.maximum(start, np.divide(lead, fall, out=np.zeros_like(fall), where=fall > 0))
        apart = np.linalg.norm(kernel[:, predicted] - kernel[:, j : j + 1], axis=0) * lengths
        offset = bias[predicted] - bias[j]
        other = (predicted != j) & (np.abs(offset) < apart)
        safe = np.where(other, apart, 1)
        boundary = np.arccos(np.clip(-offset / safe, -1, 1))
        here = np.arccos(np.clip((products[rows, predicted] - products[:, j]) / safe, -1, 1))
        margin = np.where(other, np.minimum(margin, boundary - here), margin)
    return start, margin


def scipy_center(kernel: np.ndarray, bias: np.ndarray, k: int, radius: float) -> np.ndarray:
    """SLSQP in float64 on the log odds against the class."""
    gaps_DJ = np.delete(kernel, k, 1).astype(float) - kernel[:, k : k + 1]
    offsets = np.delete(bias, k).astype(float) - bias[k]

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        logits = z @ gaps_DJ + offsets
        weights = np.exp(logits - logits.max())
        return logits.max() + np.log(weights.sum()), gaps_DJ @ (weights / weights.sum())

    ball = {"type": "ineq", "fun": lambda z: radius**2 - z @ z, "jac": lambda z: -2 * z}
    start = -gaps_DJ.mean(1)
    start *= 0.5 * radius / np.linalg.norm(start)
    options = {"ftol": 1e-12, "maxiter": 500}
    return minimize(loss, start, jac=True, constraints=[ball], method="SLSQP", options=options).x


# --- PyTorch ----------------------------------------------------------------------------------------------------------
def torch_trial(torch: Any, features: Any, kernel: Any, bias: Any) -> tuple[Any, Any, Any]:
    """t*, margins and centers of one trial, batched over examples and over classes."""
    products, lengths = features @ kernel, features.norm(dim=1, keepdim=True)
    last, predicted = products.argmax(1, keepdim=True), (products + bias).argmax(1, keepdim=True)
    fall, lead = products.gather(1, last) - products, bias - bias[last]
    start = torch.where((fall > 0) & (lead > 0), lead / fall.clamp_min(1e-30), 0.0).amax(1)
    scale = torch.cdist(kernel.T, kernel.T, compute_mode="donot_use_mm_for_euclid_dist")[predicted[:, 0]] * lengths
    offset = bias[predicted] - bias
    here = torch.arccos(((products.gather(1, predicted) - products) / scale.clamp_min(1e-30)).clamp(-1, 1))
    angle = torch.arccos((-offset / scale.clamp_min(1e-30)).clamp(-1, 1)) - here
    margin = torch.where(offset.abs() < scale, angle, torch.pi).scatter(1, predicted, torch.pi).amin(1)
    return start, margin, torch_centers(torch, kernel, bias, lengths.mean())


def torch_centers(torch: Any, kernel: Any, bias: Any, radius: Any, tolerance: float = 5e-6) -> Any:
    """Accelerated projected descent with restarts until the same KKT residual."""
    rows = (kernel - kernel.mean(1, keepdim=True)).T
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
    return points


# --- measuring --------------------------------------------------------------------------------------------------------
def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def say(**found: Any) -> None:
    """One line of JSON, which also says on what it was measured."""
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}), flush=True)


def compare(args: argparse.Namespace) -> None:
    """Equal values first, then times."""
    trials = [make_trial(seed, args) for seed in range(args.trials)]
    features, _, kernels, biases = (np.stack(arrays) for arrays in zip(*trials))
    given = [jax.device_put(a) for a in (features, kernels, biases)]
    begin = time.perf_counter()
    start, margin, points, residual = (np.asarray(a) for a in ours(*given))
    first = time.perf_counter() - begin
    radii = np.linalg.norm(features, axis=2).mean(1)
    chosen = range(min(args.scipy_classes, args.classes))
    reference = numpy_examples(features[0], kernels[0], biases[0])
    solved = np.stack([scipy_center(kernels[0], biases[0], k, radii[0]) for k in chosen])
    usual = reference[0] < np.quantile(reference[0], 0.99)  # near a tie of slopes t* has no digits in float32
    say(
        equal="numpy",
        t_star=float(np.abs(start[0] - reference[0])[usual].max() / reference[0][usual].max()),
        margin=float(np.abs(margin[0] - reference[1]).max()),
        centers=float(np.abs(points[0, : len(solved)] - solved).max() / radii[0]),
        kkt_residual=float(residual.max()),
    )
    mine = seconds(lambda: jax.block_until_ready(ours(*given)), args.repeats)
    say(name="jaxreg", seconds=mine, first_run=first, device=jax.devices()[0].device_kind)
    each = seconds(lambda: [numpy_examples(f, k, b) for f, k, b in zip(features, kernels, biases)], args.repeats)
    one = seconds(lambda: [scipy_center(kernels[0], biases[0], k, radii[0]) for k in chosen], args.repeats)
    whole = each + one / len(solved) * args.classes * args.trials
    say(name="numpy/scipy", seconds=whole, examples=each, centers_measured=len(solved), times_slower=whole / mine)
    compare_torch(args, features, kernels, biases, (start[0], margin[0], points[0]), mine)


def compare_torch(args: argparse.Namespace, features: Any, kernels: Any, biases: Any, first: Any, mine: float) -> None:
    """The same against PyTorch, on its accelerator where it finds one."""
    try:
        import torch
    except ImportError:
        say(name="torch", skipped="not installed: pip install torch")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stacks = [torch.from_numpy(a).to(device) for a in (features, kernels, biases)]

    def run() -> list[Any]:
        return [[a.cpu() for a in torch_trial(torch, *trial)] for trial in zip(*stacks)]

    start, margin, points = (a.numpy() for a in run()[0])
    usual = start < np.quantile(start, 0.99)
    radius = float(np.linalg.norm(features[0], axis=1).mean())
    say(
        equal="torch",
        t_star=float(np.abs(first[0] - start)[usual].max() / start[usual].max()),
        margin=float(np.abs(first[1] - margin).max()),
        centers=float(np.abs(first[2] - points).max() / radius),
    )
    taken = seconds(run, args.repeats)
    say(name="torch", seconds=taken, device=device, version=torch.__version__, times_slower=taken / mine)


def memory(args: argparse.Namespace) -> None:
    """Peak memory of the whole probe beside the size of its inputs, as the number of examples doubles twice."""
    for factor in (1, 2, 4):
        size = argparse.Namespace(**{**vars(args), "examples": factor * args.examples})
        trials = [make_trial(seed, size) for seed in range(args.trials)]
        features, _, kernels, biases = (np.stack(arrays) for arrays in zip(*trials))
        labels = trials[0][1]
        measure = functools.partial(probe.measure, {"train": probe.Split(features, labels)}, kernels, biases)
        say(name="probe", seconds=seconds(measure, 1), examples=size.examples, **_peak(features.nbytes))


def _peak(inputs: int) -> dict[str, float]:
    stats = jax.devices()[0].memory_stats() or {}
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    device = {"device_peak_MiB": stats["peak_bytes_in_use"] / 2**20} if "peak_bytes_in_use" in stats else {}
    return {"inputs_MiB": inputs / 2**20, "host_peak_MiB": host, **device}


def main() -> None:
    """Parses sizes, says on what it runs, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"trials": 64, "examples": 10_000, "width": 512, "classes": 100, "repeats": 5, "scipy_classes": 3}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    versions = {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}
    say(**vars(args), **versions, machine=platform.machine(), device=jax.devices()[0].device_kind)
    memory(args) if args.memory else compare(args)


if __name__ == "__main__":
    main()
