"""Packing: every trial in one job beside those it is compared with, no job too large, the dearest one cheap."""

import dataclasses
import itertools
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxreg import config as configs
from jaxreg.jobs import packing, preflight, timing
from jaxreg.jobs.packing import HOUR, Price
from jaxreg.runtime import parallel
from jaxreg.spec import LaunchSpec, SpecError
from jaxreg.training.program import Program, programs_of
from support.small_study import small_config

SWEEP = [{}, {"optimizer.learning_rate": 0.2}, {"model.widths": (8,)}]  # two programs: 2 settings, and 1


def study_of(sweep=SWEEP, seeds=4, **launch):
    study = configs.resolve(_config(seeds), sweep)
    return dataclasses.replace(study, launch=LaunchSpec(**launch))


def _config(seeds):
    config = small_config()
    config.seeds = seeds
    return config


def prices_of(study, *prices):
    return {program.id: price for program, price in zip(programs_of(study), prices)}


def counts(jobs):
    return [len(job.trials) for job in jobs]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 14), st.integers(1, 5), st.integers(2, 9), st.floats(0.1, 10), st.floats(0, 20))
def test_every_trial_is_in_one_job_with_its_seed(count, devices, fits, dear, fixed):
    study = study_of(jobs=count, devices=devices)
    prices = prices_of(study, Price(1.0, fixed, fits), Price(dear, fixed, fits))
    jobs = packing.pack(study, prices, measured=True)
    assert sorted(t.id for job in jobs for t in job.trials) == sorted(t.id for t in study.trials)
    homes = {t.id: place for place, job in enumerate(jobs) for t in job.trials}
    for family in packing.families(study):
        assert len(family.trials) == 2
        assert len({homes[t.id] for t in family.trials}) == 1
    for job in jobs:
        for program in programs_of(dataclasses.replace(study, trials=job.trials)):
            assert len(program.trials) <= devices * fits
    if fits * devices >= 16:  # memory asks for no more
        assert len(jobs) <= count


def test_one_job_unless_told_otherwise():
    study = study_of()
    assert counts(packing.pack(study, prices_of(study, Price(1, 0, 99), Price(1, 0, 99)), measured=False)) == [24]


def test_jobs_are_even_in_cost_not_in_trials():
    study = study_of(jobs=2)
    jobs = packing.pack(study, prices_of(study, Price(1.0, 0, 99), Price(4.0, 0, 99)), measured=False)
    assert counts(jobs) == [18, 6]  # 16 + 2 * 4 against 6 * 4
    assert [job.cost for job in jobs] == [24.0, 24.0]


def test_a_job_pays_for_rounds_of_its_devices():
    study = study_of(sweep=[{}], seeds=3, devices=4)  # 6 trials on 4 devices: two rounds
    (job,) = packing.pack(study, prices_of(study, Price(5.0, 1.0, 99)), measured=True)
    assert job.cost == 11.0


def test_memory_and_hours_make_more_jobs():
    study = study_of(sweep=[{}], seeds=6)
    assert counts(packing.pack(study, prices_of(study, Price(1.0, 0, 5)), measured=False)) == [4, 4, 4]
    limited = dataclasses.replace(study, launch=LaunchSpec(hours=1.0))
    prices = prices_of(limited, Price(0.25 * HOUR, 0.2 * HOUR, 99))
    assert counts(packing.pack(limited, prices, measured=True)) == [2] * 6


@pytest.mark.parametrize(
    ("launch", "price", "measured", "message"),
    [
        ({}, Price(1, 0, 1), False, "the 2 trials of one seed share a job, but a job of 1 devices holds 1"),
        ({"hours": 1.0}, Price(HOUR, 0, 9), True, "take 2.00 h, launch.hours is 1"),
        ({"hours": 1.0}, Price(1, 0, 9), False, "needs a measured step time: add --measure"),
    ],
)
def test_what_fits_no_job(launch, price, measured, message):
    study = study_of(sweep=[{}], **launch)
    with pytest.raises(SpecError, match=message):
        packing.pack(study, prices_of(study, price), measured)


def test_an_estimate_counts_memory_and_operations():
    study = study_of(devices=1, memory_gib=0.001)
    small, wide = (packing.estimate(p, study, preflight.check(p)) for p in programs_of(study))
    assert wide.training > small.training > 40 * 32 * 8 * 8 * 9 * 4 * 2  # its first convolution alone
    assert 1 <= wide.fits < small.fits < 2000
    (program, _), mesh = programs_of(study), parallel.shape_only(1, 1)
    one = preflight.needs(Program(program.trials[:1]), preflight.check(program), mesh, "map")
    room = 0.001 * packing.GIB - one.data - one.activations
    assert small.fits == room // (2 * one.state)  # with the copy that a checkpoint is written from
    tight = dataclasses.replace(study, launch=LaunchSpec(memory_gib=1e-5))
    with pytest.raises(SpecError, match=r"one trial of cnn needs .* GiB, launch.memory_gib is 1e-05"):
        packing.estimate(programs_of(study)[0], tight, preflight.check(programs_of(study)[0]))


@pytest.mark.parametrize("size", [2, 40])  # of 40 steps: many dispatches, and a single one
def test_a_measured_price_is_the_quickest_real_step_times_the_steps(monkeypatch, size):
    clock = itertools.accumulate([0.0, 9.0, 0.0, 3.0, 0.0, 2.0, 0.0, 5.0])  # what passes within and between dispatches
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    study = study_of([{}], seeds=1)
    study = dataclasses.replace(study, execution=dataclasses.replace(study.execution, steps_per_dispatch=size))
    (program,) = programs_of(study)
    estimated = Price(7.0, 0.0, 12)
    price = timing.measured(program, study, None, estimated)
    assert price == Price(2.0 / size * program.steps, 9.0 - 2.0, estimated.fits)
    assert next(clock, None) is None  # a dispatch to compile, and three to measure


def test_ten_thousand_trials_are_packed_in_seconds():
    study = study_of(sweep=[{"optimizer.weight_decay": w * 1e-6} for w in range(1, 51)], seeds=100, jobs=64)
    assert len(study.trials) == 10_000
    jobs = packing.pack(study, prices_of(study, Price(1.0, 0, 200)), measured=False)
    assert len(jobs) == 64
    assert max(counts(jobs)) <= 158
