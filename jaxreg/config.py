"""A config file's ConfigDict, resolved once to a frozen `StudySpec`; whatever does not fit is one clear error."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from jaxreg import fields, models, regularizers, schema
from jaxreg.claims import family
from jaxreg.probes import PROBES
from jaxreg.spec import (
    ClaimsSpec,
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
from jaxreg.training.optimizer import TRACED, structure_of

if TYPE_CHECKING:
    from ml_collections import ConfigDict  # a study of plain dicts needs none

Plain = dict[str, Any]
S = TypeVar("S")

_FIXED = (
    "study",
    "probes",
    "execution",
    "launch",
    "claims",
    "trials",
)  # what no sweep overrides: it is no part of a trial
_OWN = ("seeds", "regularizers")  # overrides that a trial's own seed and regularizer tell already


def resolve(config: "ConfigDict | Mapping[str, Any]", sweep: Iterable[Mapping[str, Any]] = ({},)) -> StudySpec:
    """The study that `config` describes, once for every dict of dotted overrides in `sweep`.

    Raises: SpecError: for a missing or unknown key, an unknown name, a value out of range, or a trial twice.
    """
    plain = complete(as_plain(config))
    _check_keys(plain)
    trials: dict[str, TrialSpec] = {}
    for overrides in sweep:
        for trial in trials_of(plain, overrides):
            trials.setdefault(trial.id, trial)  # two settings of a sweep may describe one trial: it is trained once
    trials = _only(trials, plain.get("trials"))
    require(bool(trials), "the study has no trials: name at least one regularizer and one seed.")
    probes = _probes(plain["probes"])
    execution = build("config.execution", ExecutionSpec, plain["execution"])
    launch = build("config.launch", LaunchSpec, _launch(plain.get("launch", {})))
    name = fields.typed("config.study", str, plain["study"])
    claims = _claims(plain["claims"], trials.values())
    return StudySpec(
        name=name, trials=tuple(trials.values()), probes=probes, execution=execution, launch=launch, claims=claims
    )


def _claims(given: Plain, trials: Iterable[TrialSpec]) -> ClaimsSpec:
    """What is judged, each setting of it one of the study's."""
    spec = build("config.claims", ClaimsSpec, given)
    own = {trial.setting.own for trial in trials}
    for entry in spec.primary:
        pair = isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict)
        require(pair, f"config.claims.primary holds pairs (name, hyperparameters), got {entry!r}.")
        known = ", ".join(sorted(setting.label for setting in own))
        fits = any(family.matches(setting, *entry) for setting in own)
        require(fits, f"config.claims.primary names {entry!r}, no setting of this study: it has {known}.")
    return spec


def _probes(given: Plain) -> ProbesSpec:
    """The settings of every probe that has any; a section whose settings all have defaults may be left out."""
    kinds = {name: probe.settings for name, probe in PROBES.items() if probe.settings}
    settings: Plain = {name: build(f"config.probes.{name}", kind, given.get(name, {})) for name, kind in kinds.items()}
    only = fields.typed("config.probes.only", tuple[str, ...], given.get("only", ()))
    return ProbesSpec(settings=settings, only=only)


def complete(plain: Plain) -> Plain:
    """The config with every section that it leaves out, empty: what stands in none has its default."""
    return {**{name: {} for name in schema.GROUPS}, **plain}


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
    plain = complete(plain)
    own, plain = plain, override(plain, overrides)
    # What the config says itself is left out: a trial is called the same, whether a sweep names its value or not.
    shown = {k: _plain(v) for k, v in overrides.items() if k not in _OWN and _plain(v) != _at(own, k)}
    common: Plain = {
        "dataset": build("config.dataset", DatasetSpec, plain["dataset"]),
        "model": _model(plain["model"]),
        "optimizer": build("config.optimizer", OptimizerSpec, plain["optimizer"]),
        "batch_size": fields.typed("config.batch_size", int, plain["batch_size"]),
        "steps": fields.typed("config.steps", int, plain["steps"]),
        "overrides": tuple(sorted(shown.items())),
    }
    listed = plain["regularizers"]
    require(isinstance(listed, list), f"config.regularizers must be a list of (name, hyperparameters), got {listed!r}.")
    chosen = [common | _chosen(entry, plain["optimizer"], overrides) for entry in listed]
    trials = [TrialSpec(seed=seed, **one) for one in chosen for seed in _seeds(plain["seeds"])]
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
    """A copy of `plain` with dotted keys replaced; a misspelt key, which no config has, is an error."""
    for key, value in overrides.items():
        known = [k for k in schema.kinds() if k.split(".")[0] not in _FIXED]
        if key not in known:
            raise schema.unknown(key, "a sweep cannot override ", known)
        head, _, last = key.partition(".")
        plain = {**plain, head: {**plain[head], last: _plain(value)} if last else _plain(value)}
    return plain


def _at(plain: Plain, key: str) -> Any:
    """The value of a key that a sweep may override, or its default."""
    head, _, last = key.partition(".")
    return plain[head].get(last, _plain(schema.default(key))) if last else plain[head]


