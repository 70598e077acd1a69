"""What the command line sets in a config: any key, read by its type; a misspelt one names its neighbours."""

import json

import pytest

from jaxreg import config as configs
from jaxreg import overrides
from jaxreg.__main__ import main
from jaxreg.commands import define, parse, request
from jaxreg.spec import SpecError
from support import checkout

SHORT = """
def get_config():
    return {
        "study": "short",
        "dataset": {"name": "digits"},
        "model": {"name": "cnn"},
        "regularizers": (("none", {}), ("label_smoothing", {"epsilon": 0.1})),
        "seeds": 1,
        "batch_size": 32,
        "steps": 8,
        "optimizer": {"learning_rate": 0.1},
    }
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "short.py"
    path.write_text(SHORT)
    return path


def asked(*words):
    argv = ["jaxreg", *words]
    values = define(argv)
    parse(values, argv)
    return request(values)


def value(spec, key):
    head, *rest = key.split(".")
    trial = spec.trials[0]
    if key == "seeds":
        return tuple(dict.fromkeys(one.seed for one in spec.trials))
    if head == "probes":
        return spec.probes.only if rest == ["only"] else getattr(spec.probes.settings[rest[0]], rest[1])
    if head == "model":
        return dict(trial.model.options)[rest[0]]
    return getattr(getattr(spec if head == "execution" else trial, head), rest[0])


READ = {
    "probes.robustness.epsilons": [
        (["8/255", "(8/255,)", "[8 / 255]"], (8 / 255,)),
        (["2/255,8/255", "(2/255, 8/255)"], (2 / 255, 8 / 255)),
        (["0", "(0,)"], (0.0,)),
    ],
    "seeds": [(["3", "0,1,2", "(0, 1, 2)", "[0,1,2]"], (0, 1, 2)), (["(1,2)"], (1, 2))],
    "dataset.validation": [(["0.2", "1/5"], 0.2), (["145"], 145)],
    "dataset.augment": [(["flip", "('flip',)", "(flip,)"], ("flip",)), (["flip,pad_crop"], ("flip", "pad_crop"))],
    "dataset.name": [(["tiny/2:1.0.0"], "tiny/2:1.0.0"), (["arrays:/data/a,b (1)"], "arrays:/data/a,b (1)")],
    "probes.geometry.snapshots": [(["5"], 5), (["(0,8)", "0,8"], (0, 8)), (["()", ""], ())],
    "probes.only": [(["calibration"], ("calibration",)), (["calibration,geometry"], ("calibration", "geometry"))],
    "probes.robustness.verdict": [(["false", "False", "0"], False), (["true", "1"], True)],
    "model.widths": [(["16"], (16,)), (["16,32"], (16, 32))],
    "optimizer.learning_rate": [(["1/10", "0.1", "1e-1"], 0.1), (["1"], 1.0)],
    "optimizer.boundaries": [(["1/3,2/3"], (1 / 3, 2 / 3))],
    "execution.distributed": [(["slurm"], "slurm")],
}
CASES = [(key, text, wanted) for key, rows in READ.items() for texts, wanted in rows for text in texts]


@pytest.mark.parametrize(("key", "text", "wanted"), CASES)
def test_a_text_is_read_by_the_type_of_its_key(short, key, text, wanted):
    assert value(asked(f"--config={short}", f"--config.{key}={text}").spec, key) == wanted


def test_other_ways_to_say_it(short):
    config = f"--config={short}"
    assert not value(asked(config, "--noconfig.optimizer.nesterov").spec, "optimizer.nesterov")
    assert value(asked(config, "--config.optimizer.nesterov").spec, "optimizer.nesterov")
    assert value(asked(config, "--config.seeds", "2").spec, "seeds") == (0, 1)
    slurm = asked(config, "--config.launch.slurm.time=60", "--config.launch.slurm.partition=gpu").spec.launch.slurm
    assert dict(slurm) == {"time": 60, "partition": "gpu"}
    trials = asked(config, "--config.regularizers[1][1].epsilon=0.3").spec.trials
    assert [dict(trial.regularizer.hyperparameters).get("epsilon") for trial in trials] == [None, 0.3]


def test_an_option_of_slurm_that_is_a_text_stays_one():
    config = {"launch": {"slurm": {"partition": "", "time": 60}}}
    found = overrides.applied(config, {"launch.slurm.partition": "7", "launch.slurm.time": "30"})
    assert found["launch"]["slurm"] == {"partition": "7", "time": 30}


def test_overrides_of_a_workdir_start_from_its_own_config(short, tmp_path):
    held = {"config": configs.complete(asked(f"--config={short}").config), "sweep": [{}]}
    (tmp_path / "config.json").write_text(json.dumps(held))
    assert value(asked(f"--workdir={tmp_path}", "--config.seeds=1,2").spec, "seeds") == (1, 2)
    with pytest.raises(SpecError, match="--config is missing"):
        asked("--config.seeds=1,2")


WRONG = {
    "sed=3": "unknown key config.sed: did you mean config.seeds?",
    "optimizer.learning_rat=3": "config.optimizer.learning_rat: did you mean config.optimizer.learning_rate?",
    "learning_rate=3": "unknown key config.learning_rate: did you mean config.optimizer.learning_rate?",
    "optimiser.momentum=3": "unknown key config.optimiser.momentum: did you mean config.optimizer.momentum?",
    "epsilon=8/255": "did you mean config.probes.robustness.epsilons?",
    "probes.robustness.blah=8/255": "known are config.probes.robustness.epsilons, ",
    "model.widts=3": "did you mean config.model.widths",
    "probes.robustness.epsilons=8//255": "must be a list of float such as (0.5,), got '8//255'",
    "probes.robustness.epsilons=1/0": "must be a list of float such as (0.5,), got '1/0'",
    "probes.robustness.epsilons=8": "must be in [0, 1], as the images are, got 8.0: 8/255, not 8?",
    "probes.robustness.epsilons=": "probes.robustness.epsilons is empty",
    "seeds=many": "config.seeds must be int or a list of int such as (8,), got 'many'",
    "steps=4.5": "config.steps must be int, got 4.5",
    "steps=1,2": "config.steps must be int, got (1, 2)",
    "model.widths=4.5": "config.model.widths must be a list of int such as (8,), got 4.5",
    "optimizer.nesterov=maybe": "config.optimizer.nesterov",
    "regularizers[7]=none": "config.regularizers[7] has no place '7' of 2",
    "dataset.name.x=3": "unknown key config.dataset.name.x",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_is_no_value_or_no_key_is_one_line(short, word, capsys):
    assert main(["jaxreg", "plan", f"--config={short}", f"--config.{word}"]) == 2
    error = capsys.readouterr().err
    assert WRONG[word] in error
    assert error.count("\n") == 1


FAILING = {
    "def get_config(:\n": "fails at line 1: SyntaxError",
    "import no_such_module\n": "fails at line 1: ModuleNotFoundError: No module named 'no_such_module'",
    "def get_config():\n    return {}['a']\n": "fails at line 2: KeyError: 'a'",
    "def get_config():\n    return 3\n": "must return a ConfigDict, got 3",
    "x = 3\n": "must define get_config()",
    "def get_config():\n    return {}\n": "lacks the keys config.study, ",
}


@pytest.mark.parametrize("text", FAILING)
def test_a_config_file_that_fails_is_one_line(tmp_path, text, capsys):
    (tmp_path / "broken.py").write_text(text)
    assert main(["jaxreg", "plan", f"--config={tmp_path / 'broken.py'}"]) == 2
    error = capsys.readouterr().err
    assert FAILING[text] in error
    assert error.count("\n") == 1


def test_a_misspelt_variant_is_one_line(short, capsys):
    assert main(["jaxreg", "plan", f"--config={checkout.ROOT}/configs/digits.py:swep"]) == 2
    error = capsys.readouterr().err
    assert "digits.py:swep is unknown; known: ('', 'sweep', 'claims')" in error
    assert error.count("\n") == 1
    assert main(["jaxreg", "plan", f"--config={short}:swep"]) == 2
    assert "takes no variant, got 'swep'" in capsys.readouterr().err
