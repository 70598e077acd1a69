"""Made-up trials with the per-example numbers that claims are judged on, each claim true, false, equal or undecided."""

import numpy as np
import pandas as pd
import scipy.special

from jaxreg.claims import StudyNumbers
from jaxreg.setting import Setting
from jaxreg.spec import ClaimsSpec

SOFT = Setting.of("label_smoothing", {"epsilon": 0.1})
NONE = Setting.of("none", {})
EXAMPLES, CLASSES = 400, 5
TRUE = {  # by what makes a claim true: of none, of soft labels
    "norm": (10.0, 8.0),
    "cosine": (0.3, 0.5),
    "cone": (0.1, 0.1),  # t* as a share of that of random features
    "sharpness": (4.0, 1.0),  # of logits: 1 is calibrated
    "spread": (1.2, 0.0),  # of the sharpness over images, which no temperature mends
    "robust": (0.4, 0.6),
    "swapped": (0.0, 1.0),  # the share of the distance of confidence gaps that equal norms close
    "mechanism": (0.7, 0.7),
    "radial": (0.1, 0.5),
    "noise": (0.1, 0.1),
    "signal": (2.0, 2.7),  # of logits over their noise: accuracy
}
FALSE = {
    "norm": {"norm": (8.0, 10.0)},
    "cosine": {"cosine": (0.5, 0.3)},
    "cone": {"cone": (0.9, 0.9)},
    "calibration_before": {"sharpness": (1.0, 4.0), "spread": (0.0, 0.0)},
    "calibration_after": {"spread": (0.0, 1.6), "signal": (2.6, 2.6)},
    "robustness": {"robust": (0.6, 0.4)},
    "temperature": {"swapped": (0.0, 0.1)},
    "mechanism": {"mechanism": (-0.5, -0.5)},
    "origin": {"radial": (0.5, 0.1)},
    "accuracy": {"signal": (2.7, 2.0)},
}
EQUAL = {
    "norm": {"norm": (9.0, 9.0)},
    "cosine": {"cosine": (0.4, 0.4)},
    "calibration_before": {"sharpness": (2.0, 2.0), "spread": (0.0, 0.0), "signal": (2.4, 2.4)},
    "robustness": {"robust": (0.5, 0.5)},
    "mechanism": {"mechanism": (0.0, 0.0)},
    "accuracy": {"signal": (2.6, 2.6)},
}


def study(seeds=10, spec=None, scatter=0.02, examples=EXAMPLES, settings=(NONE, SOFT), verdict=0.0, **levels):
    """A study of none and soft labels: images that are alike for all trials, and a part of each seed and trial.

    Settings after the second are as the second; `levels` change `TRUE`.
    """
    numbers, rows, arrays = TRUE | levels, [], {}
    shared = np.random.default_rng(1).normal(size=(12, examples))
    for place, setting in enumerate(settings):
        own = {key: pair[min(place, 1)] for key, pair in numbers.items()}
        for seed in range(seeds):
            name = f"{setting.label}-{seed}"
            arrays[name] = trial(np.random.default_rng([seed, place]), shared, own, scatter)
            if place:
                base = arrays[f"{settings[0].label}-{seed}"]
                arrays[name] |= swapped(base, arrays[name], own["swapped"])
            rows += rows_of(name, setting, seed, arrays[name], verdict)
    frame = pd.DataFrame(rows, columns=["trial", "regularizer", "hyperparameters", "seed", "split", "metric", "value"])
    found = lambda probe, trial, name: arrays[trial].get(f"{probe}:{name}")  # noqa: E731
    predicted = lambda trial, split: arrays[trial].get(f"predicted:{split}")  # noqa: E731
    return StudyNumbers(frame, found, predicted, spec or ClaimsSpec(radius=0.1))


def swapped(base, own, part):
    """The baseline's confidence, moved by a part of the distance of both mean gaps of confidence and accuracy."""
    gaps = [(one["calibration:test/confidence"] - one["calibration:test/correct"]).mean() for one in (base, own)]
    moved = base["calibration:test/confidence"] + part * (gaps[1] - gaps[0])
    return {
        "geometry:test/norm_swap_confidence": moved,
        "geometry:test/norm_swap_correct": base["calibration:test/correct"],
    }


