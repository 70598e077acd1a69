"""A dataset decoded once: .npy files under a cache directory, mapped into memory at the next start.

A folder is written aside and renamed, so that it is whole or absent, whoever else writes at the same time. Its name
holds dataset, version and fingerprint of the source files; `cache.json`, written last, holds what to check.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from etils import epath

from jaxreg.data.dataset import Split
from jaxreg.data.source import Source, annotations, image_chunks
from jaxreg.runtime.files import open_bytes


def fingerprint(files: Sequence[epath.Path]) -> str:
    """Returns 32 hex digits of name, size, nanosecond of change of each file, and the content of each small one."""
    with ThreadPoolExecutor(16) as pool:  # on a remote disk each look takes a round trip
        return _hex("\0\0".join(pool.map(_about, files)).encode())


def _about(file: epath.Path) -> str:
    stat = file.stat()
    content = _hex(file.read_bytes()) if stat.length <= _SMALL else ""
    remote = "://" in os.fspath(file)
    changed = stat.mtime if remote else Path(file).stat().st_mtime_ns
    return f"{file.name}\0{stat.length}\0{changed}\0{content}"


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class Stored(NamedTuple):
    """The splits of a source as stored, and what tells the content of each from any other: 32 hex digits."""

    splits: dict[str, Split]
    contents: dict[str, str]


_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_FORMAT = 2
_SMALL = 2**20  # bytes up to which the content of a source file tells whether it changed
_CHECKED = 2**30  # bytes up to which an array's hash is read again at every start
_ABANDONED = 24 * 3600  # seconds after which an unfinished folder belongs to nobody


def splits(source: Source, cache_dir: str | None) -> Stored:
    """Returns the stored splits of `source`, decoded now or mapped from `cache_dir` (None: memory only)."""
    if cache_dir is None or not source.fingerprint:
        return _decoded(source)
    folder = folder_of(source, cache_dir)
    found = _open(folder, source)
    if found is None and not _can_write(folder.parent):
        return _decoded(source)
    if found is None:
        _publish(_write(source, folder), folder, source)
        found = _open(folder, source)
    if found is None:
        raise OSError(f"the data cache {folder} cannot be read back after writing it: check the disk, or delete it.")
    return found


def _decoded(source: Source) -> Stored:
    splits = {split: _decode(source, split) for split in source.counts}
    contents = {split: _content(map(_hash, (own.images, own.labels, own.ids))) for split, own in splits.items()}
    return Stored(splits, contents)


def _can_write(cache: epath.Path) -> bool:
    """Whether the folder of the cache takes files; says so where it does not: the data are decoded at every start."""
    probe = cache / f".{uuid.uuid4().hex[:8]}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        cure = "data are decoded into memory at every start; mend its rights to decode once"
        logging.warning("The data cache %s cannot be written (%s): %s.", cache, error.strerror, cure)
        return False
    return True


def folder_of(source: Source, cache_dir: str) -> epath.Path:
    """Returns the folder of `source`: name, version and fingerprint."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", source.name).strip("_")[-80:]
    return epath.Path(cache_dir).expanduser() / f"{name}-{source.version}-{source.fingerprint[:16]}"


def _decode(source: Source, split: str) -> Split:
    labels, ids, positions = annotations(source, split)
    images = np.empty((len(labels), *source.image_shape), source.dtype)
    start = 0
    for chunk in image_chunks(source, split, positions):
        images[start : start + len(chunk)] = chunk
        start += len(chunk)
    return Split(images, labels, ids)


def _write(source: Source, folder: epath.Path) -> epath.Path:
    logging.info("Decoding %d images of %s once, into %s", sum(source.counts.values()), source.name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    aside = folder.parent / f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        checks = {}
        for split, count in source.counts.items():
            labels, ids, positions = annotations(source, split)
            shape = (count, *source.image_shape)
            images = _save(aside / f"{split}_images.npy", shape, source.dtype, image_chunks(source, split, positions))
            checks[f"{split}_images"] = images
            for name, array in (("labels", labels), ("ids", ids)):
                checks[f"{split}_{name}"] = _save(aside / f"{split}_{name}.npy", array.shape, array.dtype, [array])
        (aside / "cache.json").write_text(json.dumps({"format": _FORMAT, "checks": checks}))
    except BaseException:
        aside.rmtree(missing_ok=True)
        raise
    return aside


def _save(path: epath.Path, shape: tuple[int, ...], dtype: np.dtype, chunks: Iterable[np.ndarray]) -> str:
    """Writes chunks one after another as one .npy file, never whole in memory; returns the hash of its data."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    check, rows = hashlib.blake2b(digest_size=16), 0
    with open_bytes(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            data = np.ascontiguousarray(chunk, dtype).tobytes()
            check.update(data)
            rows += len(chunk)
            file.write(data)
    if rows != shape[0]:
        raise ValueError(
            f"{path.name} should hold {shape[0]} examples, its source gave {rows}: prepare the data again."
        )
    return check.hexdigest()


def _hash(array: np.ndarray) -> str:
    return _hex(np.ascontiguousarray(array).tobytes())


def _content(hashes: Iterable[str]) -> str:
    """One text of the hashes of images, labels and ids."""
    return _hex("".join(hashes).encode())


def _open(folder: epath.Path, source: Source) -> Stored | None:
    """Returns the splits in `folder`, or None if it is absent, broken, or of another format."""
    try:
        record = json.loads((folder / "cache.json").read_text())
        return _read(folder, source, record["checks"]) if record["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, EOFError, TypeError):
        return None


def _read(folder: epath.Path, source: Source, checks: dict[str, str]) -> Stored:
    found, contents = {}, {}
    for split, count in source.counts.items():
        fields: dict[str, Any] = {}
        for name in ("images", "labels", "ids"):
            array = fields[name] = _array(folder / f"{split}_{name}.npy")
            expected = (count, *source.image_shape) if name == "images" else (count,)
            if array.shape != expected:
                raise ValueError(f"{split}_{name} has shape {array.shape}, not {expected}")
            if array.nbytes <= _CHECKED and _hash(array) != checks[f"{split}_{name}"]:
                raise ValueError(f"{split}_{name} has changed since it was written")
        found[split] = Split(**fields)
        contents[split] = _content(checks[f"{split}_{name}"] for name in fields)
    return Stored(found, contents)


def _array(path: epath.Path) -> np.ndarray:
    if "://" not in os.fspath(path):
        return np.load(os.fspath(path), mmap_mode="r")
    with open_bytes(path, "rb") as file:
        return np.load(file)


def _publish(aside: epath.Path, folder: epath.Path, source: Source) -> None:
    """Renames `aside` to `folder`; yields to a good one that another process put there, moves a broken one away."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            aside.rename(folder)
            return
        if _open(folder, source) is not None:
            break
        broken = folder.parent / f"{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(OSError):  # another process moved it first
            folder.rename(broken)
            broken.rmtree()
    aside.rmtree(missing_ok=True)


def _sweep(folder: epath.Path) -> None:
    for left in [path for path in folder.parent.iterdir() if path.name.startswith(f"{folder.name}.tmp-")]:
        with contextlib.suppress(OSError):  # another process sweeps too
            if time.time() - left.stat().mtime > _ABANDONED:
                left.rmtree()