def build(owner: str, cls: type[S], given: Any) -> S:
    """The dataclass `cls` from a dict of its fields, lists as tuples, integers as floats where it wants floats."""
    _check_section(owner, given)
    kinds = fields.types_of(cls)
    return cls(**{name: fields.typed(f"{owner}.{name}", kinds[name], value) for name, value in given.items()})


def _model(given: Plain) -> ModelSpec:
    """The network with its options, of the types that its maker takes; unknown ones are its maker's to refuse."""
    name = fields.typed("config.model.name", str, given["name"])
    kinds = schema.options_of(models.MODELS[name]) if name in models.MODELS else {}
    options = {
        key: fields.typed(f"config.model.{key}", kinds.get(key, Any), value)
        for key, value in sorted(given.items())
        if key not in ("name", "dtype")
    }
    common = {key: value for key, value in given.items() if key in ("name", "dtype")}
    return build("config.model", ModelSpec, {**common, "options": list(options.items())})


def _chosen(entry: Any, optimizer: Plain, overrides: Mapping[str, Any]) -> Plain:
    """What an entry of `regularizers` says of its trials: their regularizer, and the optimizer of a control."""
    kinds = (str, dict, dict)
    fits = isinstance(entry, list) and len(entry) in (2, 3) and all(map(isinstance, entry, kinds))
    rule = "config.regularizers holds pairs (name, hyperparameters) or, of a control, triples with what it overrides"
    require(fits, f'{rule}, {{"optimizer.weight_decay": 0.005}} for one, got {entry!r}.')
    name, hyperparameters, *controls = entry
    try:
        complete = regularizers.complete(name, hyperparameters)
    except ValueError as error:
        raise SpecError(str(error)) from None
    chosen = {"regularizer": RegularizerSpec(name=name, hyperparameters=tuple(complete.items()))}
    return chosen | (_control(name, controls[0], optimizer, overrides) if any(controls) else {})


def _control(name: str, given: Plain, optimizer: Plain, overrides: Mapping[str, Any]) -> Plain:
    """The optimizer of a control, and what it overrides of that of the config."""
    what, known = f"config.regularizers: a control of {name!r}", [f"optimizer.{key}" for key in TRACED]
    for key in given:
        if key not in schema.kinds():
            raise schema.unknown(key, f"{what} cannot override ", known)
        program = f"{what} cannot override {key}, which is another program or none of the optimizer"
        require(key in known, f"{program}: override {', '.join(known)}, or put it into a sweep.")
        require(key not in overrides, f"{what} overrides {key}, which the sweep sets too: leave it out of one of them.")
    base = build("config.optimizer", OptimizerSpec, optimizer)
    changed = {key.removeprefix("optimizer."): value for key, value in given.items()}
    own = build(f"{what}: optimizer", OptimizerSpec, optimizer | changed)
    count = len(base.boundaries)
    require(structure_of(own) == structure_of(base), f"{what} needs {count} optimizer.boundaries, as the config has.")
    for key in changed:
        value = getattr(own, key)
        same = f"{what} sets optimizer.{key} to {value}, which it is in the config"
        require(value != getattr(base, key), f"{same}: give it another value, or leave it out.")
    return {"optimizer": own, "control": tuple(sorted((f"optimizer.{key}", getattr(own, key)) for key in changed))}


def _seeds(seeds: Any) -> list[int]:
    listed = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    fits = isinstance(listed, list) and all(isinstance(s, int) and not isinstance(s, bool) for s in listed)
    require(fits, f"config.seeds must be a count or a list of integers such as (0, 1, 2), got {seeds!r}.")
    require(bool(listed), f"config.seeds must be at least 1, got {seeds!r}: a study without seeds has no trials.")
    return listed


def _check_unique(trials: list[TrialSpec]) -> None:
    seen: dict[str, TrialSpec] = {}
    for trial in trials:
        require(
            trial.id not in seen, f"trial {trial.id} stands twice in the study: remove a duplicate setting or seed."
        )
        seen[trial.id] = trial


def _check_keys(plain: Plain) -> None:
    """Raises SpecError for the first key that no config has, else with all keys that this one lacks."""
    there = _dotted(plain)
    for key in there:
        if not (schema.is_known(key) or key in schema.SECTIONS or key.startswith("model.")):
            raise schema.unknown(key)
    lacking = [f"config.{key}" for key in schema.needed() if key not in there]
    some = f"the key{'s' * (len(lacking) > 1)} {', '.join(lacking)}"
    require(not lacking, f"the config lacks {some}: set them in the config file, or as --config.KEY=VALUE.")


def _dotted(plain: Plain) -> list[str]:
    """The keys of a config, in full."""
    found = []
    for key, value in plain.items():
        if key in (*schema.GROUPS, "launch"):
            _check_section(f"config.{key}", value)
            found += [f"{key}.{name}" for name in value]
        else:
            found.append(key)
    for probe, settings in plain["probes"].items():
        if f"probes.{probe}" in schema.SECTIONS:
            _check_section(f"config.probes.{probe}", settings)
            found += [f"probes.{probe}.{name}" for name in settings]
    return found


def _check_section(owner: str, given: Any) -> None:
    require(isinstance(given, dict), f"{owner} must be a dict of settings, got {given!r}.")
