"""Every regularizer keeps its contract; each one's law is that of its formula."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxreg import regularizers
from jaxreg.regularizers import (
    REGULARIZERS,
    Number,
    Regularizer,
    complete,
    compose,
    cutmix,
    has_floor,
    label_smoothing,
    mixup,
    smoothing_of,
)
from jaxreg.regularizers.apply import Choice, RegularizerFunctions, choices, functions_of, loss_of, mix_batch
from jaxreg.regularizers.regularizer import Mix

BATCH, SIDE, CLASSES = 32, 8, 10

# name -> hyperparameters under which it does nothing at all, None where it has none
CASES = {
    "none": {},
    "label_smoothing": {"epsilon": 0.0},
    "mixup": None,
    "cutmix": {"probability": 0.0},
    "mixup_cutmix": None,
    "confidence_penalty": {"beta": 0.0},
}
SUMS = ("mixup+label_smoothing", "cutmix+label_smoothing", "mixup_cutmix+label_smoothing+confidence_penalty")


def batch(seed=0):
    x, y, z = jax.random.split(jax.random.key(seed), 3)
    images = jax.random.uniform(x, (BATCH, SIDE, SIDE, 3))
    targets = jax.nn.one_hot(jax.random.randint(y, (BATCH,), 0, CLASSES), CLASSES)
    return images, targets, jax.random.normal(z, (BATCH, CLASSES)) * 3


def one_trial(name, **given):
    functions = functions_of([name])
    stacked = choices(functions, [name], [complete(name, given)])
    return functions, jax.tree.map(lambda a: a[0], stacked)


def mixed(name, seed=0, **given):
    functions, choice = one_trial(name, **given)
    images, targets, _ = batch()
    return mix_batch(functions, choice, tuple(jax.random.split(jax.random.key(seed))), images, targets)


def draw(function, count, seed=1, side=SIDE, key=None, **hyper):
    numbers = {"alpha": 1.0, "cutmix_alpha": 1.0, "probability": 1.0, "odd_sides": 0.0, "per_batch": 0.0, **hyper}
    key = jax.random.key(seed) if key is None else key
    return function(key, (count, side, side), {k: jnp.float32(v) for k, v in numbers.items()})


def test_every_regularizer_has_a_case():
    assert set(CASES) == set(REGULARIZERS)


@pytest.mark.parametrize("name", [*REGULARIZERS, *SUMS])
def test_targets_are_distributions_and_images_stay_images(name):
    images, targets = mixed(name)
    np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)
    assert (targets >= 0).all()
    assert (images >= 0).all()
    assert (images <= 1).all()


@pytest.mark.parametrize("name", [name for name, off in CASES.items() if off is not None])
def test_off_is_plain_cross_entropy_to_the_bit(name):
    functions, choice = one_trial(name, **CASES[name])
    images, targets, logits = batch()
    same_images, same_targets = mixed(name, **CASES[name])
    np.testing.assert_array_equal(same_images, images)
    np.testing.assert_array_equal(same_targets, targets)
    plain = optax.softmax_cross_entropy(logits, targets)
    np.testing.assert_array_equal(loss_of(functions, choice, logits, same_targets), plain)


def test_lambda_one_is_plain_to_the_bit():
    def all_of_me(key, shape, hyper):
        return Mix(jnp.ones((*shape, 1)), jnp.ones(shape[:1]))

    functions, choice = one_trial("mixup")
    images, targets, _ = batch()
    keys = tuple(jax.random.split(jax.random.key(0)))
    same_images, same_targets = mix_batch(functions._replace(mix=(all_of_me,)), choice, keys, images, targets)
    np.testing.assert_array_equal(same_images, images)
    np.testing.assert_array_equal(same_targets, targets)


@pytest.mark.parametrize("name", [*REGULARIZERS, *SUMS])
def test_gradient_is_finite_even_where_the_prediction_is_certain(name):
    functions, choice = one_trial(name)
    _, targets, logits = batch()
    gradient = jax.grad(lambda z: loss_of(functions, choice, z, targets).sum())(logits * 100)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("name", [*REGULARIZERS, *SUMS])
def test_renaming_the_classes_renames_the_targets(name):
    functions, choice = one_trial(name)
    images, targets, logits = batch()
    keys, order = tuple(jax.random.split(jax.random.key(3))), np.random.default_rng(0).permutation(CLASSES)
    x, y = mix_batch(functions, choice, keys, images, targets)
    x_renamed, y_renamed = mix_batch(functions, choice, keys, images, targets[:, order])
    np.testing.assert_array_equal(x, x_renamed)
    np.testing.assert_allclose(y[:, order], y_renamed, atol=1e-7)
    losses = loss_of(functions, choice, logits, y), loss_of(functions, choice, logits[:, order], y_renamed)
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 8.0])  # below 0.5 float32 rounds too many draws to exactly 1
def test_lambda_follows_its_beta_law(alpha):
    weights = draw(mixup.mix_images, 20_000, side=1, alpha=alpha).weight_B
    assert stats.kstest(np.asarray(weights, np.float64), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def expected_area(side: int, alpha: float, odd: bool) -> tuple[float, float]:
    """Mean and variance of the pasted share, from the rule itself: every center, lambda on a fine grid of quantiles."""
    lam = stats.beta(alpha, alpha).ppf((np.arange(4000) + 0.5) / 4000)
    whole = (np.sqrt(1 - lam) * side).astype(int)[:, None]
    center, half = np.arange(side), whole // 2
    spans = np.minimum(center + half + odd * (whole % 2), side) - np.maximum(center - half, 0)
    share = spans[:, :, None] * spans[:, None, :] / side**2
    return share.mean(), share.var()


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize(("alpha", "side"), [(1.0, 8), (1.0, 7), (0.3, 32)])
def test_box_area_follows_the_rule(alpha, side, odd):
    weights = np.asarray(draw(cutmix.paste_box, 20_000, side=side, alpha=alpha, odd_sides=odd).weight_B, np.float64)
    mean, variance = expected_area(side, alpha, odd)
    assert abs((1 - weights).mean() - mean) < 4 * np.sqrt(variance / len(weights))
    np.testing.assert_allclose(weights.var(), variance, rtol=0.06)


@pytest.mark.parametrize(
    ("side", "odd", "unmixed", "pasted"),
    [(8, False, 0.063, 0.23), (8, True, 0.016, 0.28), (32, False, 0.004, 0.30), (32, True, 0.001, 0.31)],
)
def test_shares_of_pasted_pixels_are_those_that_the_docs_tell(side, odd, unmixed, pasted):
    weights = np.asarray(draw(cutmix.paste_box, 40_000, side=side, odd_sides=odd).weight_B)
    assert abs((weights == 1).mean() - unmixed) < 0.005
    assert abs((1 - weights).mean() - pasted) < 0.01
    assert abs(expected_area(side, 1.0, odd)[0] - pasted) < 0.005


def test_cutmix_weight_is_the_exact_area_at_every_border():
    mix = draw(cutmix.paste_box, 8192)
    masks, weights = np.asarray(mix.mask_BHW1[..., 0]), np.asarray(mix.weight_B)
    assert set(np.unique(masks)) == {0.0, 1.0}
    np.testing.assert_array_equal(weights * SIDE * SIDE, masks.sum((1, 2)))
    rows, columns = (masks == 0).any(2), (masks == 0).any(1)
    np.testing.assert_array_equal(masks == 0, rows[:, :, None] & columns[:, None, :])  # a rectangle
    touched = {side: hit.any() for side, hit in zip("lrtb", (columns[:, 0], columns[:, -1], rows[:, 0], rows[:, -1]))}
    assert all(touched.values()), touched  # the sample reaches every border
    assert (np.abs(np.diff(rows.astype(int), axis=1)).sum(1) <= 2).all()  # in one piece


def test_mixed_pixels_and_targets_come_from_one_partner():
    images, targets, _ = batch()
    x, y = (np.asarray(a) for a in mixed("cutmix", alpha=1.0))
    images, targets = np.asarray(images), np.asarray(targets)
    for i, j in itertools.product(range(BATCH), repeat=2):
        pasted = (x[i] != images[i]).any(-1)
        same = np.array_equal(x[i][pasted], images[j][pasted]) and pasted.any()
        if same and i != j:
            weight = 1 - pasted.mean()
            np.testing.assert_allclose(y[i], weight * targets[i] + (1 - weight) * targets[j], atol=1e-6)


def test_partner_is_a_permutation_of_the_whole_batch():
    x, _ = mixed("mixup", alpha=1.0, seed=5)
    images = batch()[0]
    draws, order = jax.random.split(jax.random.key(5))
    partner = jax.random.permutation(order, BATCH)
    lam = draw(mixup.mix_images, BATCH, key=draws).weight_B
    by_hand = lam[:, None, None, None] * images + (1 - lam[:, None, None, None]) * images[partner]
    np.testing.assert_allclose(x, by_hand, atol=1e-6)
    assert sorted(partner.tolist()) == list(range(BATCH))


@pytest.mark.parametrize("function", [mixup.mix_images, cutmix.paste_box])
def test_one_draw_an_example_or_one_a_batch(function):
    assert len(np.unique(draw(function, 64).weight_B)) > 10
    assert len(np.unique(draw(function, 64, per_batch=1.0).weight_B)) == 1


def test_cutmix_leaves_the_rest_alone():
    weights = draw(cutmix.paste_box, 4000, probability=0.25, side=16).weight_B
    untouched = (np.asarray(weights) == 1).mean()
    small_boxes = (np.asarray(draw(cutmix.paste_box, 4000, side=16).weight_B) == 1).mean()
    assert abs(untouched - (0.75 + 0.25 * small_boxes)) < 0.03


def test_smoothing_adds_a_pull_toward_the_mean_logit():
    _, targets, logits = batch()
    epsilon = 0.3
    smoothed = label_smoothing.smooth(targets, {"epsilon": jnp.float32(epsilon)})
    left = optax.softmax_cross_entropy(logits, smoothed)
    pull = (logits * targets).sum(-1) - logits.mean(-1)
    np.testing.assert_allclose(left, optax.softmax_cross_entropy(logits, targets) + epsilon * pull, rtol=1e-5)


def test_confidence_penalty_by_hand():
    # Uniform prediction over 10 classes: CE = H = ln 10, so the loss is (1 - beta) ln 10.
    functions, choice = one_trial("confidence_penalty", beta=0.25)
    loss = loss_of(functions, choice, jnp.zeros((1, 10)), jax.nn.one_hot(jnp.array([3]), 10))
    np.testing.assert_allclose(loss, 0.75 * np.log(10), rtol=1e-6)


def test_a_switch_over_regularizers_gives_each_its_own():
    names = ["none", "mixup", "cutmix+label_smoothing", "confidence_penalty"]
    functions = functions_of(names)
    stacked: Choice = choices(functions, names, [complete(name, {}) for name in names])
    images, targets, logits = batch()
    keys = tuple(jax.random.split(jax.random.key(9)))
    assert isinstance(functions, RegularizerFunctions)
    assert len(functions.mix) == 3
    mix_any = jax.jit(lambda choice: mix_batch(functions, choice, keys, images, targets))
    for i, name in enumerate(names):
        choice = jax.tree.map(lambda a, i=i: a[i], stacked)
        x, y = mix_any(choice)
        alone_functions, alone = one_trial(name)
        x_alone, y_alone = mix_batch(alone_functions, alone, keys, images, targets)
        np.testing.assert_allclose(x, x_alone, atol=1e-6)
        np.testing.assert_allclose(y, y_alone, atol=1e-6)
        losses = loss_of(functions, choice, logits, y), loss_of(alone_functions, alone, logits, y_alone)
        np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("label_smothing", {}, "Unknown regularizer 'label_smothing'; known: .*label_smoothing"),
        ("mixup+cutmix", {}, "two parts that mix"),
        ("label_smoothing", {"epsilon": 1.5}, r"epsilon of 'label_smoothing' must be in \[0, 1\), got 1.5"),
        ("mixup", {"alpha": -1}, r"alpha of 'mixup' must be in \(0, inf\), got -1"),
        ("mixup", {"alpha": "big"}, "got 'big'"),
        ("mixup", {"epsilon": 0.1}, "no hyperparameter 'epsilon'; it has .*alpha"),
    ],
)
def test_bad_use_names_value_and_rule(name, given, message):
    with pytest.raises(ValueError, match=message):
        complete(name, given)


def test_a_sum_has_the_parts_of_both():
    whole = compose("mixup+label_smoothing")
    assert (whole.mix, whole.soften) == (mixup.mix_images, label_smoothing.smooth)
    assert complete("mixup+label_smoothing", {"epsilon": 0.2}) == {"alpha": 1.0, "epsilon": 0.2, "per_batch": 0.0}


def test_two_parts_with_a_hyperparameter_of_one_name_are_refused(monkeypatch):
    own = Regularizer(numbers={"alpha": Number(0.5, "[0, 1]")}, soften=lambda targets_BK, hyper: targets_BK)
    monkeypatch.setattr(regularizers, "REGULARIZERS", {**REGULARIZERS, "own": own})
    with pytest.raises(ValueError, match=r"^regularizer 'mixup\+own' has two parts with a hyperparameter 'alpha'"):
        complete("mixup+own", {})
    assert complete("own", {}) == {"alpha": 0.5}


def test_a_number_called_epsilon_is_no_label_smoothing_of_its_own(monkeypatch):
    numbers = {"epsilon": Number(0.2, "[0, 1)")}
    table = {
        "sharpened": Regularizer(numbers=numbers, loss=lambda logits_BK, targets_BK, hyper: logits_BK.sum(-1)),
        "turned": Regularizer(numbers=numbers, soften=lambda targets_BK, hyper: targets_BK[:, ::-1]),
    }
    monkeypatch.setattr(regularizers, "REGULARIZERS", {**REGULARIZERS, **table})
    assert smoothing_of("sharpened", {"epsilon": 0.2}) == 0.0
    assert smoothing_of("turned", {"epsilon": 0.2}) is None
    assert not has_floor("turned")
    assert has_floor("label_smoothing")
    assert smoothing_of("label_smoothing", {"epsilon": 0.2}) == 0.2
