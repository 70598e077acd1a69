"""Rows after post-hoc calibration, against fits in float64 on the whole validation split and on nothing else.

Validation is longer than test, and longer than a chunk; its first half is easy and its second half wrong about most, so
that a fit of a part, or of test, is another one. No count is a multiple of a chunk's: there is padding everywhere. The
least sure of validation are right, so that isotonic regression maps even confidence 0, which padding has, above 0.
"""

import functools

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression

from jaxreg.calibration import Logits, measure
from support.drawn_logits import draw

SIZES = {"validation": 1300, "test": 700}
BINS = 15


@functools.cache
def splits():
    found = {}
    for place, (name, size) in enumerate(SIZES.items()):
        logits, labels = draw(place, size)
        hard = np.arange(size) >= size * (0.5 if name == "validation" else 0.8)
        labels = np.where(hard & (np.arange(size) % 3 > 0), (labels + 1) % logits.shape[1], labels)
        logits = (3 * logits + np.arange(logits.shape[1])).astype(np.float32)  # a bias that vector scaling takes away
        least = np.argsort(log_softmax(logits.astype(float), -1).max(-1))[:30]
        labels[least] = logits[least].argmax(-1)
        found[name] = Logits(logits[None], labels.astype(np.int32), 10_000 * place + np.arange(size))
    return found


@functools.cache
def rows():
    (found,) = measure(splits(), replicates=60)
    return {(row.split, row.metric): row for row in found.rows}


def nll(log_p, labels):
    return -log_p[np.arange(len(labels)), labels].mean()


@functools.cache
def fits():
    """T, and scales and biases of vector scaling with its pull (5e-4 times the squared distance) to T."""
    z, y = splits()["validation"].logits[0].astype(float), splits()["validation"].labels
    t = scipy.optimize.minimize_scalar(lambda t: nll(log_softmax(z / t, -1), y), bounds=(0.1, 50), method="bounded").x
    start = np.concatenate([np.full(z.shape[1], 1 / t), np.zeros(z.shape[1])])

    def loss(parameters):
        scale, bias = np.split(parameters, 2)
        return nll(log_softmax(z * scale + bias, -1), y) + 5e-4 * ((parameters - start) ** 2).sum()

    return t, np.split(scipy.optimize.minimize(loss, start, options={"gtol": 1e-7}).x, 2)


def log_p(split, suffix):
    t, (scale, bias) = fits()
    z = splits()[split].logits[0].astype(float)
    return log_softmax({"": z, "_ts": z / t, "_vector_scaling": z * scale + bias, "_isotonic": z}[suffix], -1)


def top(split, suffix):
    """Confidence and correctness."""

    def of(name):
        own = log_p(name, suffix)
        return np.exp(own.max(-1)), own.argmax(-1) == splits()[name].labels

    if suffix != "_isotonic":
        return of(split)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(*of("validation"))
    return fitted.predict(of(split)[0]), of(split)[1]


def expected(split, suffix):
    confidence, correct = top(split, suffix)  # of isotonic regression many lie on an edge: closed on the right
    place = np.searchsorted(np.arange(1, BINS) / BINS, confidence.astype(np.float32).astype(float) - 1e-7)
    count = np.bincount(place, minlength=BINS)
    gap = np.abs(np.bincount(place, confidence, BINS) - np.bincount(place, correct, BINS))
    found = {
        "confidence": confidence.mean(),
        "confidence_gap": confidence.mean() - correct.mean(),
        "ece": gap.sum() / len(correct),
        "auroc": sklearn.metrics.roc_auc_score(correct, confidence),
    }
    if suffix != "_isotonic":  # which leaves few examples, if any, in the bins between its steps
        found["nll"] = nll(log_p(split, suffix), splits()[split].labels)
        found["mce"] = (gap / np.maximum(count, 1)).max()
    return found, count[(gap / np.maximum(count, 1)).argmax()]


@pytest.mark.parametrize("split", SIZES)
@pytest.mark.parametrize("suffix", ["", "_ts", "_vector_scaling", "_isotonic"])
def test_rows_are_those_of_fits_on_validation(split, suffix):
    numbers, worst_count = expected(split, suffix)
    for name, value in numbers.items():
        allowed = 4e-3 if name in ("ece", "mce") else 1e-3  # an example or two at the edge of a bin
        assert rows()[split, name + suffix].value == pytest.approx(value, abs=allowed), name
    assert rows()[split, "ece" + suffix].n == SIZES[split]
    assert suffix == "_isotonic" or abs(rows()[split, "mce" + suffix].n - worst_count) <= 2


def test_temperature_is_that_of_all_of_validation():
    assert rows()["test", "temperature"].value == pytest.approx(fits()[0], rel=1e-3)
    assert rows()["test", "temperature"].n == SIZES["validation"]


def test_every_error_lies_between_zero_and_one_and_in_its_interval():
    for (split, name), row in rows().items():
        if any(part in name for part in ("ece", "mce", "aurc", "auroc", "accuracy")):
            assert 0 <= row.value <= 1, (split, name)
            assert row.low is None or row.low <= row.value <= row.high, (split, name)
