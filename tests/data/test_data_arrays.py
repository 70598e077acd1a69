import re

import numpy as np
import pytest

from jaxreg.__main__ import main
from jaxreg.data import describe, load
from support import tfds_directory
from support.odd_names import NAMES


def parts(count, shape=(5, 5), dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    images = (
        rng.integers(0, 256, (count, *shape)).astype(np.uint8) if dtype == np.uint8 else rng.random((count, *shape))
    )
    return {"images": images.astype(dtype), "labels": np.arange(count) % 3}


def write(folder, form="npz", **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split, arrays in splits.items():
        if form == "npz":
            np.savez(folder / f"{split}.npz", **arrays)
        else:
            for key, array in arrays.items():
                np.save(folder / f"{split}_{key}.npy", array)
    return f"arrays:{folder}"


@pytest.mark.parametrize("form", ["npz", "npy"])
@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 1), (5, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("cached", [True, False])
def test_examples_arrive_whole(tmp_path, form, shape, dtype, cached):
    train, test = parts(30, shape, dtype), parts(9, shape, dtype, seed=1)
    train["ids"] = np.arange(30) * 11
    name = write(tmp_path / "data", form, train=train, test=test)
    dataset = load(name, validation=6, cache_dir=str(tmp_path / "cache") if cached else None)
    full = (*shape, 1) if len(shape) == 2 else shape
    stored_type = np.uint8 if dtype == np.uint8 else np.float32
    np.testing.assert_array_equal(dataset.splits["test"].images, test["images"].reshape(-1, *full).astype(stored_type))
    np.testing.assert_array_equal(dataset.splits["test"].ids, [f"test_{i}" for i in range(9)])
    for split, count in {"train": 24, "validation": 6}.items():
        found = dataset.splits[split]
        assert len(found) == count
        rows = found.ids // 11
        np.testing.assert_array_equal(found.labels, train["labels"][rows])
        np.testing.assert_array_equal(found.images, train["images"][rows].reshape(-1, *full).astype(stored_type))
    assert dataset.scale == (255 if dtype == np.uint8 else 1)
    x = dataset.splits["train"].images.astype(np.float64) / dataset.scale
    np.testing.assert_allclose(dataset.mean, x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, x.std((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_has_no_zero_deviation(tmp_path):
    train = parts(30, (5, 5, 3))
    train["images"][..., 1] = 77
    dataset = load(write(tmp_path, train=train, test=parts(9, (5, 5, 3))))
    assert dataset.std[1] == 1
    assert dataset.mean[1] == np.float32(77 / 255)


def test_own_validation_and_class_names(tmp_path):
    name = write(tmp_path, train=parts(30), validation=parts(7), test=parts(9))
    (tmp_path / "classes.txt").write_text("red fox\nhare\nowl\nbear\n")
    about = describe(name)
    assert about.counts == {"train": 30, "validation": 7, "test": 9}
    assert about.num_classes == 4
    assert load(name).classes == ("red fox", "hare", "owl", "bear")


def test_byte_ids_become_text(tmp_path):
    train = {**parts(30), "ids": np.array([b"a%d" % i for i in range(30)])}
    dataset = load(write(tmp_path, train=train, test=parts(9)))
    assert {str(one) for split in ("train", "validation") for one in dataset.splits[split].ids} == {
        f"a{i}" for i in range(30)
    }


def test_the_directory_may_come_as_data_dir(tmp_path):
    write(tmp_path, train=parts(30), test=parts(9))
    assert describe("arrays", data_dir=str(tmp_path)).counts["test"] == 9
    with pytest.raises(ValueError, match="must name its directory"):
        describe("arrays")


def refuse(name, message, read=load):
    with pytest.raises(ValueError, match=message) as error:
        read(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((30, 5, 6), np.uint8)}, "square, 1 or 3 channels.*got"),
        ({"images": np.zeros((30, 5, 5, 2), np.uint8)}, "square, 1 or 3 channels.*got"),
        ({"images": np.zeros((30, 5, 5), np.int64)}, "uint8 or float.*int64"),
        ({"images": np.zeros((30, 25), np.uint8)}, "square"),
        (
            {"images": np.full((30, 5, 5), 2.0)},
            r"images must be in \[0, 1\], got values from 2 to 2 .*: divide by 255",
        ),
        ({"images": np.linspace(-2, 2, 750).reshape(30, 5, 5)}, r"got values from -2 to .*undo their normalisation"),
        (
            {"images": np.full((30, 5, 5), np.nan)},
            r"got nan in example \d+ of .*: leave such examples out",
        ),
        (
            {"images": np.full((30, 5, 5), np.inf)},
            r"got inf in example \d+ of .*: leave such examples out",
        ),
        ({"labels": np.arange(30) % 3 + 1}, r"0, 1, ... without a gap.*got \[1, 2, 3\]"),
        ({"labels": np.zeros(30, int)}, r"two classes or more, got \[0\]"),
        ({"labels": np.arange(30) % 3 / 1}, "whole numbers.*float64"),
        ({"labels": np.arange(29) % 3}, r"shape \(30,\), got int64 \(29,\): save one label for each of the 30 images"),
        ({"labels": np.arange(30)[:, None] % 3}, r"shape \(30,\), got int64 \(30, 1\): save labels.reshape\(-1\)"),
        ({"images": np.zeros((0, 5, 5)), "labels": np.zeros(0)}, "split 'train' must hold examples, got none: save"),
        ({"ids": np.zeros(30, int)}, "ids must all differ, 29 repeat"),
        ({"ids": np.arange(29)}, r"ids must be 30 integers or strings, got int64 \(29,\)"),
        ({"ids": np.array([None] * 30)}, "without Python objects"),
    ],
)
@pytest.mark.parametrize("form", ["npz", "npy"])
def test_wrong_arrays_are_refused(tmp_path, change, message, form):
    test = parts(9)
    if "images" in change:
        test["images"] = change["images"][:9]
    name = write(tmp_path, form, train={**parts(30), **change}, test=test)
    refuse(name, message)
    refuse(name, message, describe)


def test_labels_of_test_stay_in_range(tmp_path):
    test = {**parts(9), "labels": np.full(9, 3)}
    refuse(
        write(tmp_path, train=parts(30), test=test), r"split 'test': labels must be in \[0, 3\), got 3 \(9 outside\)"
    )


BAD_SPLITS = {
    "labels outside": (
        {"labels": np.full(9, -1)},
        r"'{split}': labels must be in \[0, 3\), got -1 \(9 outside\)",
    ),
    "labels one short": ({"labels": np.arange(8) % 3}, r"{split} labels must be .*\(9,\), got int64 \(8,\)"),
    "labels [N, 1]": ({"labels": np.zeros((9, 1), int)}, r"{split} labels must be .*: save labels.reshape"),
    "empty": ({"images": np.zeros((0, 5, 5)), "labels": np.zeros(0)}, "split '{split}' must hold examples, got none"),
    "0 to 255": ({"images": np.linspace(0, 255, 225).reshape(9, 5, 5)}, "from 0 to 255 of {split}: divide by 255"),
    "one nan": ({"images": np.where(np.arange(225) == 60, np.nan, 0.5).reshape(9, 5, 5)}, "got nan in example 2 of"),
}


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("bad", BAD_SPLITS)
def test_a_plan_finds_what_is_wrong_with_any_split(tmp_path, bad, split, capsys):
    change, message = BAD_SPLITS[bad]
    float_ = np.float64 if "images" in change else np.uint8
    splits = {"train": parts(30, dtype=float_), "test": parts(9, dtype=float_), split: {**parts(9), **change}}
    name = write(tmp_path / "data", **splits)
    (tmp_path / "config.py").write_text("from support.small_study import small_config as get_config")
    words = [f"--config={tmp_path / 'config.py'}", f"--config.dataset.name={name}", "--config.batch_size=8"]
    assert main(["jaxreg", "plan", *words, "--config.dataset.validation=5"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(message.format(split=split), told), told


@pytest.mark.parametrize("kind", ["arrays", "tfds"])
def test_a_validation_split_of_its_own_is_used(tmp_path, kind, capsys):
    if kind == "arrays":
        name = write(tmp_path / "data", train=parts(30), validation=parts(12, seed=2), test=parts(9))
    else:
        tfds_directory.write(tmp_path, counts={"train": 30, "validation": 12, "test": 9})
        name = "tiny"
    text = "from support.small_study import small_config\ndef get_config():\n    c = small_config()\n"
    text += f"    c.dataset = {{'name': {name!r}, 'data_dir': {str(tmp_path)!r}}}\n    c.batch_size = 8\n    return c\n"
    (tmp_path / "config.py").write_text(text)
    assert main(["jaxreg", "plan", f"--config={tmp_path / 'config.py'}"]) == 0
    assert "{'train': 30, 'validation': 12, 'test': 9}" in capsys.readouterr().out
    (tmp_path / "held.py").write_text(text.replace("'data_dir'", "'validation': 5, 'data_dir'"))
    assert main(["jaxreg", "plan", f"--config={tmp_path / 'held.py'}"]) == 0
    told = capsys.readouterr().out
    assert "{'train': 25, 'validation': 5, 'test': 9}" in told
    assert "own 12 validation examples are not used: leave out dataset.validation" in told


@pytest.mark.parametrize("odd", NAMES)
def test_a_directory_may_have_any_name(tmp_path, odd):
    folder, cache_dir = tmp_path / odd / "data", str(tmp_path / odd / "cache")
    for value in (7, 8):
        train, test = parts(30), parts(9)
        test["images"][:] = value
        name = write(folder, train=train, test=test)
        assert int(load(name, cache_dir=cache_dir).splits["test"].images.max()) == value  # changed images are noticed


def test_what_is_not_there_is_named(tmp_path):
    refuse(f"arrays:{tmp_path}/none", "no such directory", describe)
    refuse(write(tmp_path / "a", test=parts(9)), "must hold train.npz", describe)
    refuse(write(tmp_path / "b", train=parts(9)), "needs the splits train and test", describe)
    refuse(
        write(tmp_path / "c", train={"labels": np.arange(3)}, test=parts(9)),
        r"train.npz must be a whole NumPy file .*no key 'images'",
        describe,
    )


def test_a_cut_file_is_named(tmp_path):
    name = write(tmp_path, train=parts(30), test=parts(9))
    (tmp_path / "train.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:300])
    refuse(name, "train.npz must be a whole NumPy file")
    name = write(tmp_path / "npy", "npy", train=parts(30), test=parts(9))
    path = tmp_path / "npy/train_images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    refuse(name, "train_images.npy must be a whole NumPy file")
    path.write_bytes(b"")
    refuse(name, "train_images.npy must be a whole NumPy file")
