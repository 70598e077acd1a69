"""Calibration of many trials from saved logits: jaxreg against torchmetrics, netcal and a NumPy loop.

    python benchmarks/calibration.py                                        64 trials x 10,000 examples x 100 classes
    python benchmarks/calibration.py --trials 2 --examples 300 --classes 5  does it run?
    python benchmarks/calibration.py --memory                               memory of the whole probe at N, 2N, 4N

Everybody computes, on test, accuracy, NLL, Brier, ECE, adaptive and classwise ECE and MCE, before and after a
temperature fitted on validation (as large as test), 15 bins. The packages know some of these only; what they lack is
left out of their time, and said. Values are compared before anything is timed. Times, of the clock and of processors,
are the median of `--repeats` runs from files on disk to numbers; jaxreg's first run, with compilation, is given apart,
and so is the whole probe, which adds vector scaling, isotonic regression, smECE, AURC, AUROC, 200 bootstrap replicates
and the noise floor. Packages that are not installed are left out.

What it must cost at least, a trial of 10,000 x 100, one core: 4 MB of logits a split are read, checked and copied twice
(2 ms); the temperature takes two looks at validation, each with 1 M exponentials and three sums (3.5 ms); before and
after it, test takes 1 M exponentials with five sums (1.5 ms), the classes beyond the first bin are placed one by one
(1.5 ms), and 10,000 confidences are sorted (0.5 ms). In all about 13 ms: 64 trials on two cores take 0.4 s or more.
Memory: 64 MiB of logits on the devices, and the next 64 MiB being read, however many trials and examples there are.
`--memory` prints, by compiled program and device, what it needs beyond its inputs (logits, or what is known of every
example) and results; and the peak of a process that runs the whole probe, which holds the results of all trials too.
"""

import argparse
import functools
import importlib.util
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.special

from jaxreg import parallel
from jaxreg.calibration import Split, evaluate, measure, probe
from jaxreg.calibration.stacks import Stacks
from jaxreg.calibration.trial import COLUMNS, VARIANTS

BINS = 15
NAMES = ("accuracy", "nll", "brier", "ece", "ece_adaptive", "ece_classwise", "mce")
Values = dict[str, list[float]]


class Files(NamedTuple):
    """Saved logits: a file a trial and split; labels that all trials share."""

    directory: pathlib.Path
    trials: int
    labels: dict[str, np.ndarray]

    def load(self, split: str, trial: int) -> np.ndarray:
        return np.load(self.directory / f"{split}-{trial}.npy")


class Lazy:
    """The logits of one split as a sequence of [N, K], read when asked for."""

    def __init__(self, files: Files, split: str):
        self._files, self._split = files, split

    def __len__(self) -> int:
        return self._files.trials

    def __getitem__(self, trial: int) -> np.ndarray:
        if trial >= len(self):
            raise IndexError(trial)
        return self._files.load(self._split, trial)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[t] for t in range(len(self)))


def save(directory: pathlib.Path, trials: int, examples: int, classes: int) -> Files:
    """Writes logits that are over-confident by a factor that differs from trial to trial."""
    labels = {}
    for place, split in enumerate(("validation", "test")):
        random = np.random.default_rng(place)
        labels[split] = random.integers(0, classes, examples).astype(np.int32)
        for trial in range(trials):
            logits = random.normal(size=(examples, classes), scale=1.5).astype(np.float32)
            logits[np.arange(examples), labels[split]] += 4
            np.save(directory / f"{split}-{trial}.npy", logits * np.float32(1 + trial / trials))
    return Files(directory, trials, labels)


# --- jaxreg ---------------------------------------------------------------------------------------------------------
def splits(files: Files) -> dict[str, Split]:
    found, start = {}, 0
    for name, y in files.labels.items():
        found[name] = Split(Lazy(files, name), y, start + np.arange(len(y)))
        start += len(y)
    return found


def jaxreg(files: Files) -> Values:
    found = evaluate(splits(files))["test"]
    return {name: found[name].tolist() for name in [*NAMES, *(f"{name}_ts" for name in NAMES), "temperature"]}


def whole_probe(files: Files) -> None:
    measure(splits(files), replicates=200)


