"""A config file, run once: its config and its sweep as plain data, or one line about what is wrong with it."""

import contextlib
import importlib.util
import inspect
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from jaxreg.config import Plain, as_plain
from jaxreg.spec import SpecError, require


def load(filename: str) -> tuple[Plain, list[Plain]]:
    """The config of a file, `file.py` or `file.py:variant`, and its sweep: what `sweep()` yields, else `[{}]`.

    Raises: SpecError: in one line, whatever the file raises.
    """
    path, variant = (filename, "") if Path(filename).is_file() else _parts(filename)
    require(Path(path).is_file(), f"there is no config file {path}: name one, such as configs/digits.py.")
    require(path.endswith(".py"), f"config file {path} must end in .py.")
    with _one_line(filename, path):
        module = _module(path)
        made = getattr(module, "get_config", None)
        require(callable(made), f"config file {path} must define get_config(), which returns a ConfigDict.")
        config, sweep = _called(made, variant), getattr(module, "sweep", None)
        settings = [{}] if sweep is None else [dict(one) for one in _called(sweep, variant)]
    require(
        isinstance(config, Mapping | ConfigDict), f"get_config() of {path} must return a ConfigDict, got {config!r}."
    )
    return as_plain(config), settings


def _parts(filename: str) -> tuple[str, str]:
    path, _, variant = filename.rpartition(":")
    return (path, variant) if path else (filename, "")


def _called(made: Any, variant: str) -> Any:
    """What a function of a config file returns, which may take the variant."""
    parameters = inspect.signature(made).parameters
    needs = any(one.default is inspect.Parameter.empty for one in parameters.values())
    takes = bool(parameters) or not variant or made.__name__ == "sweep"
    require(takes, f"get_config() takes no variant, got {variant!r}: leave it out.")
    return made(variant) if parameters and (variant or needs) else made()


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None, path  # it ends in .py
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _one_line(filename: str, path: str) -> Iterator[None]:
    """Whatever a config file raises, as one line; what it says itself about its variant is told as it stands."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{filename}: {error}") from error
    except Exception as error:
        at = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else at[-1] if at else None
        said = " ".join(str(error).split())
        told = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        raise SpecError(f"config {filename} fails at line {line}: {told}") from error
