"""A new number of an example, or of a trial, is a function and a line: its array and its rows follow."""

import numpy as np
import pytest

from jaxreg.geometry import measure_network, probe, trial
from support.geometry_shapes import CLASSES, LABELS, WIDTH


@pytest.fixture
def made_up(monkeypatch):
    """Two numbers of an example, one with a mean and one with a share, and one of a trial."""
    monkeypatch.setitem(trial.EXAMPLES, "first", trial.PerExample(lambda at: at.features[:, 0]))
    monkeypatch.setitem(trial.EXAMPLES, "rising", trial.PerExample(lambda at: at.features[:, 1] > 0, "share"))
    monkeypatch.setattr(trial, "SCALARS", (*trial.SCALARS, lambda of: {"bias_range": of.head.bias.max()}))
    probe._program.cache_clear()
    yield
    probe._program.cache_clear()


def test_a_line_in_a_table_is_all_that_a_new_number_needs(made_up):
    rng = np.random.default_rng(50)
    kernel, bias = rng.normal(size=(2, WIDTH, CLASSES)), rng.normal(size=(2, CLASSES))
    splits = {name: probe.Features(rng.normal(size=(2, len(y), WIDTH)), y) for name, y in LABELS.items()}
    for t, one in enumerate(probe.measure(splits, kernel, bias)):
        rows = {(row.split, row.metric): row for row in one.rows}
        for name, split in splits.items():
            own = split.features[t]
            np.testing.assert_allclose(one.arrays[f"{name}/first"], own[:, 0], rtol=1e-6)
            np.testing.assert_allclose(rows[name, "first"].value, own[:, 0].mean(), rtol=1e-5)
            np.testing.assert_allclose(rows[name, "rising"].value, np.mean(own[:, 1] > 0), rtol=1e-6)
            assert all(rows[name, metric].low < rows[name, metric].high for metric in ("first", "rising"))
        np.testing.assert_allclose(rows["train", "bias_range"].value, bias[t].max(), rtol=1e-6)
    found = measure_network(rng.normal(size=(50, WIDTH)), kernel[0], bias[0], np.arange(50) % CLASSES)
    assert {"first", "rising", "bias_range"} <= set(found.numbers)
