"""A directory of arrays: train and test, maybe validation, as .npz or .npy.

    train.npz                                  with images, labels, maybe ids
    train_images.npy train_labels.npy          maybe train_ids.npy
    classes.txt                                optional: one name a line

Images are [N, H, W] or [N, H, W, C], uint8 or float in [0, 1], square, 1 or 3 channels; labels whole numbers from 0.
"""

import contextlib
import functools
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from jaxreg.data.cache import fingerprint
from jaxreg.data.source import CHUNK, Source, check_ids
from jaxreg.runtime.files import open_bytes

VALIDATION = 0.1
SPLITS = ("train", "validation", "test")


def source(argument: str, data_dir: str | None = None) -> Source:
    """Opens the arrays of directory `argument` (or `data_dir` if that is empty)."""
    if not (argument or data_dir):
        raise ValueError("dataset 'arrays' must name its directory, got none: write arrays:DIR, or set data_dir.")
    folder = epath.Path(argument or data_dir or "").expanduser()
    files = _files(folder)
    found = [split for split in SPLITS if _has(folder, split)]
    if "train" not in found:
        rule = "it must hold train.npz (images, labels) or train_images.npy and train_labels.npy, and the same for test"
        names = [file.name for file in files] if folder.exists() else "no such directory"
        raise ValueError(f"dataset 'arrays:{folder}': {rule}, got {names}: write them, or correct the path.")
    images = {split: _header(folder, split) for split in found}
    shape, dtype = _check_images(folder, images)
    counts = {split: rows[0] for split, (rows, _) in images.items()}
    _check_filled(folder, counts)
    where, read = f"dataset 'arrays:{folder}'", functools.cache(functools.partial(_array, folder))
    labels, marks = functools.partial(_labels, where, read), fingerprint(files)
    classes = _classes(folder, labels("train", counts["train"]))
    annotations = functools.partial(_annotations, where, read, labels, counts, len(classes))
    return Source(
        name=f"arrays_{os.fspath(folder)}",
        version="0",
        classes=classes,
        scale=255.0 if dtype == np.uint8 else 1.0,
        image_shape=shape,
        dtype=dtype,
        counts=counts,
        fingerprint=marks,
        validation=VALIDATION,
        annotations=annotations,
        images=lambda split, positions: _images(where, read, split, positions, shape),
        labels_alone=True,
        examine=lambda: _examine(where, marks, annotations, read, dtype, tuple(counts)),
    )


def _files(folder: epath.Path) -> list[epath.Path]:
    """The files of arrays in a directory by name, then that of the classes; none where there is no directory."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [p for p in inside if p.suffix in (".npy", ".npz")] + [p for p in inside if p.name == "classes.txt"]


def _has(folder: epath.Path, split: str) -> bool:
    return (folder / f"{split}.npz").exists() or (folder / f"{split}_images.npy").exists()


def _array(folder: epath.Path, split: str, key: str) -> np.ndarray | None:
    """Returns an array whole from .npz, mapped from a local .npy, or None where it is not stored."""
    single, several = folder / f"{split}_{key}.npy", folder / f"{split}.npz"
    path = several if several.exists() else single
    if not path.exists():
        return None
    with _named(folder, path):
        if path == single and "://" not in os.fspath(path):
            return np.load(os.fspath(path), mmap_mode="r")
        with open_bytes(path, "rb") as file:
            stored = np.load(file)
            return stored if path == single else stored.get(key)


@contextlib.contextmanager
def _named(folder: epath.Path, path: epath.Path) -> Iterator[None]:
    """Turns what NumPy says of a broken file into one line that names it."""
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        where, cure = f"dataset 'arrays:{folder}': {path.name}", "save it again with numpy.save or numpy.savez"
        raise ValueError(f"{where} must be a whole NumPy file without Python objects ({error}): {cure}.") from error


def _header(folder: epath.Path, split: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and dtype of the images of a split without reading them."""
    several = folder / f"{split}.npz"
    if not several.exists():
        single = folder / f"{split}_images.npy"
        with _named(folder, single), open_bytes(single, "rb") as file:
            return _read_header(file)
    with _named(folder, several), open_bytes(several, "rb") as file, zipfile.ZipFile(file) as members:
        if "images.npy" not in members.namelist():
            raise ValueError(f"no key 'images' in {members.namelist()}")
        with members.open("images.npy") as member:
            return _read_header(member)


def _read_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check_images(folder: epath.Path, images: dict[str, Any]) -> tuple[tuple[int, int, int], np.dtype]:
    shapes = {(*shape[1:], 1) if len(shape) == 3 else shape[1:] for shape, _ in images.values()}
    dtypes = {dtype for _, dtype in images.values()}
    shape, dtype = next(iter(shapes)), next(iter(dtypes))
    got = {split: f"{dtype} {shape}" for split, (shape, dtype) in images.items()}
    square = len(shape) == 3 and shape[0] == shape[1] and shape[2] in (1, 3)
    if len(shapes) > 1 or len(dtypes) > 1 or not square or not (dtype == np.uint8 or dtype.kind == "f"):
        rule = "images must be uint8 or float, [N, H, W] or [N, H, W, C], square, 1 or 3 channels, alike in every split"
        raise ValueError(f"dataset 'arrays:{folder}': {rule}, got {got}: convert them.")
    return shape, dtype if dtype == np.uint8 else np.dtype(np.float32)