def rows_of(name, setting, seed, own, verdict):
    """The rows that claims read: of everything else they read the examples."""
    values = {
        "accuracy": own["calibration:test/correct"].mean(),
        "verdict/gradient_zero": verdict,  # a share of images
        "verdict/ce_overstates": 0.2,  # says nothing of the worst case
        "cone_by_construction": 0.0,
        "center_cosine": own["geometry:test/center_cosine"].mean(),
        "feature_norm": own["geometry:test/norm"].mean(),
        "confidence_gap": (own["calibration:test/confidence"] - own["calibration:test/correct"]).mean(),
        "robust_accuracy/worst/0.1": own["robustness:robust/worst/0.1"].mean(),
    }
    if setting != NONE:
        values["verdict/transfer"] = 0.0  # of adversaries of the baseline
    trained = {"cone_by_construction"}
    return [(name, *setting, seed, "train" if key in trained else "test", key, value) for key, value in values.items()]


def trial(rng, shared, own, scatter):
    """The arrays of one trial: numbers of an image are in part the image's own and in part the trial's."""
    examples = shared.shape[1]

    def draw(place):
        return (shared[place] + 2 * rng.normal(size=examples)) / 5**0.5

    def level(key):
        return own[key] * (1 + scatter * rng.normal())

    def share(place, key):
        wanted = np.clip(own[key] + scatter / 4 * rng.normal(), 0, 1)
        return draw(place) < np.quantile(draw(place), wanted)

    near, tied = draw(1), own["mechanism"]
    found = {
        "geometry:test/norm": level("norm") * np.exp(0.1 * draw(0)),
        "geometry:test/center_cosine": level("cosine") + 0.05 * near,
        "geometry:test/logit_margin": np.exp(0.1 * draw(9)),
        "geometry:test/t_star": np.exp(0.3 * draw(3)) * 0.05,
        "geometry:test/t_star_random": np.exp(0.3 * draw(5)) * 0.05 / own["cone"],
        "geometry:test/t_star_bias10": np.exp(0.3 * draw(3)) * 0.5,
        "geometry:test/t_star_random_bias10": np.exp(0.3 * draw(5)) * 0.5,
        "robustness:radii": np.array([0.05, 0.1], np.float32),
        "robustness:robust/worst/0.1": share(6, "robust"),
        "robustness:robust/worst/0.05": share(6, "robust"),
        "robustness:min_eps": np.exp(0.3 * (tied * near + np.sqrt(1 - tied**2) * draw(2))) * 0.1,
        "displacement:test/adversarial_radial_cosine": level("radial") + 0.2 * draw(7),
        "displacement:test/noise_radial_cosine": level("noise") + 0.2 * draw(8),
        "displacement:test/adversarial_norm_change": 0.2 * draw(9),
        "displacement:test/noise_norm_change": 0.2 * draw(10),
    }
    for split, seed in (("test", 5), ("validation", 6)):
        found[f"predicted:{split}"] = predictions(rng, np.random.default_rng(seed), own, examples, scatter)
    test = found["predicted:test"]
    p = scipy.special.softmax(test["logits"], -1)
    found |= {"calibration:test/confidence": p.max(-1), "calibration:test/correct": p.argmax(-1) == test["labels"]}
    return found


def predictions(rng, split, own, examples, scatter):
    """Logits of Gaussian classes: calibrated at sharpness 1, their labels and a part of their noise the split's."""
    labels = split.integers(0, CLASSES, examples)
    noise = (split.normal(size=(examples, CLASSES)) + 2 * rng.normal(size=(examples, CLASSES))) / 5**0.5
    signal = own["signal"] * (1 + scatter / 4 * rng.normal())
    sharpness = own["sharpness"] * np.exp(own["spread"] * split.choice([-1, 1], examples))
    logits = signal * (signal * (np.arange(CLASSES) == labels[:, None]) + noise)
    return {"logits": sharpness[:, None] * logits, "labels": labels}
