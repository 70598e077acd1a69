"""Edges where calibration goes wrong without a word, through the paths that users take. Right answers are derived."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from jaxreg import calibration
from jaxreg.calibration import Logits, bins, metrics, selective
from jaxreg.checks import check_apart
from support.drawn_logits import draw, softmax
from support.goldens import arrays_of

GOLDEN = arrays_of("calibration_packages")

LABELS = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1], np.int32)  # 11 examples: fewer than bins
CLASS_0 = np.zeros(11, np.int32)


def logits(kind):
    """Logits [11, 2] of each kind of trial."""
    sure = np.where(np.arange(2) == LABELS[:, None], 1.0, -1.0)
    sure[:3] *= -1  # wrong on three
    close = np.stack([np.full(11, 1.0), np.nextafter(np.float32(1), np.float32(2)) * np.ones(11)], -1)
    kinds = {"close": close * 3, "huge": 3e38 * sure, "flat": 0 * sure, "saturated": 1e4 * sure, "plain": 2 * sure}
    return kinds[kind].astype(np.float32)


KINDS = ("close", "huge", "flat", "saturated", "plain")


@functools.cache
def splits(labels="both"):
    stack = np.stack([logits(kind) for kind in KINDS])
    own = LABELS if labels == "both" else CLASS_0
    validation, test = (Logits(stack, y, np.arange(11) + first) for first, y in ((100, LABELS), (0, own)))
    return {"validation": validation, "test": test}


@functools.cache
def measured(labels="both"):
    found = calibration.measure(splits(labels), replicates=30)
    return [{row.metric: row for row in one.rows if row.split == "test"} for one in found]


@functools.cache
def evaluated():
    return calibration.evaluate(splits())["test"]


@pytest.mark.parametrize("labels", ["both", "one class"])
def test_few_examples_one_class_and_extreme_logits_give_finite_numbers(labels):
    for kind, found in zip(KINDS, measured(labels)):
        for name, row in found.items():
            undefined = name.startswith("auroc") or name in ("temperature",)
            assert undefined or np.isfinite(row.value), (kind, name)


def test_logits_at_the_ends_of_float32_are_no_nan():
    # [3e38, -3e38]: their difference is not a float32. Three of eleven are wrong, so flatter is better, without end.
    found = measured()[KINDS.index("huge")]
    assert found["temperature"].value == pytest.approx(100)
    assert found["temperature_at_bracket"].value == 1
    assert found["confidence"].value == 1
    assert found["ece"].value == pytest.approx(3 / 11)


def test_equal_logits_have_temperature_one():
    # NLL is log 2 at every T; any other T would be an accident of the search, and a hit bracket a false alarm.
    found = measured()[KINDS.index("flat")]
    assert (found["temperature"].value, found["temperature_at_bracket"].value) == (1, 0)
    assert evaluated()["temperature"][KINDS.index("flat")] == 1
    assert calibration.fit_temperature(logits("flat"), LABELS).value == 1


def test_temperature_moves_no_argmax_of_nearly_equal_logits():
    # Divided by T, 3 and its neighbour may round to one number, and the first class would win.
    found, at = evaluated(), KINDS.index("close")
    assert found["temperature"][at] != 1
    np.testing.assert_array_equal(found["accuracy_ts"], found["accuracy"])
    z = (1 + np.arange(40, dtype=np.float32) / 7)[:, None] * np.ones(2, np.float32)
    z[:, 1] = np.nextafter(z[:, 1], np.float32(9))
    assert (np.argmax(z * np.float32(0.3), -1) == 0).any()  # what goes wrong
    each, _ = jax.jit(lambda z: metrics.of_shifted(metrics.shifted(z), CLASS_0[:1], 0.3))(z[:1])
    assert each.prediction.tolist() == [1]


def test_overflow_to_float32_is_named():
    wide = np.stack([logits("plain").astype(np.float64)] * 2)
    wide[1, 4, 0] = 1e39
    broken = splits() | {"test": Logits(wide, LABELS, np.arange(11))}
    one = {name: split._replace(logits=split.logits[:2]) for name, split in broken.items()}
    with pytest.raises(ValueError, match=r"test, trial b, example 4: logit 1e\+39 is too large for float32"):
        calibration.evaluate(one, trials=["a", "b"])
    for bad in (np.inf, -np.inf, np.nan):
        wide[1, 4, 0] = bad
        with pytest.raises(ValueError, match=r"example 4: logit .* is not finite"):
            calibration.ece(wide[1], LABELS)


def test_validation_is_not_the_test_set():
    one = splits()["test"]
    with pytest.raises(ValueError, match=r"example 0 is in validation and in test \(11 are, with the same labels\)"):
        calibration.evaluate({"validation": one, "test": one})
    check_apart({"validation": (one.ids, LABELS), "test": (one.ids, LABELS[::-1])})  # each numbered from 0
    assert calibration.fit_temperature(one.logits[4], LABELS).value > 0  # arrays have no ids: their owner knows


def test_human_labels_that_match_nothing_or_a_part_are_refused():
    votes = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"match no example of validation or test: their ids are like 'x', .* like 0"):
        calibration.measure(splits(), replicates=30, human={"x": votes})
    with pytest.raises(ValueError, match="know 2 of 11 examples of test, not 2: give all or none"):
        calibration.measure(splits(), replicates=30, human={0: votes, 1: votes})


def test_auroc_of_few_errors_among_many():
    # 8 errors in 50,000: sums of ranks are 1e9, and float32 keeps 7 digits of them.
    random = np.random.default_rng(0)
    confidence, correct = random.random(50_000).astype(np.float32), np.ones(50_000, np.float32)
    correct[np.argsort(confidence)[[3, 17, 100, 900, 5000, 20_000, 31_000, 49_990]]] = 0
    ones = np.ones(50_000, np.float32)
    found = jax.jit(selective.auroc)(confidence, correct, ones)
    assert float(found) == pytest.approx(sklearn.metrics.roc_auc_score(correct, confidence), abs=1e-6)
    assert np.isnan(jax.jit(selective.auroc)(confidence, ones, ones))


def test_the_interval_of_smece_is_about_its_value():
    for found in measured():
        for suffix in ("", "_ts"):
            row = found["smece" + suffix]
            assert row.low <= row.value <= row.high


def test_where_common_tools_go_wrong():
    # 1. A confidence of exactly 1 (every bf16 softmax) lies in (14/15, 1], not in a 16th bin that is never summed:
    #    4 examples at 1.0, 3 right: ECE = |0.75 - 1| = 0.25; a tool that drops them says 0.
    # 2. A confidence of exactly 0 (a binary p) lies in the first bin: one right example at 0 is a gap of 1.
    # 3. Accuracy and confidence sorted apart: the pairs (0.9, wrong), (0.1, right) have gaps 0.9 and 0.9, mean 0.9;
    #    sorted apart they become (0.1, wrong), (0.9, right), mean 0.1.
    # 4. Quantile edges of ties (five of six at 0.9) fall together and leave one bin: see test_bins.
    # 5. The last batch dropped: the 7th of 7 examples, in batches of 3, is the only wrong one: ECE 1/7 at confidence 1.
    for confidence, correct, expected in (
        ([1.0] * 4, [1, 1, 1, 0], 0.25),
        ([0.0], [1], 1.0),
        ([0.9, 0.1], [0, 1], 0.9),
        ([1.0] * 7, [1] * 6 + [0], 1 / 7),
    ):
        found = bins.on_host(np.array(confidence), np.array(correct))
        assert bins.ece(found) == pytest.approx(expected)
        assert found.count.sum() == len(confidence)


@pytest.mark.parametrize("case", ["", "_two", "_few"])
def test_other_packages_say_the_same(case):
    # Six classes; two; three classes of nine examples, fewer than bins. relplot bisects in steps of 1/1024.
    z, y = GOLDEN["logits" + case], GOLDEN["labels" + case]
    references = {
        "accuracy": ("torchmetrics_accuracy", 1e-6),
        "nll": ("torch_nll", 1e-6),
        "ece": ("netcal_ece", 1e-6),
        "ece_adaptive": ("netcal_adaptive", 1e-6),
        "mce": ("netcal_mce", 1e-6),
        "smece": ("relplot_smece", 1e-3),
    }
    for name, (reference, allowed) in references.items():
        assert getattr(calibration, name)(z, y) == pytest.approx(float(GOLDEN[reference + case]), abs=allowed), name
    found = calibration.fit_temperature(z, y).value
    assert found == pytest.approx(float(GOLDEN["probmetrics_temperature" + case]), rel=2e-5)
    each = jax.jit(metrics.examples)(z, y)
    top = bins.on_host(np.asarray(each.confidence), np.asarray(each.correct))
    plain_l2 = np.sqrt((top.count * bins.gaps(top) ** 2).sum() / top.count.sum())
    assert plain_l2 == pytest.approx(float(GOLDEN["torchmetrics_l2" + case]), abs=1e-6)
    assert bins.ece(top) == pytest.approx(float(GOLDEN["torchmetrics_l1" + case]), abs=1e-6)
    assert bins.mce(top) == pytest.approx(float(GOLDEN["torchmetrics_max" + case]), abs=1e-6)


@pytest.mark.parametrize(("classes", "size"), [(2, 400), (2, 9), (7, 400)])
def test_plain_functions_against_scikit_learn_and_numpy(classes, size):
    z, y = draw(classes + size, size, classes)
    p = softmax(z)
    confidence, correct = p.max(-1), p.argmax(-1) == y
    order = np.argsort(confidence)
    parts = [order[part] for part in np.array_split(np.arange(size), 15) if len(part)]
    risks = np.cumsum(~correct[order[::-1]]) / np.arange(1, size + 1)
    onehot = np.eye(classes)[y]
    place = np.clip(np.ceil(p * 15) - 1, 0, 14)
    classwise = [
        sum(abs((p[:, k] - onehot[:, k])[place[:, k] == m].sum()) for m in range(15)) / size for k in range(classes)
    ]
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, p.argmax(-1)),
        "nll": sklearn.metrics.log_loss(y, p, labels=range(classes)),
        "brier": sklearn.metrics.mean_squared_error(onehot, p) * classes,
        "confidence_gap": confidence.mean() - correct.mean(),
        "ece_adaptive": sum(abs((confidence - correct)[part].sum()) for part in parts) / size,
        "ece_classwise": np.mean(classwise),
        "auroc": sklearn.metrics.roc_auc_score(correct, confidence),
        "aurc": risks.mean(),
    }
    for name, value in expected.items():
        assert getattr(calibration, name)(z, y) == pytest.approx(value, abs=3e-6), name


@pytest.mark.usefixtures("as_users")
def test_plain_functions_name_bad_arrays():
    z, y = draw(0, 9, 2)
    with pytest.raises(ValueError, match="example 3: label must be a class 0 to 1, got 5"):
        calibration.ece(z, np.where(np.arange(9) == 3, 5, y))
    with pytest.raises(ValueError, match=r"labels must be numbers of classes \[N\] = \(9,\), got int32 \(8,\)"):
        calibration.nll(z, y[:8])
    with pytest.raises(ValueError, match="at least 2 classes"):
        calibration.ece(z[:, :1], y)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_probabilities_are_told_from_logits(dtype):
    z, y = draw(0, 9, 3)
    p = softmax(z).astype(dtype)
    with pytest.raises(ValueError, match="logits must be raw, got probabilities"):
        calibration.ece(p, y)
    with pytest.raises(ValueError, match="trial a: logits must be raw, got probabilities"):
        calibration.measure({"validation": calibration.Logits(p[None], y)}, trials=["a"])
    assert calibration.ece(np.log(p), y) == pytest.approx(calibration.ece(z, y), abs=1e-2)


def test_one_network_needs_neither_trials_nor_ids():
    z, y = logits("plain"), LABELS
    apart = {"validation": calibration.Logits(z + 1, y), "test": calibration.Logits(z, y)}
    whole = {"validation": Logits((z + 1)[None], y, np.arange(11)), "test": Logits(z[None], y, np.arange(11))}
    found, expected = (calibration.evaluate(one)["test"] for one in (apart, whole))
    assert {name: values.tolist() for name, values in found.items()} == {n: v.tolist() for n, v in expected.items()}


@pytest.mark.parametrize("bins", [0, -2, 1.5])
def test_a_number_of_bins_that_is_none_is_named(bins):
    for metric in (calibration.ece, calibration.ece_adaptive, calibration.brier_parts):
        with pytest.raises(ValueError, match=f"bins must be a whole number, at least 1, got {bins}"):
            metric(logits("plain"), LABELS, bins)
    with pytest.raises(ValueError, match="bins must be a whole number"):
        calibration.measure(splits(), bins=bins)


@pytest.mark.usefixtures("as_users")
def test_parameters_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="replicates must be a whole number, at least 2, got 1"):
        calibration.measure(splits(), replicates=1)
    with pytest.raises(ValueError, match="seed must be a whole number, at least 0, got -1"):
        calibration.measure(splits(), seed=-1)
    for of in (("tset",), "tset", ()):
        with pytest.raises(
            ValueError, match=r"of must be a sequence of splits, one or more of \['test', 'validation'\], got"
        ):
            calibration.evaluate(splits(), of=of)
    for labels in (np.eye(2)[LABELS], LABELS.astype(str)):
        with pytest.raises(
            ValueError,
            match=r"labels must be numbers of classes \[N\] = \(11,\), got .* the argmax",
        ):
            calibration.ece(logits("plain"), labels)


def test_examples_of_one_class_that_are_numbered_alike_are_not_the_same():
    one = {"validation": Logits(logits("plain"), CLASS_0), "test": Logits(2 * logits("plain"), CLASS_0)}
    assert calibration.evaluate(one)["test"]["accuracy"].shape == (1,)


def test_parts_of_brier_add_up():
    z = logits("plain")
    parts = calibration.brier_parts(z, LABELS)
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert whole == pytest.approx(calibration.brier(z, LABELS), abs=1e-6)
    assert parts["uncertainty"] == pytest.approx(2 * np.mean(LABELS) * (1 - np.mean(LABELS)), abs=1e-6)


def test_vector_scaling_of_arrays_is_that_of_the_probe():
    z, y = draw(3, 400)
    scale, bias = calibration.fit_vector_scaling(z, y)
    split = {"validation": Logits(z, y, np.arange(400)), "test": Logits(2 * z, y, 400 + np.arange(400))}
    found = {row.metric: row.value for row in calibration.measure(split, replicates=5)[0].rows if row.split == "test"}
    assert found["nll_vector_scaling"] == pytest.approx(calibration.nll(2 * z * scale + bias, y), rel=1e-4)


def test_splits_may_be_tuples_and_labels_must_be_a_row():
    plain = {name: tuple(split) for name, split in splits().items()}
    assert calibration.evaluate(plain)["test"]["ece"] == pytest.approx(calibration.evaluate(splits())["test"]["ece"])
    with pytest.raises(ValueError, match=r"validation: labels must be numbers of classes \[N\], got int64 \(\)"):
        calibration.evaluate({"validation": Logits(np.zeros((1, 2)), np.array(0))}, of=["validation"])


@pytest.mark.usefixtures("as_users")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0.5, np.nan], [1, 0], [0.5]), r"^example 1: confidence must be in \[0, 1\], got nan"),
        (([0.5, 0.7], [1, 2], [0.5]), r"^example 1: correct must be in \[0, 1\], got 2"),
        (([0.5, 0.7], [1, 0], [0.5, -1]), r"^example 1: confidence to map must be in \[0, 1\], got -1"),
        (([], [], [0.5]), r"^confidence and correct must be \[N\] both, N at least 1"),
        (([0.5], [1, 0], [0.5]), r"^confidence and correct must be \[N\] both"),
    ],
)
def test_isotonic_regression_names_what_it_cannot_fit(given, message):
    with pytest.raises(ValueError, match=message):
        calibration.isotonic(*map(np.array, given))


def test_an_offset_of_wide_logits_takes_no_digits():
    random = np.random.default_rng(0)
    z, y = 3 * random.normal(size=(200, 5)), random.integers(0, 5, 200)
    for offset in (1e6, -1e9):
        assert calibration.ece(z + offset, y) == pytest.approx(calibration.ece(z, y), abs=1e-5)
        both = {"validation": Logits(z[None, ::2] + offset, y[::2]), "test": Logits(z[None, 1::2] + offset, y[1::2])}
        near = {name: split._replace(logits=split.logits - offset) for name, split in both.items()}
        values = [calibration.evaluate(one)["test"]["nll_ts"][0] for one in (both, near)]
        assert values[0] == pytest.approx(values[1], abs=1e-5)


def test_padding_may_hold_anything():
    z, y = np.array([[1.0, 2.0], [0.5, 0.1], [np.nan, np.inf]]), np.array([1, 0, 0])
    sums = jax.jit(metrics.sums_of)
    whole, padded = sums(jnp.array(z[:2]), y[:2]), sums(jnp.array(z), y, jnp.array([1, 1, 0]))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(padded)):
        np.testing.assert_allclose(one, other, rtol=1e-6)


PLAIN = ("accuracy", "nll", "brier", "confidence_gap", "ece", "ece_adaptive", "ece_classwise", "ece_debiased", "mce")
PLAIN += ("smece", "aurc", "auroc")


def test_numbers_are_the_same_with_64_bits():
    narrow = {name: getattr(calibration, name)(logits("plain"), LABELS) for name in PLAIN}
    with jax.enable_x64(True):
        wide = {name: getattr(calibration, name)(logits("plain"), LABELS) for name in PLAIN}
        every = calibration.evaluate(splits())["test"]
    for name, value in narrow.items():
        assert wide[name] == pytest.approx(value, abs=1e-5, nan_ok=True)
    for name, values in calibration.evaluate(splits())["test"].items():
        np.testing.assert_allclose(every[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
