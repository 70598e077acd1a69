"""The probe on a stack of small networks: names, intervals, and equality with one trial attacked alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.rng import Stream, key_of
from jaxreg.robustness import ATTACKS, probe, run_attack
from jaxreg.robustness.attacks import Suite
from jaxreg.robustness.verdict_checks import Effort
from jaxreg.runtime import parallel
from support import small_networks

TRIALS, COUNT, RADII = 3, 21, (0.2, 0.05, 0.1)
PROGRESS = []  # reports of the evaluation of `counted`
SUITE = Suite(
    {
        "fgsm": ATTACKS["fgsm"],
        "pgd_ce": ATTACKS["pgd_ce"]._replace(steps=10),
        "apgd_t": ATTACKS["apgd_t"]._replace(steps=10, targets=2),
    },
    minimal_steps=40,
)


def apply(params, stats, x, *, train):
    assert not train
    hidden = jax.nn.tanh((x.reshape(x.shape[0], -1) - 0.5) @ params["a"])
    return hidden @ params["b"] + stats["shift"][None], hidden, stats


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(3)
    params = {
        "a": (rng.normal(size=(TRIALS, 9, 16)) * 0.8).astype(np.float32),
        "b": (rng.normal(size=(TRIALS, 16, 4)) * 0.8).astype(np.float32),
    }
    stats = {"shift": np.zeros((TRIALS, 4), np.float32)}
    images, labels = small_networks.images(COUNT), rng.integers(0, 4, COUNT)
    first = jax.tree.map(lambda a: a[0], (params, stats))
    labels = np.where(
        np.arange(COUNT) < 18, small_networks.predicted(lambda x: apply(*first, x, train=False)[0], images), labels
    )
    return params, stats, images, labels.astype(np.int32)


@pytest.fixture(scope="module")
def mesh():
    return parallel.make_mesh()


@pytest.fixture(scope="module")
def counted(study, mesh):
    """The probe's results, and the number of programs that JAX compiled for all it ran."""
    traces = []

    def tracing(params, stats, x, *, train):
        traces.append(x.shape)
        return apply(params, stats, x, train=train)

    how = {"epsilons": RADII, "chunk": 16, "slots": 16, "keep": "all", "progress": PROGRESS.append}
    return attacked(study, tracing, mesh=mesh, **how), traces


def attacked(study, network=apply, **how):
    params, stats, images, labels = study
    return probe.measure(
        network, params, stats, images, labels, np.arange(COUNT) + 100, **({"suite_name": SUITE} | how)
    )


def value(one, name):
    (found,) = [row.value for row in one.rows if row.metric == name]
    return found


def test_rows_have_the_stable_names_and_come_from_the_masks(counted):
    measured, _ = counted
    assert len(measured) == TRIALS
    for one in measured:
        for eps in ("0.05", "0.1", "0.2"):
            masks = [one.arrays[f"robust/{name}/{eps}"] for name in SUITE.attacks]
            np.testing.assert_array_equal(one.arrays[f"robust/worst/{eps}"], np.all(masks, axis=0))
            for name in (*SUITE.attacks, "worst"):
                mask = one.arrays[f"robust/{name}/{eps}"]
                assert mask.shape == (COUNT,)
                assert value(one, f"robust_accuracy/{name}/{eps}") == pytest.approx(mask.mean())
        assert all(row.n == COUNT and row.low <= row.value <= row.high for row in one.rows if row.low is not None)


def test_adversarial_examples_hold_what_the_masks_say(study, counted):
    params, stats, images, labels = study
    for t, one in enumerate(counted[0]):
        model = jax.tree.map(lambda a, t=t: a[t], (params, stats))
        for name in (*SUITE.attacks, "worst"):
            for eps in (0.05, 0.1, 0.2):
                x = one.arrays[f"adversarial/{name}/{eps:g}"]
                assert np.abs(x.astype(np.float64) - images).max() <= eps + 1e-6
                right = small_networks.predicted(lambda x, m=model: apply(*m, x, train=False)[0], x) == labels
                np.testing.assert_array_equal(right, one.arrays[f"robust/{name}/{eps:g}"])
        logits = one.arrays["adversarial_logits/worst/0.1"]
        np.testing.assert_array_equal(logits.argmax(1) == labels, one.arrays["robust/worst/0.1"])


def test_a_trial_among_others_equals_it_alone(study, counted):
    params, stats, images, labels = study
    model = jax.tree.map(lambda a: a[1], (params, stats))
    key = key_of(0, Stream.ATTACK)
    alone = run_attack(
        lambda x: apply(*model, x, train=False)[0],
        images,
        labels,
        np.array([0.05, 0.1, 0.2], np.float32),
        SUITE.attacks["pgd_ce"],
        key=key,
        ids=np.arange(COUNT) + 100,
    )
    for e, eps in enumerate(("0.05", "0.1", "0.2")):
        np.testing.assert_array_equal(counted[0][1].arrays[f"robust/pgd_ce/{eps}"], alone.robust[e])
        np.testing.assert_allclose(counted[0][1].arrays[f"adversarial/pgd_ce/{eps}"], alone.adversarial[e], atol=1e-6)


@pytest.mark.parametrize("kind", ["worst", "strongest"])
def test_calibration_under_attack_is_that_of_the_saved_logits(study, counted, kind):
    labels = study[3]
    for one in counted[0]:
        logits = one.arrays[f"adversarial_logits/{kind}/0.1"].astype(np.float64)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        right, sure = logits.argmax(1) == labels, p.max(1)
        bins = np.minimum((sure * 15).astype(int), 14)
        gaps = [abs((right[bins == m] - sure[bins == m]).sum()) for m in range(15)]
        assert value(one, f"attacked_ece/{kind}/0.1") == pytest.approx(sum(gaps) / COUNT, abs=1e-5)
        assert value(one, f"attacked_confidence_gap/{kind}/0.1") == pytest.approx(sure.mean() - right.mean(), abs=1e-5)
        nll = -np.log(p[np.arange(COUNT), labels])
        assert value(one, f"attacked_nll/{kind}/0.1") == pytest.approx(nll.mean(), rel=1e-4)


