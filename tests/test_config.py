"""A config that cannot run says so in one line, with value, rule and cure, before anything is compiled."""

import pytest

from jaxreg import config as configs
from jaxreg import config_file
from jaxreg.jobs import preflight
from jaxreg.spec import SpecError
from jaxreg.training.program import programs_of
from support.small_study import small_config

# dotted key -> value, and what the message must say
TWICE = {
    "probes.robustness.epsilons": (0.1, 0.1),
    "probes.geometry.snapshots": (0, 12, 12),
    "probes.corruptions": {"severities": (1, 1)},
}
BAD = {
    "dataset.nam": ("digits", "unknown key config.dataset.nam: did you mean config.dataset.name"),
    "dataset.validation": (0, "dataset.validation must be above 0, got 0"),
    "dataset.residency": ("disk", "Unknown dataset.residency 'disk'; known"),
    "model.dtype": ("float16", "Unknown model.dtype 'float16'; known"),
    "batch_size": (0, "batch_size must be above 0, got 0"),
    "steps": ("many", "config.steps must be int, got 'many'"),
    "seeds": (0, "config.seeds must be at least 1, got 0"),
    "regularizers": ((("label_smothing", {}),), "Unknown regularizer 'label_smothing'; known: .*label_smoothing"),
    "optimizer.learning_rate": (-0.1, "optimizer.learning_rate must be above 0, got -0.1"),
    "optimizer.momentum": (1.0, r"optimizer.momentum must be in \[0, 1\), got 1.0"),
    "optimizer.name": ("adam", "Unknown optimizer.name 'adam'; known"),
    "optimizer.schedule": ("linear", "Unknown optimizer.schedule 'linear'; known"),
    "optimizer.boundaries": ((0.5, 2.0), "boundaries are shares of training"),
    "optimizer.warmup_steps": (40, "warmup_steps must be below steps = 40, got 40"),
    "optimizer.nesterov": (1, "config.optimizer.nesterov must be bool, got 1"),
    "probes.robustness.epsilons": ((8.0,), r"must be in \[0, 1\], as the images are, got 8.0"),
    "probes.robustness.norm": ("l1", "Unknown probes.robustness.norm 'l1'; known"),
    "probes.calibraton": ({}, "unknown key config.probes.calibraton: did you mean config.probes.calibration"),
    "execution.local_trials": ("pmap", "Unknown execution.local_trials 'pmap'; known"),
    "execution.precision": ("tf32", "Unknown execution.precision 'tf32'; known"),
    "execution.steps_per_dispatch": (0, "execution.steps_per_dispatch must be above 0, got 0"),
    "study": (3, "config.study must be str, got 3"),
    "model.widths": ((4.5,), r"config.model.widths must be a list of int such as \(8,\), got \[4.5\]"),
    "model.name": (3, "config.model.name must be str, got 3"),
    "optimizer.weight_decay": (float("inf"), "config.optimizer.weight_decay must be float, got inf"),
    "dataset.augment": ("flip", r"config.dataset.augment must be a list of str such as \(a,\), got 'flip'"),
    "probes.only": ("calibration", "config.probes.only must be a list of str"),
    "probes.calibration.bootstrap": (1, "bootstrap must be 2 or more resamples, got 1"),
    "probes.corruptions": ({"severities": (1.5,)}, r"severities must be a list of int such as \(8,\), got \[1.5\]"),
    "probes.robustness.suite": (("pgd",), "config.probes.robustness.suite must be str"),
    "probes.geometry.snapshots": (2.5, r"snapshots must be int or a list of int such as \(8,\), got 2.5"),
    "execution": (3, "config.execution must be a dict of settings, got 3"),
    "sed": (1, "unknown key config.sed: did you mean config.seeds"),
}


def changed(key: str, value):
    plain = configs.as_plain(small_config())
    *path, last = key.split(".")
    branch = plain
    for part in path:
        branch = branch[part]
    branch[last] = configs.as_plain({"v": value})["v"]
    return plain


