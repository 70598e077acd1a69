"""What only a GPU or a TPU can show, in one command of at most nine minutes; docs/accelerator.md says what to expect.

    python benchmarks/accelerator.py --out=runs/accelerator --data=cifar10.npz
    python benchmarks/accelerator.py --out=runs/accelerator --stages=smoke,trials     some of it
    python benchmarks/accelerator.py --out=/tmp/tiny --tiny                           does it run? on any CPU

Stages in order, each a process of its own: smoke, trials, attacks, measures, study. A row is printed as a line of JSON
and written to OUT/STAGE.json as soon as it is known; a stage that is longer than its time is ended, and the next one
begins. A stage starts nothing that it does not expect to finish, and says what it left out.

`--data`: an .npz of train_images, train_labels, test_images, test_labels (uint8 [N, 32, 32, 3], whole numbers); without
it all of CIFAR-10 where TFDS_DATA_DIR holds it, else images that are made up, which is said. PyTorch, torchattacks and
pyautoattack are compared with where they can be imported.
"""

import argparse
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time

from stages.images import ImageError, prepare
from stages.report import Options, Report

SECONDS = {"smoke": 30, "trials": 120, "attacks": 60, "measures": 40, "study": 240}
WHOLE = 530  # of all stages together: below nine minutes
STARTING = 8  # seconds that a process takes before its stage begins
TINY = 300  # seconds of a stage of tiny sizes: a busy CPU compiles slowly


def run_stage(name: str, seconds: float, options: Options) -> None:
    """One stage, in this process."""
    report = Report(options.out / f"{name}.json", time.monotonic() + seconds)
    importlib.import_module(f"stages.{name}").run(report, options)
    report.row(what="end", seconds=report.spent())


def watched(command: list[str], seconds: float, log: pathlib.Path, environment: dict[str, str]) -> str:
    """Runs a command for at most so many seconds, its errors to a file; says in words how it ended."""
    with log.open("w") as errors:
        process = subprocess.Popen(command, stderr=errors, env=environment, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"ended after {seconds:.0f} s: what it had is written"
    if code:
        told = log.read_text().strip().splitlines()[-1:] or ["without a word"]
        return f"failed with exit code {code} ({told[0][:200]})"
    return "done"


def stage_command(name: str, seconds: float, args: argparse.Namespace) -> list[str]:
    """The command of one stage alone."""
    words = [sys.executable, str(pathlib.Path(__file__)), f"--stage={name}", f"--seconds={seconds:.0f}"]
    words += [f"--out={args.out}", *(["--tiny"] if args.tiny else [])]
    return words + ([f"--data={args.data}"] if args.data else [])


def environment_of(name: str, out: pathlib.Path) -> dict[str, str]:
    """PyTorch and JAX share the device; of the smoke test XLA writes down what it made of the program."""
    found = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if name == "smoke":
        dump = f"--xla_dump_to={out / 'xla'} --xla_dump_hlo_module_re=.*body.* --xla_dump_hlo_as_text"
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} {dump}"
    return found


def run_all(names: list[str], args: argparse.Namespace) -> bool:
    """All stages, each with its own time and no more than what is left; whether all of them ended by themselves."""
    deadline, healthy = time.monotonic() + WHOLE, True
    for name in names:
        left = deadline - time.monotonic()
        seconds = min(TINY if args.tiny else SECONDS[name] + STARTING, left)
        if seconds < 2 * STARTING:
            print(f"{name}: left out, only {left:.0f} s are left", flush=True)
            continue
        command = stage_command(name, seconds - STARTING, args)
        said = watched(command, seconds, args.out / f"{name}.log", environment_of(name, args.out))
        print(f"{name}: {said}", flush=True)
        healthy &= said == "done"
    return healthy


def stages_of(text: str) -> list[str]:
    """Names of stages with commas between."""
    names = text.split(",")
    unknown = sorted(set(names) - set(SECONDS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown stage {unknown[0]!r}; known: {', '.join(SECONDS)}.")
    return names


def main() -> int:
    """Prepares the images, then runs one stage here, or all of them one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=lambda text: pathlib.Path(text).absolute(), required=True)
    parser.add_argument("--data", default="")
    parser.add_argument("--stages", type=stages_of, default=list(SECONDS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--inside", action="store_true", help="all stages in this process: nothing ends them")
    parser.add_argument("--stage", choices=list(SECONDS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=TINY, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        options = Options(args.tiny, args.out, *prepare(args.data, args.out / "arrays", args.tiny))
    except ImageError as error:
        parser.error(str(error))
    if args.stage:
        run_stage(args.stage, args.seconds, options)
    elif args.inside:
        for name in args.stages:
            run_stage(name, args.seconds, options)
    else:
        return 0 if run_all(args.stages, args) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
