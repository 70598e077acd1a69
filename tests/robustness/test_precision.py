"""Attacks and predictions at the highest precision unless JAX is told another; masks that it turns are counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.models.conv import conv_general_dilated
from jaxreg.robustness import ATTACKS, controls, corruptions, flips, probe, run_attack, run_suite
from jaxreg.robustness.attacks import Suite
from jaxreg.robustness.audit import wrong
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.network import minimal_eps
from jaxreg.robustness.trials import Evaluation, Networks
from jaxreg.runtime import parallel
from jaxreg.runtime.precision import chosen
from support import small_networks

SHAPE, COUNT, EPS = (4, 4, 1), 12, 0.05
SUITE = Suite({"pgd_ce": ATTACKS["pgd_ce"]._replace(steps=2)})


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    return {"kernel": rng.normal(size=(1, 16, 3)).astype(np.float32)}


@pytest.fixture
def images():
    return small_networks.images(COUNT, shape=SHAPE)


class Heard:
    """A linear network that remembers at which precision it was traced."""

    def __init__(self):
        self.at = set()

    def __call__(self, params, stats, x_BHWC, *, train):
        self.at.add(chosen() if jax.config.jax_default_matmul_precision else "none")
        return (x_BHWC.reshape(len(x_BHWC), -1) @ params["kernel"],)


@pytest.mark.parametrize("told", [None, "default", "high"])
def test_trials_are_attacked_at_the_precision_told(network, images, told):
    heard, corrupted = Heard(), Heard()
    given = network, {}, images, np.arange(COUNT) % 3, np.arange(COUNT)
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    with jax.default_matmul_precision(told):
        probe.measure(heard, *given, suite_name=SUITE, epsilons=(EPS,), mesh=mesh)
        corruptions.measure(corrupted, *given, names=("fog",), severities=(1,), mesh=mesh)
    assert heard.at == {told or "highest", "highest"}  # all masks are looked at again at the highest
    assert corrupted.at == {told or "highest"}


@pytest.mark.parametrize("attack", [run_attack, run_suite, minimal_eps])
@pytest.mark.parametrize("told", [None, "default"])
def test_one_network_is_attacked_at_the_precision_told(network, images, attack, told):
    heard = Heard()
    one = {"kernel": network["kernel"][0]}
    labels = np.arange(COUNT) % 3
    more = {"suite": SUITE} if attack is run_suite else {}
    with jax.default_matmul_precision(told):
        attack(lambda x: heard(one, {}, x, train=False)[0], images, labels, EPS, key=jax.random.key(0), **more)
    assert heard.at == {told or "highest"}


def rounded(params, stats, x_BHWC, *, train):
    """Below the highest precision a network of another sign, as far as trial 1 goes."""
    del train
    logits = x_BHWC.reshape(len(x_BHWC), -1) @ params["kernel"]
    precise = chosen() == "highest"
    return (logits if precise else jnp.where(stats["rough"], -logits, logits),)


def test_masks_that_turn_are_counted_and_make_a_trial_suspect(network, images):
    params = {"kernel": np.repeat(network["kernel"], 2, 0)}
    stats = {"rough": np.array([False, True])}
    labels = small_networks.predicted(lambda x: x.reshape(len(x), -1) @ network["kernel"][0], images)
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    with jax.default_matmul_precision("default"):
        found = probe.measure(
            rounded, params, stats, images, labels, np.arange(COUNT), suite_name=SUITE, epsilons=(1e-6,), mesh=mesh
        )
    rows = [{row.metric: row for row in one.rows} for one in found]
    names = [name for name in rows[0] if name.startswith("mask_flips/")]
    assert set(names) == {f"mask_flips/{kind}/1e-06" for kind in ("pgd_ce", "noise", "worst")}
    for name in names:
        assert (rows[0][name].value, rows[1][name].value) == (0, 1)
        assert rows[1][name].n == COUNT


def test_what_a_cascade_takes_over_is_no_flip_of_its_own(network, images):
    """The second attack of a cascade stores the clean image of what the first one broke."""
    labels = small_networks.predicted(lambda x: x.reshape(len(x), -1) @ network["kernel"][0], images)
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    networks = Networks(Heard(), parallel.put_trials((network, {}), mesh), mesh)
    clean = networks.logits_of_all(images)
    evaluation = Evaluation(networks, images, labels, np.arange(COUNT), clean, np.float32([EPS]))
    robust = np.ones((1, 1, COUNT), bool)
    robust[..., :4] = False  # broken by an earlier attack
    nothing = Attacked(images[None, None], robust, np.zeros((1, COUNT)), robust & False, np.zeros(1))
    assert not flips.recomputed(evaluation, {"second": nothing})["second"].any()
    claimed = nothing._replace(hits=~robust)  # its own, but what it stores is right
    assert flips.recomputed(evaluation, {"first": claimed})["first"].sum() == 4


def test_a_control_that_makes_a_wrong_example_right_turns_no_mask(network, images):
    """Its mask is that of the clean image: right or wrong, that is looked at."""
    mesh = parallel.make_mesh(devices=jax.devices()[:1])
    networks = Networks(Heard(), parallel.put_trials((network, {}), mesh), mesh)
    clean = networks.logits_of_all(images)
    labels = np.argmin(clean[0], axis=-1).astype(np.int32)  # all are wrong
    evaluation = Evaluation(networks, images, labels, np.arange(COUNT), clean, np.float32([EPS]))
    right = controls.outcome_at(evaluation, -images[None, None])
    assert not wrong(networks.logits_of_all(-images), labels).any()
    assert not flips.recomputed(evaluation, {"noise": right})["noise"].any()
    labels = np.argmax(clean[0], axis=-1).astype(np.int32)
    claimed = dataclasses.replace(evaluation, labels=labels, clean=-clean)
    assert flips.recomputed(claimed, {"noise": right})["noise"].all()


def test_a_convolution_of_the_models_takes_the_precision_told():
    x, kernel = jnp.ones((1, 8, 8, 8)), jnp.ones((3, 3, 8, 8))
    loss = jax.grad(lambda x: (conv_general_dilated(x, kernel, (1, 1), "SAME") ** 2).sum())
    with jax.default_matmul_precision("highest"):
        lines = jax.jit(loss).lower(x).as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    precisions = [line for line in lines if "precision_config" in line or "#stablehlo<precision" in line]
    assert convolutions
    assert len(precisions) >= len(convolutions)
    assert all(line.count("HIGHEST") == 2 for line in precisions)