def _check_filled(folder: epath.Path, counts: dict[str, int]) -> None:
    empty = [split for split, count in counts.items() if not count]
    if empty:
        cure = "save its images and labels" + ("" if empty[0] in ("train", "test") else ", or remove its files")
        raise ValueError(f"dataset 'arrays:{folder}': split {empty[0]!r} must hold examples, got none: {cure}.")


def _classes(folder: epath.Path, labels: np.ndarray) -> tuple[str, ...]:
    """Returns the lines of classes.txt, or the labels of train as text: then each class needs an example."""
    if (folder / "classes.txt").exists():
        return tuple(filter(None, map(str.strip, (folder / "classes.txt").read_text().splitlines())))
    where = f"dataset 'arrays:{folder}'"
    seen = np.unique(labels)
    if not np.array_equal(seen, np.arange(len(seen))) or len(seen) < 2:
        rule = "train labels must be 0, 1, ... without a gap, two classes or more"
        raise ValueError(
            f"{where}: {rule}, got {seen[:20].tolist()}: number them so, or name all classes in classes.txt."
        )
    return tuple(map(str, seen))


def _labels(where: str, read: Any, split: str, count: int) -> np.ndarray:
    """The labels of a split: whole numbers, one an image."""
    labels = read(split, "labels")
    if labels is not None and labels.dtype.kind in "iu" and labels.shape == (count,):
        return labels
    got = "none" if labels is None else f"{labels.dtype} {labels.shape}"
    rule = f"{split} labels must be whole numbers of shape ({count},), got {got}"
    raise ValueError(f"{where}: {rule}: {_label_cure(labels, count)}.")


def _label_cure(labels: np.ndarray | None, count: int) -> str:
    if labels is not None and labels.size == count and labels.dtype.kind in "iu":
        return "save labels.reshape(-1)"
    if labels is not None and labels.shape == (count,):
        return "number the classes from 0, and save labels.astype(int)"
    return f"save one label for each of the {count} images"


def _annotations(
    where: str, read: Any, labelled: Any, counts: dict[str, int], classes: int, split: str
) -> tuple[np.ndarray, np.ndarray]:
    count = counts[split]
    labels, ids = labelled(split, count), read(split, "ids")
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        rule = f"labels must be in [0, {classes}), got {outside[0]} ({outside.size} outside)"
        cure = "correct them, leave these examples out, or name all classes in classes.txt"
        raise ValueError(f"{where}, split {split!r}: {rule}: {cure}.")
    if ids is None:
        return labels, np.array([f"{split}_{position}" for position in range(count)])
    if ids.dtype.kind not in "iuSU" or ids.shape != (count,):
        raise ValueError(
            f"{where}: {split} ids must be {count} integers or strings, got {ids.dtype} {ids.shape}: save them so."
        )
    return labels, np.char.decode(ids, errors="backslashreplace") if ids.dtype.kind == "S" else np.asarray(ids)


def _images(where: str, read: Any, split: str, positions: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    images = read(split, "images")[positions].reshape(-1, *shape)
    _check_values(where, split, images, positions)
    return images


def _check_values(where: str, split: str, images: np.ndarray, positions: np.ndarray) -> None:
    if images.dtype == np.uint8 or np.all((images >= 0) & (images <= 1)):
        return
    wrong = ~np.isfinite(images)
    if wrong.any():
        first = positions[wrong.reshape(len(images), -1).any(1)][0]
        got, cure = f"{images[wrong][0]} in example {first}", "leave such examples out, or replace these pixels"
    else:
        got = f"values from {images.min():g} to {images.max():g}"
        scaled = "divide by 255, or save uint8" if images.max() <= 255 else "divide by their largest value"
        cure = "undo their normalisation: shift and scale them into [0, 1]" if images.min() < 0 else scaled
    raise ValueError(f"{where}: float images must be in [0, 1], got {got} of {split}: {cure}.")


_EXAMINED: set[tuple[str, str]] = set()  # directories and fingerprints that were found good


def _examine(where: str, marks: str, annotations: Any, read: Any, dtype: np.dtype, splits: tuple[str, ...]) -> None:
    """Looks at all labels, ids, and pixels that can be wrong, once a process."""
    if (where, marks) in _EXAMINED:
        return
    for split in splits:
        labels, ids = annotations(split)
        check_ids(where, split, ids)
        starts = range(0, len(labels) if dtype != np.uint8 else 0, CHUNK)
        for start in starts:
            images = read(split, "images")[start : start + CHUNK]
            _check_values(where, split, images, np.arange(start, start + len(images)))
    _EXAMINED.add((where, marks))
