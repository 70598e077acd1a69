"""Settings: one label each, never rounded, and one rule for which is the baseline of which."""

import pytest

from jaxreg.regularizers import has_floor, is_soft, smoothing_of
from jaxreg.setting import Setting, baselines


@pytest.mark.parametrize(
    ("regularizer", "hyperparameters", "text"),
    [
        ("none", {}, "none"),
        ("label_smoothing", {"epsilon": 0.1}, "label_smoothing(epsilon=0.1)"),
        ("mixup", '{"alpha": 1.0}', "mixup(alpha=1)"),
        ("mixup", {"alpha": 1.0, "per_batch": 0.0}, "mixup(alpha=1)"),  # as by default, so left unsaid
        ("mixup", {"alpha": 1.0, "per_batch": 1.0}, "mixup(alpha=1, per_batch=1)"),
        ("mixup+label_smoothing", {"epsilon": 0.1, "alpha": 1.0}, "mixup+label_smoothing(alpha=1, epsilon=0.1)"),
        (
            "none",
            {"optimizer.name": "sgd", "steps": 100, "flag": True},
            "none(flag=true, optimizer.name=sgd, steps=100)",
        ),
        ("focal", {"gamma": 0.1234567891}, "focal(gamma=0.1234567891)"),  # never two settings under one label
    ],
)
def test_label(regularizer, hyperparameters, text):
    assert Setting.of(regularizer, hyperparameters).label == text


def test_settings_are_equal_where_their_numbers_are_to_the_last_digit():
    one, other = (Setting.of("mixup", {"b": 2, "optimizer.learning_rate": rate}) for rate in (0.12345678, 0.12345679))
    assert one != other
    assert one.label != other.label
    assert Setting.of("mixup", '{"optimizer.learning_rate": 0.12345678, "b": 2}') == one


def test_a_number_and_its_text_have_different_labels():
    assert Setting.of("none", {"model.name": "1"}).label == 'none(model.name="1")'
    assert Setting.of("none", {"steps": 1}).label == "none(steps=1)"


def test_overrides_are_what_a_sweep_sets():
    setting = Setting.of("mixup", {"alpha": 1.0, "optimizer.learning_rate": 0.5, "steps": 10})
    assert setting.overrides == {"optimizer.learning_rate": 0.5, "steps": 10}
    assert setting.own == Setting.of("mixup", {"alpha": 1.0})


def test_the_closest_baseline_is_taken():
    known = [Setting("none", h) for h in ("{}", '{"lr": 0.1}', '{"lr": 0.5}')] + [Setting("mixup", '{"lr": 0.1}')]
    assert known[3].baseline(known) == known[1]
    mixup = Setting("mixup", '{"alpha": 1.0}')
    assert mixup.baseline(known) == known[0]
    assert mixup.baseline(known[1:]) is None
    faster = Setting("mixup", '{"alpha": 1.0, "optimizer.learning_rate": 0.5}')
    assert faster.baseline(known) is None  # all were trained at the rate of the config
    own = Setting("none", '{"optimizer.learning_rate": 0.5}')
    assert faster.baseline([*known, own]) == own
    assert Setting("mixup+label_smoothing", '{"alpha": 1.0, "epsilon": 0.1}').baseline([mixup], "mixup") == mixup


def test_trials_have_their_baseline_at_their_own_seed_and_overrides():
    none, slow = Setting("none"), Setting("none", '{"steps": 9}')
    mixup, soft = Setting("mixup", '{"alpha": 1.0}'), Setting("mixup", '{"alpha": 1.0, "steps": 9}')
    settings, seeds = [none, mixup, none, mixup, soft, slow, mixup], [0, 0, 1, 1, 1, 1, 2]
    assert baselines(settings, seeds) == [None, 0, None, 2, 5, None, None]


DECAY = {"optimizer.weight_decay": 0.005}


def test_a_control_is_compared_with_the_baseline_that_it_names_and_is_none_itself():
    none, control = Setting("none"), Setting.control("none", DECAY, {})
    assert control == Setting.of("none", DECAY | {"baseline": "none"})
    assert control.label == "none(optimizer.weight_decay=0.005)"
    assert (control.is_control, control.is_baseline, none.is_control, none.is_baseline) == (True, False, False, True)
    assert control.overrides == {}
    assert control.own == control
    mixup = Setting("mixup", '{"alpha": 1.0}')
    assert baselines([control, mixup, none], [0, 0, 0]) == [2, 2, None]
    assert mixup.baseline([control]) is None
    assert control.baseline([none, mixup], "mixup") is None
    swept = Setting.of("mixup", DECAY)  # the same number by a sweep: its baseline must have it too
    assert swept.baseline([none, control]) is None


def test_a_control_in_a_sweep_is_compared_at_its_overrides():
    rate = {"optimizer.learning_rate": 0.02}
    none, slow = Setting("none"), Setting.of("none", rate)
    control = Setting.control("none", DECAY, rate)
    assert control.overrides == rate
    assert control.own == Setting.control("none", DECAY, {})
    assert control.baseline([none, slow]) == slow
    assert control.baseline([none]) is None  # which has another learning rate
    assert control.label == "none(optimizer.learning_rate=0.02, optimizer.weight_decay=0.005)"


@pytest.mark.parametrize(
    ("name", "soft", "smoothing", "floor"),
    [
        ("none", False, 0.0, True),
        ("label_smoothing", True, 0.3, True),
        ("mixup", True, 0.0, False),
        ("cutmix+label_smoothing", True, 0.3, False),
        ("confidence_penalty", False, 0.0, False),
        ("confidence_penalty+label_smoothing", True, 0.3, False),
    ],
)
def test_what_a_regularizer_does_to_targets_is_what_its_functions_do(name, soft, smoothing, floor):
    hyper = {"epsilon": 0.3, "alpha": 1.0}
    assert (is_soft(name), smoothing_of(name, hyper), has_floor(name)) == (soft, smoothing, floor)


def test_a_regularizer_of_another_version_is_soft_by_the_parts_that_are_known():
    assert is_soft("cutmix+of_another_version")
    assert not is_soft("of_another_version")
