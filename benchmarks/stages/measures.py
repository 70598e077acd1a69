"""Calibration and geometry of many trials, the sets of their benchmarks, against PyTorch on the same device."""

import argparse
import pathlib
import tempfile
from typing import Any

import geometry_peers
import jax
import numpy as np

import calibration
import geometry
from jaxreg.models.functional import Head
from jaxreg.runtime import parallel
from stages.report import Options, Report, timed

AIM = 20  # times as fast as a loop over trials


def run(report: Report, options: Options) -> None:
    """A row a set and package; a peer loops over a few trials, and its seconds are scaled to all of them."""
    sizes = {"trials": 64, "examples": 10_000, "width": 512, "classes": 100, "peers": 4}
    tiny = {"trials": 2, "examples": 60, "width": 8, "classes": 3, "peers": 1}
    args = argparse.Namespace(**(tiny if options.tiny else sizes))
    of_calibration(report, args)
    if report.fits(0 if options.tiny else 12, what="geometry"):
        of_geometry(report, args)


def of_calibration(report: Report, args: argparse.Namespace) -> None:
    """All metrics before and after a temperature, from files to numbers."""
    with tempfile.TemporaryDirectory() as folder:
        files = calibration.save(pathlib.Path(folder), args.trials, args.examples, args.classes)
        found: dict[str, Any] = {}
        own = timed(lambda: found.update(values=calibration.jaxreg(files)))
        report.row(set="calibration", package="jaxreg", numbers=len(found["values"]), **own._asdict())
        what = {"set": "calibration", "package": "torch"}
        report.compare(lambda: torch_calibration(files, found["values"], own.seconds, args), **what)


def torch_calibration(files: Any, values: dict[str, Any], own: float, args: argparse.Namespace) -> dict[str, Any]:
    """The numbers that a few lines of PyTorch give on the same device, before and after a temperature."""
    import torch

    device, found = "cuda" if torch.cuda.is_available() else "cpu", {}

    def loop() -> None:
        found.update(rows=[torch_numbers(torch, files, t, device) for t in range(args.peers)])

    taken, rows = timed(loop, 1), found["rows"]
    apart = {name: max(abs(rows[t][name] - values[name][t]) for t in range(args.peers)) for name in rows[0]}
    seconds = taken.seconds / args.peers * args.trials
    return {"seconds": seconds, "numbers": len(rows[0]), "apart": max(apart.values()), **judged(seconds, own)}


def judged(seconds: float, own: float) -> dict[str, Any]:
    """How many times faster jaxreg is, and whether that is the aim."""
    return {"times": seconds / own, "aim": AIM, "holds": seconds / own >= AIM}


def torch_numbers(torch: Any, files: Any, trial: int, device: str) -> dict[str, float]:
    """Accuracy, NLL, Brier score and ECE of one trial, plain and after the temperature."""
    z, y, logits = {}, {}, files.load
    for split in files.labels:
        z[split] = torch.from_numpy(logits(split, trial)).to(device)
        y[split] = torch.from_numpy(files.labels[split]).long().to(device)
    log_t = torch.zeros((), device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], lr=1.0, max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(z["validation"] / log_t.exp(), y["validation"])
        value.backward()
        return value

    optimizer.step(loss)
    after = torch_scores(torch, z["test"] / log_t.detach().exp(), y["test"])
    plain = torch_scores(torch, z["test"], y["test"])
    return plain | {f"{name}_ts": value for name, value in after.items()}


def torch_scores(torch: Any, z: Any, y: Any) -> dict[str, float]:
    """The numbers of one set of logits, 15 bins closed on the right."""
    p = torch.softmax(z, 1)
    confidence, predicted = p.max(1)
    correct, place = (predicted == y).float(), (torch.ceil(confidence * 15) - 1).clamp(0, 14).long()
    gap = torch.zeros(15, device=z.device).index_add_(0, place, confidence - correct)
    brier = ((p - torch.nn.functional.one_hot(y, z.shape[1])) ** 2).sum(1).mean()
    found = {"accuracy": correct.mean(), "nll": torch.nn.functional.cross_entropy(z, y), "brier": brier}
    return {name: float(value) for name, value in (found | {"ece": gap.abs().sum() / len(y)}).items()}


def of_geometry(report: Report, args: argparse.Namespace) -> None:
    """t*, margins and centers; then norms, cosines and collapse too: one pass over a trial each."""
    trials = [geometry.make_trial(seed, args) for seed in range(args.trials)]
    mesh = parallel.make_mesh()
    stacks = [np.stack([one[i] for one in trials]) for i in (0, 2, 3)]
    given = parallel.put_trials((stacks[0], Head(*stacks[1:])), mesh)
    labels = parallel.put_shared(trials[0][1].astype(np.int32), mesh)
    for name, fn in {"core": geometry.core, "all": geometry.everything}.items():
        program = parallel.per_trial(fn, mesh)
        own = timed(lambda p=program: jax.block_until_ready(p(given, labels)))
        report.row(set=f"geometry {name}", package="jaxreg", **own._asdict())
        values = parallel.fetch(program(given, labels), args.trials)
        what = {"set": f"geometry {name}", "package": "torch"}
        report.compare(lambda n=name, v=values, o=own: torch_geometry(trials, n, v, o.seconds, args), **what)


def torch_geometry(trials: Any, name: str, values: Any, own: float, args: argparse.Namespace) -> dict[str, Any]:
    """The loop of benchmarks/geometry.py on the device."""
    import torch

    device, found = "cuda" if torch.cuda.is_available() else "cpu", {}
    moved = [tuple(torch.from_numpy(a).to(device) for a in one) for one in trials[: args.peers]]

    def one_trial(one: Any) -> dict[str, np.ndarray]:
        result = geometry_peers.torch_core(torch, one)
        if name == "all":
            result |= geometry_peers.torch_rest(torch, one, result["centers"])
        return {key: value.cpu().numpy() for key, value in result.items()}

    taken = timed(lambda: found.update(rows=[one_trial(one) for one in moved]), 1)
    rows = found["rows"]
    apart = {key: max(geometry._apart(key, values[key][t], one[key]) for t, one in enumerate(rows)) for key in rows[0]}
    seconds = taken.seconds / args.peers * args.trials
    return {"seconds": seconds, "apart": float(max(apart.values())), **judged(seconds, own)}
