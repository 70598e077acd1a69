"""The algebra of sweeps: its laws, and that what it yields is data a study is made of."""

import json
import types

import numpy as np
import pytest

from jaxreg import config as configs
from jaxreg import sweeps
from jaxreg.trained import Trained
from jaxreg.training.program import programs_of
from support.small_study import small_config

RATES = sweeps.over("optimizer.learning_rate", 0.1, 0.2)
SIZES = sweeps.over("batch_size", 16, 32, 64)


def test_product_is_every_combination_and_the_last_varies_fastest():
    found = sweeps.product(RATES, SIZES)
    assert [tuple(one.values()) for one in found] == [(r, s) for r in (0.1, 0.2) for s in (16, 32, 64)]


def test_products_nest_and_one_has_no_effect():
    assert sweeps.product(sweeps.product(RATES, SIZES), [{"steps": 9}]) == sweeps.product(RATES, SIZES, [{"steps": 9}])
    assert sweeps.product(RATES, [{}]) == sweeps.product(RATES) == RATES
    assert sweeps.product() == [{}]
    assert sweeps.product(RATES, []) == []


def test_zip_goes_side_by_side():
    assert sweeps.zip(RATES, SIZES[:2]) == [
        {"optimizer.learning_rate": 0.1, "batch_size": 16},
        {"optimizer.learning_rate": 0.2, "batch_size": 32},
    ]
    with pytest.raises(ValueError, match=r"one length, got \[2, 3\]: did you mean product"):
        sweeps.zip(RATES, SIZES)


def test_chain_goes_on_and_says_nothing_twice():
    assert sweeps.chain(RATES, SIZES, RATES) == RATES + SIZES
    generator = ({"steps": n} for n in (1, 2))
    assert sweeps.chain(generator, [{}]) == [{"steps": 1}, {"steps": 2}, {}]


@pytest.mark.parametrize("combine", [sweeps.product, sweeps.zip])
def test_a_key_is_set_once(combine):
    with pytest.raises(ValueError, match="set a key once, got 'batch_size'"):
        combine(SIZES, SIZES)


def test_parts_are_left_as_they_were():
    before = json.dumps([RATES, SIZES])
    sweeps.product(RATES, SIZES)[0]["steps"] = 1
    sweeps.chain(RATES)[0]["steps"] = 1
    assert json.dumps([RATES, SIZES]) == before


def test_any_override_can_be_swept_seeds_and_regularizers_too():
    more = sweeps.over("seeds", (5, 6, 7))
    other = sweeps.over("regularizers", (("mixup", {"alpha": 1.0}),))
    study = configs.resolve(small_config(), sweeps.chain([{}], sweeps.product(more, other), RATES))
    assert [(t.regularizer.name, t.seed) for t in study.trials[4:7]] == [("mixup", seed) for seed in (5, 6, 7)]
    assert study.trials[4].setting.hyperparameters == '{"alpha": 1.0}'  # what the trial says of itself is said once
    assert len(study.trials) == 4 + 3 + 4  # the rate 0.1 is the config's own: those trials are there already
    assert len({t.id for t in study.trials}) == 11


def test_a_swept_value_may_be_a_list():
    """Trials find the baseline of their own widths."""
    study = configs.resolve(small_config(), [{"model.widths": (8,)}, {"model.widths": (8,), "steps": 30}])
    (program, _) = programs_of(study)
    state = types.SimpleNamespace(failed=np.full(4, -1))
    assert Trained(program, None, None, state, None).baselines == [None, None, 0, 1]
