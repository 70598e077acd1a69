"""Calibration of many trials from saved logits: jaxreg against torchmetrics, netcal and a NumPy loop.

    python benchmarks/calibration.py                                        64 trials x 10,000 examples x 100 classes
    python benchmarks/calibration.py --trials 2 --examples 300 --classes 5  does it run?
    python benchmarks/calibration.py --memory                               memory of the whole probe at N, 2N, 4N

Two sets, from files on disk to numbers. `numbers`: all metrics on test before and after a temperature fitted on
validation (as large as test), 15 bins. `whole`: the probe, which adds validation, vector scaling and isotonic
regression, for all of these 200 bootstrap replicates and the noise floors. Packages know some of `numbers` only: what
they lack is left out of their time, and said; those that are not installed are left out (peers: calibration_peers.py).
The NumPy loop of `whole` lacks intervals and floor of the classwise ECE and runs on `--peer_trials` trials, its seconds
are those times trials / peer trials. Values are compared before anything is timed. Times, of the clock and of
processors, are the median of `--repeats` runs (of the NumPy loop of `whole`: one); jaxreg's first run, with
compilation, is given apart.

What `numbers` must cost at least, a trial of 10,000 x 100, one core: 4 MB of logits a split are read, checked and
copied twice (2 ms); the temperature takes two looks at validation, each with 1 M exponentials and three sums (3.5 ms);
before and after it, test takes 1 M exponentials with five sums (1.5 ms), the classes beyond the first bin are placed
one by one (1.5 ms), and 10,000 confidences are sorted (0.5 ms). In all about 13 ms: 64 trials on two cores take 0.4 s
or more. Memory: 64 MiB of logits on the devices, and the next 64 MiB being read, however many trials and examples.
`--memory` prints, by compiled program and device, what it needs beyond its inputs (logits, or what is known of every
example) and results; and the peak of a process that runs the whole probe, which holds the results of all trials too.
"""

import argparse
import functools
import importlib.util
import json
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import calibration_peers as peers
import jax
import numpy as np

from jaxreg.calibration import Logits, evaluate, measure, probe
from jaxreg.calibration.trial import COLUMNS, VARIANTS
from jaxreg.measured import Measured
from jaxreg.runtime import parallel

BINS, REPLICATES = peers.BINS, 200
EXACT = re.compile("validation/.*_width_isotonic")
RELATIVE = {"temperature": 1e-3, "_floor": 0.35, "_width": 0.5}  # allowed: the last two are of 200 random draws
Values = dict[str, list[float]]


class Files(NamedTuple):
    """Saved logits: a file a trial and split; labels that all trials share."""

    directory: pathlib.Path
    trials: int
    labels: dict[str, np.ndarray]

    def load(self, split: str, trial: int) -> np.ndarray:
        """The logits [N, K] of one trial."""
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
def splits(files: Files) -> dict[str, Logits]:
    """The splits as the probe takes them, reading logits when asked for."""
    found, start = {}, 0
    for name, y in files.labels.items():
        found[name] = Logits(Lazy(files, name), y, start + np.arange(len(y)))
        start += len(y)
    return found


def jaxreg(files: Files) -> Values:
    """The values that this library gives, by name."""
    return {name: values.tolist() for name, values in evaluate(splits(files))["test"].items()}


def whole_probe(files: Files) -> list[Measured]:
    """What the probe gives: values, intervals, floors and arrays."""
    return measure(splits(files), replicates=REPLICATES)


def whole_values(found: list[Measured]) -> Values:
    """By "split/name" the values of every trial, and by "split/name_width" those of the intervals."""
    values = {f"{row.split}/{row.metric}": [] for row in found[0].rows}
    for row in (row for one in found for row in one.rows):
        values[f"{row.split}/{row.metric}"].append(row.value)
        if row.low is not None:
            values.setdefault(f"{row.split}/{_width(row.metric)}", []).append(row.high - row.low)
    return values


def _width(metric: str) -> str:
    suffix = next((s for s in ("_ts", "_vector_scaling", "_isotonic") if metric.endswith(s)), "")
    return f"{metric.removesuffix(suffix)}_width{suffix}"


