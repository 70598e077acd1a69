import numpy as np
import pytest

from jaxreg.data import describe, load


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
        ({"images": np.full((30, 5, 5), 2.0)}, r"float images must be in \[0, 1\], got values from 2.0 to 2.0"),
        ({"images": np.full((30, 5, 5), np.nan)}, r"float images must be in \[0, 1\], got values from nan"),
        ({"labels": np.arange(30) % 3 + 1}, r"0, 1, ... without a gap.*got \[1, 2, 3\]"),
        ({"labels": np.zeros(30, int)}, r"two classes or more, got \[0\]"),
        ({"labels": np.arange(30) % 3 / 1}, "whole numbers.*float64"),
        ({"labels": np.arange(29) % 3}, r"shape \(30,\), got int64 \(29,\)"),
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
    refuse(write(tmp_path, form, train={**parts(30), **change}, test=test), message)


def test_labels_of_test_stay_in_range(tmp_path):
    test = {**parts(9), "labels": np.full(9, 3)}
    refuse(
        write(tmp_path, train=parts(30), test=test), r"split 'test': labels must be in \[0, 3\), got 3 \(9 outside\)"
    )


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
