"""How long a study of 10,000 trials takes to list, filter, join and report, with made-up results on disk.

    python benchmarks/results.py            100 jobs of 100 trials: 1,000 settings of 10 seeds, 36 numbers a trial
    python benchmarks/results.py --tiny     2 jobs of 24 trials, once: does it run?
    python benchmarks/results.py --profile=page    where the time of one of the steps goes

The study is configs/digits.py under a sweep over learning rates and weight decays, cut into jobs as a launcher cuts it.
Each job has what a finished one leaves: config, provenance, results.parquet, curves; no per-example arrays. Times are
medians over `--repeats`, with warm disk caches; `report` is what `python -m jaxreg report` does.
"""

import argparse
import contextlib
import cProfile
import importlib.util
import io
import json
import os
import platform
import pstats
import statistics
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from etils import epath

from jaxreg import claims, jobs, packing, plan, results, study, sweeps
from jaxreg import config as configs
from jaxreg.report import data, page

ROOT = Path(__file__).parents[1]
METRICS = {
    "calibration": (
        *("accuracy", "nll", "nll_ts", "ece", "ece_ts", "ece_floor", "ece_floor_ts", "mce", "smece", "smece_ts"),
        *("brier", "brier_ts", "aurc", "confidence_gap", "confidence_gap_ts", "ece_isotonic", "ece_vector_scaling"),
        *("classwise_ece", "adaptive_ece", "debiased_ece", "temperature"),
    ),
    "robustness": [
        f"robust_accuracy/{attack}/{eps}" for attack in ("worst", "pgd", "apgd") for eps in (0.02, 0.05, 0.1)
    ],
    "geometry": ("feature_norm", "feature_rms", "center_cosine", "cone_fraction", "label_margin", "nc1"),
}
POINTS = 20  # of a trial's curves


def spec_of(given):
    """The config, the sweep and the study, resolved."""
    spec = importlib.util.spec_from_file_location("digits", ROOT / "configs" / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seeds = 3 if given.tiny else 10
    config.regularizers = [[name, {}] for name in ("none", "label_smoothing", "mixup", "cutmix")]
    rates, decays = (2, 2) if given.tiny else (given.rates, 10)
    sweep = sweeps.product(
        sweeps.over("optimizer.learning_rate", *(round(0.002 * (i + 1), 4) for i in range(rates))),
        sweeps.over("optimizer.weight_decay", *(round(1e-4 * (i + 1), 5) for i in range(decays))),
    )
    plain = configs.as_plain(config)
    return plain, sweep, configs.resolve(plain, sweep)


def make(directory, given):
    """Writes the study as jobs that are done; returns how many trials it has."""
    plain, sweep, found = spec_of(given)
    trials = [trial for family in packing.families(found) for trial in family.trials]
    size = 24 if given.tiny else 100
    cut = [packing.Job(tuple(trials[i : i + size]), 1.0) for i in range(0, len(trials), size)]
    workdirs = jobs.settle(directory, found, plain, sweep, cut)
    names = {trial.id: program.id for program in plan.programs(found) for trial in program.trials}
    for number, (workdir, job) in enumerate(zip(workdirs, cut)):
        leave(workdir, job.trials, names, found.name, np.random.default_rng(number))
        jobs.finish(workdir, plain)
    return len(trials)


def leave(workdir, trials, programs, name, rng):
    """What the probes and the training of one job leave behind."""
    run = {"started": "2026-01-02T03:04:05Z", "command": "python -m jaxreg study", "versions": {"jax": "0"}}
    facts = run | {"wall_seconds": {"train": 1.0}, "runs": [run]}
    (workdir / "provenance.json").write_text(json.dumps(facts))
    origins = pd.DataFrame(
        [(t.id, t.regularizer.name, results.canonical(t.hyperparameters), t.seed) for t in trials],
        columns=["trial", "regularizer", "hyperparameters", "seed"],
    ).assign(program=[programs[t.id] for t in trials])
    numbers = pd.DataFrame(
        [(probe, metric) for probe, own in METRICS.items() for metric in own], columns=["probe", "metric"]
    )
    rows = origins.merge(numbers, how="cross").assign(study=name, split="test", n=360)
    value = rng.uniform(0.05, 0.95, len(rows))
    rows = rows.assign(value=value, low=value - 0.02, high=value + 0.02)
    for probe, own in rows.groupby("probe"):
        (workdir / "probes" / probe).mkdir(parents=True)
        table = pa.Table.from_pandas(own[results.SCHEMA.names], results.SCHEMA, preserve_index=False)
        results.write(workdir / "probes" / probe / "program.parquet", table.replace_schema_metadata(None))
    results.gather(workdir)
    curve = origins.merge(pd.DataFrame({"step": np.arange(1, POINTS + 1) * 50}), how="cross")
    columns = {c: rng.uniform(0.1, 1.0, len(curve)) for c in ("loss", "accuracy", "grad_norm", "learning_rate")}
    (workdir / "curves").mkdir()
    curve.assign(**columns).to_parquet(workdir / "curves" / "program.parquet")


def steps_of(directory):
    """What is timed, by name."""
    workdirs = jobs.workdirs(directory)
    where = results.condition(["metric=ece*", "seed=3"])
    found = data.load([directory])
    return {
        "list": lambda: jobs.status(directory),
        "filter": lambda: results.select(workdirs, where),
        "join": lambda: results.select(workdirs),
        "summary": lambda: results.summary(found.frame),
        "load": lambda: data.load([directory]),
        "claims": lambda: claims.evaluate(found.frame, {}),
        "page": lambda: page.build([directory]),
        "report": lambda: study.report([directory]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rates", type=int, default=25, help="learning rates, each of 40 settings")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of steps")
    parser.add_argument("--profile", help="name of a step")
    given = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "pandas", "pyarrow", "matplotlib"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        directory, started = epath.Path(folder) / "study", time.perf_counter()
        trials = make(directory, given)
        jobs_, rows = len(jobs.workdirs(directory)), trials * sum(map(len, METRICS.values()))
        print(f"{trials:,} trials in {jobs_} jobs, {rows:,} numbers: made in {time.perf_counter() - started:.1f} s")
        for name, step in steps_of(directory).items():
            if given.profile == name:
                profile(step)
            elif not given.profile and (not given.only or name in given.only):
                print(f"{name:8} {seconds(step, 1 if given.tiny else given.repeats):8.2f} s", flush=True)


def seconds(step, repeats):
    """The median of `repeats` runs, silently."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def profile(step):
    with cProfile.Profile() as found, contextlib.redirect_stdout(io.StringIO()):
        step()
    pstats.Stats(found).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
