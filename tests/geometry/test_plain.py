"""One network in one call: the numbers are the probe's and those of float64, and errors name value, rule and cure."""

import math

import numpy as np
import pytest

from jaxreg import geometry
from support import geometry_reference as reference
from support.geometry_shapes import CLASSES, LABELS, WIDTH

LABELS_N = LABELS["train"]
SMOOTHING = (0.0, 0.2)


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(30)
    corners = rng.normal(size=(2, CLASSES, WIDTH))
    return {
        name: geometry.Features((corners[:, y] + 0.3 + 0.7 * rng.normal(size=(2, len(y), WIDTH))).astype(np.float32), y)
        for name, y in LABELS.items()
    }


@pytest.fixture(scope="module")
def heads():
    rng = np.random.default_rng(31)
    return [(rng.normal(size=(WIDTH, CLASSES)), rng.normal(size=CLASSES)) for _ in SMOOTHING]


@pytest.fixture(scope="module")
def networks(splits, heads):
    """What users have: NumPy arrays, some of them float64."""
    return [(splits["train"].features[t], *heads[t], LABELS_N) for t in range(2)]


@pytest.fixture(scope="module")
def found(networks):
    return [geometry.measure_network(*one, smoothing=epsilon) for one, epsilon in zip(networks, SMOOTHING)]


