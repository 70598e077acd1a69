"""A cascade with searches over trials: who is looked at, what its rows mean, and how it compares."""

import jax
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, SUITES, Suite, probe, suites
from jaxreg.robustness.audit import audit, sizes
from jaxreg.robustness.trials import Evaluation, Networks, worst
from jaxreg.runtime import parallel
from support import small_networks

COUNT, RADII = 40, np.float32([0.02, 0.035, 0.05])
NAMES = ("pgd_ce", "minimal", "minimal_t", "apgd_margin", "apgd_margin_t", "minimal_last")


def apply(params, stats, x, *, train):
    hidden = jax.nn.tanh((x.reshape(x.shape[0], -1) - 0.5) @ params["a"])
    return hidden @ params["b"], hidden, stats


def params():
    rng = np.random.default_rng(3)
    return {
        "a": (rng.normal(size=(2, 9, 16)) * 0.8).astype(np.float32),
        "b": (rng.normal(size=(2, 16, 4)) * 0.8).astype(np.float32),
    }


def strong(steps=(3, 8, 8, 6, 6, 8)):
    """The suite with few steps and restarts, fitted to four classes."""
    attacks = {
        name: SUITES["strong"].attacks[name]._replace(steps=count, restarts=1) for name, count in zip(NAMES, steps)
    }
    attacks = {name: one._replace(targets=min(one.targets, 2)) for name, one in attacks.items()}
    return Suite(attacks, cascade=True)


@pytest.fixture(scope="module")
def evaluation():
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    networks = Networks(apply, parallel.put_trials((params(), {}), mesh), mesh, chunk=64)
    images = small_networks.images(COUNT)
    clean = networks.logits_of_all(images)
    labels = clean[0].argmax(1).astype(np.int32)  # of the second trial some are wrong
    ids = np.arange(COUNT, dtype=np.uint32)
    return Evaluation(networks, images, labels, ids, clean, RADII).with_calls(list(strong().attacks.values()), 16)


@pytest.fixture(scope="module")
def ran(evaluation):
    return suites.run(evaluation, strong(), lambda *told: None)


@pytest.fixture(scope="module")
def outcomes(ran):
    return ran[0]


def test_masks_of_a_cascade_only_fall_and_its_last_is_the_worst_case(outcomes):
    assert tuple(outcomes) == NAMES
    before = np.ones((2, 3, COUNT), bool)
    for one in outcomes.values():
        assert np.all(one.robust <= before)
        np.testing.assert_array_equal(one.robust, ~(one.smallest[:, None] <= RADII[:, None]))
        before = one.robust
    np.testing.assert_array_equal(worst(list(outcomes.values())).robust, before)
    assert 0.05 < before.mean() < outcomes["pgd_ce"].robust.mean()
    assert outcomes["minimal_t"].robust.sum() <= outcomes["minimal"].robust.sum() < outcomes["pgd_ce"].robust.sum()


def test_every_adversary_of_the_worst_case_holds(evaluation, outcomes):
    overall = worst(list(outcomes.values()))
    logits = evaluation.logits(overall.adversarial)
    for t in range(2):
        stored = overall.adversarial[t], logits[t], overall.robust[t]
        assert audit(evaluation.images, *stored, evaluation.labels, RADII[:, None], "linf").holds


def test_minimal_radii_are_those_of_the_masks_and_of_the_nearest_adversaries(evaluation, ran):
    outcomes, near = ran
    overall, wrong = worst(list(outcomes.values())), evaluation.clean.argmax(2) != evaluation.labels
    minimal = suites.minimal_radii(evaluation, near, 0, lambda *told: None)
    np.testing.assert_array_equal(minimal == 0, wrong)
    assert wrong.any()
    for e, radius in enumerate(RADII):
        np.testing.assert_array_equal(minimal <= radius * (1 + 1e-6), ~overall.robust[:, e])
    known = np.isfinite(near.away_TN) & ~wrong
    assert np.any(known & (minimal > RADII[-1]))  # beyond the largest radius, too
    np.testing.assert_allclose(sizes(near.x_TNHWC - evaluation.images, "linf")[known], minimal[known], atol=1e-6)
    fooled = evaluation.networks.logits(near.x_TNHWC).argmax(2) != evaluation.labels
    assert fooled[known].all()
    after = suites.minimal_radii(evaluation, near, 8, lambda *told: None)
    assert np.all(after <= minimal)
    nothing = suites.Nearest(np.full_like(minimal, np.inf), np.repeat(evaluation.images[None], 2, 0))
    alone = suites.minimal_radii(evaluation, nothing, 8, lambda *told: None)
    assert np.mean(np.isfinite(alone) & ~wrong) > 0.5


def test_a_reach_leaves_out_what_is_far_and_nothing_else(evaluation, monkeypatch):
    asked, real = [], suites._within

    def within(own, attack, away):
        asked.append((attack, away, real(own, attack, away)))
        return asked[-1][2]

    monkeypatch.setattr(suites, "_within", within)
    found, _ = suites.run(evaluation, strong(), lambda *told: None)
    standing = found["minimal_t"].robust
    for attack, away, radii in asked[1:]:
        near = away[:, None] <= attack.reach * RADII[:, None]
        np.testing.assert_array_equal(radii, np.where(near, RADII[:, None], np.float32(-1)))
        assert 0.05 < near[standing].mean() < 0.95
        assert near[:, 2][standing[:, 2]].any()  # thanks to adversaries beyond the largest radius


def test_a_search_aims_at_every_target(evaluation, monkeypatch):
    aimed, real = [], Evaluation.attack

    def attack(own, one, radii=None, **how):
        aimed.append(how.get("target"))
        return real(own, one, radii, **how)

    monkeypatch.setattr(Evaluation, "attack", attack)
    search = ATTACKS["minimal"]._replace(loss="targeted_margin", steps=8, targets=2)
    both, one = (
        suites.run(evaluation, Suite({"minimal": search._replace(targets=n)}), lambda *told: None)[1].away_TN
        for n in (2, 1)
    )
    assert aimed == [0, 1, 0]
    assert np.all(both <= one)
    assert np.any(both < one)


def test_the_probe_counts_the_calls_of_a_suite_with_searches():
    seen = []
    found = probe.measure(
        apply, params(), {}, small_networks.images(8), np.zeros(8, int), np.arange(8),
        suite_name=strong((2, 3, 3, 2, 2, 3)), epsilons=(0.05,), progress=seen.append, slots=8,
    )  # fmt: skip
    assert [now.done for now in seen] == list(range(1, seen[-1].calls + 1))
    assert "robust_accuracy/minimal_t/0.05" in {row.metric for row in found[0].rows}


def test_the_suite_of_the_paper_takes_steps_of_half_the_radius():
    (attack,) = SUITES["paper"].attacks.values()
    assert (attack.loss, attack.steps, attack.step_size, attack.random_start) == ("ce", 7, 0.5, True)
