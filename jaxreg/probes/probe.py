"""What a probe is: one measurement on trained trials, from its section of a config to its section of the report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxreg import data
from jaxreg.measured import Measured


class Section(NamedTuple):
    """A section of the report, and the sentence that stands in it where nothing was measured."""

    key: str
    title: str
    absent: str


def nothing(settings: Any, known: Any) -> None:
    """Checks nothing."""


class Probe(NamedTuple):
    """`measure(trained, *settings)`: its own settings, where it has any, then those of the probes that it `reads`.

    It is repeated when one of these settings changes. `check` and `check_data` raise ValueError before anything trains.
    """

    measure: Callable[..., list[Measured]]
    section: Section
    settings: type | None = None  # the dataclass of `config.probes.NAME`
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # probes whose arrays it reads: they run before it
    counts: Mapping[str, str] = {}  # settings that say how many examples of which split are looked at
    check: Callable[[Any, data.Description], None] = nothing
    check_data: Callable[[Any, data.Dataset], None] = nothing
