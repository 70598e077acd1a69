"""A study small enough to be launched several times in a test: 2 regularizers x 3 seeds, 60 steps, in three jobs."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "study": "tiny",
            "dataset": {"name": "digits", "validation": 100},
            "model": {"name": "cnn", "widths": (4,)},
            "regularizers": (("none", {}), ("label_smoothing", {"epsilon": 0.1})),
            "seeds": 3,
            "batch_size": 32,
            "steps": 60,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4},
            "probes": {
                "only": ("calibration",),
                "calibration": {"bootstrap": 5},
                "robustness": {
                    "suite": "pgd",
                    "norm": "linf",
                    "epsilons": (0.1,),
                    "examples": 20,
                    "verdict": False,
                },
                "geometry": {"train_examples": 100},
            },
            "execution": {"steps_per_dispatch": 2, "dispatches_per_checkpoint": 1, "cpu_devices": 0},
            "launch": {"devices": 1, "jobs": 3},
        }
    )
