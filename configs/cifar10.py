"""CIFAR-10: none, label smoothing, Mixup, CutMix, five seeds each, ResNet-18 (or `:resnet20`), in one program.

    TFDS_DATA_DIR=DIR python -m jaxreg study --config=configs/cifar10.py:resnet20 --workdir=runs/cifar10

Cost: 200 epochs of 20 ResNet-18 are for accelerators; `python -m jaxreg plan` shows the memory. On two CPU cores try
`:resnet20 --config.seeds=1 --config.steps=200`. Expect for ResNet-18, 200 epochs, test accuracies (published, not
measured here) of 94.9 to 95.7 % without a regularizer, 95.7 % with Mixup, 96.1 % with CutMix.

`:cnn` is a study for a desk: 12 small networks, three seeds of four epochs, attacked on 300 images, sized for about 25
minutes on two idle CPU cores. Such networks stay far from fitting their training images.
"""

from ml_collections import ConfigDict

MODELS = ("resnet18", "resnet20", "wrn28_10", "cnn")


def get_config(model: str = "resnet18") -> ConfigDict:
    """The study: 4 regularizers x 5 seeds = 20 trials of 200 epochs; of the small cnn 12 trials of 4 epochs."""
    if model not in MODELS:
        raise ValueError(f"configs/cifar10.py:{model} is unknown; known: {MODELS}.")
    config = ConfigDict(
        {
            "study": f"cifar10-{model}",
            "dataset": {
                "name": "cifar10",
                "data_dir": "",
                "validation": 5000,
                "augment": ("pad_crop", "flip"),
                "padding": 4,
                "cutout_size": 8,
                "residency": "device",
            },
            "model": {"name": model, "dtype": "float32" if model in ("resnet20", "cnn") else "bfloat16"},
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
    return _small(config) if model == "cnn" else config


def _small(config: ConfigDict) -> ConfigDict:
    """The study that two CPU cores can finish while one waits: few steps, a small network, radii that it can feel."""
    with config.unlocked():
        config.model.widths = (16, 32, 64)
    config.dataset.augment = ("flip",)  # four epochs underfit: crops would only take away
    config.seeds = 3
    config.steps = 1404  # 4 epochs of 351 batches
    config.probes.robustness = ConfigDict(
        {"suite": "quick", "norm": "linf", "epsilons": (1 / 255, 2 / 255), "examples": 300, "verdict": False}
    )
    config.execution.steps_per_dispatch = 13
    config.execution.dispatches_per_checkpoint = 27
    return config
