"""Writes golden.npz: what other packages say of one set of logits. Run in an environment of its own:

pip install torch==2.13.0 torchmetrics==1.9.0 netcal==1.4.0 relplot==1.0.3 probmetrics==1.3.0 && python make_golden.py
"""

import pathlib

import numpy as np
import relplot
import torch
from netcal.metrics import ECE, MCE
from probmetrics.calibrators import TemperatureScalingCalibrator
from probmetrics.distributions import CategoricalLogits
from torchmetrics.functional.classification import multiclass_calibration_error


def main() -> None:
    random = np.random.default_rng(7)
    logits = (2.0 * random.normal(size=(600, 6))).astype(np.float32)  # over-confident: labels are drawn at T = 1.7
    wide = np.exp(logits / 1.7)
    labels = np.array([random.choice(6, p=row) for row in wide / wide.sum(1, keepdims=True)])
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    p = torch.softmax(z.double(), -1)
    confidence, correct = p.max(-1).values.numpy(), (p.argmax(-1) == y).double().numpy()
    fitted = TemperatureScalingCalibrator(max_bisection_steps=60)
    fitted.fit_torch(CategoricalLogits(z.double()), y)
    norms = {f"torchmetrics_{n}": multiclass_calibration_error(p, y, 6, 15, norm=n).item() for n in ("l1", "l2", "max")}
    smece, width = relplot.smECE(confidence, correct, return_width=True)
    calibrated = torch.softmax(z.double() / 1.7, -1).max(-1).values.numpy()  # gaps of both signs
    np.savez_compressed(
        pathlib.Path(__file__).with_name("golden.npz"),
        logits=logits,
        labels=labels.astype(np.int32),
        torch_nll=torch.nn.functional.cross_entropy(z.double(), y).item(),
        netcal_ece=ECE(15).measure(confidence, correct),
        netcal_mce=MCE(15).measure(confidence, correct),
        netcal_adaptive=ECE(15, equal_intervals=False).measure(confidence, correct),
        relplot_smece=smece,
        relplot_width=width,
        relplot_smece_calibrated=relplot.smECE(calibrated, correct),
        relplot_at_bandwidth=relplot.smECE_sigma(calibrated, correct, 0.05),
        probmetrics_temperature=1 / float(fitted.invtemp_),
        **norms,
    )


if __name__ == "__main__":
    main()