# --- the others -------------------------------------------------------------------------------------------------------
def each_trial(files: Files, numbers: Callable[[np.ndarray, np.ndarray], dict[str, float]], fit: Callable) -> Values:
    rows = []
    for trial in range(files.trials):
        t = fit(files.load("validation", trial), files.labels["validation"])
        z, y = files.load("test", trial), files.labels["test"]
        after = {name + "_ts": value for name, value in numbers(z / np.float32(t), y).items()}
        rows.append(numbers(z, y) | after | {"temperature": t})
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def numpy_gaps(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.clip(np.ceil(confidence * np.float32(BINS)).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    gap = np.abs(np.bincount(place, confidence, BINS) - np.bincount(place, correct, BINS))
    return gap, count


def numpy_numbers(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    p = scipy.special.softmax(z, -1)
    target = np.eye(z.shape[1], dtype=np.float32)[y]
    confidence, correct = p.max(-1), p.argmax(-1) == y
    gap, count = numpy_gaps(confidence, correct)
    parts = np.array_split(np.argsort(confidence, kind="stable"), BINS)
    return {
        "accuracy": correct.mean(),
        "nll": -scipy.special.log_softmax(z, -1)[np.arange(len(y)), y].mean(),
        "brier": ((p - target) ** 2).sum(-1).mean(),
        "ece": gap.sum() / len(y),
        "ece_adaptive": sum(abs(confidence[i].sum(dtype=float) - correct[i].sum()) for i in parts) / len(y),
        "ece_classwise": np.mean([numpy_gaps(p[:, k], target[:, k])[0].sum() / len(y) for k in range(z.shape[1])]),
        "mce": (gap / np.maximum(count, 1)).max(),
    }


def numpy_fit(z: np.ndarray, y: np.ndarray) -> float:
    def nll(log_t: float) -> float:
        scaled = z / np.exp(log_t, dtype=np.float32)
        return (scipy.special.logsumexp(scaled, -1) - scaled[np.arange(len(y)), y]).mean(dtype=float)

    return float(np.exp(scipy.optimize.minimize_scalar(nll, bounds=(-4.6, 4.6), method="bounded").x))


def torchmetrics_numbers(z: np.ndarray, y: np.ndarray) -> dict[str, float]:
    import torch
    from torchmetrics.functional import classification

    logits, labels, classes = torch.from_numpy(z), torch.from_numpy(y).long(), z.shape[1]
    p = torch.softmax(logits, -1)
    error = functools.partial(
        classification.multiclass_calibration_error, p, labels, classes, BINS, validate_args=False
    )
    return {
        "accuracy": classification.multiclass_accuracy(p, labels, classes, average="micro", validate_args=False),
        "nll": torch.nn.functional.cross_entropy(logits, labels),
        "ece": error(norm="l1"),
        "mce": error(norm="max"),
    }


def torch_fit(z: np.ndarray, y: np.ndarray) -> float:
    """LBFGS in log T: it diverges or goes negative in T itself."""
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
    from netcal.metrics import ECE, MCE

    p = scipy.special.softmax(z, -1)
    confidence, correct = p.max(-1), (p.argmax(-1) == y).astype(float)
    return {"ece": ECE(BINS).measure(confidence, correct), "mce": MCE(BINS).measure(confidence, correct)}


OTHERS = {  # package that must be there, and what runs
    "numpy loop": ("numpy", functools.partial(each_trial, numbers=numpy_numbers, fit=numpy_fit)),
    "torchmetrics": ("torchmetrics", functools.partial(each_trial, numbers=torchmetrics_numbers, fit=torch_fit)),
    "netcal": ("netcal", functools.partial(each_trial, numbers=netcal_numbers, fit=numpy_fit)),
}


# --- comparison -------------------------------------------------------------------------------------------------------
def compare(name: str, found: Values, expected: Values) -> None:
    """Stops unless every number agrees: to 2e-4, T to 0.1 %, MCE to 0.02: one example at an edge moves a small bin.

    Numbers after temperature to 1e-3: confidences move by up to 0.3 of the relative difference of T, and with them some
    examples cross an edge.
    """
    for metric, values in found.items():
        scale = expected["temperature"] if metric == "temperature" else 1
        usual = 1e-3 if metric.endswith("_ts") else 2e-4
        allowed = {"temperature": 1e-3, "mce": 0.02, "mce_ts": 0.02}.get(metric, usual)
        worst = np.max(np.abs(np.array(values) - expected[metric]) / scale)
        if not worst <= allowed:
            raise SystemExit(
                f"{name}: {metric} differs from jaxreg by {worst:.2e}, allowed {allowed:.0e}: no time printed."
            )


class Spent(NamedTuple):
    """Seconds of the clock, and of processors: the latter say less of a machine that others use too."""

    wall: float
    cpu: float


def seconds(run: Callable[[], object], repeats: int) -> Spent:
    times = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return Spent(*map(statistics.median, zip(*times)))


def working(options: argparse.Namespace, examples: int) -> None:
    """Prints MiB of inputs, results and what is needed beyond them, of the two programs of the whole probe."""
    mesh, ids = parallel.make_mesh(), np.arange(2 * examples)
    logits = [np.zeros((examples, options.classes), np.float32)] * options.trials
    labels = np.zeros(examples, np.int32)
    given = {name: Split(logits, labels, ids[i::2]) for i, name in enumerate(("validation", "test"))}
    stacks = Stacks(given, None, mesh)
    group, shared = stacks.groups()[0], parallel.put_shared((stacks.examples(), np.uint32(0)), mesh)
    columns = np.zeros((len(group), len(given), len(VARIANTS) + 1, len(COLUMNS), *stacks.chunks), np.float32)
    inputs = {"from logits": stacks.logits(group), "from columns": columns}
    for (name, values), program in zip(inputs.items(), probe._programs(BINS, 200, mesh)):
        used = program.lower(parallel.put_trials(values, mesh), shared).compile().memory_analysis()
        sizes = used.argument_size_in_bytes, used.output_size_in_bytes, used.temp_size_in_bytes
        told = ", ".join(f"{kind} {size / 2**20:.1f}" for kind, size in zip(("inputs", "results", "beyond"), sizes))
        print(f"N = {examples}, {len(group)} trials at a time, MiB a device, {name}: {told}")


def peak(options: argparse.Namespace, examples: int) -> dict[str, float]:
    """Peak memory of a process that runs the whole probe, and of one that only starts, in MiB."""
    command = [sys.executable, __file__, "--child", f"--examples={examples}"]
    command += [f"--trials={options.trials}", f"--classes={options.classes}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(options: argparse.Namespace) -> None:
    def used() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with tempfile.TemporaryDirectory() as directory:
        files = save(pathlib.Path(directory), options.trials, options.examples, options.classes)
        before = used()
        whole_probe(files)
    print(json.dumps({"before": before, "peak": used()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"trials": 64, "examples": 10_000, "classes": 100, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options)
    sizes = f"{options.trials} trials x {options.examples} x {options.classes}"
    sizes_N = [options.examples * factor for factor in (1, 2, 4)] if options.memory else []
    for examples in sizes_N:  # first: a process begins with the peak of the one that starts it
        found = peak(options, examples)
        logits = 2 * options.trials * examples * options.classes * 4 / 2**20
        print(
            f"N = {examples}: logits {logits:.0f} MiB, peak {found['peak']:.0f} MiB "
            f"(before the probe {found['before']:.0f})"
        )
    parallel.use_cpu_devices(0)
    for examples in sizes_N:
        working(options, examples)
    if options.memory:
        return None
    print(
        f"{sizes}, {jax.devices()[0].device_kind} x {jax.device_count()}, jax {jax.__version__}, {platform.machine()}"
    )
    with tempfile.TemporaryDirectory() as directory:
        files = save(pathlib.Path(directory), options.trials, options.examples, options.classes)
        first = seconds(lambda: jaxreg(files), 1)
        expected = jaxreg(files)
        present = {name: run for name, (package, run) in OTHERS.items() if importlib.util.find_spec(package)}
        results = {name: run(files) for name, run in present.items()}
        for name, found in results.items():
            compare(name, found, expected)
        base = seconds(lambda: jaxreg(files), options.repeats)
        print("                     time     processor   ratio of times, of processors")
        print(
            f"jaxreg         {base.wall:9.3f} s {base.cpu:9.3f} s   (first run, with compilation: {first.wall:.1f} s)"
        )
        for name, run in present.items():
            known = sorted({metric.removesuffix("_ts") for metric in results[name]})
            spent = seconds(lambda run=run: run(files), options.repeats)
            lacks = [metric for metric in NAMES if metric not in known]
            print(
                f"{name:14s} {spent.wall:9.3f} s {spent.cpu:9.3f} s   {spent.wall / base.wall:6.1f} x "
                f"{spent.cpu / base.cpu:6.1f} x   {'lacks ' + ', '.join(lacks) if lacks else ''}"
            )
        first, spent = (seconds(lambda: whole_probe(files), n) for n in (1, options.repeats))
        print(f"whole probe    {spent.wall:9.3f} s {spent.cpu:9.3f} s   (first run: {first.wall:.1f} s)")
    return None


if __name__ == "__main__":
    main()
