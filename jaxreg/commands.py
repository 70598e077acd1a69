"""What the commands do with their flags: a config file becomes a study, the study runs in its workdir."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from jaxreg import config as configs
from jaxreg import results, study
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import launching
from jaxreg.jobs.launching import overview
from jaxreg.robustness import export
from jaxreg.runtime import BAD_USE, hosts, parallel
from jaxreg.runtime.files import explained
from jaxreg.runtime.paths import check_name
from jaxreg.runtime.preemption import Preempted, Preemption
from jaxreg.runtime.workdir import Workdir
from jaxreg.spec import SpecError, StudySpec, require

__all__ = [
    "EXPECTED",
    "Preempted",
    "Request",
    "abandon",
    "absolute",
    "define",
    "dry_run",
    "explained",
    "launch_request",
    "launched",
    "parse",
    "request",
    "run",
]

EXPECTED = (SpecError, hosts.Elsewhere)  # of use, or of another process: one line, no trace
abandon = hosts.abandon


class Request(NamedTuple):
    """What a command line asks for."""

    spec: StudySpec
    config: configs.Plain
    sweep: list[configs.Plain]
    workdir: Workdir | None
    values: flags.FlagValues


def run(argv: Sequence[str]) -> int:
    """Runs the command argv[1]."""
    values = define(argv, launched=False)
    command, *others = parse(values, argv)[1:]
    if command in ON_DIRECTORIES:
        named = [str(absolute(values.workdir))] if values.workdir else []
        return ON_DIRECTORIES[command]([*named, *others])
    if others:
        raise SpecError(f"{command} takes no argument {others[0]!r}; settings are flags, such as --config.seeds=8.")
    asked = request(values, launched=False)
    hosts.join(asked.spec.execution.distributed, asked.spec.execution.heartbeat_seconds)
    if command == "plan":
        return _plan(asked)
    if not asked.workdir:
        raise SpecError("--workdir is missing: name a directory for the study's files.")
    preemption = Preemption()
    preemption.listen()
    return study.run(command, asked.spec, asked.config, asked.sweep, asked.workdir, preemption)


def define(argv: Sequence[str], launched: bool = True) -> flags.FlagValues:
    """The flags of every command; without --config the config is that of the workdir, or `launched` there last."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "Where the study lives.", flag_values=values)
    flags.DEFINE_bool("measure", False, "Train a few real steps of each program, for hours.", flag_values=values)
    about = "The study's config file."
    saved = _saved(argv, launched)
    if saved is None:
        config_flags.DEFINE_config_file("config", None, about, flag_values=values, sys_argv=list(argv))
    else:
        with _one_line():
            config_flags.DEFINE_config_dict("config", ConfigDict(saved), about, flag_values=values, sys_argv=list(argv))
    return values


def _saved(argv: Sequence[str], launched: bool) -> configs.Plain | None:
    """The config of the workdir that the command line names, None if it names a config file or no such workdir."""
    if any(word.lstrip("-").split("=")[0] == "config" for word in argv if word.startswith("-")):
        return None
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values(list(argv), known_only=True)
    with _one_line():  # of a bucket that cannot be read, too
        held = jobs.saved(absolute(values.workdir), launched) if values.workdir else None
    return held["config"] if held else None


def request(values: flags.FlagValues, launched: bool = True) -> Request:
    """The study that the parsed flags describe, on the devices that it asks for."""
    workdir = absolute(values.workdir) if values.workdir else None
    if values.config is None:
        raise SpecError("--config is missing: name a config file, such as --config=configs/digits.py.")
    if workdir:
        check_name(workdir)
    held = jobs.saved(workdir, launched) if workdir else None
    filename: Any = getattr(values["config"], "config_filename", None)  # no text where the config is the workdir's own
    sweep = configs.load_sweep(filename) if isinstance(filename, str) else held["sweep"] if held else [{}]
    spec, plain = configs.resolve(values.config, sweep), configs.as_plain(values.config)
    parallel.use_cpu_devices(spec.execution.cpu_devices)
    return Request(spec, plain, sweep, workdir, values)


