"""A made-up study on disk, as the probes and the training loop leave one behind."""

import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxreg import conditions, results
from jaxreg.measured import Row
from jaxreg.runtime.files import write_json
from jaxreg.runtime.workdir import Workdir
from jaxreg.setting import Setting

SETTINGS = (
    ("none", {}),
    ("label_smoothing", {"epsilon": 0.1}),
    ("label_smoothing", {"epsilon": 0.3}),
    ("mixup", {"alpha": 1.0}),
)
EXAMPLES = 500
ATTACKED = 250  # of these, by the attack that moves features
PROBES = ("calibration", "robustness", "geometry", "displacement", "over_training")
CONDITIONS = {probe: {"device": "cpu"} for probe in PROBES}
CONDITIONS["robustness"] |= {"suite": "made_up_attacks", "norm": "linf"}
CENTERS = 8 * np.eye(3, 5)
PROVENANCE = {
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "versions": {"jax": "0.10.2", "flax": "0.12.8"},
    "device": "cpu",
    "precision": "float32",
    "command": "python -m jaxreg study --config=configs/digits.py --workdir=runs/digits",
    "wall_seconds": {"train": 31.2, "predict": 1.1, "probe/geometry": 9.8},
    "runs": [{"started": "2026-01-02T03:04:05Z"}, {"started": "2026-01-02T04:04:05Z"}],
}


def write(
    workdir: pathlib.Path, settings=SETTINGS, seeds=3, study="digits", arrays=True, curves=True, eps=("0.05", "0.1")
):
    """Writes a workdir of len(settings) x seeds trials and returns its path."""
    workdir.mkdir(parents=True)
    (workdir / "provenance.json").write_text(json.dumps(PROVENANCE))
    (workdir / "config.json").write_text(json.dumps({"name": study, "seeds": list(range(seeds)), "note": "<b>&</b>"}))
    tables, steps = {probe: [] for probe in PROBES}, []
    for i, (name, hyperparameters) in enumerate(settings):
        for seed in range(seeds):
            trial = f"{name}-{i}-{seed}"
            origin = results.Origin(study, "program-0", trial, Setting.of(name, hyperparameters), seed)
            measured = trial_of(np.random.default_rng([i, seed]), i, eps)
            for probe, (rows, saved) in measured.items():
                tables[probe].append(results.rows_to_table(origin, probe, rows))
                (workdir / "probes" / probe).mkdir(parents=True, exist_ok=True)
                if arrays:
                    np.savez_compressed(workdir / "probes" / probe / f"{trial}.npz", **saved)
            if arrays:
                (workdir / "predictions" / trial).mkdir(parents=True)
                for file, own in predictions_of(np.random.default_rng([i, seed, 2])).items():
                    np.savez(workdir / "predictions" / trial / f"{file}.npz", **own)
            steps.append(curve_of(origin, np.random.default_rng([i, seed, 1])))
    for probe, parts in tables.items():
        joined = pa.concat_tables([results.SCHEMA.empty_table(), *parts])
        results.write(workdir / "probes" / probe / "program-0.parquet", joined)
        write_json(Workdir(workdir).marker(probe, "program-0"), {"settings": [], "conditions": CONDITIONS[probe]})
    if curves:
        (workdir / "curves").mkdir()
        pd.concat(steps).to_parquet(workdir / "curves" / "program-0.parquet")
    results.gather(workdir)
    conditions.gather(Workdir(workdir))
    return workdir


