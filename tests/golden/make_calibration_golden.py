"""Records what other packages say of three sets of logits: tests/golden/calibration_packages.npz. In an
environment of its own:

    pip install torch==2.13.0 torchmetrics==1.9.0 netcal==1.4.0 relplot==1.0.3 probmetrics==1.3.0 numba
    python tests/golden/make_calibration_golden.py
"""

import functools
import pathlib

import numpy as np
import relplot
import torch
from netcal.metrics import ECE, MCE
from probmetrics.calibrators import TemperatureScalingCalibrator
from probmetrics.distributions import CategoricalLogits
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

CASES = {"": (600, 6), "_two": (400, 2), "_few": (9, 3)}  # examples, classes: many, two classes, fewer than 15 bins


def told(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What the packages say of logits [N, K] and labels [N]."""
    z, y, classes = torch.from_numpy(logits), torch.from_numpy(labels).long(), logits.shape[1]
    p = torch.softmax(z.double(), -1)
    confidence, correct = p.max(-1).values.numpy(), (p.argmax(-1) == y).double().numpy()
    fitted = TemperatureScalingCalibrator(max_bisection_steps=60)
    fitted.fit_torch(CategoricalLogits(z.double()), y)
    error = functools.partial(multiclass_calibration_error, p, y, classes, 15)
    smece, width = relplot.smECE(confidence, correct, return_width=True)
    calibrated = torch.softmax(z.double() / 1.7, -1).max(-1).values.numpy()  # gaps of both signs
    return {
        "torch_nll": torch.nn.functional.cross_entropy(z.double(), y).item(),
        "netcal_ece": ECE(15).measure(confidence, correct),
        "netcal_mce": MCE(15).measure(confidence, correct),
        "netcal_adaptive": ECE(15, equal_intervals=False).measure(confidence, correct),
        "relplot_smece": smece,
        "relplot_width": width,
        "relplot_smece_calibrated": relplot.smECE(calibrated, correct),
        "relplot_at_bandwidth": relplot.smECE_sigma(calibrated, correct, 0.05),
        "probmetrics_temperature": 1 / float(fitted.invtemp_),
        "torchmetrics_accuracy": multiclass_accuracy(p, y, classes, average="micro").item(),
        **{f"torchmetrics_{norm}": error(norm=norm).item() for norm in ("l1", "l2", "max")},
    }


def main() -> None:
    random, arrays = np.random.default_rng(7), {}
    for case, (examples, classes) in CASES.items():
        logits = (2.0 * random.normal(size=(examples, classes))).astype(np.float32)  # over-confident: labels at T = 1.7
        wide = np.exp(logits / 1.7)
        labels = np.array([random.choice(classes, p=row) for row in wide / wide.sum(1, keepdims=True)])
        arrays |= {f"logits{case}": logits, f"labels{case}": labels.astype(np.int32)}
        arrays |= {name + case: value for name, value in told(logits, labels).items()}
    np.savez_compressed(pathlib.Path(__file__).with_name("calibration_packages.npz"), **arrays)


if __name__ == "__main__":
    main()
