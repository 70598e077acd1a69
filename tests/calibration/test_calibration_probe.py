import functools

import jax
import numpy as np
import pytest

from jaxreg.calibration import Logits, bins, metrics, ranking, selective, smooth_error, temperature
from jaxreg.calibration.probe import evaluate, measure
from jaxreg.runtime import parallel
from support.drawn_logits import draw

CONTRACT = (
    "nll brier ece ece_adaptive ece_classwise mce smece confidence confidence_gap ece_debiased ece_floor aurc auroc"
)
TRIALS = 3


@functools.cache
def splits():
    """Three trials that share labels: over-confident by 2, calibrated, under-confident by 1.5."""
    found = {}
    for name, seed, size in (("validation", 1, 150), ("test", 2, 600)):
        logits, labels = draw(seed, size)
        stack = np.stack([2 * logits, logits, logits / 1.5]).astype(np.float32)
        found[name] = Logits(stack, labels, np.arange(size) + 1000 * seed)
    return found


@functools.cache
def measured():
    return measure(splits(), replicates=300)


def values(found, split="test"):
    return {row.metric: row for row in found.rows if row.split == split}


def test_contract_names_are_there_for_every_split():
    for split in ("validation", "test"):
        found = values(measured()[0], split)
        names = CONTRACT.split()
        assert {"accuracy", "temperature", "temperature_at_bracket", *names, *(f"{name}_ts" for name in names)} <= set(
            found
        )
        assert {"ece_vector_scaling", "accuracy_vector_scaling", "ece_isotonic"} <= set(found)
        assert len(found) == sum(row.split == split for row in measured()[0].rows)


@jax.jit
def by_the_library(logits, labels):
    each, mask = metrics.examples(logits, labels), jax.numpy.ones(len(labels))
    top = each.confidence, each.correct, mask
    mass = bins.equal_mass(ranking.rank(each.confidence, mask), mask.sum())
    found = metrics.summary(metrics.sums_of(logits, labels))
    found |= {"smece": smooth_error.smece(*top), "aurc": selective.aurc(*top), "auroc": selective.auroc(*top)}
    return found | {"ece_adaptive": bins.ece(bins.bins_of(mass, *top))}


@pytest.mark.parametrize("trial", range(TRIALS))
def test_numbers_are_those_of_the_library(trial):
    test, found = splits()["test"], values(measured()[trial])
    t = jax.jit(temperature.fit)(splits()["validation"].logits[trial], splits()["validation"].labels).value
    assert found["temperature"].value == pytest.approx(float(t), rel=1e-4)
    for suffix, logits in (("", test.logits[trial]), ("_ts", test.logits[trial] / np.float32(t))):
        for name, value in by_the_library(logits, test.labels).items():
            if name + suffix in found:
                assert found[name + suffix].value == pytest.approx(float(value), abs=2e-4), name + suffix


def test_evaluate_gives_the_numbers_of_measure():
    every = evaluate(splits(), of=("test", "validation"))
    for split, columns in every.items():
        for trial in range(TRIALS):
            found = values(measured()[trial], split)
            for name, column in columns.items():
                if name not in ("accuracy_ts", "brier_uncertainty_ts"):
                    assert column[trial] == pytest.approx(found[name].value, abs=2e-5), (split, name)


def test_the_order_of_examples_changes_no_row():
    turned = {}
    for name, split in splits().items():
        order = np.random.default_rng(5).permutation(len(split.labels))
        turned[name] = Logits(split.logits[:, order], split.labels[order], split.ids[order])
    for here, there in zip(measured(), measure(turned, replicates=300)):
        for a, b in zip(here.rows, there.rows):
            assert a[:2] == b[:2]
            np.testing.assert_allclose(np.array(b[2:], float), np.array(a[2:], float), atol=1e-4, rtol=2e-4)


def test_temperature_repairs_what_was_wrong():
    temperatures = [values(found)["temperature"].value for found in measured()]
    assert temperatures[0] > 1.5
    assert temperatures[2] < 0.9
    assert temperatures[0] == pytest.approx(2 * temperatures[1], rel=1e-4)
    first = values(measured()[0])
    assert first["ece"].low > first["ece_floor"].high  # seen through the noise
    assert first["ece_ts"].value < first["ece"].value
    assert first["ece_ts"].value == pytest.approx(values(measured()[2])["ece_ts"].value, abs=1e-4)


def test_rows_carry_counts_and_intervals():
    found = values(measured()[0])
    assert found["temperature"].n == 150
    assert found["ece"].n == 600
    assert 0 < found["mce"].n < 600
    for name in (
        "accuracy",
        "nll",
        "brier",
        "ece",
        "ece_ts",
        "ece_adaptive",
        "confidence_gap",
        "temperature",
        "ece_floor",
        "ece_floor_isotonic",
        "ece_isotonic",
        "ece_classwise",
        "smece",
        "smece_isotonic",
        "aurc",
        "auroc",
    ):
        assert found[name].low <= found[name].value <= found[name].high, name
    assert found["brier_resolution"].low is None


def test_what_is_not_defined_has_no_interval():
    logits = splits()["test"].logits
    sure = Logits(logits, logits[1].argmax(-1), splits()["test"].ids)  # the second trial makes no error
    found = values(measure({"validation": splits()["validation"], "test": sure}, replicates=300)[1])
    assert np.isnan(found["auroc"].value)
    assert found["auroc"].low is None
    assert (found["aurc"].value, found["aurc"].high) == (0, 0)


