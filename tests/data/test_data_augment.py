import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxreg.data.augment import AUGMENTATIONS, augment, check
from jaxreg.rng import Stream, example_keys, key_of

B, H, W, C = 64, 9, 9, 3
HP = {"padding": 2, "cutout_size": 4}


@functools.partial(jax.jit, static_argnums=(0, 4))
def _run(names, keys, x, size, padding):
    return augment(names, keys, x, {"cutout_size": size, "padding": padding})


def run(names, keys, x, hp=HP):
    return _run(names, keys, x, hp["cutout_size"], hp["padding"])


@jax.jit
def _keys(step, seed, ids):
    return example_keys(key_of(seed, Stream.AUGMENT, step), ids)


@functools.cache
def images(dtype="uint8"):
    x = np.random.default_rng(0).integers(1, 256, (B, H, W, C))
    return jnp.asarray(x.astype(dtype) if dtype == "uint8" else x / 255, dtype)


def keys(step=0, seed=0, ids=None):
    return _keys(step, seed, jnp.arange(B, dtype=jnp.uint32) if ids is None else ids)


def windows(image, padding, mode):
    wide = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
    return {
        wide[i : i + H, j : j + W].tobytes(): (i, j) for i in range(2 * padding + 1) for j in range(2 * padding + 1)
    }


@pytest.mark.parametrize(("name", "mode"), [("pad_crop", "constant"), ("pad_crop_reflect", "reflect")])
def test_pad_crop_is_a_window_of_the_padded_image(name, mode):
    x, seen = images(), []
    for step in range(20):
        out = np.asarray(run((name,), keys(step), x, HP))
        seen += [windows(np.asarray(one), 2, mode)[cropped.tobytes()] for one, cropped in zip(x, out)]
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.array(seen).T), 1)
    expected = len(seen) / 25
    assert ((counts - expected) ** 2 / expected).sum() < 51.2  # chi-squared, 24 degrees, p = 0.001


def test_flip_is_identity_or_mirror_half_of_the_time():
    x, flipped = np.asarray(images()), 0
    for step in range(20):
        for one, out in zip(x, np.asarray(run(("flip",), keys(step), images()))):
            mirrored = (out == one[:, ::-1]).all()
            assert mirrored or (out == one).all()
            flipped += mirrored
    assert abs(flipped / (20 * B) - 0.5) < 4 * 0.5 / np.sqrt(20 * B)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 9])
def test_cutout_erases_one_clipped_square_and_nothing_else(size):
    x, areas = np.asarray(images()), []
    for one, out in zip(x, np.asarray(run(("cutout",), keys(), images(), {**HP, "cutout_size": size}))):
        erased = (out == 0).all(-1)  # images hold no zero
        np.testing.assert_array_equal(out, np.where(erased[..., None], 0, one))
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert erased.sum() == len(rows) * len(columns)
        for found in (rows, columns):
            assert found.size <= size
            if 0 < found.size < size:  # cut only by the border
                assert found[0] == 0 or found[-1] == H - 1
        areas.append(erased.sum())
    center = np.arange(H)
    side = np.minimum(center - size // 2 + size, H) - np.maximum(center - size // 2, 0)
    mean, spread = side.mean() ** 2, np.sqrt((side**2).mean() ** 2 - side.mean() ** 4)
    assert abs(np.mean(areas) - mean) <= 4 * spread / np.sqrt(B)


def test_an_example_is_augmented_alike_in_any_batch():
    names, x, ids = tuple(AUGMENTATIONS), images(), jnp.arange(B, dtype=jnp.uint32) * 977
    whole = np.asarray(run(names, keys(3, ids=ids), x))
    assert (whole.dtype, whole.shape) == (np.uint8, x.shape)
    order = np.random.default_rng(1).permutation(B)[:17]
    part = run(names, keys(3, ids=np.asarray(ids)[order]), np.asarray(x)[order])
    np.testing.assert_array_equal(part, whole[order])
    assert not np.array_equal(whole, run(names, keys(4, ids=ids), x))
    assert not np.array_equal(whole, run(names, keys(3, seed=1, ids=ids), x))


def test_adding_one_augmentation_leaves_the_draws_of_another():
    x = images()
    alone = run(("flip",), keys(), x, HP)
    both = run(("flip", "cutout"), keys(), x, HP)
    np.testing.assert_array_equal(both, jnp.where(both == 0, 0, alone))


def test_nothing_by_zero():
    out = run(("pad_crop", "cutout"), keys(), images(), {"padding": 0, "cutout_size": 0})
    np.testing.assert_array_equal(out, images())
    np.testing.assert_array_equal(run((), keys(), images()), images())


def test_streams_differ():
    assert len({one.stream for one in AUGMENTATIONS.values()}) == len(AUGMENTATIONS)


def test_trials_in_a_shard_map_get_what_each_gets_alone():
    names, x = ("pad_crop", "flip", "cutout"), images("float32")[:8]

    def one(trial):
        seed, size = trial
        own = example_keys(key_of(seed, Stream.AUGMENT, 5), jnp.arange(8, dtype=jnp.uint32))

        def step(carry, _):
            return augment(names, own, carry, {"padding": 2, "cutout_size": size}), None

        return jax.lax.scan(step, x + seed * 0.0, length=2)[0]

    mesh = jax.make_mesh((1,), ("trial",), axis_types=(AxisType.Auto,))
    trials = (jnp.arange(2, dtype=jnp.uint32), jnp.array([2, 5]))
    alone = jax.jit(one)
    expected = [alone((seed, size)) for seed, size in zip(*trials)]
    assert not np.array_equal(*expected)
    for body in (functools.partial(jax.lax.map, one), jax.vmap(one)):
        lifted = jax.shard_map(
            body, mesh=mesh, in_specs=(jax.P("trial"),), out_specs=jax.P("trial"), axis_names={"trial"}
        )
        np.testing.assert_array_equal(jax.jit(lambda trials, lifted=lifted: lifted(trials))(trials), expected)


def test_sizes_and_names_are_checked():
    check(("pad_crop", "flip", "cutout"), (8, 8, 1), {"padding": 7, "cutout_size": 8})
    for names, hp, message in (
        (("flop",), {}, r"Unknown augmentation 'flop'; known: \['cutout', 'flip', 'pad_crop', 'pad_crop_reflect'\]"),
        (("pad_crop",), {"padding": 8}, r"padding must be in \[0, 8\)"),
        (("cutout",), {"cutout_size": 9}, r"cutout_size must be in \[0, 8\]"),
        (("flip", "flip"), {}, "must differ"),
    ):
        with pytest.raises(ValueError, match=message):
            check(names, (8, 8, 1), hp)
