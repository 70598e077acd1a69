"""The verdict flags planted failures for the right reason, and a healthy trial for none."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, diagnosis, probe, trial, verdict, verdict_checks
from jaxreg.robustness.attacks import Suite
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.trial import AttackedExamples
from jaxreg.robustness.trials import Evaluation, Networks
from jaxreg.robustness.verdict_checks import Effort
from jaxreg.runtime import parallel
from support import small_networks

PLANTS = (
    "healthy",
    "large_logits",
    "stopped",
    "probabilities",
    "quantised",
    "dropout",
    "healthy_again",
    "floored",
    "rounded",
    "reversed",
)
COUNT, SHAPE = 40, (6, 6, 1)
# A healthy trial is the source of all others; of itself another one, that of dropout none.
SOURCES = [{"healthy": PLANTS.index("healthy_again"), "dropout": PLANTS.index("dropout")}.get(p, 0) for p in PLANTS]


def plain(params, x):
    hidden = jax.nn.relu((x.reshape(x.shape[0], -1) - 0.5) @ params["a"] + params["b"][None])
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
    lambda params, x: plain(params, jnp.floor(x * 255) / 255)[1],
    lambda params, x: plain(params, jnp.round(x * 255) / 255)[1],
    lambda params, x: 2 * jax.lax.stop_gradient(plain(params, x)[1]) - plain(params, x)[1],
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
    images = small_networks.images(COUNT, shape=SHAPE, low=0.05, high=0.95)
    labels = small_networks.predicted(lambda x: plain(one, x)[1], images)
    suite = Suite({name: ATTACKS[name] for name in ("pgd_ce", "pgd_margin")})
    how = {"suite_name": suite, "epsilons": (0.01, 0.03), "effort": Effort(COUNT, queries=100)}
    measured = probe.measure(apply, params, stats, images, labels, np.arange(COUNT), sources=np.array(SOURCES), **how)
    return {plant: (read_verdict(one.rows), one.rows) for plant, one in zip(PLANTS, measured)}


def read_verdict(rows):
    """The verdict in words, from the rows verdict/CHECK of one trial."""
    numbers = {row.metric.removeprefix("verdict/"): row.value for row in rows if row.metric.startswith("verdict/")}
    return verdict.judge(numbers)


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
        ("floored", "input_quantised", "input is quantised"),
        ("rounded", "input_quantised", "input is quantised"),
        ("reversed", "gradient_wrong", "not the function's slope"),
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


def test_another_trials_adversaries_beat_a_stopped_gradient(verdicts):
    assert "transfer" in [f.name for f in verdicts["stopped"][0].failed]


def test_a_trial_that_is_its_own_source_has_no_transfer(verdicts):
    names = {plant: [row.metric for row in rows if "transfer" in row.metric] for plant, (_, rows) in verdicts.items()}
    assert names["dropout"] == []
    of_masks = [f"{metric}/transfer/{eps}" for eps in (0.01, 0.03) for metric in ("robust_accuracy", "mask_flips")]
    assert names["stopped"] == [*of_masks, "verdict/transfer"]


def test_a_black_box_beats_a_stopped_gradient(verdicts):
    assert "black_box" in [f.name for f in verdicts["stopped"][0].failed]


def test_checks_run_in_the_order_of_their_table(monkeypatch):
    """Not in that of a set, which differs from process to process: all of a job must run the same program at once."""
    ran = []

    def attack(few, one, early_exit=True):
        ran.append(one)
        robust = np.zeros((1, len(few.radii), 4), bool)
        return Attacked(few.images[None, None], robust, np.zeros((1, 4)), ~robust, np.zeros(1))

    monkeypatch.setattr(Evaluation, "attack", attack)
    few = evaluation_of(small_networks.images(4), np.zeros(4, int), np.eye(4, dtype=np.float32))
    found = verdict_checks._attacks(few, 0.1, np.ones((1, 4), bool), Effort())
    needed = verdict_checks.attacks_needed(Effort(), 4)
    assert ran == [attack for name, attack in needed.items() if name != "restarts"]
    assert list(found)[-2:] == ["steps", "black_box"]


def evaluation_of(images, labels, clean_NK, net=None):
    """One trial on one device."""

    def apply(params, stats, x, *, train):
        return (net(x),)

    models, mesh = ({"none": np.zeros((1, 1), np.float32)}, {}), parallel.make_mesh(devices=jax.devices()[:1])
    ids, networks = np.arange(len(images), dtype=np.uint32), Networks(apply, models, mesh, chunk=64)
    return Evaluation(networks, images, np.asarray(labels, np.int32), ids, clean_NK[None], np.float32([0.1]))


def few_examples(net, count=40):
    """Images, labels that are right, and clean logits."""
    x = small_networks.images(count)
    clean = np.asarray(net(jnp.asarray(x)))
    return evaluation_of(x, clean.argmax(1), clean, net)


def test_two_passes_that_differ_are_named(monkeypatch):
    rng, net = np.random.default_rng(0), small_networks.mlp()
    few = few_examples(net, 8)

    def forward(stacks, shared):
        return np.asarray(net(jnp.asarray(stacks[-1][0])))[None] + rng.normal(size=(1, 64, 4))

    monkeypatch.setattr(Networks, "forward", staticmethod(forward))
    found = verdict.judge({k: float(v[0]) for k, v in verdict_checks._outputs(few).items()})
    assert found.failed[0].name == "not_deterministic"
    assert "a random draw is left on" in found.reason


def test_a_weak_suite_is_told_by_more_steps_and_restarts():
    effort = Effort(queries=0)
    needed = list(verdict_checks.attacks_needed(effort, 4).values())
    few = few_examples(small_networks.mlp()).with_calls(needed, slots=64)
    weak, strong = ATTACKS["pgd_ce"]._replace(steps=1, step_size=0.1), ATTACKS["pgd_margin"]
    for attack, names in ((weak, ["steps", "restarts"]), (strong, [])):
        withstood = few.attack(attack).robust[:, 0]
        numbers = verdict_checks._attacks(few, 0.1, withstood, effort)
        numbers["restarts"] = verdict_checks.restarts(few, withstood, effort)
        assert [f.name for f in verdict.judge({k: float(v[0]) for k, v in numbers.items()}).failed] == names


def test_restarts_look_at_all_that_stands_at_the_middle_radius_with_starts_of_their_own(monkeypatch):
    x, asked = small_networks.images(60), []
    three = evaluation_of(x, np.zeros(60, int), np.eye(60, 4, dtype=np.float32))
    three = dataclasses.replace(three, radii=np.float32([0.1, 0.2, 0.3]))

    def attack(own, one, radii):
        asked.append((one, radii, own.draw))
        hits = np.broadcast_to(np.arange(60) % 2 == 0, (1, 1, 60))  # also of what did not stand
        return Attacked(own.images[None, None], ~hits, np.zeros((1, 60)), hits, np.zeros(1))

    monkeypatch.setattr(Evaluation, "attack", attack)
    for standing, share in ((np.arange(60) >= 20, 20 / 40), (np.arange(60) >= 58, 1 / 20), (np.zeros(60, bool), 0)):
        assert verdict_checks.restarts(three, standing[None], Effort(restarts=2)) == share
        one, radii, draw = asked[-1]
        assert (one.loss, one.targets, one.restarts) == ("targeted_margin", 3, 2)
        np.testing.assert_array_equal(radii[0, 0], np.where(standing, np.float32(0.2), -1))
        assert draw == verdict_checks.DRAW


def test_another_draw_starts_elsewhere():
    one = evaluation_of(small_networks.images(4), np.zeros(4, int), np.eye(4, dtype=np.float32))
    other = dataclasses.replace(one, draw=2)
    assert np.any(jax.random.key_data(one.key) != jax.random.key_data(other.key))


@pytest.mark.parametrize(("margin", "share"), [(1e-5, 0.0), (0.5, 0.25)])
def test_radius_zero_may_differ_in_a_tie_alone(monkeypatch, margin, share):
    clean = np.eye(4, dtype=np.float32)[None]
    clean[0, 0, 1] = 1 - margin
    few = evaluation_of(small_networks.images(4), np.arange(4), clean[0])

    def attack(few, one, early_exit=True):
        hits = np.zeros((1, len(few.radii), 4), bool)
        hits[:, 0, 0] = True  # at radius 0, in another shape of the batch
        return Attacked(few.images[None, None], ~hits, np.zeros((1, 4)), hits, np.zeros(1))

    monkeypatch.setattr(Evaluation, "attack", attack)
    found = verdict_checks._attacks(few, 0.1, np.ones((1, 4), bool), Effort())
    assert found["zero_radius"] == share


@pytest.mark.parametrize("quantise", [jnp.floor, jnp.round, jnp.ceil])
@pytest.mark.parametrize("on_grid", [True, False])
def test_fine_levels_are_told_from_a_stopped_gradient(quantise, on_grid):
    net, x = small_networks.mlp(shape=SHAPE), small_networks.images(24, shape=SHAPE, low=0.05, high=0.95)
    x = np.round(x * 255).astype(np.float32) / np.float32(255) if on_grid else x
    noise = np.random.default_rng(0).uniform(-1, 1, x.shape).astype(np.float32)
    functions = lambda x: net(quantise(x * 255) / 255), lambda x: net(jax.lax.stop_gradient(x)), net
    shares = []
    for function in functions:
        found = jax.jit(functools.partial(diagnosis.diagnose, function))(x, np.zeros(24, int), noise)
        shares.append([float(np.mean(values)) for values in (found.unmoved, found.margin_zero)])
    assert shares[0][0] > 0.9
    assert shares[1:] == [[0, 1], [0, 0]]


def test_noise_of_the_diagnosis_belongs_to_examples(monkeypatch):
    monkeypatch.setattr(trial, "diagnose", lambda logits_fn, images, labels, noise: noise)
    ids, x = np.arange(4, dtype=np.uint32), small_networks.images(4)

    def look(ids):
        return trial.diagnose_trial(None, ({}, {}), (AttackedExamples(x, np.zeros(4, int), ids), np.uint32(0)))

    seen = look(ids)
    np.testing.assert_array_equal(look(ids[::-1])[::-1], seen)
    assert np.abs(seen).max() <= 1


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
