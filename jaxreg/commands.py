"""What the commands do with their flags: a config file becomes a study, the study runs in its workdir."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from etils import epath

from jaxreg import arithmetic, config_file, overrides, results, study
from jaxreg import config as configs
from jaxreg.jobs import directory as jobs
from jaxreg.jobs import launching
from jaxreg.jobs.launching import overview
from jaxreg.jobs.powered import power_of
from jaxreg.robustness import export
from jaxreg.runtime import BAD_USE, INTERRUPTED, compiling, hosts, parallel
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
    os.environ["MPLBACKEND"] = "agg"  # that of a notebook need not be there
    arithmetic.use_own()
    values = define(argv)
    command, *others = parse(values, argv)[1:]
    if command in ON_DIRECTORIES:
        named = [str(absolute(values.workdir))] if values.workdir else []
        return ON_DIRECTORIES[command]([*named, *others])
    if others:
        raise SpecError(f"{command} takes no argument {others[0]!r}; settings are flags, such as --config.seeds=8.")
    asked = request(values, launched=False)
    hosts.join(asked.spec.execution.distributed, asked.spec.execution.heartbeat_seconds)
    compiling.keep(asked.spec.execution.compilation_cache, remote="://" in str(asked.workdir))
    parallel.found_devices()
    if command == "plan":
        return _plan(asked)
    if not asked.workdir:
        raise SpecError("--workdir is missing: name a directory for the study's files.")
    preemption = Preemption()
    with preemption.listening():
        return study.run(command, asked.spec, asked.config, asked.sweep, asked.workdir, preemption)


def define(argv: Sequence[str]) -> flags.FlagValues:
    """The flags of every command, with those of `argv` that set a key of the config."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "The study's config file; by default that of the workdir.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where the study lives.", flag_values=values)
    flags.DEFINE_string("like", None, "plan: a finished study that scatters as this one will.", flag_values=values)
    flags.DEFINE_bool("measure", False, "Train a few real steps of each program, for hours.", flag_values=values)
    overrides.define(values, argv)
    return values


def request(values: flags.FlagValues, launched: bool = True) -> Request:
    """The study that the parsed flags describe, on the devices that it asks for."""
    workdir = absolute(values.workdir) if values.workdir else None
    if workdir:
        check_name(workdir)
    plain, sweep = settings(values, workdir, launched)
    spec = configs.resolve(plain, sweep)
    parallel.use_cpu_devices(spec.execution.cpu_devices)
    return Request(spec, plain, sweep, workdir, values)


def settings(
    values: flags.FlagValues, workdir: Workdir | None = None, launched: bool = True
) -> tuple[configs.Plain, list[configs.Plain]]:
    """The config with its overrides, and the sweep: of the file, else of the workdir or what was `launched` there last.

    Raises: SpecError: if there is neither, or a file or an override fails.
    """
    if values.config is not None:
        plain, sweep = config_file.load(values.config)
    else:
        with _one_line():  # of a bucket that cannot be read, too
            held = jobs.saved(workdir, launched) if workdir else None
        if held is None:
            raise SpecError("--config is missing: name a config file, such as --config=configs/digits.py.")
        plain, sweep = held["config"], held["sweep"]
    return overrides.applied(configs.complete(plain), overrides.given(values)), sweep


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

    130 after Ctrl-C before its jobs had started.
    A full or read-only disk is told as any command tells it.
    """
    os.environ["MPLBACKEND"] = "agg"
    try:
        return launch(argv)
    except KeyboardInterrupt:
        print("stopped: what was saved before is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
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
    print(power_of(asked.spec, absolute(asked.values.like) if asked.values.like else None), end="\n\n")
    return dry_run(asked)


def absolute(path: str) -> Workdir:
    """A local path in full, as Orbax wants it; `gs://` paths are that already."""
    return Workdir(path if "://" in path else Path(epath.Path(path).expanduser()).absolute())


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """The words of the command line that are no flags.

    Raises: SpecError: for a flag that is unknown.
    """
    with _one_line():
        return values(list(argv))


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Whatever a flag or a file of the workdir raises, as one line."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
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
    workdirs = [w for directory in directories for w in study.with_results(directory)]
    found = results.select(workdirs, results.condition(filters))
    if found.empty and filters:
        results.check_known(workdirs, filters)
    found.to_csv(sys.stdout, index=False)
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
