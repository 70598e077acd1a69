"""A trial among others is the trial alone; many settings are one compilation; one failure is nobody else's."""

import functools
from types import SimpleNamespace
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import config as configs
from jaxreg import data
from jaxreg.rng import Stream, key_of
from jaxreg.runtime import parallel
from jaxreg.training import step
from jaxreg.training.program import Program, fixed_parts, programs_of, settings_of
from jaxreg.training.step import Batch, init_state, orders, resident_steps, streamed_steps
from support.compiled_collectives import groups
from support.small_study import small_config

STEPS = 3


@functools.cache
def dataset():
    return data.load("digits", validation=100)


def study(regularizers, seeds, **changes):
    config = small_config()
    config.regularizers, config.seeds, config.batch_size = regularizers, seeds, 16
    with config.unlocked():
        config.update(changes)
    (program,) = programs_of(configs.resolve(config))
    return program


TWO = (("label_smoothing", {}), ("cutmix", {}))  # each more is two seconds of compilation a test


def one_mesh():
    return parallel.make_mesh(devices=jax.devices()[:1])


def arguments(program, mesh):
    """The untrained trials of a program in place on the mesh, and the data that they share."""
    fixed = fixed_parts(program, dataset(), mesh)
    settings = parallel.put_trials(settings_of(program, fixed), mesh)
    state = parallel.per_trial(lambda seed, _: init_state(seed, fixed), mesh)(settings.seed, ())
    split = dataset().splits["train"]
    return (state, settings), Batch(*parallel.put_shared((split.images, split.labels, split.key_ids), mesh))


def lifted(program, mesh, local="map", steps=STEPS):
    fixed = fixed_parts(program, dataset(), mesh)
    body = functools.partial(resident_steps, fixed=fixed, batch_size=program.batch_size, steps=steps)
    return parallel.per_trial(body, mesh, local)


@functools.cache
def alone():
    """Trial 13 of 16, by itself on one device, a dispatch a step."""
    program, mesh = Program(study(TWO, 8).trials[13:14]), one_mesh()
    assert program.trials[0].regularizer.name == "cutmix"
    carry, resident = arguments(program, mesh)
    run, losses = lifted(program, mesh, steps=1), []
    for _ in range(STEPS):
        carry, metrics = run(carry, resident)
        losses.append(metrics.loss[:, 0])
    return jax.device_get((carry[0].params, carry[0].stats, np.stack(losses, 1)))


@pytest.mark.parametrize(("devices", "local"), [(1, "map"), (2, "map"), (8, "map"), (1, "vmap")])
def test_a_trial_among_sixteen_is_the_trial_alone_step_by_step_and_nothing_crosses(devices, local):
    mesh, program = parallel.make_mesh(devices), study(TWO, 8)
    compiled = lifted(program, mesh, local).lower(*arguments(program, mesh)).compile()
    (state, _), metrics = compiled(*arguments(program, mesh))
    many = jax.tree.map(lambda a: np.asarray(a)[13], (state.params, state.stats, metrics.loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-3, atol=2e-5), many, alone())
    rows = [{device.id for device in row} for row in mesh.devices]
    found = list(groups(compiled.as_text()))
    assert all(any(set(group) <= row for row in rows) for group in found), found
    assert bool(found) == (devices > 1)  # the devices of one trial do talk


def test_settings_and_seeds_compile_one_step(monkeypatch):
    numbers = [("label_smoothing", {"epsilon": e}) for e in (0.05, 0.1, 0.2)]
    numbers += [("mixup", {"alpha": a}) for a in (0.2, 1.0, 4.0)] + [("cutmix", {"alpha": a}) for a in (0.2, 1.0, 4.0)]
    numbers += [("mixup+label_smoothing", {"alpha": a}) for a in (0.2, 1.0, 4.0)]
    program = study(tuple(numbers), 2)
    assert len(program.trials) == 24
    mesh = parallel.make_mesh()
    carry, resident = arguments(program, mesh)
    fixed = fixed_parts(program, dataset(), mesh)
    body = functools.partial(resident_steps, fixed=fixed, batch_size=16, steps=1)
    chex.clear_trace_counter()
    traced_once = chex.assert_max_traces(lambda one, shared: body(one, shared), n=1)
    run = parallel.per_trial(traced_once, mesh, donate=True)
    compiled = []
    listen = lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for _ in range(3):
            carry, _ = run(carry, resident)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 1, compiled


