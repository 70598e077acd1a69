"""The deep study: as many seeds and epochs of a ResNet as fit, predicted, attacked and measured."""

import json
import shutil
from typing import Any

import jax
import numpy as np

from jaxreg import config as configs
from jaxreg import study
from jaxreg.robustness.attacks import ATTACKS, SUITES
from jaxreg.runtime.preemption import Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.training import predictions
from jaxreg.training.program import programs_of
from stages import networks
from stages.report import Options, Report

BATCH, EPOCHS, SEEDS = 128, 30, 5
TRAINING = 0.45  # share of the time that training may take: attacks cost as much
PROBES = ("calibration", "geometry", "robustness")
PGD_20 = ATTACKS["pgd_ce"]._replace(steps=20, step_size=2.5 / 20)


def run(report: Report, options: Options) -> None:
    """Trains what fits, then measures probe by probe: what is finished comes back, whatever ends the run."""
    dataset = networks.loaded(options)
    model, way = chosen(options)
    seeds, epochs = (1, 1) if options.tiny else fitting(report, options, model, way, dataset)
    steps = 4 if options.tiny else epochs * (len(dataset.splits["train"]) // BATCH)
    plain = config_of(options, model, way, seeds, steps)
    report.row(what="study", images=options.images, model=model, way=way, seeds=seeds, epochs=epochs, steps=steps)
    workdir = options.out / "study"
    stage(report, plain, workdir, "train")
    stage(report, plain, workdir, "predict")
    bring_logits(report, options, plain, workdir)
    for probe in PROBES:
        stage(report, plain | {"probes": plain["probes"] | {"only": [probe]}}, workdir, "probe")
        study.gather(Workdir(workdir))
        shutil.copy(workdir / "results.parquet", options.out / "results.parquet")
        report.row(what="results", probe=probe, file="results.parquet")


def chosen(options: Options) -> tuple[str, str]:
    """ResNet-20, and of the ways that a study knows the one that stage trials found faster; else one after another."""
    path = options.out / "trials.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    timed = [row for row in rows if row.get("model") == "resnet20" and row.get("way") in ("map", "vmap")]
    timed = [row for row in timed if "images_a_second" in row]
    return "resnet20", max(timed, key=lambda row: row["images_a_second"])["way"] if timed else "map"


def fitting(report: Report, options: Options, model: str, way: str, dataset: Any) -> tuple[int, int]:
    """Seeds and epochs that fit into the time of training, by the time of a step of all trials: first fewer epochs."""
    program = networks.program_of(options, model, SEEDS * len(networks.REGULARIZERS), 10_000, BATCH)
    first, step = networks.step_seconds(program, dataset, way, 10)
    epoch = step * (len(dataset.splits["train"]) // BATCH)
    fit = (TRAINING * report.left() - first) / epoch
    report.row(what="step", step_of_all=step, epoch_of_all=epoch, first=first)
    seeds = SEEDS if fit >= 5 else max(1, int(SEEDS * fit / 5))
    return seeds, max(1, min(EPOCHS, int(fit * SEEDS / seeds)))


def config_of(options: Options, model: str, way: str, seeds: int, steps: int) -> dict[str, Any]:
    """The study's config: suite `paper` where there is one, and PGD-20."""
    base = SUITES.get("paper", SUITES["quick"])
    attacks = {"pgd_ce": PGD_20._replace(steps=2)} if options.tiny else {**base.attacks, "pgd_20": PGD_20}
    SUITES["accelerator"] = base._replace(attacks=attacks, cascade=False, minimal_steps=0)
    attacked = 8 if options.tiny else 500
    few = {"bootstrap": 5} if options.tiny else {"bootstrap": 200}
    probes = {
        "calibration": few,
        "robustness": {
            "suite": "accelerator",
            "norm": "linf",
            "epsilons": [2 / 255, 8 / 255],
            "examples": attacked,
            "verdict": False,
        },
        "geometry": {"train_examples": 200 if options.tiny else 10_000, "snapshots": 0},
    }
    execution = {
        "local_trials": way,
        "steps_per_dispatch": 2 if options.tiny else 20,
        "dispatches_per_checkpoint": 10_000,
        "eval_batch_size": 64 if options.tiny else 500,
    }
    batch = 8 if options.tiny else BATCH
    return networks.plain(options, model, seeds, steps, batch, probes=probes, execution=execution)


def stage(report: Report, plain: dict[str, Any], workdir: Any, command: str) -> None:
    """One stage of the study, and its seconds."""
    begun = report.spent()
    study.run(command, configs.resolve(plain), plain, [{}], Workdir(workdir), Preemption())
    report.row(what=command, only=plain["probes"].get("only"), seconds=report.spent() - begun)


def bring_logits(report: Report, options: Options, plain: dict[str, Any], workdir: Any) -> None:
    """The logits of validation and test in float16, beside the results."""
    (program,) = programs_of(configs.resolve(plain))
    found: dict[str, np.ndarray] = {"trials": np.array([trial.id for trial in program.trials])}
    for split in ("validation", "test"):
        saved = predictions.load(program.trials, Workdir(workdir), split)
        found |= {f"{split}_logits": saved.logits.astype(np.float16), f"{split}_labels": saved.labels}
    np.savez_compressed(options.out / "logits.npz", **found)
    size = (options.out / "logits.npz").stat().st_size
    right = found["test_logits"].argmax(2) == found["test_labels"]
    accuracy = dict(zip((trial.id for trial in program.trials), right.mean(1).tolist()))
    report.row(what="logits", file="logits.npz", bytes=size, device=jax.devices()[0].device_kind, accuracy=accuracy)