def trial_of(rng, i, eps):
    """Rows and arrays of one trial: setting i is a little less confident, more robust and smaller in norm."""
    confidence = np.clip(rng.beta(12 - i, 1, EXAMPLES), 0.1, 1)
    correct = rng.random(EXAMPLES) < 0.96
    norm, cosine = rng.normal(11 - i, 1, EXAMPLES), np.clip(rng.normal(0.4 - 0.05 * i, 0.1, EXAMPLES), -1, 1)
    robust = {
        (attack, e): correct & (rng.random(EXAMPLES) < np.exp(-float(e) * scale / (1 + 0.2 * i)))
        for attack, scale in (("fgsm", 5), ("pgd", 9))
        for e in eps
    }
    worst = {("worst", e): robust["fgsm", e] & robust["pgd", e] for e in eps}
    gap = abs(confidence.mean() - correct.mean())
    row = lambda metric, value: Row("test", metric, float(value), EXAMPLES)  # noqa: E731
    calibration = [
        Row("test", "accuracy", correct.mean(), EXAMPLES, correct.mean() - 0.01, correct.mean() + 0.01),
        row("nll", 0.1 + 0.02 * i + 0.01 * rng.random()),
        row("nll_ts", 0.09 + 0.01 * rng.random()),
        Row("test", "ece", gap, EXAMPLES, gap - 0.004, gap + 0.004),
        Row("test", "ece_ts", 0.015 + 0.01 * i, EXAMPLES, 0.01, 0.05),
        Row("test", "ece_floor", 0.01, EXAMPLES, 0.005, 0.02),
        Row("test", "ece_floor_ts", 0.01, EXAMPLES, 0.004, 0.015),
        Row("test", "smece", 0.015 + 0.01 * i, EXAMPLES, 0.01, 0.05),
        Row("test", "smece_floor", 0.01, EXAMPLES, 0.004, 0.015),
        Row("test", "ece_human", 0.02, EXAMPLES, 0.01, 0.03),
        Row("validation", "temperature", 1.2 - 0.05 * i, 200),
        row("confidence", confidence.mean()),
        row("confidence_gap", confidence.mean() - correct.mean()),
    ]
    robustness = [row(f"robust_accuracy/{a}/{e}", mask.mean()) for (a, e), mask in {**robust, **worst}.items()]
    robustness += [
        row(f"attacked_{metric}/strongest/{e}", 2 * gap) for metric in ("ece", "confidence_gap") for e in eps
    ]
    robustness += [Row("test", f"attacked_ece_floor/strongest/{e}", 0.01, EXAMPLES, 0.005, 0.02) for e in eps]
    robustness += [row(f"attacked_confidence/strongest/{e}", confidence.mean()) for e in eps]
    for family in ("fog", "gaussian_noise"):
        accuracy = correct.mean() * (1 - 0.3 * rng.random())
        robustness += [row(f"corruption_accuracy/{family}/3", accuracy), row(f"corruption_ece/{family}/3", 2 * gap)]
        robustness += [Row("test", f"corruption_ece_floor/{family}/3", 0.01, EXAMPLES, 0.005, 0.02)]
    masks = {f"test/robust/{a}/{e}": mask for (a, e), mask in {**robust, **worst}.items()}
    masks["min_eps"] = np.where(correct, rng.gamma(2 + i, 0.05, EXAMPLES), 0.0)
    geometry = [row("feature_norm", norm.mean()), row("center_cosine", cosine.mean())]
    geometry += more_geometry(row, i)
    sharpened = confidence ** (1 / (1.2 - 0.05 * i))
    return {
        "calibration": (
            calibration,
            {"test/confidence": confidence, "test/correct": correct, "test/confidence_ts": sharpened},
        ),
        "robustness": (robustness, masks),
        "geometry": (geometry, {"test/norm": norm, "test/center_cosine": cosine, "class/center": CENTERS}),
        "displacement": displacement_of(rng, i),
        "over_training": snapshots_of(rng, i),
    }


def more_geometry(row, i):
    """Scaling, interventions, the regime and the centers of one trial."""
    rows = [
        row(f"{kind}_{name}/{s:g}", 0.1 * s + 0.01 * i)
        for kind in ("scaled", "tempered")
        for name in ("ece", "nll")
        for s in (0.5, 1, 2)
    ]
    rows += [row(name, 1.2) for name in ("ece_best_scale", "nll_best_scale")]
    rows += [Row("validation", "best_scale", 1.2 if i else 100.0, 200)]
    rows += [Row("validation", "best_scale_at_bracket", float(i == 0), 200)]
    regime = {"train_accuracy": 1.0, "train_nll": 0.01, "width": 5, "classes": 3, "nc1": 0.1 * (i + 1), "nc4": 0.0}
    regime |= {"train_loss": 0.4, "train_loss_floor": 0.2 * i, "cone_by_construction": float(i == 0)}
    regime |= {"center_weight_agreement": 0.7, "effective_rank": 2.5} | ({"train_loss": np.nan} if i == 3 else {})
    rows += [Row("train", name, value, 100) for name, value in regime.items()]
    rows += [row("cone_radius/q95", 0.3), row("common_mode", 0.4), row("weight_cosine", 0.5), row("mean_cosine", 0.9)]
    rows.append(row("label_margin", 0.2 - 0.02 * i))
    if i:
        swapped = {"ece": 0.1 + 0.005 * i, "nll": 0.1, "margin": 0.2}
        rows += [row(f"{change}_{name}", v) for change in ("norm_swap", "turn") for name, v in swapped.items()]
        rows += [row(f"{change}_{name}_share", 0.5) for change in ("norm_swap", "turn") for name in swapped]
    rows.append(Row("train", "center_residual", 1e-6 * 10**i, 100))
    return rows