# --- the others -------------------------------------------------------------------------------------------------------
def each_trial(files: Files, numbers: Callable[[np.ndarray, np.ndarray], dict[str, float]], fit: Callable) -> Values:
    """The values that another library gives, trial by trial."""
    rows = []
    for trial in range(files.trials):
        t = fit(files.load("validation", trial), files.labels["validation"])
        z, y = files.load("test", trial), files.labels["test"]
        after = {name + "_ts": value for name, value in numbers(z / np.float32(t), y).items()}
        rows.append(numbers(z, y) | after | {"temperature": t})
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def whole_loop(files: Files) -> Values:
    """The same as the whole probe, trial by trial in NumPy."""
    rows = []
    for trial in range(files.trials):
        logits = {split: files.load(split, trial) for split in files.labels}
        rows.append(peers.numpy_whole(logits, files.labels, REPLICATES))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


OTHERS = {  # package that must be there, and what runs
    "numpy loop": ("numpy", functools.partial(each_trial, numbers=peers.numpy_numbers, fit=peers.numpy_fit)),
    "torchmetrics": (
        "torchmetrics",
        functools.partial(each_trial, numbers=peers.torchmetrics_numbers, fit=peers.torch_fit),
    ),
    "netcal": ("netcal", functools.partial(each_trial, numbers=peers.netcal_numbers, fit=peers.numpy_fit)),
}


# --- comparison -------------------------------------------------------------------------------------------------------
def compare(name: str, found: Values, expected: Values) -> None:
    """Stops unless every number that both know agrees as `allowed`; prints the largest differences.

    Not compared: intervals of errors that isotonic regression has made exactly 0, on the split it was fitted on.
    """
    shared = [metric for metric in found if metric in expected and not EXACT.fullmatch(metric)]
    worst = {metric: _apart(metric, np.array(found[metric]), np.array(expected[metric])) for metric in shared}
    for metric, apart in worst.items():
        if not apart <= allowed(metric):
            raise SystemExit(
                f"{name}: {metric} differs from jaxreg by {apart:.2e}, allowed {allowed(metric):.0e}: no time printed."
            )
    kinds = {kind: max((a for m, a in worst.items() if kind in m), default=0.0) for kind in RELATIVE}
    usual = max(a for m, a in worst.items() if not any(kind in m for kind in (*RELATIVE, "mce")))
    told = ", ".join(f"of a {kind.strip('_')} {apart:.1%}" for kind, apart in kinds.items() if apart)
    print(f"{name}: {len(shared)} numbers agree; largest difference {usual:.1e}, {told}")


def _apart(metric: str, values: np.ndarray, expected: np.ndarray) -> float:
    scale = np.abs(values) if any(kind in metric for kind in RELATIVE) else 1.0
    return float(np.max(np.abs(values - expected[: len(values)]) / scale))


def allowed(metric: str) -> float:
    """To 2e-4, smECE, which relplot bisects, and numbers of a fit to 1e-3: some examples cross an edge.

    MCE to 0.02: one example at an edge moves a small bin; debiased to 4e-3: near 0 it is the root of a difference. ECE
    of equal mass after isotonic regression to 0.02: it ties many confidences, and NumPy cuts them where they happen to
    lie. Relative: T, and what is drawn at random by both.
    """
    if kind := next((kind for kind in RELATIVE if kind in metric), None):
        return RELATIVE[kind]
    if "mce" in metric or metric.endswith("ece_adaptive_isotonic"):
        return 0.02
    if "ece_debiased_" in metric:
        return 4e-3
    return 1e-3 if "smece" in metric or metric.endswith(("_ts", "_vector_scaling", "_isotonic")) else 2e-4


class Spent(NamedTuple):
    """Seconds of the clock, and of processors: the latter say less of a machine that others use too."""

    wall: float
    cpu: float


