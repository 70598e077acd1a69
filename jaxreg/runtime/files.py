"""Files that are whole or absent, written by one process of a job."""

import contextlib
import errno
import io
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from etils import epath

from jaxreg.runtime import hosts

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


class Unwritable(OSError):
    """A file that cannot be written, in one line with its cure."""


def write_whole(path: epath.PathLike, data: bytes) -> None:
    """Writes `data` aside, then renames it: whatever happens, a file of that name is whole. Process 0 alone writes.

    Raises: Unwritable: if the disk is full or read-only; what was there before is still there.
    """
    if not hosts.is_first():
        return
    path = epath.Path(path)
    aside = path.parent / f".{path.name}.part"  # hidden: no reader takes it for a result
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)  # half a file would only take up the space that is missing
        raise unwritable(path, error) from error


def write_arrays(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz, whole or not at all."""
    memory = io.BytesIO()
    np.savez(memory, **arrays)  # type: ignore[arg-type]
    write_whole(path, memory.getvalue())


def read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz."""
    with np.load(io.BytesIO(path.read_bytes())) as file:
        return dict(file)


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_whole(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def open_bytes(path: epath.Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    """An open file of bytes, which a path of etils calls one of text."""
    return cast(BinaryIO, path.open(mode))


def read_json(path: epath.PathLike) -> Any:
    """The value of a JSON file."""
    return json.loads(epath.Path(path).read_text())


def explained(error: BaseException) -> str | None:
    """One line about an error of the disk, whoever met it; None for any other error."""
    if isinstance(error, Unwritable) or not isinstance(error, OSError) or error.errno not in _DISK:
        return str(error) if isinstance(error, Unwritable) else None
    return str(unwritable(error.filename or "a file", error))


def unwritable(path: epath.PathLike, error: Exception) -> Unwritable:
    """The one line that says which file could not be written, why, and what to do."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip().split("\n")[0]
    cure = "finished work is kept; free some space or mend the rights, then start the same command again"
    return Unwritable(f"cannot write {os.fspath(path)} ({reason}): {cure}.")