@functools.cache
def one_by_one(replicates=300):
    """Metrics of the second trial's test split and of its resamples, each computed anew: [1 + R] by name."""
    test, random = splits()["test"], np.random.default_rng(0)
    drawn = [np.arange(600), *(random.integers(0, 600, 600) for _ in range(replicates))]
    found = [by_the_library(test.logits[1][i], test.labels[i]) for i in drawn]
    return {name: np.array([float(one[name]) for one in found]) for name in found[0]}


@pytest.mark.parametrize("metric", ["smece", "ece_classwise", "aurc", "auroc", "ece", "ece_adaptive"])
def test_intervals_are_those_of_a_bootstrap_that_computes_everything_anew(metric):
    value_R = one_by_one()[metric]
    low, middle, high = np.percentile(value_R[1:], [2.5, 50, 97.5])
    row = values(measured()[1])[metric]
    assert row.high - row.low == pytest.approx(high - low, rel=0.25)  # an end has a standard error of 7 % of the width
    shift = value_R[0] - middle
    np.testing.assert_allclose([row.low, row.high], [low + shift, high + shift], atol=0.2 * (high - low))


def test_arrays_recompute_the_numbers():
    found, arrays = values(measured()[1]), measured()[1].arrays
    np.testing.assert_array_equal(arrays["test/id"], splits()["test"].ids)
    assert all(len(array) == (600 if name.startswith("test/") else 150) for name, array in arrays.items())
    assert arrays["test/correct"].mean() == pytest.approx(found["accuracy"].value)
    assert arrays["test/nll_ts"].mean() == pytest.approx(found["nll_ts"].value, rel=1e-5)


def test_the_number_of_devices_and_the_grouping_change_nothing(monkeypatch):
    monkeypatch.setattr("jaxreg.runtime.passes.GROUP_BYTES", 1)  # one trial at a time
    again = measure(splits(), replicates=300, mesh=parallel.make_mesh(devices=jax.devices()[:1]))
    for one, other in zip(measured(), again):
        assert [row[:2] for row in one.rows] == [row[:2] for row in other.rows]
        np.testing.assert_allclose([row.value for row in one.rows], [row.value for row in other.rows], atol=1e-5)


def test_human_votes_add_rows_where_there_are_any():
    test = splits()["test"]
    votes = np.eye(5)[test.labels]  # people agree with the labels: cross-entropy is NLL, soft ECE is ECE
    human = dict(zip(test.ids.tolist(), votes))
    found = measure(splits(), replicates=300, human=human, bins=7)
    here = values(found[0])
    assert here["cross_entropy_human"].value == pytest.approx(here["nll"].value, rel=1e-5)
    assert here["kl_human_ts"].value == pytest.approx(here["nll_ts"].value, rel=1e-5)
    assert here["ece_human"].value == pytest.approx(here["ece"].value, abs=1e-6)
    # Votes that are one each scatter as labels do.
    floor, own = here["ece_floor_human"], here["ece_floor"]
    np.testing.assert_allclose([floor.value, floor.low, floor.high], [own.value, own.low, own.high], rtol=0.2)
    assert not {"ece_human", "ece_floor_human"} & set(values(found[0], "validation"))
    many = measure(splits(), replicates=300, bins=7, human={one: 100 * vote for one, vote in human.items()})
    assert values(many[0])["ece_human"].value == pytest.approx(here["ece_human"].value)
    assert values(many[0])["ece_floor_human"].value == pytest.approx(0.1 * floor.value, rel=0.15)  # 1 / sqrt(100)


def broken(**changes):
    test = splits()["test"]._replace(**changes)
    return {"validation": splits()["validation"], "test": test}


def with_nan():
    logits = splits()["test"].logits.copy()
    logits[1, 17, 2] = np.nan
    return broken(logits=logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_nan, r"test, trial mixup-s0, example 2017: logit nan is not finite \(1 in all\)"),
        (
            lambda: broken(labels=np.where(np.arange(600) == 3, 5, 0)),
            "test, example 2003: label must be a class 0 to 4, got 5",
        ),
        (lambda: broken(labels=splits()["test"].labels - 1), "label must be a class 0 to 4, got -1"),
        (lambda: broken(logits=np.zeros((3, 0, 5)), labels=np.zeros(0), ids=np.zeros(0)), "test: the split is empty"),
        (lambda: broken(ids=np.arange(599)), r"labels \(600,\) and ids \(599,\)"),
        (lambda: broken(ids=np.arange(600) // 2), "example 0 comes 2 times"),
        (
            lambda: broken(logits=splits()["test"].logits[:, :599]),
            r"none-s0: logits \[N, K\] must be \(600, 5\), got",
        ),
        (lambda: broken(logits=splits()["test"].logits[:2]), "logits of 2 trials, but 3 trials are named"),
        (lambda: broken(logits=splits()["test"].logits[..., :4]), r"same number of classes, at least 2, got \[4, 5\]"),
        (lambda: {"test": splits()["test"]}, "fitted on the split 'validation', got \\['test'\\]"),
    ],
)
def test_bad_input_is_one_clear_error(make, message):
    with pytest.raises(ValueError, match=message):
        measure(make(), trials=["none-s0", "mixup-s0", "cutmix-s0"])