def seconds(run: Callable[[], object], repeats: int) -> Spent:
    """The least time of several runs."""
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
    given = {name: Logits(logits, labels, ids[i::2]) for i, name in enumerate(("validation", "test"))}
    checked = probe.checked(given)
    groups, shared = checked.groups(mesh), parallel.put_shared((checked.shared(), np.uint32(0)), mesh)
    columns = np.zeros((groups.size, len(given), len(VARIANTS) + 1, len(COLUMNS), checked.length), np.float32)
    inputs = {"from logits": checked.read(range(min(groups.size, options.trials))), "from columns": columns}
    for (name, values), program in zip(inputs.items(), probe._programs(BINS, 200, mesh)):
        used = program.lower(groups.place(values), shared).compile().memory_analysis()
        sizes = used.argument_size_in_bytes, used.output_size_in_bytes, used.temp_size_in_bytes
        told = ", ".join(f"{kind} {size / 2**20:.1f}" for kind, size in zip(("inputs", "results", "beyond"), sizes))
        print(f"N = {examples}, {groups.size} trials at a time, MiB a device, {name}: {told}")


def peak(options: argparse.Namespace, examples: int) -> dict[str, float]:
    """Peak memory of a process that runs the whole probe, and of one that only starts, in MiB."""
    command = [sys.executable, __file__, "--child", f"--examples={examples}"]
    command += [f"--trials={options.trials}", f"--classes={options.classes}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(options: argparse.Namespace) -> None:
    """Measures the memory of one kind of run, in a process of its own."""

    def used() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with tempfile.TemporaryDirectory() as directory:
        files = save(pathlib.Path(directory), options.trials, options.examples, options.classes)
        before = used()
        whole_probe(files)
    print(json.dumps({"before": before, "peak": used()}))


def main() -> None:
    """Times this library against its peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"trials": 64, "examples": 10_000, "classes": 100, "repeats": 3, "peer_trials": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sets", default="numbers,whole")
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
        for kind in options.sets.split(","):
            {"numbers": numbers, "whole": whole}[kind](files, options)
    return None


def numbers(files: Files, options: argparse.Namespace) -> None:
    """All metrics of all trials, before and after temperature."""
    first, expected = seconds(lambda: jaxreg(files), 1), jaxreg(files)
    present = {name: run for name, (package, run) in OTHERS.items() if importlib.util.find_spec(package)}
    results = {name: run(files) for name, run in present.items()}
    for name, found in results.items():
        compare(name, found, expected)
    base = seconds(lambda: jaxreg(files), options.repeats)
    told("numbers", "jaxreg", base, base, f"{len(expected)} numbers; first run, with compilation: {first.wall:.1f} s")
    for name, run in present.items():
        spent = seconds(lambda run=run: run(files), options.repeats)
        told("numbers", name, spent, base, f"{len(results[name])} numbers")


def whole(files: Files, options: argparse.Namespace) -> None:
    """The same with intervals, floors, vector scaling and isotonic regression, on both splits."""
    first, found = seconds(lambda: whole_probe(files), 1), whole_values(whole_probe(files))
    base = seconds(lambda: whole_probe(files), options.repeats)
    told("whole", "jaxreg", base, base, f"{len(found)} numbers; first run, with compilation: {first.wall:.1f} s")
    some, results = files._replace(trials=min(options.peer_trials, files.trials)), dict[str, Values]()
    taken = seconds(lambda: results.update(loop=whole_loop(some)), 1)
    compare("numpy loop", results["loop"], found)
    scaled = Spent(*(one / some.trials * files.trials for one in taken))
    told("whole", "numpy loop", scaled, base, f"{len(results['loop'])} numbers; {some.trials} trials measured")


def told(kind: str, name: str, spent: Spent, base: Spent, more: str) -> None:
    """Prints one row."""
    ratios = "" if spent is base else f"{spent.wall / base.wall:6.1f} x {spent.cpu / base.cpu:6.1f} x"
    print(f"{kind:8s} {name:13s} {spent.wall:9.3f} s {spent.cpu:9.3f} s {ratios:18s}  {more}", flush=True)


if __name__ == "__main__":
    main()
