"""`execution.local_trials = "auto"`: the faster way, by a measurement where there is something to choose."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from jaxreg import config as configs
from jaxreg.jobs import launching, timing
from jaxreg.runtime import parallel
from jaxreg.spec import ExecutionSpec
from jaxreg.training.program import programs_of
from support.small_study import small_config

AUTO = ExecutionSpec(local_trials="auto", steps_per_dispatch=2)


@pytest.fixture
def program():
    return programs_of(configs.resolve(small_config()))[0]


def accelerators(count):
    """As much of a mesh as the choice looks at."""
    return types.SimpleNamespace(
        devices=np.array([types.SimpleNamespace(platform="gpu")] * count), shape={"trial": count}
    )


def planted(monkeypatch, **seconds):
    monkeypatch.setattr(timing, "_step_seconds", lambda program, mesh, execution, way: seconds[way])


def test_a_cpu_measures_nothing(program, monkeypatch):
    planted(monkeypatch)  # whoever measures finds no seconds
    found = timing.picked(program, parallel.make_mesh(), AUTO)
    assert found == timing.Picked("map", "auto: a CPU runs one trial after another")


@pytest.mark.parametrize(("seconds", "way"), [((0.2, 0.1), "vmap"), ((0.1, 0.2), "map"), ((0.1, float("inf")), "map")])
def test_an_accelerator_takes_what_was_faster(program, monkeypatch, seconds, way):
    planted(monkeypatch, map=seconds[0], vmap=seconds[1])
    assert timing.with_picked(program, accelerators(1), AUTO) == dataclasses.replace(AUTO, local_trials=way)
    told = ", ".join(f"{name} {1e3 * one:.3g} ms" for name, one in zip(timing.WAYS, seconds))
    assert timing.picked(program, accelerators(1), AUTO).reason == f"auto: {told} a step of all trials"


def test_nothing_is_measured_where_there_is_no_choice(program, monkeypatch):
    planted(monkeypatch)
    assert timing.picked(program, accelerators(4), AUTO).local == "map"  # 4 trials, one a device
    asked = ExecutionSpec(local_trials="vmap")
    assert timing.picked(program, accelerators(1), asked) == timing.Picked("vmap", "as configured")


def test_both_ways_can_be_measured(program):
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    seconds = [timing._step_seconds(program, mesh, AUTO, way) for way in timing.WAYS]
    assert all(0 < one < 60 for one in seconds)


def test_what_is_measured_with_has_the_shape_of_the_data(program):
    (train,) = timing.made_up(program).splits.values()
    assert train.images.shape == (256, 8, 8, 1)
    assert (train.images.min() >= 0, train.images.max() <= 255) == (True, True)


def test_plan_says_what_was_picked():
    config = small_config()
    config.execution.local_trials = "auto"
    assert "trials of one device: map (auto: a CPU runs one trial after another)" in launching.overview(
        configs.resolve(config)
    )
