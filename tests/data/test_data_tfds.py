import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxreg.data import describe, load
from support.tfds_directory import write


def by_id(split):
    return {
        str(ident): (image.tobytes(), int(label)) for image, label, ident in zip(split.images, split.labels, split.ids)
    }


@pytest.mark.parametrize("ids", ["str", "int", None])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_example_arrives_with_its_label_and_id(tmp_path, ids, channels):
    stored = write(tmp_path, ids=ids, shape=(6, 6, channels))
    dataset = load("tiny", data_dir=str(tmp_path), validation=10)
    assert {split: len(found) for split, found in dataset.splits.items()} == {"train": 30, "validation": 10, "test": 10}
    assert dataset.image_shape == (6, 6, channels)
    assert dataset.scale == 255
    assert dataset.classes == ("class 0", "class 1", "class 2")
    for split, parts in {"train": ("train", "validation"), "test": ("test",)}.items():
        images, labels, idents = stored[split]
        idents = [f"{split}_{i}" for i in range(len(labels))] if ids is None else idents.tolist()
        expected = {str(one): (image.tobytes(), int(label)) for image, label, one in zip(images, labels, idents)}
        found = [by_id(dataset.splits[part]) for part in parts]
        assert {key: value for part in found for key, value in part.items()} == expected
        assert sum(map(len, found)) == len(expected)
    kind = dataset.splits["train"].ids.dtype.kind
    assert kind == ("i" if ids == "int" else "U")
    np.testing.assert_array_equal(dataset.splits["test"].images, stored["test"][0])  # test keeps the stored order


def test_file_order_and_shards_change_nothing_in_train_and_validation(tmp_path):
    write(tmp_path / "a", shards=1)
    write(tmp_path / "b", shards=3, reverse=True)
    a, b = (load("tiny", data_dir=str(tmp_path / one), validation=0.25) for one in "ab")
    for split in ("train", "validation"):
        assert list(by_id(a.splits[split]).items()) == list(by_id(b.splits[split]).items())


def test_own_validation_split_unless_a_number_is_asked(tmp_path):
    write(tmp_path, counts={"train": 40, "validation": 8, "test": 10})
    own = load("tiny", data_dir=str(tmp_path))
    assert [len(own.splits[split]) for split in ("train", "validation", "test")] == [40, 8, 10]
    assert all(str(one).startswith("validation_") for one in own.splits["validation"].ids)
    asked = load("tiny", data_dir=str(tmp_path), validation=5)
    assert [len(asked.splits[split]) for split in ("train", "validation", "test")] == [35, 5, 10]
    assert all(str(one).startswith("train_") for one in asked.splits["validation"].ids)


def test_a_named_split_serves_as_test(tmp_path):
    stored = write(tmp_path, counts={"train": 40, "validation": 8, "test": 10})
    dataset = load("tiny@validation", data_dir=str(tmp_path), validation=4)
    np.testing.assert_array_equal(dataset.splits["test"].images, stored["validation"][0])
    with pytest.raises(ValueError, match=r"after @ must be one of \['test', 'validation'\], got 'tset'"):
        load("tiny@tset", data_dir=str(tmp_path))


