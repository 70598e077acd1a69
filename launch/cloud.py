"""A study as one job of many cloud hosts: what every host runs, checked here before anything is paid for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from jaxreg import commands
from jaxreg import config as configs
from jaxreg.spec import require

ROOT = Path(__file__).parents[1]  # what hosts get a copy of
NAME = r"[a-z]([-a-z0-9]{0,37}[a-z0-9])?"  # what Cloud TPU and Kubernetes both take, with room for "-workers-0-12"
CONFIG = ("--config", "-config", "--noconfig", "-noconfig")


class Asked(NamedTuple):
    """What a cloud launcher is asked to run."""

    name: str
    workdir: str
    command: list[str]  # of every host
    environment: dict[str, str]


def define(argv: Sequence[str]) -> flags.FlagValues:
    """The flags that all cloud launchers share, beside those of every command.

    Raises: SpecError: without a config file: that of the workdir cannot be read from here.
    """
    named = any(word.lstrip("-").startswith("config=") for word in argv[1:])
    require(named, "--config is missing: name a config file of this checkout, as in --config=configs/digits.py.")
    values = commands.define(argv)
    flags.DEFINE_string("name", "", "Name in the cloud; by default the study's.", flag_values=values)
    flags.DEFINE_bool("spot", False, "Spot capacity: cheap, and taken away at any time.", flag_values=values)
    flags.DEFINE_multi_string("env", [], "NAME=VALUE for the job, e.g. TFDS_DATA_DIR=gs://...", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Print exactly what would run, and run nothing.", flag_values=values)
    return values


def asked(values: flags.FlagValues, argv: Sequence[str]) -> Asked:
    """The job that a command line asks for; nothing in the cloud is looked at.

    Raises: SpecError: if the study, its workdir or its name cannot be.
    """
    _, *others = commands.parse(values, argv)
    require(not others, f"a launcher takes no argument {others[:1]}; settings are flags, such as --config.seeds=8.")
    given = [word for word in argv[1:] if word.startswith(CONFIG)]
    spaced = [word for word in given if "=" not in word and not word.lstrip("-").startswith("no")]
    require(not spaced, f"{spaced[:1]} must hold its value, as --config.seeds=8 does.")
    file = values.config
    inside = not file.startswith(("/", "..")) and (ROOT / file.partition(":")[0]).is_file()
    require(inside, f"--config={file} must be a path below the checkout, without {ROOT}: hosts have a copy of it.")
    workdir = values.workdir or ""
    require(
        bool(re.fullmatch(r"gs://[^/]+/.+", workdir)),
        f"--workdir={workdir!r} must be gs://BUCKET/PATH: every host of the job, also of the next one, has to see it.",
    )
    study = configs.resolve(*commands.settings(values))
    name = values.name or re.sub(r"[^a-z0-9]+", "-", study.name.lower()).strip("-")
    require(bool(re.fullmatch(NAME, name)), f"--name={name!r} must be lower case letters, digits and -, at most 39.")
    command = ["-m", "jaxreg", "study", *given, f"--workdir={workdir}", "--config.execution.distributed=auto"]
    return Asked(name, workdir, command, dict(map(_variable, values.env)))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    fits = equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    require(bool(fits), f"--env={text!r} must be NAME=VALUE, as --env=TFDS_DATA_DIR=gs://bucket/tfds is.")
    return name, value
