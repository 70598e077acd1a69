"""Attacks on the same weights: jaxreg against torchattacks, foolbox (PyTorch, JAX), ART and pyautoattack.

    python benchmarks/attacks.py --torch_python=/path/to/python             everything (hours: 100 steps on a ResNet-20)
    python benchmarks/attacks.py --tiny --torch_python=/path/to/python      does it run?
    python benchmarks/attacks.py --models=cnn8 --rows=pgd10,radii           some of it

Each arm is a process of its own on the same pinned cores, in its own environment (`--torch_python`: one with torch,
torchattacks, foolbox, adversarial-robustness-toolbox, pyautoattack; `--foolbox_jax_path`: a folder with foolbox, put
before this environment's packages), since the packages cannot share one. All read the same weights, images and labels
from one file; logits are compared first. Nobody stops early but in `radii_exit` and `ensemble`. An arm's time is
printed only if its masks agree: what it fools and jaxreg does not must be at most 1 % of the examples, 3 % where starts
are random (jaxreg also counts points on the way, so it may fool more, which is shown). PyTorch runs with channels_last
and without, the faster one counts. The first run in a fresh process is a column of its own, and so is that in a second
process, which finds the programs that the first one kept (the others keep none): on the clock and of processors. Then
median and minimum of `--repeats` runs. A ratio above 1 means jaxreg is faster.
radii: eight at once with five restarts each, every one to its end; radii_exit: the same where whoever can may leave out
what no longer matters (jaxreg does; the others know no such thing). ensemble: the standard one on a set where most
examples break early.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import attack_arms
import numpy as np
from attack_arms import RANDOM, ROWS
from attack_problem import MODELS, make_problem

ARMS = {
    "jaxreg": ROWS,
    "torchattacks": ("pgd10", "pgd40", "radii", "radii_exit"),
    "foolbox_torch": ("pgd10", "pgd40", "radii", "radii_exit"),
    "foolbox_jax": ("pgd10", "pgd40", "radii", "radii_exit"),
    "art": ("pgd10", "pgd40", "radii", "radii_exit"),
    "pyautoattack": ("apgd100", "ensemble"),
}


# --- one arm in its own process ---
def worker(options: dict) -> None:
    """Runs one arm on one row; writes times, mask, logits and versions."""
    os.sched_setaffinity(0, options["cores"])
    if options["arm"] in ("jaxreg", "foolbox_jax") and not options["gpu"]:
        os.environ["JAX_PLATFORMS"] = "cpu"
    with np.load(options["problem"]) as stored:
        data = dict(stored)
    logits, run = getattr(attack_arms, f"arm_{options['arm']}")(data, options)
    times, spent = [], []
    for _ in range(options["repeats"] + 1):
        begin, before = time.perf_counter(), time.process_time()
        fooled = run(options["row"])
        times.append(time.perf_counter() - begin)
        spent.append(time.process_time() - before)
    packages = [name for name in ("jax", "torch", options["arm"].split("_")[0]) if name in sys.modules]
    versions = {name: getattr(sys.modules[name], "__version__", "") for name in packages}
    np.savez(options["out"], fooled=fooled, logits=logits, times=times, spent=spent, versions=json.dumps(versions))


def call(arm: str, row: str, problem: str, args: argparse.Namespace, channels_last: bool) -> dict | None:
    """One worker; None if the arm is not installed (its last line of output is shown)."""
    out = f"{problem}.{arm}.{row}.npz"
    options = {
        "arm": arm, "row": row, "problem": problem, "out": out, "cores": args.cores, "slots": args.batch,
        "repeats": args.repeats, "gpu": args.gpu, "channels_last": channels_last, "ensemble_steps": args.ensemble_steps,
    }  # fmt: skip
    ours, path = arm in ("jaxreg", "foolbox_jax"), os.environ.get("PYTHONPATH", "")
    python = sys.executable if ours else args.torch_python
    extra = args.foolbox_jax_path if arm == "foolbox_jax" else ""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in (path, extra) if p)}
    environment["JAXREG_COMPILATION_CACHE"] = f"{problem}.{row}.kept"
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [python, __file__, "--worker", json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {arm}: does not run here ({done.stderr.strip().splitlines()[-1][:120]})")
        return None
    with np.load(out) as stored:
        return dict(stored)


# --- the table ---
def compare(name: str, row: str, problem: str, args: argparse.Namespace, ran: dict) -> None:
    """One row of one model: jaxreg first, then every other arm with its ratio. `ran`: by arm and row, of this model."""
    own = call("jaxreg", row, problem, args, False)
    if own is None:
        raise SystemExit("jaxreg itself must run.")
    again = call("jaxreg", row, problem, argparse.Namespace(**vars(args) | {"repeats": 0}), False) or own
    base = show(name, row, "jaxreg", own, own, again=again)
    ran |= {(arm, "radii_exit"): found for (arm, of), found in ran.items() if of == "radii"}  # without an exit the same
    for arm in (arm for arm, rows in ARMS.items() if row in rows and arm != "jaxreg"):
        layouts = (False, True) if arm not in ("foolbox_jax",) else (False,)
        if (arm, row) not in ran:
            ran[arm, row] = [found for last in layouts if (found := call(arm, row, problem, args, last)) is not None]
        runs = ran[arm, row]
        if runs:
            show(name, row, arm, min(runs, key=lambda found: np.median(found["times"][1:])), own, base)


def show(
    name: str, row: str, arm: str, found: dict, own: dict, base: float | None = None, again: dict | None = None
) -> float:
    """Prints a line; refuses a time where logits or masks do not agree."""
    off = float(np.abs(found["logits"] - own["logits"]).max() / np.abs(own["logits"]).max())
    missed, more = (float(np.mean(m)) for m in (found["fooled"] & ~own["fooled"], own["fooled"] & ~found["fooled"]))
    middle, least = statistics.median(found["times"][1:]), min(found["times"][1:])
    first = f"first {told_first(found)}" + (f"  in a second process {told_first(again)}" if again else "")
    line = f"{name:9s} {row:9s} {arm:14s} fooled {found['fooled'].mean():6.1%}"
    if off > 1e-3 or missed > (0.03 if row in RANDOM else 0.01):
        print(f"{line}  NOT COMPARABLE: logits differ by {off:.1e}, it alone fools {missed:.1%}")
        return middle
    ratio = "" if base is None else f"  ratio {middle / base:5.2f}{'' if middle > base else '  BEHIND'}"
    later = f"median {middle:7.3f}  min {least:7.3f}{ratio}"
    print(f"{line}  {first}  {later}  jaxreg alone fools {more:.1%}  {found['versions']}", flush=True)
    return middle


def told_first(found: dict) -> str:
    """The first run of a process: seconds on the clock, and of processors."""
    return f"{found['times'][0]:7.2f} s ({found['spent'][0]:.2f})"


def hardware(cores: list[int]) -> str:
    """What this runs on."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if pathlib.Path("/proc/cpuinfo").exists() else ""
    kind = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    return f"{kind or platform.processor() or platform.machine()}, cores {cores}, Python {platform.python_version()}"


def main() -> None:
    """Times every attack against its peers, and prints a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", default="")
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--foolbox_jax_path", default="")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ensemble_steps", type=int, default=5000, help="cut the ensemble's steps and queries to this")
    parser.add_argument("--cores", type=lambda text: [int(c) for c in text.split(",")], default=None)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return
    if args.tiny:
        args.count, args.batch, args.repeats, args.ensemble_steps = 32, 16, 1, 5
    args.cores = args.cores or sorted(os.sched_getaffinity(0))
    print(hardware(args.cores))
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            problem = pathlib.Path(folder) / f"{name}.npz"
            make_problem(name, args.count, problem)
            ran: dict = {}
            for row in args.rows.split(","):
                compare(name, row, str(problem), args, ran)


if __name__ == "__main__":
    main()
