"""Programs are lowered for CUDA and TPU where neither is: both ways of sharing a device, every method of attack."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import config as configs
from jaxreg.jobs import timing
from jaxreg.robustness import ATTACKS
from jaxreg.robustness.attacks import METHODS
from jaxreg.robustness.trials import Evaluation, Networks
from jaxreg.runtime import parallel
from jaxreg.training.program import fixed_parts, programs_of, settings_of
from jaxreg.training.step import Batch, init_state, resident_steps
from support import small_networks
from support.small_study import small_config

PLATFORMS = ("cuda", "tpu")
COUNT = 8


class Lowered(Exception):
    """Instead of the result of a program."""


def one_device():
    return parallel.make_mesh(devices=jax.devices()[:1])


@pytest.mark.parametrize("local", ["map", "vmap"])
@pytest.mark.parametrize("model", [{"name": "cnn", "widths": (4,)}, {"name": "resnet20", "dtype": "bfloat16"}])
def test_training_lowers(model, local):
    config = small_config()
    config.model = model
    (program,) = programs_of(configs.resolve(config))
    mesh, dataset = one_device(), timing.made_up(program)
    fixed = fixed_parts(program, dataset, mesh)
    states = jax.eval_shape(jax.vmap(functools.partial(init_state, fixed=fixed)), jnp.arange(4, dtype=jnp.uint32))
    split = dataset.splits["train"]
    body = functools.partial(resident_steps, fixed=fixed, batch_size=16, steps=2)
    given = (states, settings_of(program, fixed)), Batch(split.images, split.labels, split.key_ids)
    text = parallel.per_trial(body, mesh, local).lower(*given, PLATFORMS).as_text()
    assert "stablehlo.convolution" in text


@pytest.mark.parametrize("local", ["map", "vmap"])
@pytest.mark.parametrize("method", METHODS)
def test_attacks_lower(method, local):
    attack = next(one for one in ATTACKS.values() if one.method == method)._replace(steps=2)
    images, mesh = small_networks.images(COUNT, shape=(4, 4, 1)), one_device()
    params = {"kernel": np.random.default_rng(0).normal(size=(2, 16, 4)).astype(np.float32)}

    def apply(params, stats, x, *, train):
        return (x.reshape(len(x), -1) @ params["kernel"],)

    networks = Networks(apply, parallel.put_trials((params, {}), mesh), mesh, local, COUNT)
    clean = np.zeros((2, COUNT, 4), np.float32)
    evaluation = Evaluation(networks, images, np.arange(COUNT) % 4, np.arange(COUNT, dtype=np.uint32), clean, RADII)

    def keep(_, call):
        def look(one, shared):
            raise Lowered(call.lower(one, shared, PLATFORMS).as_text())

        return look

    with pytest.raises(Lowered, match="stablehlo"):
        evaluation.with_calls([attack], 4, keep).attack(attack, **_starts(method, images))


RADII = np.float32([0.1])


def _starts(method, images):
    return {"starts": np.stack([images] * 2)} if method == "minimal" else {}
