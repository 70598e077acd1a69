"""PROBES: what a study measures on the trained trials of a program. A new one is a file, a line here and a test."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxreg import data
from jaxreg.probes import calibration, corruptions, displacement, geometry, over_training, robustness
from jaxreg.probes.probe import Probe, Section
from jaxreg.spec import ProbesSpec, SpecError, require

__all__ = ["PROBES", "Probe", "Section", "check", "check_data", "chosen", "fewer", "settings_of"]

PROBES: Mapping[str, Probe] = {
    "calibration": calibration.PROBE,
    "robustness": robustness.PROBE,
    "geometry": geometry.PROBE,
    "over_training": over_training.PROBE,
    "corruptions": corruptions.PROBE,
    "displacement": displacement.PROBE,
}


def chosen(spec: ProbesSpec) -> list[str]:
    """The probes that a study runs, in the order of the table."""
    return [name for name in PROBES if not spec.only or name in spec.only]


def settings_of(name: str, spec: ProbesSpec) -> tuple[Any, ...]:
    """The settings that a probe depends on: its own, then those that it reads."""
    probe = PROBES[name]
    return tuple(spec.settings[key] for key in (*([name] if probe.settings else []), *probe.reads))


def check(spec: ProbesSpec, about: data.Description) -> None:
    """Raises SpecError for settings that cannot be had on such a dataset, before anything trains."""
    unknown = sorted(set(spec.only) - set(PROBES))
    require(not unknown, f"Unknown probes.only {unknown}; known: {list(PROBES)}.")
    for name in spec.only:
        missing = [other for other in PROBES[name].needs if other not in spec.only]
        require(not missing, f"probes.only names {name}, which needs {' and '.join(missing)}: name them too.")
    for name in PROBES:
        _checked(PROBES[name].check, name, spec, about)


def fewer(spec: ProbesSpec, about: data.Description, steps: int) -> list[str]:
    """A line for every setting that asks for more than there is: examples of a split, or snapshots of a training."""
    asked = [
        (f"probes.{name}.{key}", getattr(spec.settings[name], key), split)
        for name in chosen(spec)
        for key, split in PROBES[name].counts.items()
    ]
    return [
        f"{key}={count}: {split} of {about.name} has {about.counts[split]} examples, so these are all."
        for key, count, split in asked
        if count > about.counts[split]
    ] + _beyond(spec, steps)


def _beyond(spec: ProbesSpec, steps: int) -> list[str]:
    """A line if snapshots are asked for that training does not reach."""
    wanted = spec.settings["geometry"].snapshots
    late = [step for step in wanted if step > steps] if isinstance(wanted, tuple) else []
    told = f"probes.geometry.snapshots names {late}: training ends with step {steps}, so these are not kept."
    return [told] if late else []


def check_data(spec: ProbesSpec, dataset: data.Dataset) -> None:
    """Raises SpecError where a probe that runs cannot measure the examples of `dataset`, before anything trains."""
    for name in chosen(spec):
        _checked(PROBES[name].check_data, name, spec, dataset)


def _checked(check_: Callable[[Any, Any], None], name: str, spec: ProbesSpec, known: Any) -> None:
    settings = settings_of(name, spec)
    try:
        check_(settings[0] if settings else None, known)
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(str(error)) from None
