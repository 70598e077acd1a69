"""Handwritten digits: the 1,797 images of 8x8 pixels, values 0 to 16, that scikit-learn carries.

References: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998,
https://doi.org/10.24432/C50P49 (its test set).
"""

import numpy as np

from jaxreg.data.source import Source, hash_order

TEST = 500  # first in hash order; the other 1,297 are train and validation
VALIDATION = 145


def source(argument: str = "", data_dir: str | None = None) -> Source:
    """The digits, split by the hash of their number into 1,152 train, 145 validation (by default) and 500 test."""
    from sklearn.datasets import load_digits

    del data_dir  # embedded
    if argument:
        raise ValueError(f"dataset 'digits' takes no argument, got {argument!r}: write digits alone.")
    digits = load_digits()
    order = hash_order(np.arange(len(digits.target)))
    rows = {"train": np.sort(order[TEST:]), "test": np.sort(order[:TEST])}
    return Source(
        name="digits",
        version="1",
        classes=tuple(str(k) for k in range(10)),
        scale=16.0,
        image_shape=(8, 8, 1),
        dtype=np.dtype(np.uint8),
        counts={split: len(positions) for split, positions in rows.items()},
        fingerprint="",
        validation=VALIDATION,
        annotations=lambda split: (digits.target[rows[split]], rows[split]),
        images=lambda split, positions: digits.images[rows[split][positions], ..., None].astype(np.uint8),
        labels_alone=True,
    )
