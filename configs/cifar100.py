"""CIFAR-100: none, label smoothing, Mixup, CutMix, five seeds each, ResNet-18 (or `:resnet20`), in one program.

    TFDS_DATA_DIR=DIR python -m jaxreg study --config=configs/cifar100.py:resnet20 --workdir=runs/cifar100

Cost: 200 epochs of 20 ResNet-18 are for accelerators; `python -m jaxreg plan` shows the memory. On two CPU cores try
`:resnet20 --config.seeds=1 --config.steps=200`. Expect for ResNet-18, 200 epochs, test accuracies (published, not
measured here) of 76 to 79 % without a regularizer.
"""

from ml_collections import ConfigDict

MODELS = ("resnet18", "resnet20", "wrn28_10")


def get_config(model: str = "resnet18") -> ConfigDict:
    """The study: 4 regularizers x 5 seeds = 20 trials of 200 epochs."""
    if model not in MODELS:
        raise ValueError(f"configs/cifar100.py:{model} is unknown; known: {MODELS}.")
    return ConfigDict(
        {
            "study": f"cifar100-{model}",
            "dataset": {
                "name": "cifar100",
                "data_dir": "",
                "validation": 5000,
                "augment": ("pad_crop", "flip"),
                "padding": 4,
                "cutout_size": 8,
                "residency": "device",
            },
            "model": {"name": model, "dtype": "bfloat16" if model != "resnet20" else "float32"},
            "regularizers": (
                ("none", {}),
                ("label_smoothing", {"epsilon": 0.1}),
                ("mixup", {"alpha": 1.0}),
                ("cutmix", {"alpha": 1.0, "probability": 0.5}),
            ),
            "seeds": 5,
            "batch_size": 128,
            "steps": 70_200,  # 45,000 train images are 351 batches: 200 epochs
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup_steps": 0,
            },
            "probes": {
                "calibration": {"bootstrap": 200, "human_labels": ""},
                "robustness": {
                    "suite": "paper",
                    "norm": "linf",
                    "epsilons": (0.4 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255),
                    "examples": 1000,
                    "verdict": True,
                },
                "geometry": {
                    "radius": 0.0,
                    "train_examples": 10_000,
                    "snapshots": 8,
                    "snapshot_examples": 2000,
                },
                "corruptions": {
                    "families": (),
                    "severities": (1, 3, 5),
                    "examples": 0,
                },  # such as ("gaussian_noise", "fog")
            },
            "execution": {
                "data_devices": 1,
                "cpu_devices": 0,
                "local_trials": "map",
                "precision": "highest",
                "steps_per_dispatch": 10,
                "dispatches_per_checkpoint": 35,
                "keep_checkpoints": 2,
                "eval_batch_size": 250,
                "distributed": "",
                "heartbeat_seconds": 60,
            },
            "launch": {
                "devices": 1,
                "jobs": 0,
                "memory_gib": 0.0,
                "hours": 0.0,
                "slurm": {"partition": "", "account": "", "gpus_per_node": 0, "mem": "", "time": 60},
            },
        }
    )
