"""Jobs that look finished: results, curves and provenance without a training."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jaxreg import config as configs
from jaxreg import results
from jaxreg.measured import Row
from jaxreg.setting import Setting
from jaxreg.training.program import programs_of


def program_of(held: dict) -> str:
    return programs_of(configs.resolve(held["config"], held["sweep"]))[0].id


def study(folder: Path, trials: list[list[str]], first: int = 0, name: str = "made-up") -> Path:
    """A study of one job for each list of trials; the seed of a trial is its letter's place in the alphabet."""
    for place, names in enumerate(trials):
        job(folder / "jobs" / f"{first + place:03d}-{'-'.join(names)}", names, study=name)
    return folder


def job(workdir: Path, names: list[str], study: str = "made-up", probe: str = "calibration") -> None:
    workdir.mkdir(parents=True)
    config = {"study": study, "trials": names, "probes": {}}
    (workdir / "config.json").write_text(json.dumps({"config": config, "sweep": [{}]}))
    facts = {"wall_seconds": {"train": 1.0}, "runs": [{"command": "made up"}]}
    (workdir / "provenance.json").write_text(json.dumps(facts))
    tables, curves = [], []
    for name in names:
        origin = results.Origin(study, "program-0", name, Setting("none"), "abcdefgh".index(name))
        rows = [Row("test", "accuracy", 0.5, 10, 0.4, 0.6), Row("test", "ece", 0.1, 10)]
        tables.append(results.rows_to_table(origin, probe, rows))
        curves.append({"trial": name, "regularizer": "none", "hyperparameters": "{}", "seed": origin.seed, "step": 1})
    results.write(workdir / "results.parquet", pa.concat_tables(tables))
    (workdir / "curves").mkdir()
    frame = pd.DataFrame(curves).assign(loss=1.0, accuracy=0.5, grad_norm=1.0, learning_rate=0.1)
    frame.to_parquet(workdir / "curves" / "program-0.parquet")
    (workdir / "done.json").write_text("{}")
