"""Paths whose names are only names: nothing in them is a pattern, in this package or in what it hands them to."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from jaxreg.spec import require

_LOCAL: Any = type(epath.Path("."))


class LiteralPath(_LOCAL):
    """A local path that stays one in all that is made of it, Orbax's paths included.

    That of etils takes its own `[`, `*` and `?` for patterns where files are searched in it, as Orbax does when it
    joins what the processes wrote: it then finds nothing, and the checkpoint is empty.
    """

    def glob(self, pattern: str) -> Iterator[Any]:
        """The files in it that match `pattern`."""
        return map(type(self), Path(self).glob(pattern))


def literal(path: epath.PathLike) -> epath.Path:
    """The same path with a name that is no pattern; a remote one (gs://) as it is."""
    found = epath.Path(path)
    local: epath.Path = found if "://" in os.fspath(found) else LiteralPath(found)
    return local


def check_name(path: epath.PathLike) -> None:
    """Checks that TensorStore, which writes the checkpoints, can write under this name.

    Raises: SpecError: for a backslash, which it takes for a slash, and for bytes that are no UTF-8.
    """
    name = os.fspath(path)
    rule = "a workdir's path must be UTF-8 without backslashes, which checkpoints take for slashes"
    good = not re.search(r"[\\\ud800-\udfff]", name.replace(os.sep, "/"))
    require(good, f"{rule}, got {name!r}: rename the folder, or choose another --workdir.")
