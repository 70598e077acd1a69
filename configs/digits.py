"""Handwritten digits (8x8), a small CNN: none, two strengths of label smoothing, Mixup, CutMix, ten times the weight
decay, five seeds each, in one program.

    python -m jaxreg study --config=configs/digits.py --workdir=runs/digits

Cost: about a minute on two CPU cores. Expect test accuracies of 0.977 to 0.985 (n = 5). It is too small to decide most
claims, and says so; `:claims` has more strengths, ten seeds, and all test images attacked, in about five minutes:

    python -m jaxreg study --config=configs/digits.py:claims --workdir=runs/digits-claims

`:sweep` adds learning rates and widths, in four jobs:

    python launch/local.py --config=configs/digits.py:sweep --workdir=runs/digits-sweep --jobs=2
"""

from ml_collections import ConfigDict

from jaxreg import sweeps

VARIANTS = ("", "sweep", "claims")
NONE, CUTMIX = ("none", {}), {"probability": 1.0}
DECAY = ("none", {}, {"optimizer.weight_decay": 5e-3})  # a control: it shortens features without a soft label
JUDGED = (("label_smoothing", {"epsilon": 0.1}), ("mixup", {"alpha": 1.0}), ("cutmix", {"alpha": 1.0, **CUTMIX}))
STRENGTHS = (
    *(("label_smoothing", {"epsilon": epsilon}) for epsilon in (0.05, 0.2)),
    ("mixup", {"alpha": 0.2}),
    ("cutmix", {"alpha": 0.5, **CUTMIX}),
)


def get_config(variant: str = "") -> ConfigDict:
    """The study: 6 settings x 5 seeds = 30 trials of 15 epochs, once for each setting of `sweep`; `claims` has 90."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/digits.py:{variant} is unknown; known: {VARIANTS}.")
    return ConfigDict(
        {
            "study": f"digits-{variant}" if variant else "digits",
            "dataset": {
                "name": "digits",
                "data_dir": "",
                "validation": 145,
                "augment": (),
                "padding": 1,
                "cutout_size": 2,
                "residency": "device",
            },
            "model": {"name": "cnn", "dtype": "float32", "widths": (16, 32)},
            "regularizers": (NONE, *JUDGED, *(STRENGTHS if variant == "claims" else STRENGTHS[1:2]), DECAY),
            "seeds": 10 if variant == "claims" else 5,
            "batch_size": 64,
            "steps": 270,  # 1152 train images are 18 batches: 15 epochs
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.05,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup_steps": 0,
            },
            "probes": {
                "calibration": {"bootstrap": 200, "human_labels": ""},
                "robustness": {
                    "suite": "strong",
                    "norm": "linf",
                    "epsilons": (0.05, 0.1),
                    "examples": 0 if variant == "claims" else 250,
                    "verdict": True,
                },
                "geometry": {
                    "radius": 0.0,
                    "train_examples": 0,
                    "snapshots": 5,
                    "snapshot_examples": 500,
                },
                "corruptions": {
                    "families": (),
                    "severities": (1, 3, 5),
                    "examples": 0,
                },  # such as ("gaussian_noise", "fog")
            },
            "claims": {"primary": JUDGED, "radius": 0.1},
            "execution": {
                "data_devices": 1,
                "cpu_devices": 0,
                "local_trials": "map",
                "precision": "highest",
                "steps_per_dispatch": 18,
                "dispatches_per_checkpoint": 5,
                "keep_checkpoints": 2,
                "eval_batch_size": 256,
                "distributed": "",
                "heartbeat_seconds": 60,
            },
            "launch": {
                "devices": 1,
                "jobs": 4 if variant == "sweep" else 0,
                "memory_gib": 0.0,
                "hours": 0.0,
                "slurm": {"partition": "", "account": "", "gpus_per_node": 0, "mem": "", "time": 60},
            },
        }
    )


def sweep(variant: str) -> sweeps.Sweep:
    """Two learning rates, and at the higher one a wider network: a program of its own."""
    if variant != "sweep":
        return [{}]
    rate = "optimizer.learning_rate"
    return sweeps.chain(sweeps.over(rate, 0.02, 0.05), [{rate: 0.05, "model.widths": (48, 96)}])