def displacement_of(rng, i):
    """Rows and arrays of what an attack did to features: the first 50 of those attacked are mistakes without it."""
    counted = np.arange(ATTACKED) >= 50
    row = lambda name, value, n=200: Row("test", f"adversarial_{name}", value, n)  # noqa: E731
    rows = [row("norm_change", -0.1), row("eps", 0.1)]
    for part in ("radial", "label", "rival", "rest"):
        rows += [row(f"{part}_share", 0.25), row(f"{part}_part", 0.5 + i)]
    rows += [Row("test", "cosine_radius_correlation", 0.5 + 0.1 * rng.random(), 200)]
    path = {"norm": 10 - i, "angle": 1.2}
    rows += [row(f"path_{name}@{s}", v + 0.1 * s, 100) for name, v in path.items() for s in range(3)]
    return rows, {"test/adversarial_counted": counted}


def snapshots_of(rng, i):
    """Rows and arrays of one trial over training."""
    names = ("feature_norm", "center_cosine", "cone_fraction", "nc1")
    rows = [
        Row("train", f"over_training/{name}@{s}", 0.5 + 0.1 * i + s / 500, 100) for name in names for s in (0, 18, 270)
    ]
    labels = rng.integers(0, len(CENTERS), 60)
    arrays = {"labels": labels}
    for step in (0, 18, 270):
        arrays |= {f"features@{step}": CENTERS[labels] + rng.normal(size=(60, 5)), f"kernel@{step}": CENTERS.T / 8}
        arrays |= {f"bias@{step}": np.zeros(len(CENTERS)), f"center@{step}": CENTERS}
    return rows, arrays


def predictions_of(rng):
    """Features around three class centers, and the head whose rows point at them."""
    labels = rng.integers(0, len(CENTERS), EXAMPLES)
    features = CENTERS[labels] / 2 + rng.normal(size=(EXAMPLES, 5))
    head = {"kernel": CENTERS.T / 8, "bias": np.zeros(len(CENTERS))}
    return {"test": {"features": features, "labels": labels}, "head": head}


def kill(workdir, trial):
    """Makes the features of one trial zero, as the probes leave such a trial behind: no direction, no cosine."""
    dead = (
        "center_",
        "cosine_",
        "weight_",
        "mean_",
        "cone_",
        "nc",
        "label_margin",
        "effective_rank",
        "adversarial_",
        "best_scale",
    )
    for path in workdir.glob("probes/*/program-0.parquet"):
        rows = pd.read_parquet(path)
        names = rows["metric"].str.removeprefix("over_training/")
        lost = (rows["trial"] == trial) & names.str.startswith(dead)
        rows.loc[lost, ["value", "low", "high"]] = np.nan
        rows.loc[(rows["trial"] == trial) & (names.str.startswith("feature_norm")), "value"] = 0.0
        results.write(path, pa.Table.from_pandas(rows, schema=results.SCHEMA, preserve_index=False))
    for path in [*workdir.glob(f"probes/*/{trial}.npz"), *workdir.glob(f"predictions/{trial}/test.npz")]:
        np.savez(path, **{name: _killed(name, array) for name, array in np.load(path).items()})
    results.gather(workdir)


def _killed(name, array):
    if any(word in name for word in ("center", "cosine")):
        return np.full_like(array, np.nan)
    return 0 * array if any(word in name for word in ("features", "norm")) else array


def curve_of(origin, rng):
    """Training curves of one trial, as the training loop writes them."""
    step = np.arange(0, 540, 27)
    fall = np.exp(-step / 150)
    return pd.DataFrame(
        {
            "trial": origin.trial,
            **origin.setting._asdict(),
            "seed": origin.seed,
            "step": step,
            "loss": 0.1 + 2.2 * fall * rng.uniform(0.8, 1.2, len(step)),
            "accuracy": 1 - 0.9 * fall,
            "grad_norm": 0.2 + 2 * fall,
            "learning_rate": 0.025 * (1 + np.cos(np.pi * step / 540)),
        }
    )
