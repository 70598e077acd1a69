"""The verdict flags planted failures for the right reason, and a healthy trial for none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import parallel
from jaxreg.robustness import ATTACKS, evidence, probe, verdict
from jaxreg.robustness.bench import Bench, Data, Outcome
from jaxreg.robustness.evidence import Effort
from jaxreg.robustness.suites import Suite
from jaxreg.robustness.summary import read_verdict
from tests.robustness import nets

PLANTS = ("healthy", "large_logits", "stopped", "probabilities", "quantised", "dropout", "healthy_again")
COUNT, SHAPE = 40, (6, 6, 1)


def plain(params, x):
    hidden = jax.nn.relu((x.reshape(x.shape[0], -1) - 0.5) @ params["a"] + params["b"])
    return hidden, hidden @ params["c"]


def dropped(params, x):
    """Dropout left on, its key fixed: what an image loses depends on its place in the batch."""
    hidden, _ = plain(params, x)
    return hidden * jax.random.bernoulli(jax.random.key(0), 0.7, hidden.shape) @ params["c"]


FAILURES = (
    lambda params, x: plain(params, x)[1],
    lambda params, x: plain(params, x)[1] * 1e4,
    lambda params, x: plain(params, jax.lax.stop_gradient(x))[1],
    lambda params, x: jax.nn.softmax(plain(params, x)[1]),
    lambda params, x: plain(params, jnp.round(x * 8) / 8)[1],
    dropped,
    lambda params, x: plain(params, x)[1],
)


def apply(params, stats, x, *, train):
    """One program for all failures: which one a trial has is data."""
    return (jax.lax.switch(stats["plant"], FAILURES, params, x),)


@pytest.fixture(scope="module")
def verdicts():
    rng = np.random.default_rng(5)
    one = {"a": rng.normal(size=(36, 32)) * 0.4, "b": rng.normal(size=32) * 0.2, "c": rng.normal(size=(32, 5)) * 3}
    params = {k: np.repeat(v[None].astype(np.float32), len(PLANTS), 0) for k, v in one.items()}
    stats = {"plant": np.arange(len(PLANTS), dtype=np.int32)}
    images = nets.images(COUNT, shape=SHAPE, low=0.05, high=0.95)
    labels = nets.predicted(lambda x: plain(one, x)[1], images)
    suite = Suite({name: ATTACKS[name] for name in ("pgd_ce", "pgd_margin")})
    mesh = parallel.make_mesh()
    trials = parallel.put_trials((params, stats), mesh)
    run = functools.partial(probe.measure, functools.partial(parallel.per_trial, mesh=mesh), apply, *trials)
    measured = run(
        images,
        labels,
        np.arange(COUNT),
        suite_name=suite,
        epsilons=(0.01, 0.03),
        trials=len(PLANTS),
        sources=np.zeros(parallel.padded(len(PLANTS), mesh), int),
        effort=Effort(examples=COUNT, restarts=3, queries=100),
    )
    return {plant: (read_verdict(one.rows), one.rows) for plant, one in zip(PLANTS, measured)}


@pytest.mark.parametrize("plant", ["healthy", "healthy_again"])
def test_a_healthy_trial_raises_none(verdicts, plant):
    found, rows = verdicts[plant]
    assert found == verdict.Verdict("reliable", "", ())
    assert {row.metric.split("/")[1] for row in rows if row.metric.startswith("verdict/")} == set(verdict.CHECKS)
    assert next(row.value for row in rows if row.metric == "verdict") == 0


@pytest.mark.parametrize(
    ("plant", "check", "words"),
    [
        ("large_logits", "ce_gradient_zero", "saturate float32"),
        ("stopped", "gradient_zero", "stopped"),
        ("probabilities", "probabilities", "returns probabilities"),
        ("quantised", "input_quantised", "input is quantised"),
        ("dropout", "batch_dependent", "dropout or batch statistics"),
    ],
)
def test_planted_failures_are_flagged_for_the_right_reason(verdicts, plant, check, words):
    found, rows = verdicts[plant]
    assert found.word == "broken"
    assert found.failed[0].name == check
    assert words in found.reason
    assert next(row.value for row in rows if row.metric == "verdict") == 2


def test_large_logits_mislead_the_ce_attack_alone(verdicts):
    names = [f.name for f in verdicts["large_logits"][0].failed]
    assert "ce_overstates" in names
    assert "gradient_zero" not in names


def test_a_black_box_beats_a_stopped_gradient(verdicts):
    assert "black_box" in [f.name for f in verdicts["stopped"][0].failed]


def test_checks_run_in_the_order_of_their_table(monkeypatch):
    """Not in that of a set, which differs from process to process: all of a job must run the same program at once."""
    asked = []

    def attack(bench, one, radii, few, broken, early_exit=True):
        asked.append(one)
        held = np.zeros((1, len(radii), 4), bool)
        return Outcome(held, few.images[None, None], np.zeros((1, 4)), ~held, np.zeros(1))

    monkeypatch.setattr(evidence, "run_attack", attack)
    few = Data(nets.images(4), np.zeros(4, int), np.arange(4), np.eye(4, dtype=np.float32)[None])
    found = evidence._attacks(Bench((), None, {}, {}, 4, 0, "linf"), few, 0.1, np.ones((1, 4), bool), Effort())
    assert asked == list(evidence.attacks_needed(Effort()).values())
    assert list(found)[-3:] == ["steps", "restarts", "black_box"]


def test_judging_is_a_function_of_the_numbers():
    assert verdict.judge({}).word == "reliable"
    suspect = verdict.judge({"ce_overstates": 0.14, "steps": 0.01})
    assert suspect.word == "suspect"
    assert "14 % below the CE attacks" in suspect.reason
    both = verdict.judge({"steps": 0.2, "audit_excess": 1e-3})
    assert (both.word, [f.name for f in both.failed]) == ("broken", ["audit_excess", "steps"])
    assert both.reason == "an adversarial example leaves its ball by 0.001"
    assert verdict.judge({"steps": float("nan")}).word == "suspect"  # a number that could not be made is not a pass
    with pytest.raises(ValueError, match="Unknown checks"):
        verdict.judge({"colour": 1.0})


def test_every_reason_fills_in():
    for name in verdict.CHECKS:
        assert "{" not in verdict.judge({name: 0.99}).reason
