import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxreg.data import DATASETS, describe, load


def test_sizes_values_and_identity():
    dataset, reference = load("digits"), load_digits()
    assert {split: len(found) for split, found in dataset.splits.items()} == {
        "train": 1152,
        "validation": 145,
        "test": 500,
    }
    everything = np.concatenate([found.ids for found in dataset.splits.values()])
    assert sorted(everything.tolist()) == list(range(1797))
    for found in dataset.splits.values():
        np.testing.assert_array_equal(found.images[..., 0], reference.images[found.ids])
        np.testing.assert_array_equal(found.labels, reference.target[found.ids])
        assert (found.images.dtype, found.labels.dtype, found.key_ids.dtype) == (np.uint8, np.int32, np.uint32)
        assert set(found.labels.tolist()) == set(range(10))
    assert dataset.scale == 16
    assert dataset.splits["train"].images.max() == 16


def test_moments_are_those_of_train_in_unit_range():
    dataset = load("digits")
    x = dataset.splits["train"].images.astype(np.float64) / 16
    np.testing.assert_allclose(dataset.mean, [x.mean()], rtol=1e-6)
    np.testing.assert_allclose(dataset.std, [x.std()], rtol=1e-6)


def test_the_test_split_does_not_depend_on_validation():
    few, many = load("digits", validation=10), load("digits", validation=0.5)
    np.testing.assert_array_equal(few.splits["test"].ids, many.splits["test"].ids)
    assert set(few.splits["validation"].ids) < set(many.splits["validation"].ids)
    assert len(many.splits["validation"]) == 648


def test_describe_agrees_with_load():
    about = describe("digits", validation=97)
    assert about.counts == {"train": 1200, "validation": 97, "test": 500}
    assert (about.image_shape, about.num_classes, about.dtype) == ((8, 8, 1), 10, np.uint8)


def test_too_much_validation_is_refused():
    with pytest.raises(ValueError, match=r"from 1 to 1296.*got 1297"):
        load("digits", validation=1297)


def test_kinds():
    assert set(DATASETS) == {"digits", "arrays", "tfds"}
    with pytest.raises(ValueError, match="takes no argument, got 'big'"):
        load("digits:big")
