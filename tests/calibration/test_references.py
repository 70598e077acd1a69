"""The packages themselves, where they are installed (extra `references`): what they said once is in tests/golden."""

import numpy as np
import pytest

from jaxreg import calibration
from support.drawn_logits import draw
from support.goldens import arrays_of

GOLDEN = arrays_of("calibration_packages")

SAME = {  # by our metric: what the packages call it, and how near they come
    "ece": {"netcal_ece": 1e-5, "torchmetrics_l1": 1e-5},
    "mce": {"netcal_mce": 1e-5, "torchmetrics_max": 1e-5},
    "ece_adaptive": {"netcal_adaptive": 3e-3},  # cuts between quantiles, not between examples
    "accuracy": {"torchmetrics_accuracy": 1e-6},
    "nll": {"torch_nll": 1e-5},
    "smece": {"relplot_smece": 1e-3},  # bisects in steps of 1/1024
}


@pytest.fixture(scope="module")
def packages():
    return pytest.importorskip("golden.make_calibration_golden", reason="extra `references`", exc_type=ImportError)


def test_packages_say_what_was_kept(packages):
    for case in packages.CASES:
        for name, value in packages.told(GOLDEN["logits" + case], GOLDEN["labels" + case]).items():
            assert value == pytest.approx(GOLDEN[name + case], rel=1e-6, abs=1e-9), name + case


@pytest.mark.parametrize(("seed", "size", "classes"), [(1, 2000, 100), (2, 333, 3), (3, 5000, 10)])
def test_packages_agree_on_other_logits(packages, seed, size, classes):
    logits, labels = draw(seed, size, classes, temperature=1.5)
    told = packages.told(logits, labels)
    for metric, names in SAME.items():
        for name, allowed in names.items():
            assert getattr(calibration, metric)(logits, labels) == pytest.approx(told[name], abs=allowed), (
                metric,
                name,
            )
    t = calibration.fit_temperature(logits, labels).value
    assert t == pytest.approx(told["probmetrics_temperature"], rel=1e-3)
    assert np.isfinite(t)