def test_a_trial_that_diverges_is_frozen_and_the_others_do_not_notice():
    healthy = study((("none", {}),), 3)
    rates = (0.1, 1e30, 0.1)
    sick = Program(tuple(_with_rate(t, rate) for t, rate in zip(healthy.trials, rates)))
    mesh, states = one_mesh(), []
    run = lifted(healthy, mesh, steps=6)
    for program in (healthy, sick):
        (state, _), metrics = run(*arguments(program, mesh))
        states.append(jax.device_get((state, metrics)))
    (well, _), (ill, metrics) = states
    for place in (0, 2):
        jax.tree.map(lambda a, b, i=place: np.testing.assert_array_equal(a[i], b[i]), well.params, ill.params)
    assert well.failed.tolist() == [-1, -1, -1]
    assert ill.failed[0] == ill.failed[2] == -1
    at = ill.failed[1]
    assert 0 <= at < 6
    assert np.isnan(metrics.loss[1, at:]).all()
    assert np.isfinite(metrics.loss[1, :at]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ill.params))
    assert ill.step.tolist() == [6, 6, 6]


def _with_rate(trial, rate):
    import dataclasses

    return dataclasses.replace(trial, optimizer=dataclasses.replace(trial.optimizer, learning_rate=rate))


def test_streamed_batches_train_as_resident_ones_do():
    program, mesh = study((("none", {}),), 2), one_mesh()
    fixed = fixed_parts(program, dataset(), mesh)
    carry, _ = arguments(program, mesh)
    rows = np.random.default_rng(0).permutation(1197)[: 20 * 16].reshape(20, 16)
    split = dataset().splits["train"]
    chunk = Batch(*(a[rows] for a in (split.images, split.labels, split.key_ids)))
    run = parallel.per_trial(functools.partial(streamed_steps, fixed=fixed), mesh)
    (state, _), metrics = run(carry, parallel.put_shared(chunk, mesh))
    assert state.step.tolist() == [20, 20]
    assert (np.asarray(metrics.loss)[:, -5:].mean(1) < np.asarray(metrics.loss)[:, 0]).all()


@pytest.mark.parametrize("steps", [1, 3, 7, 12])
def test_orders_are_those_of_the_epochs_that_steps_touch(steps):
    """Of 10 examples in batches of 3, three steps an epoch, from any step on."""
    for start in range(7):
        state, settings = SimpleNamespace(step=jnp.asarray(start)), SimpleNamespace(seed=jnp.asarray(5))
        drawn = np.asarray(orders(state, settings, 10, 3, steps))
        for epoch in range(start // 3, (start + steps - 1) // 3 + 1):
            expected = jax.random.permutation(key_of(5, Stream.ORDER, epoch), 10)
            np.testing.assert_array_equal(drawn[epoch - start // 3], expected)


class Clock(NamedTuple):
    step: jax.Array


class Seed(NamedTuple):
    seed: jax.Array


@pytest.mark.parametrize("start", [0, 2, 5])
def test_batches_of_a_dispatch_are_cut_from_the_order_of_their_own_epoch(monkeypatch, start):
    """Four steps over ten examples, three steps an epoch; the step of training only tells what it was given."""
    monkeypatch.setattr(step, "train_step", lambda state, _, batch, fixed: (Clock(state.step + 1), batch.labels))
    images = jnp.arange(10)
    one, given = (Clock(jnp.asarray(start)), Seed(jnp.asarray(5))), Batch(images, images, images)
    (after, _), labels = step.resident_steps(one, given, fixed=None, batch_size=3, steps=4)
    assert int(after.step) == start + 4
    for at, own in zip(range(start, start + 4), np.asarray(labels)):
        order = jax.random.permutation(key_of(5, Stream.ORDER, at // 3), 10)
        np.testing.assert_array_equal(own, order[at % 3 * 3 :][:3])
