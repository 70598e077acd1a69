"""Compiled programs are kept for the next process, where nobody else can put one; effort goes where it pays."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.__main__ import main
from jaxreg.calibration import probe as calibration
from jaxreg.geometry import probe as geometry
from jaxreg.runtime import compiling, parallel
from jaxreg.runtime.passes import CHEAP_BYTES, trial_groups
from jaxreg.spec import SpecError

SORTED = """
import sys, jax, jax.numpy as jnp
from jaxreg.runtime import compiling
compiling.LEAST_SECONDS = 0.0
print(compiling.keep(sys.argv[1]))
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
print(float(jax.jit(lambda x: jnp.sort(x)[0])(jnp.arange(4.0))))
print(sum(name.endswith("compilation_cache/cache_hits") for name in hits) > 0)
"""


ATTACKED = """
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
logits_fn = lambda x: jnp.tanh(x.reshape(len(x), -1) @ jnp.eye(4, 3))
jax.block_until_ready(jax.jit(logits_fn)(jnp.zeros((2, 2, 2, 1))))  # JAX has looked for a folder, and found none
from jaxreg.robustness import run_attack
found = run_attack(logits_fn, jnp.zeros((2, 2, 2, 1)), jnp.zeros(2, int), 0.1, key=jax.random.key(0))
print(found.robust.sum(), sum(name.endswith("compilation_cache/cache_hits") for name in hits) > 0)
"""


def attacked(**variables):
    own = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    words = [sys.executable, "-c", ATTACKED]
    done = subprocess.run(words, env=own | variables, capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


@pytest.fixture
def outside(monkeypatch):
    """As in a process of a user: nothing is said about caches."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv(compiling.VARIABLE, raising=False)
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    return told