def launch_request(values: flags.FlagValues, argv: Sequence[str]) -> Request:
    """The study that a launcher's command line asks for.

    Raises: SpecError: also if it names no local directory for the study.
    """
    _, *others = parse(values, argv)
    if others:
        raise SpecError(f"a launcher takes no argument {others[0]!r}; settings are flags, such as --config.seeds=8.")
    place = values.workdir or ""
    require(bool(place), "--workdir is missing: name a directory for the study's jobs.")
    require("://" not in place, f"--workdir={place} has no locks, which keep jobs apart: name one on a (shared) disk.")
    return request(values)


def launched(launch: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """The exit code of a launcher: 2, after one line, for what the same command cannot do either when it is repeated.

    A full or read-only disk is told as any command tells it.
    """
    try:
        return launch(argv)
    except (SpecError, OSError) as error:
        told = str(error) if isinstance(error, SpecError) else explained(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return BAD_USE


def dry_run(asked: Request) -> int:
    """Prints the jobs that a launcher would make and the command of each; the ids of jobs to be made are not known."""
    if asked.workdir:
        jobs.check_grows(asked.workdir, asked.config)
    found = launching.planned(asked.spec, asked.workdir, asked.values.measure)
    print(launching.described(found, asked.sweep, len(asked.spec.trials)))
    return 0


def _plan(asked: Request) -> int:
    if not hosts.is_first():
        return 0
    print(overview(asked.spec), end="\n\n")
    return dry_run(asked)


def absolute(path: str) -> Workdir:
    """A local path in full, as Orbax wants it; `gs://` paths are that already."""
    return Workdir(path if "://" in path else Path(epath.Path(path).expanduser()).absolute())


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """The words of the command line that are no flags.

    Raises: SpecError: for a flag that is unknown, or a config file that fails.
    """
    with _one_line():
        return values(list(argv))


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Whatever a flag or a config file raises, as one line."""
    try:
        yield
    except SpecError:
        raise
    except (KeyError, AttributeError) as error:
        raise SpecError(f"{str(error).strip()}: only keys that the config file has can be overridden.") from error
    except Exception as error:  # a config file may raise anything
        raise SpecError(f"{str(error).strip() or type(error).__name__}".replace("\n", " ")) from error


def _report(workdirs: list[str]) -> int:
    if not workdirs:
        raise SpecError("report needs a workdir: --workdir=DIR, or several after the command.")
    return study.report([absolute(path) for path in workdirs])


def _status(workdirs: list[str]) -> int:
    if not workdirs:
        raise SpecError("status needs a workdir: --workdir=DIR, or several after the command.")
    for directory in map(absolute, workdirs):
        found = jobs.workdirs(directory)
        if not found:
            raise SpecError(f"{directory} holds no study: name the --workdir of one.")
        print(jobs.status(directory))
    return 0


def _export(workdirs: list[str]) -> int:
    if not workdirs:
        raise SpecError("export needs a workdir: --workdir=DIR, or several after the command.")
    for workdir in (w for directory in map(absolute, workdirs) for w in study.with_results(directory)):
        print(*export.of_workdir(workdir), sep="\n")
    return 0


def _results(words: list[str]) -> int:
    """Prints the rows of the named studies that fit every COLUMN=VALUE, as CSV."""
    filters = [word for word in words if _is_filter(word)]
    directories = [absolute(word) for word in words if not _is_filter(word)]
    if not directories:
        raise SpecError("results needs a workdir: python -m jaxreg results DIR metric=accuracy split=test.")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` may close the pipe
    workdirs = [w for directory in directories for w in study.with_results(directory)]
    results.select(workdirs, results.condition(filters)).to_csv(sys.stdout, index=False)
    return 0


def _is_filter(word: str) -> bool:
    """Whether a word is COLUMN=VALUE, and no path: a folder of such a name is written ./COLUMN=VALUE."""
    column, sign, _ = word.partition("=")
    known = column in results.SCHEMA.names
    return bool(sign) and os.sep not in column and (known or not Path(word).exists())


ON_DIRECTORIES: dict[str, Callable[[list[str]], int]] = {
    "report": _report,
    "status": _status,
    "export": _export,
    "results": _results,
}
