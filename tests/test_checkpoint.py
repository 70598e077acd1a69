"""What was saved is what is read; what is broken is named, set aside, and the one before it used."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.runtime import parallel
from jaxreg.training.checkpoint import Checkpoints, digest
from support.odd_names import NAMES

ONE = {"w": jax.ShapeDtypeStruct((6, 5), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)}


def state(step, rows=4):
    rng = np.random.default_rng(step)
    stack = {"w": rng.normal(size=(rows, 6, 5)).astype(np.float32), "step": np.full(rows, step, np.int32)}
    return parallel.put_trials(stack, parallel.make_mesh(devices=jax.devices()[: min(rows, 4)]))


def same(restored, step, rows=4):
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state(step, rows)))


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of the steps 10, 20, 30, of which two are kept."""
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(ONE) is None
        for step in (10, 20, 30):
            checkpoints.save(step, state(step))
    return tmp_path


def test_the_last_ones_are_kept_and_the_newest_is_read(saved):
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.steps() == [20, 30]
        step, restored = checkpoints.restore(ONE)
        assert step == 30
        same(restored, 30)


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_may_have_any_name(tmp_path, name, caplog):
    """No pattern that a name makes finds too little, or what lies beside it."""
    folder, beside = tmp_path / name / "program", tmp_path / name.replace("*", "+") / "other"
    for directory, step in ((beside, 30), (folder, 10)):
        with Checkpoints(directory, keep=2) as checkpoints:
            checkpoints.save(step, state(step))
    with Checkpoints(folder, keep=2) as checkpoints:
        step, restored = checkpoints.restore(ONE)
    assert step == 10
    same(restored, 10)
    assert "broken" not in caplog.text.replace(name, "")


def test_saving_reads_the_state_before_the_next_step_overwrites_it(tmp_path):
    step_on = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    before = state(1)
    expected = jax.device_get(jax.tree.map(jnp.copy, before))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, before)
        step_on(before)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        _, restored = checkpoints.restore(ONE)
    jax.tree.map(np.testing.assert_array_equal, restored, expected)


def test_two_directories_are_never_written_at_once(tmp_path):
    """In a job of several processes their writes would meet at the same barriers, and all of it would end."""

    def committed(name):
        return sorted(p.name for p in (tmp_path / name).iterdir() if p.name.isdigit())

    with Checkpoints(tmp_path / "a", keep=None) as one, Checkpoints(tmp_path / "b", keep=None) as other:
        for step in (1, 2, 3):
            one.save(step, state(step))
            other.save(step, state(step))
            assert committed("a") == [str(n + 1) for n in range(step)]
    assert committed("b") == ["1", "2", "3"]


def truncate(directory):
    for file in (directory / "state").rglob("d/*"):  # where the numbers are
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(directory):
    for file in (directory / "state").rglob("d/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10  # one bit
        file.write_bytes(data)


def lose(directory):
    (directory / "state" / "manifest.ocdbt").unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the reader that gave up
@pytest.mark.parametrize("harm", [truncate, flip, lose])
def test_a_broken_checkpoint_is_named_and_the_one_before_used(saved, harm, caplog):
    harm(saved / "30")
    with Checkpoints(saved, keep=2) as checkpoints, caplog.at_level(logging.WARNING):
        step, restored = checkpoints.restore(ONE)
        assert step == 20
        same(restored, 20)
        assert f"{saved / '30'} is broken" in caplog.text
        checkpoints.save(30, state(30))  # its place is free again
    with Checkpoints(saved, keep=2) as checkpoints:
        same(checkpoints.restore(ONE)[1], 30)


def test_other_numbers_than_were_saved_are_found_out(saved, monkeypatch, caplog):
    with Checkpoints(saved, keep=2) as checkpoints:
        load = checkpoints._orbax.load

        def flip_one_bit(step, wanted):
            whole = load(step, wanted)
            if step == 30:
                whole["state"]["w"].view(np.uint32)[2, 3, 4] ^= 1
            return whole

        monkeypatch.setattr(checkpoints._orbax, "load", flip_one_bit)
        assert checkpoints.restore(ONE)[0] == 20
        assert "do not match their digest" in caplog.text


def test_a_digest_is_one_number_a_trial_on_any_mesh():
    host = jax.tree.map(np.array, jax.device_get(state(7, rows=8)))
    expected = np.asarray(digest(host))
    for devices in (1, 2, 8):
        np.testing.assert_array_equal(digest(parallel.put_trials(host, parallel.make_mesh(devices))), expected)
    host["w"][5].view(np.uint32)[0, 0] ^= 1 << 31
    assert (np.asarray(digest(host)) != expected).tolist() == [i == 5 for i in range(8)]
    host["w"][5].view(np.uint32)[0, 0] ^= 1 << 31
    host["w"][5] = host["w"][5][::-1]  # the same numbers in other places
    assert np.asarray(digest(host))[5] != expected[5]


def test_a_failure_on_every_checkpoint_means_starting_anew(saved):
    for step in (20, 30):
        lose(saved / str(step))
    with Checkpoints(saved, keep=2) as checkpoints:
        assert checkpoints.restore(ONE) is None
    assert sorted(p.name for p in saved.iterdir()) == ["broken-20", "broken-30"]
