"""What the commands do with their flags: a config file becomes a study, the study runs in its workdir."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath
from ml_collections import config_flags

from jaxreg import config as configs
from jaxreg import hosts, parallel, study
from jaxreg.files import explained
from jaxreg.overview import overview
from jaxreg.preemption import Preempted, Preemption
from jaxreg.spec import SpecError, StudySpec

__all__ = ["EXPECTED", "Preempted", "abandon", "explained", "run"]

EXPECTED = (SpecError, hosts.Elsewhere)  # of use, or of another process: one line, no trace
abandon = hosts.abandon


def run(argv: Sequence[str]) -> int:
    """Runs the command argv[1]."""
    values = flags.FlagValues()
    about = "The study's config file."
    config_flags.DEFINE_config_file("config", None, about, flag_values=values, sys_argv=list(argv))
    flags.DEFINE_string("workdir", None, "Where the study lives.", flag_values=values)
    command, *others = _parse(values, argv)[1:]
    if command == "report":
        return _report([*([values.workdir] if values.workdir else []), *others])
    if others:
        raise SpecError(f"{command} takes no argument {others[0]!r}; settings are flags, such as --config.seeds=8.")
    spec, plain, sweep = _study(values)
    hosts.join(spec.execution.distributed, spec.execution.heartbeat_seconds)
    parallel.use_cpu_devices(spec.execution.cpu_devices)
    if command == "plan":
        told = overview(spec)
        if hosts.is_first():
            print(told)
        return 0
    if not values.workdir:
        raise SpecError("--workdir is missing: name a directory for the study's files.")
    preemption = Preemption()
    preemption.listen()
    return study.run(command, spec, plain, sweep, _absolute(values.workdir), preemption)


def _absolute(path: str) -> epath.Path:
    """A local path in full, as Orbax wants it; `gs://` paths are that already."""
    return epath.Path(path) if "://" in path else epath.Path(Path(path).expanduser().absolute())


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    try:
        return values(list(argv))
    except SpecError:
        raise
    except (KeyError, AttributeError) as error:
        raise SpecError(f"{str(error).strip()}: only keys that the config file has can be overridden.") from error
    except Exception as error:  # a config file may raise anything
        raise SpecError(f"{str(error).strip() or type(error).__name__}".replace("\n", " ")) from error


def _study(values: flags.FlagValues) -> tuple[StudySpec, configs.Plain, list[configs.Plain]]:
    if values.config is None:
        raise SpecError("--config is missing: name a config file, such as --config=configs/digits.py.")
    sweep = configs.load_sweep(config_flags.get_config_filename(values["config"]))
    return configs.resolve(values.config, sweep), configs.as_plain(values.config), sweep


def _report(workdirs: list[str]) -> int:
    if not workdirs:
        raise SpecError("report needs a workdir: --workdir=DIR, or several after the command.")
    return study.report([_absolute(path) for path in workdirs])
