import types

import numpy as np
import pytest

from jaxreg.runtime.files import write_arrays
from jaxreg.runtime.workdir import Workdir
from jaxreg.training import predictions


def save(folder, trial, **changes):
    arrays = {"logits": np.zeros((4, 3)), "features": np.zeros((4, 2)), "labels": np.arange(4), "ids": np.arange(4)}
    write_arrays(folder.predictions(trial, "test"), arrays | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 1, 9, 3])}, r"test of trial b: labels are not those of trial a \(9 and not 2 at 2\)"),
        ({"ids": np.array([0, 1, 3, 2])}, r"test of trial b: ids are not those of trial a \(3 and not 2 at 2\)"),
        ({"ids": np.arange(3), "labels": np.arange(3)}, r"labels are not those of trial a \(3 and not 4\)"),
    ],
)
def test_trials_of_other_examples_are_named(tmp_path, changes, message):
    folder, trials = Workdir(tmp_path), [types.SimpleNamespace(id=name) for name in "ab"]
    save(folder, "a")
    save(folder, "b")
    assert predictions.load(trials, folder, "test").logits.shape == (2, 4, 3)
    save(folder, "b", **changes)
    with pytest.raises(ValueError, match=message):
        predictions.load(trials, folder, "test")