def test_numbers_and_arrays_are_those_of_the_probe(splits, heads, found):
    kernels, biases = (np.stack(parts) for parts in zip(*heads))
    for one, expected in zip(found, geometry.measure(splits, kernels, biases, smoothing_T=SMOOTHING)):
        rows = {row.metric.removeprefix("train_"): row.value for row in expected.rows if row.split == "train"}
        assert set(one.numbers) == set(rows)
        for name, value in rows.items():
            np.testing.assert_allclose(one.numbers[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
        arrays = {f"train/{name}": array for name, array in one.examples.items()}
        arrays |= {f"class/{name}": array for name, array in one.classes.items()}
        assert set(arrays) == {name for name in expected.arrays if name.startswith(("train/", "class/"))}
        for name, array in arrays.items():
            np.testing.assert_allclose(array, expected.arrays[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_examples_and_their_means_equal_float64(networks, found):
    for (h_ND, kernel, bias, y_N), one in zip(networks, found):
        h_ND = h_ND.astype(float)
        center, mean = (one.classes[name].astype(float) for name in ("center", "mean"))
        np.testing.assert_allclose(mean, [h_ND[y_N == k].mean(0) for k in range(CLASSES)], atol=1e-5)
        top_N = (h_ND @ kernel + bias).argmax(1)
        last_N = np.array([reference.last_change(h, kernel, bias) for h in h_ND])
        expected = {"norm": np.linalg.norm(h_ND, axis=1), "cone_breakpoint": last_N, "cone_fraction": last_N < 1}
        for name, table in {"center": center, "weight": kernel.T, "mean": mean}.items():
            expected[f"{name}_cosine"] = [np.cos(reference.angle(h, table[y])) for h, y in zip(h_ND, y_N)]
        expected["angular_margin"] = [reference.margin(h, kernel, bias, c) for h, c in zip(h_ND, top_N)]
        expected["label_margin"] = [reference.margin(h, kernel, bias, y) for h, y in zip(h_ND, y_N)]
        for name, values in expected.items():
            np.testing.assert_allclose(one.examples[name], values, rtol=2e-3, atol=2e-4, err_msg=name)
            if name not in ("norm", "cone_breakpoint"):
                np.testing.assert_allclose(one.numbers[name], np.mean(values), rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(one.numbers["feature_norm"], np.mean(expected["norm"]), rtol=1e-6)


def test_collapse_equals_float64(networks, found):
    for (h_ND, kernel, bias, y_N), one in zip(networks, found):
        expected = reference.collapse(h_ND.astype(float), y_N, kernel, (h_ND @ kernel + bias).argmax(1))
        alone = geometry.neural_collapse(h_ND, kernel, bias, y_N)
        for name, value in expected.items():
            np.testing.assert_allclose([one.numbers[name], getattr(alone, name)], value, rtol=2e-3, err_msg=name)


def test_centers_meet_the_condition_of_the_least_loss(networks, found):
    """On the sphere the gradient of the loss points straight to the origin, or a shift along it would gain."""
    for (_, kernel, bias, _), one in zip(networks, found):
        assert one.numbers["center_residual"] < 1e-5
        for k, z in enumerate(one.classes["center"].astype(float)):
            odds = np.exp(z @ kernel + bias) * (np.arange(CLASSES) != k)
            slope = kernel @ (odds / odds.sum()) - kernel[:, k]
            np.testing.assert_allclose(slope / np.linalg.norm(slope), -z / np.linalg.norm(z), atol=1e-4)
            np.testing.assert_allclose(np.linalg.norm(z), one.numbers["feature_norm"], rtol=1e-5)


def test_single_functions_take_the_same_arrays(networks, found):
    (h_ND, kernel, bias, y_N), one = networks[0], found[0]
    np.testing.assert_allclose(geometry.cone(h_ND, kernel, bias).breakpoint, one.examples["cone_breakpoint"], rtol=1e-3)
    np.testing.assert_allclose(
        geometry.angular_margin(h_ND, kernel, bias, y_N), one.examples["label_margin"], rtol=1e-3, atol=1e-4
    )
    assert all(callable(getattr(geometry, name)) for name in geometry.__all__)


def test_the_radius_is_the_length_of_the_centers(networks):
    centers = geometry.measure_network(*networks[0], radius=2.5).classes["center"]
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 2.5, rtol=1e-5)


def test_without_a_class_there_is_all_but_what_needs_its_mean(networks, found):
    h_ND, kernel, bias, y_N = networks[0]
    lacking = geometry.measure_network(h_ND, kernel, bias, np.where(y_N == 1, 2, y_N))
    gone = {name for name, value in lacking.numbers.items() if math.isnan(value)}
    assert gone == {
        "nc1", "nc2_norm", "nc2_angle", "nc3", "nc4", "within_class_variance", "within_class_share",
        "mean_cosine_centred", "center_mean_agreement", "center_mean_agreement_centred", "weight_mean_agreement",
        "weight_mean_agreement_centred",
    }  # fmt: skip
    assert np.isnan(lacking.classes["mean"][1]).all()
    assert np.isnan(lacking.examples["mean_cosine_centred"]).all()
    np.testing.assert_allclose(lacking.examples["mean_cosine"][0], found[0].examples["mean_cosine"][0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"without class 1$"):
        geometry.neural_collapse(h_ND, kernel, bias, np.where(y_N == 1, 2, y_N))


def test_zero_features_have_a_length_and_no_direction(networks):
    h_ND, *rest = networks[0]
    numbers = geometry.measure_network(0 * h_ND, *rest).numbers
    assert numbers["feature_norm"] == 0
    assert math.isfinite(numbers["nll"])
    assert all(math.isnan(numbers[name]) for name in ("center_cosine", "cone_fraction", "angular_margin", "nc1"))


def with_one(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


WRONG = {
    r"features must be \[N, D\].*got \(960,\)": (0, np.ravel),
    r"features must be \[N, D\].*got \(0, 12\)": (0, lambda h: h[:0]),
    r"example 7: feature nan is not finite \(1 in all\): did": (0, lambda h: with_one(h, (7, 2), np.nan)),
    r"example 5: feature 1[.0-9]*e\+30 is too large, its square": (0, lambda h: with_one(h, (5, 0), 1e30)),
    r"kernel must be \[12, K\] with .*got \(4, 12\): is it transposed": (1, np.transpose),
    r"class 3: kernel inf is not finite": (1, lambda w: with_one(w, (0, 3), np.inf)),
    r"bias must be \(4,\), got \(\): give zeros": (2, lambda b: 0.0),
    r"labels must be numbers of classes \[N\] = \(80,\), got float64 \(80, 4\): give each example its class": (
        3,
        lambda y: np.eye(CLASSES)[y],
    ),
    r"example 3: label must be a class 0 to 3, got 4: number": (3, lambda y: y + 1),
    r"example 0: label must be a class 0 to 3, got 0.5": (3, lambda y: y + 0.5),
    r"example 9: label must be a class 0 to 3, got -1": (3, lambda y: with_one(y, 9, -1)),
}


@pytest.mark.usefixtures("as_users")
@pytest.mark.parametrize("message", WRONG)
def test_errors_name_value_rule_and_cure_in_a_line(networks, message):
    place, change = WRONG[message]
    given = list(networks[0])
    given[place] = change(given[place])
    with pytest.raises(ValueError, match=message) as error:
        geometry.measure_network(*given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", [{"radius": -1.0}, {"radius": np.nan}, {"smoothing": 1.0}, {"smoothing": -0.1}])
def test_settings_out_of_range_are_refused(networks, setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {setting[name]}: 0 is"):
        geometry.measure_network(*networks[0], **setting)