@pytest.mark.parametrize("key", BAD)
def test_bad_value(key):
    value, message = BAD[key]
    with pytest.raises(SpecError, match=message) as error:
        configs.resolve(changed(key, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["many", (0.1, "many"), 8.0, (float("nan"),), True, None, {}])
def test_radii_are_numbers(value):
    with pytest.raises(SpecError, match=r"radius|must be a list of float"):
        configs.resolve(changed("probes.robustness.epsilons", value))


@pytest.mark.parametrize("key", TWICE)
def test_what_stands_twice_would_have_one_name(key):
    with pytest.raises(SpecError, match="twice: name each once"):
        configs.resolve(changed(key, TWICE[key]))


def test_all_missing_keys_are_told_at_once():
    plain = configs.as_plain(small_config())
    del plain["study"], plain["model"], plain["optimizer"]["learning_rate"], plain["seeds"], plain["probes"]
    with pytest.raises(SpecError) as error:
        configs.resolve(plain)
    lacking = "config.study, config.model.name, config.seeds, config.optimizer.learning_rate"
    assert str(error.value).startswith(f"the config lacks the keys {lacking}: ")


SHORT = {
    "study": "short",
    "dataset": {"name": "digits"},
    "model": {"name": "cnn"},
    "regularizers": (("none", {}),),
    "seeds": 1,
    "batch_size": 32,
    "steps": 8,
    "optimizer": {"learning_rate": 0.1},
}


def test_what_a_config_leaves_out_has_its_default():
    (trial,) = configs.resolve(SHORT).trials
    assert (trial.optimizer.name, trial.dataset.validation) == ("sgd", None)
    assert preflight.check(programs_of(configs.resolve(SHORT))[0]).counts["validation"] == 145


def test_a_sweep_may_set_what_the_config_leaves_out():
    momenta = [{"optimizer.momentum": momentum} for momentum in (0.9, 0.5)]
    first, second = configs.resolve(SHORT, momenta).trials
    assert (first.overrides, second.overrides) == ((), (("optimizer.momentum", 0.5),))  # 0.9 is the default


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 5000, "batch_size must be at most the 1197 train examples of digits, got 5000"),
        ("dataset.name", "no_such_dataset", "no_such_dataset"),
        ("model.name", "resnet1000", "Unknown model 'resnet1000'; known"),
        ("model.widts", (4,), "Unknown option 'widts' of model 'cnn'"),
        ("dataset.augment", ("flop",), "Unknown augmentation 'flop'; known"),
        ("dataset.padding", 8, r"padding must be in \[0, 8\)"),
        ("dataset.validation", 4000, "4000"),
    ],
)
def test_what_does_not_fit_the_data(key, value, message):
    (program,) = programs_of(configs.resolve(changed(key, value)))
    with pytest.raises(SpecError, match=message) as error:
        preflight.check(program)
    assert "\n" not in str(error.value)


def test_trials_are_settings_times_seeds_times_sweep():
    sweep = [{"optimizer.learning_rate": rate} for rate in (0.1, 0.2, 0.3)]
    study = configs.resolve(small_config(), sweep)
    assert len(study.trials) == 2 * 2 * 3
    assert len({t.id for t in study.trials}) == 12
    assert {t.optimizer.learning_rate for t in study.trials} == {0.1, 0.2, 0.3}
    assert '"optimizer.learning_rate": 0.2' in study.trials[4].setting.hyperparameters


def with_control(overrides, *more, name="none"):
    return changed("regularizers", (("none", {}), (name, {}, overrides), *more))


def test_a_control_overrides_numbers_of_the_optimizer_in_the_same_program():
    plain = configs.resolve(changed("regularizers", (("none", {}),)))
    study = configs.resolve(with_control({"optimizer.weight_decay": 1, "optimizer.momentum": 0.5}))
    assert study.trials[:2] == plain.trials  # with their names
    assert {t.id for t in study.trials[:2]} == {t.id for t in plain.trials}
    assert len({t.id for t in study.trials}) == 4
    numbers = [(t.optimizer.weight_decay, t.optimizer.momentum) for t in study.trials]
    assert numbers == [(1e-4, 0.9)] * 2 + [(1.0, 0.5)] * 2
    assert len(programs_of(study)) == 1
    control = study.trials[2].setting
    assert control.hyperparameters == '{"baseline": "none", "optimizer.momentum": 0.5, "optimizer.weight_decay": 1.0}'
    assert control.baseline([t.setting for t in study.trials]) == study.trials[0].setting
    assert configs.resolve(with_control({}, name="mixup")).trials[2].control == ()


def test_a_control_has_another_name_than_a_trial_of_a_sweep_with_its_numbers():
    swept = configs.resolve(small_config(), [{"optimizer.weight_decay": 0.005}])
    controls = configs.resolve(with_control({"optimizer.weight_decay": 0.005}))
    assert not {t.id for t in swept.trials} & {t.id for t in controls.trials}


def test_a_sweep_sets_what_a_control_does_not():
    study = configs.resolve(with_control({"optimizer.weight_decay": 0.005}), [{}, {"optimizer.learning_rate": 0.02}])
    settings = [t.setting for t in study.trials]
    assert [s.baseline(settings) for s in settings if s.is_control] == [settings[0]] * 2 + [settings[4]] * 2
    assert {t.optimizer.weight_decay for t in study.trials if t.control} == {0.005}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.decays": 1.0}, r"cannot override optimizer\.decays: did you mean optimizer\.decay"),
        ({"weight_decay": 1.0}, r"cannot override weight_decay: did you mean optimizer\.weight_decay"),
        ({"optimizer.schedule": "constant"}, "which is another program or none of the optimizer"),
        ({"batch_size": 64}, "which is another program or none of the optimizer"),
        ({"optimizer.boundaries": (0.5,)}, r"needs 2 optimizer\.boundaries, as the config has"),
        ({"optimizer.weight_decay": "much"}, "a control of 'none': optimizer.weight_decay must be float"),
        ({"optimizer.weight_decay": -1.0}, "must be 0 or more"),
        ({"optimizer.weight_decay": 1e-4}, "which it is in the config"),
    ],
)
def test_what_a_control_cannot_override_is_told(overrides, message):
    with pytest.raises(SpecError, match=message) as told:
        configs.resolve(with_control(overrides))
    assert "\n" not in str(told.value)


