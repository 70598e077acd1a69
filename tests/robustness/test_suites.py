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
NAMES = ("pgd_ce", "minimal", "minimal_t", "apgd_margin", "apgd_margin_t")


def apply(params, stats, x, *, train):
    hidden = jax.nn.tanh((x.reshape(x.shape[0], -1) - 0.5) @ params["a"])
    return hidden @ params["b"], hidden, stats


def params():
    rng = np.random.default_rng(3)
    return {
        "a": (rng.normal(size=(2, 9, 16)) * 0.8).astype(np.float32),
        "b": (rng.normal(size=(2, 16, 4)) * 0.8).astype(np.float32),
    }


def strong(steps=(3, 8, 8, 6, 6)):
    """The suite with few steps and restarts, fitted to four classes."""
    attacks = {
        name: SUITES["strong"].attacks[name]._replace(steps=count, restarts=1) for name, count in zip(NAMES, steps)
    }
    attacks = {name: one._replace(targets=min(one.targets, 2)) for name, one in attacks.items()}
    return Suite(attacks, cascade=True, minimal_steps=8)


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
def outcomes(evaluation):
    return suites.run(evaluation, strong(), lambda *told: None)


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


def test_minimal_radii_agree_with_the_masks(evaluation, outcomes):
    overall = worst(list(outcomes.values()))
    minimal = suites.minimal_radii(evaluation, overall, 8, lambda *told: None)
    wrong = evaluation.clean.argmax(2) != evaluation.labels
    np.testing.assert_array_equal(minimal == 0, wrong)
    assert wrong.any()
    for e, radius in enumerate(RADII):
        assert np.all(minimal[~overall.robust[:, e]] <= radius * (1 + 1e-5))
        assert np.mean((minimal <= radius) & overall.robust[:, e]) < 0.03  # what the last search alone found


def test_a_reach_leaves_out_what_is_far_and_nothing_else(evaluation, monkeypatch):
    asked, surveyed, real, survey = {}, [], Evaluation.attack, suites._surveyed

    def attack(own, one, radii=None, **how):
        asked[one] = radii
        return real(own, one, radii, **how)

    def listened(*given):
        found = survey(*given)
        surveyed.append(found[1])
        return found

    monkeypatch.setattr(Evaluation, "attack", attack)
    monkeypatch.setattr(suites, "_surveyed", listened)
    chosen = strong()
    found = suites.run(evaluation, chosen, lambda *told: None)
    away = np.min(surveyed, axis=0)
    for name, one in chosen.attacks.items():
        if np.isfinite(one.reach):
            near = away[:, None] <= one.reach * RADII[:, None]
            np.testing.assert_array_equal((asked[one] >= 0)[near], True)  # adversaries of attacks only add to them
            standing = found["minimal_t"].robust
            beyond = (asked[one] >= 0) & standing
            assert 0.05 < beyond[:, 2].sum() / standing[:, 2].sum() < 0.95  # at the largest radius, too
            far = away[:, None] > 1.5 * RADII[:, None]
            assert not np.any((asked[one] >= 0) & far & standing)


def test_a_search_aims_at_every_target(evaluation, monkeypatch):
    aimed, real = [], Evaluation.attack

    def attack(own, one, radii=None, **how):
        aimed.append(how.get("target"))
        return real(own, one, radii, **how)

    monkeypatch.setattr(Evaluation, "attack", attack)
    search = ATTACKS["minimal"]._replace(loss="targeted_margin", steps=8, targets=2)
    both = suites.run(evaluation, Suite({"minimal": search}), lambda *told: None)["minimal"]
    one = suites.run(evaluation, Suite({"minimal": search._replace(targets=1)}), lambda *told: None)["minimal"]
    assert aimed == [0, 1, 0]
    away = [
        np.where(found.hits[:, 2], sizes(found.adversarial[:, 2] - evaluation.images, "linf"), 9)
        for found in (both, one)
    ]
    assert np.all(away[0] <= away[1])
    assert np.any(away[0] < away[1])


def test_the_probe_counts_the_calls_of_a_suite_with_searches():
    seen = []
    found = probe.measure(
        apply, params(), {}, small_networks.images(8), np.zeros(8, int), np.arange(8),
        suite_name=strong((2, 3, 3, 2, 2)), epsilons=(0.05,), progress=seen.append, slots=8,
    )  # fmt: skip
    assert [now.done for now in seen] == list(range(1, seen[-1].calls + 1))
    assert "robust_accuracy/minimal_t/0.05" in {row.metric for row in found[0].rows}


def test_the_suite_of_the_paper_takes_steps_of_half_the_radius():
    (attack,) = SUITES["paper"].attacks.values()
    assert (attack.loss, attack.steps, attack.step_size, attack.random_start) == ("ce", 7, 0.5, True)