def run(folder, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", SORTED, str(folder)], env=environment | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    folder, smallest, found = run(tmp_path / "kept")
    assert (smallest, found) == ("0.0", "False")
    assert run(tmp_path / "kept") == [folder, "0.0", "True"]
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_a_kept_program_that_is_broken_is_compiled_anew(tmp_path):
    folder, *_ = run(tmp_path)
    for path in Path(folder).iterdir():
        if path.name.endswith("-cache"):
            path.write_bytes(b"half of a program")
    assert run(tmp_path)[1] == "0.0"


def test_a_function_finds_what_it_compiled_in_another_process(tmp_path):
    assert attacked(XDG_CACHE_HOME=str(tmp_path)) == "False"
    assert attacked(XDG_CACHE_HOME=str(tmp_path)) == "True"
    assert attacked(XDG_CACHE_HOME=str(tmp_path), JAXREG_COMPILATION_CACHE="off") == "False"


@pytest.mark.parametrize(
    ("folder", "allowed", "asked"), [(None, True, ["kept"]), ("/own", True, []), (None, False, [])]
)
def test_functions_keep_nothing_where_somebody_has_decided(monkeypatch, folder, allowed, asked):
    said = SimpleNamespace(jax_compilation_cache_dir=folder, jax_enable_compilation_cache=allowed)
    monkeypatch.setattr(compiling, "_settled", [])
    monkeypatch.setattr(compiling, "jax", SimpleNamespace(config=said))
    found = []
    monkeypatch.setattr(compiling, "keep", lambda: found.append("kept"))
    compiling.kept(lambda: None)()
    assert found == asked


def test_functions_of_a_study_keep_what_its_config_says(monkeypatch, outside):
    monkeypatch.setattr(compiling, "_settled", [])
    assert compiling.keep("off") is None
    monkeypatch.setattr(compiling, "_keep_once", lambda: pytest.fail("decided anew"))
    compiling.kept(lambda: None)()


def test_programs_are_kept_below_the_users_cache_directory(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compiling.keep()
    assert folder.parent == tmp_path / "jaxreg" / "programs"
    assert outside["jax_compilation_cache_dir"] == str(folder)
    assert outside["jax_compilation_cache_max_size"] == compiling.LIMIT


def test_a_config_goes_before_the_variable_and_off_ends_it(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert compiling.keep("off") is None
    monkeypatch.setenv(compiling.VARIABLE, "off")
    assert compiling.keep() is None
    assert compiling.keep(str(tmp_path / "config")).parent == tmp_path / "config"
    monkeypatch.setenv(compiling.VARIABLE, str(tmp_path / "variable"))
    assert compiling.keep().parent == tmp_path / "variable"


def test_hosts_of_a_bucket_keep_nothing_unless_asked(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiling.keep(remote=True) is None
    assert compiling.keep(str(tmp_path), remote=True) is not None


def test_jaxs_own_variable_rules(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert compiling.keep(str(tmp_path / "other")) is None
    assert outside == {}


def test_a_folder_that_others_can_write_is_not_used(outside, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiling.keep().chmod(0o777)
    assert compiling.keep() is None
    named = compiling.keep(str(tmp_path / "named"))
    named.chmod(0o770)
    with pytest.raises(SpecError, match="compilation_cache must be a directory that only you can write"):
        compiling.keep(str(tmp_path / "named"))


def test_little_effort_is_for_cpus_and_small_measurements(monkeypatch):
    assert compiling.options("cheap", "cpu") == compiling.CHEAP
    assert compiling.options("cheap", "gpu") is None
    assert compiling.options("full", "cpu") is None
    assert compiling.options("quick", "cpu") is None  # XLA_FLAGS name a level in tests
    assert compiling.options("quick", "gpu") is None
    monkeypatch.delenv("XLA_FLAGS")
    assert compiling.options("quick", "cpu") == compiling.QUICK
    assert trial_groups(4, CHEAP_BYTES // 4).effort == "cheap"
    assert trial_groups(4, CHEAP_BYTES // 4 + 1).effort == "full"


def test_effort_changes_no_number_by_more_than_rounding():
    mesh, stacks = parallel.make_mesh(), np.random.default_rng(0).normal(size=(3, 40, 5)).astype(np.float32)
    found = {}
    for effort in ("full", "cheap"):
        lifted = parallel.per_trial(lambda x, _: jnp.linalg.norm(jnp.tanh(x @ x.T), axis=1), mesh, effort=effort)
        found[effort] = parallel.fetch(lifted(parallel.put_trials(stacks, mesh), ()), 3)
    np.testing.assert_allclose(found["cheap"], found["full"], rtol=1e-6)


def test_commands_keep_programs_where_the_config_says(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(compiling, "keep", lambda place, remote: asked.append((place, remote)))
    (tmp_path / "config.py").write_text("from support.small_study import small_config as get_config")
    words = ["jaxreg", "plan", f"--config={tmp_path / 'config.py'}"]
    assert main([*words, f"--config.execution.compilation_cache={tmp_path}"]) == 0
    assert main(words) == 0
    assert asked == [(str(tmp_path), False), ("", False)]


@pytest.mark.parametrize("probe", [calibration, geometry])
def test_small_measurements_are_compiled_cheaply(monkeypatch, probe):
    efforts = set()
    monkeypatch.setattr(parallel, "options", lambda effort, kind: efforts.add(effort))
    for program in ("_programs", "_program"):
        getattr(getattr(probe, program, None), "cache_clear", lambda: None)()
    z, y = np.random.default_rng(0).normal(size=(1, 30, 3)).astype(np.float32), np.arange(30) % 3
    if probe is calibration:
        probe.measure({"validation": probe.Logits(z, y)}, replicates=3)
    else:
        probe.measure({"train": probe.Features(z, y)}, np.ones((1, 3, 3)), np.zeros((1, 3)))
    assert efforts == {"cheap"}


def test_an_option_that_this_compiler_does_not_know_is_left_out(monkeypatch):
    level = {"xla_backend_optimization_level": 0}
    monkeypatch.setattr(compiling, "CHEAP", level | {"xla_cpu_no_such_option": True})
    assert compiling.options("cheap", "cpu") == level
    assert compiling.cheaply(lambda x: x + 1)(1) == 2
