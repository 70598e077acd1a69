"""A config file's ConfigDict, resolved once to a frozen `StudySpec`; whatever does not fit is one clear error."""

import dataclasses
import difflib
import functools
import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jaxreg import regularizers
from jaxreg.probes import PROBES
from jaxreg.spec import (
    DatasetSpec,
    ExecutionSpec,
    LaunchSpec,
    ModelSpec,
    OptimizerSpec,
    ProbesSpec,
    RegularizerSpec,
    SpecError,
    StudySpec,
    TrialSpec,
    require,
)

if TYPE_CHECKING:
    from ml_collections import ConfigDict  # a study of plain dicts needs none

Plain = dict[str, Any]
S = TypeVar("S")

_TOP = ("study", "dataset", "model", "regularizers", "seeds", "batch_size", "steps", "optimizer", "probes", "execution")
_MAY = ("launch", "trials")  # what a config may leave out
_FIXED = ("study", "probes", "execution", *_MAY)  # what a sweep cannot override: it is no part of a trial
_OWN = ("seeds", "regularizers")  # overrides that a trial's own seed and regularizer tell already


def resolve(config: "ConfigDict | Mapping[str, Any]", sweep: Iterable[Mapping[str, Any]] = ({},)) -> StudySpec:
    """The study that `config` describes, once for every dict of dotted overrides in `sweep`.

    Raises: SpecError: for a missing or unknown key, an unknown name, a value out of range, or a trial twice.
    """
    plain = as_plain(config)
    _check_keys("config", plain, (*_TOP, *_MAY), _TOP)
    trials: dict[str, TrialSpec] = {}
    for overrides in sweep:
        for trial in trials_of(plain, overrides):
            trials.setdefault(trial.id, trial)  # two settings of a sweep may describe one trial: it is trained once
    trials = _only(trials, plain.get("trials"))
    require(bool(trials), "the study has no trials: name at least one regularizer and one seed.")
    probes = _probes(plain["probes"])
    execution = build("config.execution", ExecutionSpec, plain["execution"])
    launch = build("config.launch", LaunchSpec, _launch(plain.get("launch", {})))
    return StudySpec(
        name=plain["study"], trials=tuple(trials.values()), probes=probes, execution=execution, launch=launch
    )


def _probes(given: Plain) -> ProbesSpec:
    """The settings of every probe that has any; a section whose settings all have defaults may be left out."""
    kinds = {name: probe.settings for name, probe in PROBES.items() if probe.settings}
    _check_keys("config.probes", given, (*kinds, "only"), ())
    settings: Plain = {name: build(f"config.probes.{name}", kind, given.get(name, {})) for name, kind in kinds.items()}
    return ProbesSpec(settings=settings, only=tuple(given.get("only", ())))


def as_plain(config: "ConfigDict | Mapping[str, Any]") -> Plain:
    """Nested dicts, lists and scalars, as JSON holds them: what is saved, compared and hashed."""
    return {k: _plain(v) for k, v in config.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):  # a ConfigDict is no Mapping
        return as_plain(value)
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def trials_of(plain: Plain, overrides: Mapping[str, Any]) -> list[TrialSpec]:
    """The trials of one setting of a sweep.

    Raises: SpecError: if it names one of them twice.
    """
    own, plain = plain, override(plain, overrides)
    # What the config says itself is left out: a trial is called the same, whether a sweep names its value or not.
    shown = {k: _plain(v) for k, v in overrides.items() if k not in _OWN and _plain(v) != _at(own, k)}
    common: Plain = {
        "dataset": build("config.dataset", DatasetSpec, plain["dataset"]),
        "model": _model(plain["model"]),
        "optimizer": build("config.optimizer", OptimizerSpec, plain["optimizer"]),
        "batch_size": _typed("config.batch_size", int, plain["batch_size"]),
        "steps": _typed("config.steps", int, plain["steps"]),
        "overrides": tuple(sorted(shown.items())),
    }
    chosen = [_regularizer(entry) for entry in plain["regularizers"]]
    trials = [TrialSpec(regularizer=r, seed=s, **common) for r in chosen for s in _seeds(plain["seeds"])]
    _check_unique(trials)
    return trials


def _only(trials: dict[str, TrialSpec], chosen: list[str] | None) -> dict[str, TrialSpec]:
    """The trials that `config.trials` names, all of them where it is absent."""
    if chosen is None:
        return trials
    wanted = set(chosen)
    unknown = sorted(wanted - set(trials))
    require(not unknown, f"config.trials names {unknown[:1]}, which is no trial of this config: plan the jobs again.")
    return {name: trial for name, trial in trials.items() if name in wanted}


