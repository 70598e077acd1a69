"""A study small enough for a test."""

from ml_collections import ConfigDict


def small_config() -> ConfigDict:
    """A study of 2 regularizers x 2 seeds on digits, seconds long."""
    return ConfigDict(
        {
            "study": "small",
            "dataset": {"name": "digits", "validation": 100, "augment": ("pad_crop",), "padding": 1},
            "model": {"name": "cnn", "widths": (4,)},
            "regularizers": (("none", {}), ("mixup+label_smoothing", {"alpha": 0.5})),
            "seeds": 2,
            "batch_size": 32,
            "steps": 40,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4},
            "probes": {
                "calibration": {"bootstrap": 20, "human_labels": ""},
                "robustness": {
                    "suite": "pgd",
                    "norm": "linf",
                    "epsilons": (0.05, 0.1),
                    "examples": 100,
                    "verdict": False,
                },
                "geometry": {"train_examples": 600},
            },
            "execution": {"steps_per_dispatch": 2, "dispatches_per_checkpoint": 2, "cpu_devices": 2, "data_devices": 1},
        }
    )
