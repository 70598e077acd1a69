"""Rows of synthetic trials that bear on the claims, true, false or undecided."""

import json

import numpy as np
import pandas as pd

from jaxreg import claims

SOFT = ("label_smoothing", "mixup")
ATTACK = "robust_accuracy/worst/0.1"
HEALTHY = {  # metric: (none, soft) of a study in which every claim is true
    "feature_norm": (11.0, 8.0),
    "center_cosine": (0.3, 0.6),
    "cone_fraction": (0.998, 0.999),
    "ece": (0.08, 0.02),
    "nll": (0.5, 0.3),
    "ece_ts": (0.04, 0.01),
    "nll_ts": (0.4, 0.25),
    ATTACK: (0.3, 0.5),
    "robust_accuracy/fgsm/0.1": (0.4, 0.6),
    "ece_best_scale": (0.03, 0.03),
    "ece_temperature": (0.03, 0.03),
    "scaled_ece/0.5": (0.05, 0.05),
    "tempered_ece/0.5": (0.05, 0.05),
    "norm_swap_ece": (np.nan, 0.04),
    "adversarial_radial_cosine": (0.1, 0.5),
    "adversarial_norm_change": (0.2, -1.0),
    "accuracy": (0.90, 0.95),
}
TESTED = {  # a claim and the metrics that decide it
    "norm": ("feature_norm",),
    "cosine": ("center_cosine",),
    "cone": ("cone_fraction",),
    "calibration": ("ece", "nll", "ece_ts", "nll_ts"),
    "robustness": (ATTACK, "robust_accuracy/fgsm/0.1"),
    "temperature": ("ece_best_scale", "scaled_ece/0.5", "norm_swap_ece"),
    "mechanism": ("center_cosine", "feature_norm", "ece", ATTACK),
    "origin": ("adversarial_radial_cosine", "adversarial_norm_change"),
    "accuracy": ("accuracy",),
}
REVERSED = {  # what makes a claim false
    "norm": {"feature_norm": (8.0, 11.0)},
    "cosine": {"center_cosine": (0.6, 0.3)},
    "cone": {"cone_fraction": (0.3, 0.5)},
    "calibration": {"ece": (0.02, 0.08), "nll": (0.3, 0.5), "ece_ts": (0.01, 0.04), "nll_ts": (0.25, 0.4)},
    "robustness": {ATTACK: (0.5, 0.3), "robust_accuracy/fgsm/0.1": (0.6, 0.4)},
    "temperature": {"ece_best_scale": (0.3, 0.3), "scaled_ece/0.5": (0.3, 0.3), "norm_swap_ece": (np.nan, 0.15)},
    "mechanism": {"center_cosine": (0.6, 0.3), "feature_norm": (8.0, 11.0)},
    "origin": {"adversarial_radial_cosine": (0.1, -0.5), "adversarial_norm_change": (0.2, 1.0)},
    "accuracy": {"accuracy": (0.95, 0.90)},
}


def trials(changes=None, seeds=8, noise=0.01, noisy=(), graded=0):
    """Rows of synthetic trials: a level for none and for soft labels, a part shared by a seed, and noise of its own.

    Beside them `graded` penalties between none and soft labels, in what is correlated over settings.
    """
    rng = np.random.default_rng(0)
    levels = HEALTHY | (changes or {})
    shared = {metric: 0.02 * rng.normal(size=seeds) for metric in levels}
    rows, settings = [], [("none", "{}", 0.0), *((name, "{}", 1.0) for name in SOFT)]
    settings += [
        ("confidence_penalty", json.dumps({"beta": i}), i / (graded + 1), *TESTED["mechanism"])
        for i in range(1, graded + 1)
    ]
    for regularizer, hyperparameters, way, *only in settings:
        for seed in range(seeds):
            for metric in only or levels:
                base, soft = levels[metric]
                level = soft if way == 1 else base if way == 0 else base + way * (soft - base)
                scale = 100 * noise if metric in noisy else noise
                value = level * (1 + shared[metric][seed] + scale * rng.normal())
                if not np.isnan(value):
                    rows.append((regularizer, hyperparameters, seed, "test", metric, value))
    return pd.DataFrame(rows, columns=["regularizer", "hyperparameters", "seed", "split", "metric", "value"])


def related(correlations, frame=None):
    """Trials with the correlations within them that settings have."""
    frame = trials() if frame is None else frame
    first = frame[frame["metric"] == "accuracy"]
    more = [
        first[first["regularizer"] == name].assign(metric="cosine_radius_correlation", value=np.asarray(each))
        for name, each in correlations.items()
    ]
    return pd.concat([frame, *more])


def swapped(own, base, after, floor=0.008):
    """The norm swap's line of a study with these ECEs in every seed, up to a little noise."""
    frame = trials({"ece": (base, own), "norm_swap_ece": (np.nan, after)}, noise=1e-4)
    ends = frame[frame["metric"] == "accuracy"].assign(metric="ece_floor", value=floor, low=0.0, high=floor)
    table = claims.evaluate(pd.concat([frame, ends])).query("metric == 'norm_swap_ece' and setting == 'mixup'")
    return table.iloc[0]