def test_other_splits_are_never_read(tmp_path):
    write(tmp_path / "tfds", counts={"train": 20, "test": 5, "extra": 30})
    dataset = load("tiny", data_dir=str(tmp_path / "tfds"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(found) for split, found in dataset.splits.items()} == {"train": 18, "validation": 2, "test": 5}
    assert not list((tmp_path / "cache").glob("*/extra*"))


def test_latest_version_unless_one_is_named(tmp_path):
    write(tmp_path, version="2.0.0", counts={"train": 20, "test": 5})
    write(tmp_path, version="10.0.0", counts={"train": 30, "test": 5})
    assert describe("tiny", data_dir=str(tmp_path), validation=1).counts["train"] == 29
    assert describe("tiny:2.0.0", data_dir=str(tmp_path), validation=1).counts["train"] == 19
    with pytest.raises(ValueError, match=r"found only \['10.0.0', '2.0.0'\]"):
        describe("tiny:3.0.0", data_dir=str(tmp_path))


def test_a_config_is_a_folder(tmp_path):
    write(tmp_path / "family", name="blue", counts={"train": 20, "test": 5})
    assert describe("family/blue:1.0.0", data_dir=str(tmp_path)).counts == {"train": 18, "validation": 2, "test": 5}
    with pytest.raises(ValueError, match=r"found only \['blue'\]"):
        describe("family", data_dir=str(tmp_path))


def test_the_supervised_label_is_taken_among_several(tmp_path):
    write(tmp_path / "a", extra=("coarse_label",))
    assert load("tiny", data_dir=str(tmp_path / "a")).splits["train"].labels.max() == 2
    write(tmp_path / "b", extra=("coarse_label",), supervised=False)
    with pytest.raises(ValueError, match=r"must have one ClassLabel feature, got \[.*'coarse_label'"):
        describe("tiny", data_dir=str(tmp_path / "b"))


def test_the_only_label_needs_no_supervised_keys(tmp_path):
    write(tmp_path, supervised=False)
    assert describe("tiny", data_dir=str(tmp_path)).num_classes == 3


def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert describe("tiny").counts == {"train": 36, "validation": 4, "test": 10}


def test_describe_agrees_with_load(tmp_path):
    write(tmp_path)
    about, dataset = (read("tiny", data_dir=str(tmp_path), validation=0.3) for read in (describe, load))
    assert about.counts == {split: len(found) for split, found in dataset.splits.items()}
    assert (about.image_shape, about.num_classes) == (dataset.image_shape, len(dataset.classes))
    assert about.dtype == dataset.splits["train"].images.dtype


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_dataset_names_path_and_cure(tmp_path):
    with pytest.raises(ValueError, match="Unknown dataset 'cifar10'") as error:
        describe("cifar10", data_dir=str(tmp_path))
    message = one_line(error)
    for part in (
        str(tmp_path / "cifar10"),
        "TFDS_DATA_DIR",
        "tfds-prepare",
        "tfds build cifar10",
        "digits",
        "arrays:DIR",
    ):
        assert part in message
    with pytest.raises(ValueError, match="Unknown dataset 'no such!'; known kinds: digits, arrays:DIR"):
        describe("no such!", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_format": "tfrecord"}, r"must be stored as array_record, got \['tfrecord'\]: prepare it again"),
        ({"counts": {"train": 40}}, r"needs the splits train and test, got train \(40\): store a test split"),
        ({"counts": {"train": 40, "validation": 5}}, r"validation \(5\): name the labelled split .* tiny@validation"),
        ({"shape": (6, 8, 3)}, r"square, of one size, with 1 or 3 channels, got uint8 \(6, 8, 3\)"),
    ],
)
def test_what_cannot_be_used_is_refused_before_reading(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        describe("tiny", data_dir=str(tmp_path))
    one_line(error)


def test_unlabelled_examples_are_refused(tmp_path):
    write(tmp_path, first_label=-1)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got -1 \(14 outside\)"):
        load("tiny", data_dir=str(tmp_path))


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path)
    next((tmp_path / "tiny/1.0.0").glob("tiny-test*00001-of*")).unlink()
    with pytest.raises(ValueError, match=r"shard tiny-test\.array_record-00001-of-00002 is missing \(1 in all\)"):
        describe("tiny", data_dir=str(tmp_path))


def test_no_tensorflow_is_imported(tmp_path):
    write(tmp_path)
    program = """
        import sys
        from jaxreg.data import load, stream
        dataset = load("tiny", validation=4, cache_dir=sys.argv[1])
        next(stream.batches(dataset.splits["train"], batch_size=4, seed=0, start_step=0, steps_a_chunk=2))
        assert "tensorflow_datasets" in sys.modules
        assert "tensorflow" not in sys.modules
    """
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "cache")]
    subprocess.run(command, check=True, env=environment, timeout=100)
