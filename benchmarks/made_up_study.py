"""A made-up study of any size on disk, after the pattern of a small real one.

Each trial leaves the rows, arrays, predictions and curves that a trial of its regularizer left in the real study:
whatever the probes measure, under whatever names. Numbers scatter around the real ones: a share of n examples stays one
(so that seeds tie as often as they do), a whole number stays as it is. Arrays and predictions are links to real files.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxreg import config as configs
from jaxreg import results, sweeps
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import packing
from jaxreg.training.program import programs_of

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "digits.py"
IDENTITY = ["trial", "regularizer", "hyperparameters", "seed"]


def train_pattern(workdir):
    """Runs the study of configs/digits.py with one seed; returns its workdir."""
    words = ["-m", "jaxreg", "study", f"--config={CONFIG}", "--config.seeds=1", f"--workdir={workdir}"]
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return Path(workdir)


def make(directory, pattern, rates, decays, seeds, size):
    """Writes `rates` x `decays` settings of each regularizer as jobs of `size` trials; returns how many trials."""
    plain, sweep, found = spec_of(rates, decays, seeds)
    trials = [trial for family in packing.families(found) for trial in family.trials]
    cut = [packing.Job(tuple(trials[i : i + size]), 1.0) for i in range(0, len(trials), size)]
    workdirs = jobs.settle(directory, found, plain, sweep, cut)
    programs = {trial.id: program.id for program in programs_of(found) for trial in program.trials}
    rows = results.read(pattern / "results.parquet")
    curves = pd.concat(pd.read_parquet(path) for path in pattern.glob("curves/*.parquet"))
    rng = np.random.default_rng(0)
    for workdir, job in zip(workdirs, cut):
        names = [t.regularizer.name for t in job.trials], [t.setting.hyperparameters for t in job.trials]
        ids, seeds_ = [t.id for t in job.trials], [t.seed for t in job.trials]
        own = pd.DataFrame(dict(zip(IDENTITY, (ids, *names, seeds_)))).assign(program=[programs[i] for i in ids])
        own = own.assign(like=likes(own, rows, rng))
        leave(Path(workdir), own, rows.assign(study=found.name), curves, rng)
        link(Path(workdir), pattern, own)
        results.gather(workdir)
        jobs.finish(workdir, plain)
    return len(trials)


def spec_of(rates, decays, seeds):
    """configs/digits.py with more seeds, under a sweep over learning rates and weight decays: config, sweep, study."""
    spec = importlib.util.spec_from_file_location("digits", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seeds = seeds
    sweep = sweeps.product(
        sweeps.over("optimizer.learning_rate", *(round(0.002 * (i + 1), 4) for i in range(rates))),
        sweeps.over("optimizer.weight_decay", *(round(1e-4 * (i + 1), 5) for i in range(decays))),
    )
    plain = configs.as_plain(config)
    return plain, sweep, configs.resolve(plain, sweep)


def likes(trials, rows, rng):
    """For each trial a real one of its regularizer."""
    real = rows.drop_duplicates("trial").groupby("regularizer")["trial"].agg(list)
    return [rng.choice(real[name]) for name in trials["regularizer"]]


def leave(workdir, trials, rows, curves, rng):
    """What the probes and the training of one job leave behind, but for the files of `link`."""
    run = {"started": "2026-01-02T03:04:05Z", "command": "python -m jaxreg study", "versions": {"jax": "0"}}
    facts = run | {"wall_seconds": {"train": 1.0}, "runs": [run]}
    (workdir / "provenance.json").write_text(json.dumps(facts))
    left = as_of(trials, rows.drop(columns="program"))
    left = left.assign(value=scatter(left["value"], left["n"], rng))
    for probe, own in left.groupby("probe"):
        (workdir / "probes" / probe).mkdir(parents=True)
        table = pa.Table.from_pandas(own[results.SCHEMA.names], results.SCHEMA, preserve_index=False)
        results.write(workdir / "probes" / probe / "program.parquet", table.replace_schema_metadata(None))
    (workdir / "curves").mkdir()
    left = as_of(trials, curves)[curves.columns]
    left["loss"] *= rng.uniform(0.9, 1.1, len(left))
    left.to_parquet(workdir / "curves" / "program.parquet")


def as_of(trials, real):
    """The rows of the real trial that each trial is like, under its own name."""
    return trials.merge(real.drop(columns=IDENTITY[1:]).rename(columns={"trial": "like"}), on="like")


def scatter(value, n, rng):
    """Shares of n examples scatter as such do, other numbers by 5 %; whole ones stay."""
    count, noise = value * n, rng.normal(size=len(value))
    is_share = (value > 0) & (value < 1) & ((count - count.round()).abs() < 1e-4)
    spread = np.sqrt(np.where(is_share, count * (1 - value), 0))
    share = (count + spread * noise).round().clip(0, n) / n
    other = np.where(is_share, share, value * (1 + 0.05 * noise))
    return value.where((value % 1 == 0) | ~np.isfinite(value), other.astype(np.float32))  # metrics are float32


def link(workdir, pattern, trials):
    """Arrays and predictions of each trial: those of the real one."""
    (workdir / "predictions").mkdir()
    for trial, real in zip(trials["trial"], trials["like"]):
        (workdir / "predictions" / trial).symlink_to(pattern / "predictions" / real)
        for path in pattern.glob(f"probes/*/{real}.npz"):
            (workdir / "probes" / path.parent.name / f"{trial}.npz").symlink_to(path)