def test_a_control_that_stands_twice_or_in_the_sweep_is_refused():
    decay = {"optimizer.weight_decay": 0.005}
    with pytest.raises(SpecError, match="stands twice in the study"):
        configs.resolve(with_control(decay, ("none", {}, {"optimizer.weight_decay": 5e-3})))
    with pytest.raises(SpecError, match="which the sweep sets too: leave it out of one of them"):
        configs.resolve(with_control(decay), [{}, {"optimizer.weight_decay": 0.1}])
    with pytest.raises(SpecError, match="or, of a control, triples with what it overrides"):
        configs.resolve(with_control("optimizer.weight_decay"))


@pytest.mark.parametrize("seeds", [(0, 0), (1, 2, 1)])
def test_duplicate_trials(seeds):
    with pytest.raises(SpecError, match="stands twice in the study"):
        configs.resolve(changed("seeds", seeds))


def test_a_trial_of_two_settings_is_trained_once():
    study = configs.resolve(small_config(), [{}, {"optimizer.learning_rate": 0.1}])  # the config's own rate
    assert [t.overrides for t in study.trials] == [()] * 4


def test_a_sweep_cannot_override_what_is_not_there():
    with pytest.raises(
        SpecError, match=r"cannot override optimiser\.learning_rate: did you mean optimizer\.learning_rate"
    ):
        configs.resolve(small_config(), [{"optimiser.learning_rate": 0.1}])
    with pytest.raises(
        SpecError, match=r"cannot override optimizer\.learning_rat: did you mean optimizer\.learning_rate"
    ):
        configs.resolve(small_config(), [{"optimizer.learning_rat": 0.1}])


def test_numbers_share_a_program_and_structure_does_not():
    sweep = [{"optimizer.learning_rate": 0.1}, {"optimizer.learning_rate": 0.2}, {"model.widths": (8,)}]
    programs = programs_of(configs.resolve(small_config(), sweep))
    assert [len(program.trials) for program in programs] == [8, 4]


def test_an_id_is_the_hash_of_what_determines_a_trial():
    one, other = (configs.resolve(small_config()).trials for _ in range(2))
    assert [t.id for t in one] == [t.id for t in other]
    moved = configs.resolve(changed("dataset.data_dir", "/elsewhere")).trials
    assert [t.id for t in moved] == [t.id for t in one]
    longer = configs.resolve(changed("steps", 41)).trials
    assert not {t.id for t in longer} & {t.id for t in one}


@pytest.mark.parametrize(
    "text", ["def sweep():\n    yield {'steps': 7}\n", "def sweep(name):\n    yield {'steps': len(name)}\n"]
)
def test_sweep_of_a_config_file(tmp_path, text):
    path = tmp_path / "study.py"
    config = "def get_config(name=''):\n    return {'study': name}\n"
    path.write_text(config + text)
    assert config_file.load(f"{path}:seventy") == ({"study": "seventy"}, [{"steps": 7}])
    path.write_text(config)
    assert config_file.load(str(path)) == ({"study": ""}, [{}])


@pytest.mark.parametrize(
    ("name", "trials", "programs"),
    [
        ("digits.py", 30, 1),
        ("digits.py:claims", 90, 1),
        ("cifar10.py", 20, 1),
        ("cifar10.py:resnet20", 20, 1),
        ("cifar100.py", 20, 1),
    ],
)
def test_the_configs_that_come_with_it(name, trials, programs):
    import importlib.util
    from pathlib import Path

    path, _, argument = name.partition(":")
    spec = importlib.util.spec_from_file_location("config", Path(__file__).parents[1] / "configs" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    study = configs.resolve(module.get_config(*([argument] if argument else [])))
    assert (len(study.trials), len(programs_of(study))) == (trials, programs)


def test_what_is_judged_is_a_setting_of_the_study():
    config = small_config()
    with config.unlocked():
        config.claims = {"primary": (("label_smoothing", {"epsilon": 0.25}),)}
    with pytest.raises(SpecError, match=r"config.claims.primary names .*0.25.*, no setting of this study: it has"):
        configs.resolve(config)
    with config.unlocked():
        config.claims = {"primary": ("label_smoothing",)}
    with pytest.raises(SpecError, match="holds pairs"):
        configs.resolve(config)
    with config.unlocked():
        config.claims = {"robustness": 0.0}
    with pytest.raises(SpecError, match=r"claims.robustness must be above 0"):
        configs.resolve(config)
