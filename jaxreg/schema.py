"""The keys of a config, with the type of each: what may be set, in a file, a sweep or on the command line."""

import difflib
import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from jaxreg import fields, models
from jaxreg.probes import PROBES
from jaxreg.spec import ClaimsSpec, DatasetSpec, ExecutionSpec, LaunchSpec, OptimizerSpec, SpecError

SECTIONS: Mapping[str, type] = {
    "dataset": DatasetSpec,
    "optimizer": OptimizerSpec,
    **{f"probes.{name}": probe.settings for name, probe in PROBES.items() if probe.settings},
    "execution": ExecutionSpec,
    "launch": LaunchSpec,
    "claims": ClaimsSpec,
}
ALONE: Mapping[str, Any] = {
    "study": str,
    "model.name": str,
    "model.dtype": Literal["float32", "bfloat16"],
    "regularizers": tuple[Any, ...],
    "seeds": int | tuple[int, ...],
    "batch_size": int,
    "steps": int,
    "probes.only": tuple[str, ...],
    "launch.slurm": Any,
    "trials": tuple[str, ...],
}
NEEDED = ("study", "model.name", "regularizers", "seeds", "batch_size", "steps")
GROUPS = ("dataset", "model", "optimizer", "probes", "execution", "claims")  # empty where a config leaves them out
SLURM = "launch.slurm."  # whose options submitit knows


@functools.cache
def kinds() -> Mapping[str, Any]:
    """Every dotted key with its type; the options of all models are there."""
    own = {f"{place}.{name}": kind for place, cls in SECTIONS.items() for name, kind in fields.types_of(cls).items()}
    options = {f"model.{name}": kind for maker in models.MODELS.values() for name, kind in options_of(maker).items()}
    return {**options, **own, **ALONE}


def options_of(maker: Any) -> dict[str, Any]:
    """The options of a model with their types."""
    parameters = inspect.signature(maker).parameters
    return {name: parameters[name].annotation for name in models.options_of(maker)}


def needed() -> list[str]:
    """The keys that every config has to set."""
    return [*NEEDED, *(f"{place}.{name}" for place, cls in SECTIONS.items() for name in fields.needed_of(cls))]


def default(key: str) -> Any:
    """What a config means that leaves a key of its sections out; None for one that is in none of them."""
    place, _, name = key.rpartition(".")
    return getattr(SECTIONS.get(place), name, None)


def is_known(key: str) -> bool:
    """Whether a config may have the dotted key."""
    return key in kinds() or key.startswith(SLURM)


def unknown(key: str, what: str = "unknown key config.", among: Iterable[str] | None = None) -> SpecError:
    """The error about a dotted key that is none: it names its neighbours, in full."""
    known = [*kinds(), *SECTIONS] if among is None else list(among)
    place, start = key.rpartition(".")[0], "config." if what.endswith("config.") else ""
    found = [start + one for one in alike(key, known)]
    beside = [start + one for one in sorted(known) if one.rpartition(".")[0] == place]
    rest = f"known are {', '.join(beside or [start + one for one in sorted(known)])}."
    cure = f"did you mean {' or '.join(found)}?" if found else rest
    return SpecError(f"{what}{key}: {cure}")


def alike(key: str, known: Iterable[str]) -> list[str]:
    """The dotted keys whose last part is spelt like that of `key`, those of its own section where there are any."""
    place, _, last = key.rpartition(".")
    ends = {one: one.rpartition(".")[2] for one in known}
    near = difflib.get_close_matches(last, list(dict.fromkeys(ends.values())), 3, 0.7)
    found = [one for end in near for one in ends if ends[one] == end]
    return [one for one in found if one.rpartition(".")[0] == place][:3] or found[:3]
