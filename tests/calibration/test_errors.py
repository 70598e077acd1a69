"""A new error over bins is a function and a line of `ERRORS`: values, intervals, floors, rows and columns follow."""

import numpy as np
import pytest

from jaxreg.calibration import Logits, bins, evaluate, measure
from jaxreg.report.tables import calibration as tables
from support.drawn_logits import draw

BINS = 9  # no other test compiles programs of so many: those of this one know the new error


def root_mean_square(sums):
    return ((sums.count * bins.gaps(sums) ** 2).sum(-1) / sums.count.sum(-1)) ** 0.5


@pytest.fixture(scope="module")
def splits():
    found = {}
    for place, (name, size) in enumerate({"validation": 150, "test": 400}.items()):
        logits, labels = draw(place, size, temperature=2.0)
        found[name] = Logits(logits[None], labels, 1000 * place + np.arange(size))
    return found


@pytest.fixture(params=[False, True])
def made_up(request, monkeypatch):
    """A made-up error, over bins of equal width or of equal mass."""
    error = bins.CalibrationError("made up", root_mean_square, mass=request.param, votes=not request.param)
    monkeypatch.setitem(bins.ERRORS, f"made_up_{request.param}", error)
    return f"made_up_{request.param}"


def by_hand(arrays, mass):
    """In float64, of the examples themselves."""
    confidence, correct = arrays["test/confidence"].astype(float), arrays["test/correct"]
    order = np.argsort(confidence)
    width = [np.flatnonzero(np.ceil(confidence * BINS) == m + 1) for m in range(BINS)]
    parts = np.array_split(order, BINS) if mass else [part for part in width if len(part)]
    squares = [len(part) * (confidence[part].mean() - correct[part].mean()) ** 2 for part in parts]
    return np.sqrt(np.sum(squares) / len(confidence))


def test_a_line_in_the_table_is_all_that_a_new_error_needs(splits, made_up):
    votes = {int(one): np.eye(5)[label] + 1 for one, label in zip(splits["test"].ids, splits["test"].labels)}
    (found,) = measure(splits, replicates=60, bins=BINS, human=votes)
    rows = {row.metric: row for row in found.rows if row.split == "test"}
    mass = bins.ERRORS[made_up].mass
    assert rows[made_up].value == pytest.approx(by_hand(found.arrays, mass), abs=1e-5)
    for suffix in ("", "_ts", "_vector_scaling", "_isotonic", *(() if mass else ("_human", "_human_ts"))):
        row, floor = rows[made_up + suffix], rows[f"{made_up}_floor{suffix}"]
        assert row.low <= row.value <= row.high
        assert 0 <= floor.low <= floor.value <= floor.high
    assert (f"{made_up}_human" in rows) != mass
    assert rows[made_up].value > rows[f"{made_up}_floor"].high  # labels are of a temperature of 2
    assert evaluate(splits, bins=BINS + mass)["test"][made_up].shape == (1,)
    assert "made up T" in [column.title for column in tables.of_others(None, "test")]
