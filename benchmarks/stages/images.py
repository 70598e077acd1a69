"""The images of the stages, under a name that jaxreg reads: those given, all of CIFAR-10, or made-up ones."""

import importlib.util
import os
import pathlib

import numpy as np

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
COUNTS = {False: (24_000, 5_000), True: (640, 128)}  # by `tiny`


class ImageError(ValueError):
    """Images that cannot be used: one line."""


def prepare(given: str, folder: pathlib.Path, tiny: bool) -> tuple[str, str]:
    """Writes the images where jaxreg finds them, once; returns the name of the dataset, and what it is.

    Raises: ImageError: for a file that does not hold what it must.
    """
    if given:
        return write(folder, read(pathlib.Path(given)), f"the images of {pathlib.Path(given).name}")
    stored = os.environ.get("TFDS_DATA_DIR", "")
    if (pathlib.Path(stored) / "cifar10").is_dir() and importlib.util.find_spec("tensorflow_datasets"):
        return "cifar10", "all of CIFAR-10"
    return write(folder, made_up(*COUNTS[tiny]), "made up: noise around a template of each class")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The four arrays of an .npz. Raises ImageError where they do not fit."""
    if not path.is_file():
        raise ImageError(f"--data={path} is no file: name an .npz of {', '.join(KEYS)}, or leave it out.")
    with np.load(path) as stored:
        missing = [key for key in KEYS if key not in stored]
        if missing:
            raise ImageError(f"--data={path} must hold {', '.join(KEYS)}, got {stored.files}: add {missing[0]}.")
        found = {key: stored[key] for key in KEYS}
    for split in ("train", "test"):
        images, labels = found[f"{split}_images"], found[f"{split}_labels"]
        fits = images.dtype == np.uint8 and images.shape == (len(labels), 32, 32, 3)
        if not fits:
            told = f"{images.dtype} {list(images.shape)} for {len(labels)} labels"
            raise ImageError(f"--data={path}: {split}_images must be uint8 [N, 32, 32, 3], got {told}: save them so.")
    return found


def made_up(train: int, test: int) -> dict[str, np.ndarray]:
    """Noise around ten templates: as fast as real images, and learnt in a few steps."""
    rng, found = np.random.default_rng(0), {}
    templates = rng.integers(64, 192, (10, 32, 32, 3))
    for split, count in {"train": train, "test": test}.items():
        labels = np.arange(count) % 10
        noise = rng.integers(-60, 61, (count, 32, 32, 3), dtype=np.int16)
        found[f"{split}_images"] = (templates[labels].astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
        found[f"{split}_labels"] = labels
    return found


def write(folder: pathlib.Path, arrays: dict[str, np.ndarray], told: str) -> tuple[str, str]:
    """Writes the arrays, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "test_labels.npy").exists():  # written last
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
    return f"arrays:{folder}", told
