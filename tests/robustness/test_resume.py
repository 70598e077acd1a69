"""Finished calls come back, and only to the question that they answered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.robustness import ATTACKS, finished_calls, probe
from jaxreg.robustness.attacks import Suite
from jaxreg.robustness.loop import Attacked
from jaxreg.robustness.trials import GROUP, Evaluation, Networks
from jaxreg.runtime import parallel
from support import small_networks

COUNT = 8


def test_finished_calls_are_not_done_again_and_others_are(tmp_path):
    calls = []

    def call(job, chunk):
        calls.append(1)
        return Attacked(*(jnp.asarray(job["w"]) * i + chunk for i in range(5)))

    kept = finished_calls.remembered("gradient", call, tmp_path, "linf")
    job = {"w": np.ones(3, np.float32)}
    first, second = kept(job, np.int32(1)), kept(job, np.int32(1))
    assert len(calls) == 1
    assert isinstance(second, Attacked)
    np.testing.assert_array_equal(first.smallest, second.smallest)
    kept({"w": np.full(3, 2, np.float32)}, np.int32(1))
    kept(job, np.int32(2))
    kept(job, np.float32(1))
    assert len(calls) == 4
    finished_calls.remembered("gradient", call, tmp_path, "l2")(job, np.int32(1))
    finished_calls.remembered("square", call, tmp_path, "linf")(job, np.int32(1))
    assert len(calls) == 6
    assert finished_calls.remembered("gradient", call, None, "linf") is call


def digest_of(attack, **change):
    """The digest of the one call that an attack makes; `change` what differs from the plainest evaluation."""
    given = {
        "seed": 0,
        "dtype": np.float32,
        "radii": (0.1,),
        "labels": np.arange(COUNT) % 4,
        "program": "linf",
    } | change
    digests = []

    def call(job, chunk):
        digests.append(finished_calls.digest((job, chunk), given["program"]))
        zeros = np.zeros((1, GROUP, COUNT))
        return Attacked(zeros[..., None, None, None], zeros > 1, zeros[:, 0], zeros > 1, np.zeros(1))

    networks = Networks(None, ({"w": np.ones((1, 4), given["dtype"])}, {}), None, chunk=COUNT)
    clean = np.random.default_rng(0).normal(size=(1, COUNT, 4)).astype(np.float32)
    examples, radii = (small_networks.images(COUNT), given["labels"], np.arange(COUNT), clean), np.array(given["radii"])
    Evaluation(networks, *examples, radii, seed=given["seed"], calls={"gradient": call}).attack(attack)
    (digest,) = digests
    return digest


def test_all_that_determines_a_result_is_in_the_digest():
    base = ATTACKS["pgd_ce"]
    changes = {
        "loss": "margin",
        "steps": 21,
        "step_size": 0.5,
        "random_start": False,
        "restarts": 2,
        "targets": 2,
        "adaptive": True,
        "highest": True,
    }
    assert set(changes) == set(base._fields) - {"method", "reach"}  # in the name of the file; in the radii
    attacks = [base._replace(**{name: value}) for name, value in changes.items()]
    attacks += [base._replace(targets=3, restarts=2), base._replace(targets=2, restarts=3)]
    digests = [digest_of(base), *map(digest_of, attacks)]
    others = ({"seed": 1}, {"dtype": np.float16}, {"radii": (0.2,)}, {"radii": (0.1, 0.2)}, {"program": "l2"})
    digests += [digest_of(base, **change) for change in (*others, {"labels": np.zeros(COUNT, int)})]
    assert len(set(digests)) == len(digests)
    assert digest_of(base) == digests[0]


def linear(params, stats, x, *, train):
    return ((x.reshape(x.shape[0], -1) - 0.5) @ params["w"] + stats["shift"][None],)


def scaled(params, stats, x, *, train):
    """Another network of the same weights, with the same predictions."""
    return (linear(params, stats, x, train=train)[0] * 2,)


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(1, 9, 4)).astype(np.float32)}, {"shift": np.zeros((1, 4), np.float32)}


def test_another_norm_is_measured_anew_in_the_same_folder(tmp_path, trials):
    x, mesh = small_networks.images(COUNT), parallel.make_mesh(devices=jax.devices()[:1])
    labels = small_networks.predicted(lambda x: linear(*jax.tree.map(lambda a: a[0], trials), x, train=False)[0], x)
    how = {"suite_name": Suite({"fgsm": ATTACKS["fgsm"]}), "epsilons": (0.1,), "mesh": mesh, "finished": tmp_path}
    for norm in ("linf", "l2", "linf"):
        (one,) = probe.measure(linear, *trials, x, labels, np.arange(COUNT), norm=norm, **how)
        delta = one.arrays["adversarial/worst/0.1"].reshape(COUNT, -1) - x.reshape(COUNT, -1)
        sizes = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
        np.testing.assert_allclose(sizes[~one.arrays["robust/worst/0.1"]], 0.1, rtol=1e-4)
    assert len(list(tmp_path.iterdir())) == 6  # three calls a norm: the third evaluation found those of the first


def test_another_network_is_told_apart(trials):
    texts = {
        finished_calls.described(apply, trials, norm, (3, 3, 1))
        for apply in (linear, scaled)
        for norm in ("linf", "l2")
    }
    assert len(texts) == 4
    assert finished_calls.described(linear, trials, "l2", (3, 3, 1)) in texts
