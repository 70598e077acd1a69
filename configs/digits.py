"""Handwritten digits (8x8), a small CNN: none, label smoothing, Mixup, CutMix, five seeds each, in one program.

    python -m jaxreg study --config=configs/digits.py --workdir=runs/digits

Cost: about a minute on two CPU cores. Expect a test accuracy of 0.99 for every regularizer (n = 5).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study: 4 regularizers x 5 seeds = 20 trials of 15 epochs."""
    return ConfigDict(
        {
            "study": "digits",
            "dataset": {
                "name": "digits",
                "data_dir": "",
                "validation": 145,
                "augment": (),
                "padding": 1,
                "cutout_size": 2,
                "residency": "device",
            },
            "model": {"name": "cnn", "dtype": "float32", "widths": (32, 64)},
            "regularizers": (
                ("none", {}),
                ("label_smoothing", {"epsilon": 0.1}),
                ("mixup", {"alpha": 1.0}),
                ("cutmix", {"alpha": 1.0, "probability": 1.0}),
            ),
            "seeds": 5,
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
                    "suite": "pgd",
                    "norm": "linf",
                    "epsilons": (0.05, 0.1),
                    "examples": 250,
                    "verdict": False,
                },
                "geometry": {"radius": 0.0, "train_examples": 0},
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
                "steps_per_dispatch": 18,
                "dispatches_per_checkpoint": 5,
                "keep_checkpoints": 2,
                "eval_batch_size": 256,
            },
        }
    )
