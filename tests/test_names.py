"""The grammar of metric names."""

import numpy as np
import pytest

from jaxreg import names
from jaxreg.names import MetricName, named, radius_texts, those


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ece_ts", ("ece_ts", (), None)),
        ("robust_accuracy/pgd_ce/0.1", ("robust_accuracy", ("pgd_ce", "0.1"), None)),
        ("adversarial_path_norm@0", ("adversarial_path_norm", (), 0)),
        ("over_training/cone_radius/q95@270", ("over_training", ("cone_radius", "q95"), 270)),
    ],
)
def test_a_name_is_its_parts(text, parts):
    assert MetricName.parse(text) == parts
    assert str(MetricName.parse(text)) == text
    assert named(parts[0], *parts[1], step=parts[2]) == text


def test_a_changed_name_keeps_what_it_is_of():
    assert MetricName.parse("ece/fog/3").changed("corruption_", "_floor") == "corruption_ece_floor/fog/3"


def test_those_of_one_metric():
    names = ["scaled_ece/1", "scaled_ece", "scaled_ece/1/2", "scaled_ece_floor/1"]
    assert those(names, "scaled_ece", 1) == {"scaled_ece/1": ("scaled_ece", ("1",), None)}


def test_radii_are_told_apart():
    assert radius_texts(np.float32([0.1, 8 / 255, 0.5])) == ["0.1", "0.03137", "0.5"]
    assert radius_texts([0.05, 8 / 255, 16 / 255, 1 / 3]) == ["0.05", "0.03137", "0.06275", "0.3333"]
    assert radius_texts(np.float32([0.1, 0.10001, 0.1])) == ["0.1", "0.10001", "0.1"]
    assert radius_texts([]) == []


def test_a_radius_is_told_as_it_was_given():
    told = {8 / 255: "8/255", 0.4 / 255: "0.4/255", 2 / 255: "2/255", 0.1: "0.1", 0.05: "0.05", 0.5: "0.5", 0.0: "0"}
    assert {radius: names.radius_told(radius) for radius in told} == told
    assert names.radius_told(np.float32(8 / 255)) == names.radius_told(float("0.03137")) == "8/255"
    assert names.radius_told(0.1234) == "0.1234"
