"""Six small studies meet every value of every enumerated option; where nothing may change, nothing does."""

import shutil
import subprocess
import sys
from typing import get_args, get_type_hints

import numpy as np
import pytest

from jaxreg import results, study
from jaxreg.data.augment import AUGMENTATIONS
from jaxreg.probes import PROBES
from jaxreg.probes.robustness import RobustnessSettings
from jaxreg.robustness.attacks import SUITES
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import DatasetSpec, ExecutionSpec, ModelSpec, OptimizerSpec
from support.checkout import environment
from support.small_study import small_config

pytestmark = pytest.mark.slow

PLAIN = {
    "probes.robustness": {"suite": "quick", "norm": "linf", "epsilons": (0.05,), "examples": 8, "verdict": False},
    "dataset.augment": ("pad_crop",),
}
OTHER = {
    "dataset.residency": "stream",
    "dataset.augment": ("pad_crop_reflect", "flip", "cutout"),
    "dataset.cutout_size": 2,
    "model.dtype": "bfloat16",
    "optimizer.name": "adamw",
    "optimizer.schedule": "step",
    "optimizer.learning_rate": 0.01,
    "probes.robustness": {"suite": "autoattack", "norm": "l2", "epsilons": (0.5,), "examples": 4, "verdict": True},
    "execution.local_trials": "vmap",
    "execution.precision": "default",
}
THIRD = {
    "dataset.augment": (),
    "optimizer.name": "nadamw",
    "optimizer.schedule": "constant",
    "probes.robustness": {"suite": "pgd", "norm": "linf", "epsilons": (0.0, 0.1), "examples": 8, "verdict": True},
    "execution.data_devices": 2,
    "execution.cpu_devices": 2,
    "execution.local_trials": "auto",
    "execution.precision": "high",
}
STRONG = {"suite": "strong", "norm": "linf", "epsilons": (0.05,), "examples": 8, "verdict": False}
PAPER = {"suite": "paper", "norm": "linf", "epsilons": (0.4 / 255, 8 / 255), "examples": 8, "verdict": False}
STUDIES = {
    "plain": {},
    "vmap": {"execution.local_trials": "vmap"},
    "strong": {"probes.robustness": STRONG, "probes.only": ("robustness",)},
    "paper": {"probes.robustness": PAPER, "probes.only": ("robustness",)},
    "shared": {"execution.data_devices": 2, "execution.cpu_devices": 2},
    "set by a user": {},
    "other": OTHER,
    "third": THIRD,
}
VARIABLES = {
    "set by a user": {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
    }
}


def config_of(changes):
    config = small_config()
    with config.unlocked():
        config.steps, config.seeds, config.execution.cpu_devices = 8, 1, 1
        config.probes.calibration.bootstrap, config.probes.geometry.train_examples = 10, 100
        config.probes.geometry.snapshots, config.probes.geometry.snapshot_examples = 2, 50
        config.probes.corruptions = {"families": ("gaussian_noise",), "severities": (1, 5), "examples": 16}
        config.update_from_flattened_dict(PLAIN | changes)
    return config


def run(directory, config, command="probe", **variables):
    file = directory.with_suffix(".py")
    file.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({config.to_dict()!r})\n"
    )
    words = [sys.executable, "-m", "jaxreg", command, f"--config={file}", f"--workdir={directory}"]
    done = subprocess.run(words, env=environment(**variables), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The rows of every study, by its name."""
    found, root = {}, tmp_path_factory.mktemp("options")
    for name, changes in STUDIES.items():
        directory = root / name
        command = "study" if name == "third" else "probe"  # most of the time of a report goes into its pictures
        run(directory, config_of(changes), command, **VARIABLES.get(name, {}))
        found[name] = rows_of(directory)
    return found


def rows_of(directory):
    study.gather(Workdir(directory))
    frame = results.select([Workdir(directory)], results.condition([]))
    return frame.set_index(["trial", "probe", "split", "metric"])["value"].sort_index()


def close(found, expected, share):
    """Whether all but a `share` of the rows are equal to rounding: a count may move by one example."""
    assert list(found.index) == list(expected.index)
    equal = np.isclose(found, expected, rtol=2e-3, atol=2e-4, equal_nan=True)
    assert np.mean(~equal) <= share, found[~equal].to_frame().assign(expected=expected[~equal])


def test_every_value_of_every_option_is_met():
    configs = [config_of(changes) for changes in STUDIES.values()]
    for spec, place in {DatasetSpec: "dataset", ModelSpec: "model", OptimizerSpec: "optimizer"}.items():
        chosen(spec, [getattr(config, place) for config in configs])
    chosen(ExecutionSpec, [config.execution for config in configs])
    chosen(RobustnessSettings, [config.probes.robustness for config in configs])
    assert {config.probes.robustness.suite for config in configs} == set(SUITES)
    assert {name for config in configs for name in config.dataset.augment} == set(AUGMENTATIONS)


def chosen(spec, sections):
    for name, hint in get_type_hints(spec).items():
        values = set(get_args(hint))
        if values and all(isinstance(value, str) for value in values):
            defaults = {spec.__dataclass_fields__[name].default}
            met = {section.get(name) for section in sections}
            assert values <= met | (defaults if None in met else set()), (spec, name)


@pytest.mark.parametrize("name", ["vmap", "shared"])
def test_nothing_changes_but_rounding(studies, name):
    close(studies[name], studies["plain"], 0.02)


def test_what_a_user_has_set_changes_nothing(studies):
    np.testing.assert_array_equal(studies["set by a user"], studies["plain"])


@pytest.mark.parametrize("name", ["other", "third"])
def test_other_options_give_results_of_every_probe(studies, name):
    assert set(studies[name].index.get_level_values("probe")) == set(studies["plain"].index.get_level_values("probe"))


def test_every_suite_measures_what_it_is_made_of(studies):
    for name, settings in {"strong": STRONG, "paper": PAPER}.items():
        metrics = set(studies[name].index.get_level_values("metric"))
        for attack in (*SUITES[name].attacks, "worst"):
            own = [metric for metric in metrics if metric.startswith(f"robust_accuracy/{attack}/")]
            assert len(own) == len(settings["epsilons"])


def test_each_probe_alone_or_with_what_it_needs_gives_what_it_gives_beside_all(studies, tmp_path):
    whole = studies["plain"]
    run(tmp_path / "predicted", config_of({}), "predict")
    for name in PROBES:
        shutil.copytree(tmp_path / "predicted", tmp_path / name)
        run(tmp_path / name, config_of({"probes.only": (name, *PROBES[name].needs)}))
        found = rows_of(tmp_path / name)
        alone = found[found.index.get_level_values("probe") == name]
        np.testing.assert_array_equal(alone, whole[whole.index.get_level_values("probe") == name])