def _launch(given: Any) -> Any:
    """Slurm's options as pairs: a frozen spec holds no dict."""
    if not isinstance(given, dict) or not isinstance(given.get("slurm", {}), dict):
        return given
    return given | {"slurm": sorted(given.get("slurm", {}).items())}


def override(plain: Plain, overrides: Mapping[str, Any]) -> Plain:
    """A copy of `plain` with dotted keys replaced; a key that is not there is an error, as a misspelt one should be."""
    for key, value in overrides.items():
        head, *rest = key.split(".", 1)
        known = [k for k in plain if k not in _FIXED]
        require(head in known, f"a sweep cannot override {key!r}: {_known(head, known)}")
        value = override(plain[head], {rest[0]: value}) if rest else _plain(value)
        plain = {**plain, head: value}
    return plain


def _at(plain: Plain, key: str) -> Any:
    return functools.reduce(lambda tree, part: tree[part], key.split("."), plain)


def build(owner: str, cls: type[S], given: Any) -> S:
    """The dataclass `cls` from a dict of its fields, lists as tuples, integers as floats where it wants floats."""
    require(isinstance(given, dict), f"{owner} must be a dict of settings, got {given!r}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    needed = [name for name, f in fields.items() if f.default is dataclasses.MISSING]
    _check_keys(owner, given, tuple(fields), tuple(needed))
    return cls(**{name: _typed(f"{owner}.{name}", fields[name].type, value) for name, value in given.items()})


_SCALARS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}


def _typed(name: str, wanted: Any, value: Any) -> Any:
    value = tuple(value) if isinstance(value, list) else value
    if wanted not in _SCALARS:
        return value
    fits = isinstance(value, _SCALARS[wanted]) and (wanted is bool or not isinstance(value, bool))
    require(fits, f"{name} must be {wanted.__name__}, got {value!r}.")
    return wanted(value)


def _model(given: Any) -> ModelSpec:
    require(isinstance(given, dict) and "name" in given, "config.model must be a dict with a name.")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k not in ("name", "dtype")}
    common = {k: v for k, v in given.items() if k in ("name", "dtype")}
    return build("config.model", ModelSpec, {**common, "options": sorted(options.items())})


def _regularizer(entry: Any) -> RegularizerSpec:
    pair = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], dict)
    require(pair, f"config.regularizers holds pairs (name, hyperparameters), got {entry!r}.")
    try:
        complete = regularizers.complete(*entry)
    except ValueError as error:
        raise SpecError(str(error)) from None
    return RegularizerSpec(name=entry[0], hyperparameters=tuple(complete.items()))


def _seeds(seeds: Any) -> list[int]:
    listed = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    fits = isinstance(listed, list) and all(isinstance(s, int) for s in listed)
    require(fits, f"config.seeds must be a count or a list of integers, got {seeds!r}.")
    require(bool(listed), f"config.seeds must be at least 1, got {seeds!r}: a study without seeds has no trials.")
    return listed


def _check_unique(trials: list[TrialSpec]) -> None:
    seen: dict[str, TrialSpec] = {}
    for trial in trials:
        require(
            trial.id not in seen, f"trial {trial.id} stands twice in the study: remove a duplicate setting or seed."
        )
        seen[trial.id] = trial


def _check_keys(owner: str, given: Plain, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for key in given:
        require(key in known, f"{owner} has an unknown key {key!r}: {_known(key, known)}")
    for key in needed:
        require(key in given, f"{owner} lacks the key {key!r}: set it in the config file.")


def _known(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {sorted(known)}."


def load_sweep(filename: str) -> list[Plain]:
    """What `sweep()` of a config file yields, `[{}]` where there is none; `file.py:argument` passes the argument on."""
    path, _, argument = filename.partition(":")
    require(Path(path).is_file(), f"there is no config file {path}: name one, such as configs/digits.py.")
    module_spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    require(module_spec is not None and module_spec.loader is not None, f"config file {path} must end in .py.")
    module = importlib.util.module_from_spec(module_spec)  # type: ignore[arg-type]
    module_spec.loader.exec_module(module)  # type: ignore[union-attr]
    if not hasattr(module, "sweep"):
        return [{}]
    takes_argument = bool(inspect.signature(module.sweep).parameters)
    return [dict(overrides) for overrides in (module.sweep(argument) if takes_argument else module.sweep())]