def test_confidence_is_measured_far_beyond_the_boundary(counted):
    for one in counted[0]:
        for eps in ("0.05", "0.1", "0.2"):
            assert value(one, f"attacked_nll/strongest/{eps}") > value(one, f"attacked_nll/worst/{eps}")
        nll = [value(one, f"attacked_nll/strongest/{eps}") for eps in ("0.05", "0.1", "0.2")]
        assert nll == sorted(nll)


def test_radii_are_kept_exactly(counted):
    for one in counted[0]:
        np.testing.assert_array_equal(one.arrays["radii"], np.float32((0.05, 0.1, 0.2)))
        assert one.arrays["norm"] == "linf"


def test_progress_counts_what_is_left_of_the_whole_suite(counted):
    measured, _ = counted
    assert [now.done for now in PROGRESS] == list(range(1, len(PROGRESS) + 1))
    assert {now.calls for now in PROGRESS} == {len(PROGRESS)}
    assert {now.examples for now in PROGRESS} == {TRIALS * COUNT}  # without padding, whatever a call held
    left = [now.robust for now in PROGRESS]
    assert left == sorted(left, reverse=True)
    assert left[-1] == sum(one.arrays["robust/worst/0.2"].sum() for one in measured)


def test_minimal_radius_agrees_with_the_curve(counted):
    for one in counted[0]:
        minimal = one.arrays["min_eps"]
        for eps in (0.05, 0.1, 0.2):
            broken = ~one.arrays[f"robust/worst/{eps:g}"]
            assert np.all(minimal[broken] <= eps + 1e-6)
            assert np.all(minimal[~broken] > eps * 0.98)  # the search may find what the suite missed, by little
        assert value(one, "min_eps/median") == pytest.approx(np.median(minimal))


def test_programs_do_not_grow_with_tails_radii_or_attacks(counted):
    _, traces = counted
    # Two chunks (the last one ragged), three radii, three attacks: a forward pass, an ascent, a search for radii, an
    # ascent to its end.
    assert {shape[0] for shape in traces} == {16}
    assert len(traces) <= 2 * 4


def test_more_radii_than_one_call_holds_change_nothing(study, counted):
    radii = (0.01, 0.02, 0.05, 0.08, 0.1, 0.2)
    other = attacked(study, suite_name=Suite({"fgsm": ATTACKS["fgsm"]}), epsilons=radii)
    for one, two in zip(counted[0], other):
        for eps in ("0.05", "0.1", "0.2"):
            assert np.all(two.arrays[f"robust/fgsm/{eps}"] <= one.arrays[f"robust/fgsm/{eps}"])
        np.testing.assert_array_equal(two.arrays["robust/worst/0.2"], two.arrays["robust/fgsm/0.2"])
        x = two.arrays["adversarial/worst/0.2"]
        broken = ~two.arrays["robust/worst/0.02"]
        np.testing.assert_array_equal(x[broken], two.arrays["adversarial/worst/0.02"][broken])


def test_trials_of_a_device_may_run_one_after_another_or_batched(study):
    def constant(params, stats, x, *, train):
        """A network with an array in it that is no parameter."""
        return apply(params, stats, x + np.linspace(-0.1, 0.1, 9, dtype=np.float32).reshape(1, 3, 3, 1), train=train)

    suite = Suite({name: ATTACKS[name]._replace(steps=8) for name in ("pgd_margin", "square")})
    how = {"suite_name": suite, "epsilons": RADII, "slots": 16, "keep": "all", "effort": Effort(COUNT, 2, 20)}
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    one, other = (attacked(study, constant, mesh=mesh, local=local, **how) for local in ("map", "vmap"))
    for first, second in zip(one, other):
        assert [row[:2] for row in first.rows] == [row[:2] for row in second.rows]
        np.testing.assert_allclose(*([row.value for row in found.rows] for found in (first, second)), atol=1e-5)
        for name, array in first.arrays.items():
            if array.dtype == np.float32:
                np.testing.assert_allclose(second.arrays[name], array, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(second.arrays[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"suite_name": "hard"}, "Unknown suite 'hard'; known"),
        ({"epsilons": (-0.1,)}, "eps must be 0 or more"),
        ({"images": small_networks.images(4) * 2}, r"images must lie in \[0, 1\]"),
    ],
)
def test_bad_use_is_named(study, change, words):
    params, stats, _, _ = study
    good = {
        "images": small_networks.images(4),
        "labels": np.zeros(4, int),
        "suite_name": "pgd",
        "epsilons": (0.1,),
    } | change
    with pytest.raises(ValueError, match=words):
        probe.measure(apply, params, stats, key_ids=np.arange(4), **good)


def test_probabilities_are_refused_where_no_verdict_would_say_so(study):
    def soft(params, stats, x, *, train):
        return (jax.nn.softmax(apply(params, stats, x, train=train)[0]),)

    with pytest.raises(ValueError, match="before the softmax"):
        attacked(study, soft, suite_name="pgd", epsilons=(0.1,))


def test_small_class_counts_fit_the_suite():
    from jaxreg.robustness.attacks import suite

    three = suite("quick", 3).attacks
    assert three["apgd_t"].targets == 0
    assert three["apgd_t"].loss == "margin"
    assert suite("quick", 10).attacks["apgd_t"].targets == 3
    assert jnp.isfinite(three["pgd_ce"].step_size)
