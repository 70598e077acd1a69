"""Shapes in types are checked when tests run, and never in production."""

import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxreg import calibration, geometry

FEATURES, KERNEL = np.ones((5, 3), np.float32), np.ones((3, 4), np.float32)


def test_sizes_that_disagree_are_told():
    with pytest.raises(TypeCheckError, match="bias_K"):
        geometry.cone(FEATURES, KERNEL, np.zeros(3, np.float32))
    with pytest.raises(TypeCheckError, match="labels_N"):
        calibration.ece(np.ones((5, 4)), np.zeros(4, int))


@pytest.mark.usefixtures("as_users")
def test_a_user_gets_a_plain_message():
    with pytest.raises(ValueError, match=r"^labels must be"):
        calibration.ece(np.ones((5, 4)), np.zeros(4, int))


def test_production_checks_nothing():
    told = "import sys, jaxreg.geometry, jaxreg.calibration; print('beartype' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout == "False\n"
