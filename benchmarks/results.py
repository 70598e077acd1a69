"""How long a study of 10,000 trials takes to list, filter, join and report, with made-up results on disk.

    python benchmarks/results.py            100 jobs of 100 trials: 1,000 settings of 10 seeds
    python benchmarks/results.py --tiny     2 jobs of 24 trials, once: does it run?
    python benchmarks/results.py --like=runs/digits    after a study that is there, else one is trained first (a minute)
    python benchmarks/results.py --profile=page    where the time of one of the steps goes

The study is configs/digits.py under a sweep over learning rates and weight decays, cut into jobs as a launcher cuts it.
Each job has what a finished one leaves, in names and numbers as many as the real study has (`made_up_study.py`).
Medians over `--repeats`, with warm disk caches: seconds on the clock, and of processors (those of the processes that
print figures included), which other work on the machine disturbs less. `report` is what `python -m jaxreg report` does.
"""

import argparse
import contextlib
import cProfile
import io
import os
import platform
import pstats
import resource
import statistics
import tempfile
import time
from importlib import metadata
from pathlib import Path

import made_up_study
from etils import epath

from jaxreg import claims, results, study
from jaxreg.jobs import directory as jobs
from jaxreg.report import data, page


def steps_of(directory):
    """What is timed, by name."""
    workdirs = jobs.workdirs(directory)
    where = results.condition(["metric=ece*", "seed=3"])
    found = data.load([directory])
    print(f"{len(found.frame):,} numbers")
    return {
        "list": lambda: jobs.status(directory),
        "filter": lambda: results.select(workdirs, where),
        "join": lambda: results.select(workdirs),
        "summary": lambda: results.summary(found.frame),
        "load": lambda: data.load([directory]),
        "claims": lambda: claims.evaluate(found.frame),
        "page": lambda: page.build([directory]),
        "report": lambda: study.report([directory]),
    }


def main():
    """Times what happens to the results of a large sweep, step by step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rates", type=int, default=25, help="learning rates, each of 40 settings")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of steps")
    parser.add_argument("--profile", help="name of a step")
    parser.add_argument("--like", type=Path, help="workdir of a study of the same regularizers")
    given = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "pandas", "pyarrow", "matplotlib"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        directory, started = epath.Path(folder) / "study", time.perf_counter()
        pattern = given.like.absolute() if given.like else made_up_study.train_pattern(Path(folder) / "pattern")
        size = (2, 2, 3, 24) if given.tiny else (given.rates, 10, 10, 100)
        trials = made_up_study.make(directory, pattern, *size)
        made = time.perf_counter() - started
        print(f"{trials:,} trials in {len(jobs.workdirs(directory))} jobs: made in {made:.1f} s", flush=True)
        for name, step in steps_of(directory).items():
            if given.profile == name:
                profile(step)
            elif not given.profile and (not given.only or name in given.only):
                clock, processor = seconds(step, 1 if given.tiny else given.repeats)
                print(f"{name:8} {clock:8.2f} s, {processor:8.2f} s of processors", flush=True)
        print(f"page: {page_size(directory):.1f} MB; peak memory {peak():.1f} GiB")


def seconds(step, repeats):
    """The medians of `repeats` runs, silently: on the clock, and of processors."""
    clock, processor = [], []
    for _ in range(repeats):
        started, before = time.perf_counter(), os.times()
        with contextlib.redirect_stdout(io.StringIO()):
            step()
        clock.append(time.perf_counter() - started)
        processor.append(sum(os.times()[:4]) - sum(before[:4]))
    return statistics.median(clock), statistics.median(processor)


def page_size(directory):
    """Megabytes of the page; 0 without one."""
    path = directory / "report" / "index.html"
    return path.stat().length / 1e6 if path.exists() else 0.0


def peak():
    """Gigabytes that the process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def profile(step):
    """Prints where a step spends its time."""
    with cProfile.Profile() as found, contextlib.redirect_stdout(io.StringIO()):
        step()
    pstats.Stats(found).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
