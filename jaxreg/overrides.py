"""Overrides of a config on the command line, `--config.KEY=VALUE`: texts, read by the type of the key."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from jaxreg import fields, schema
from jaxreg.config import Plain, as_plain
from jaxreg.spec import SpecError, require

_WORD = re.compile(r"--?(no)?config\.([^=]+)(=.*)?", re.DOTALL)
_PART = re.compile(r"[^.\[\]]+")  # of a key: names, and places in a list, as in regularizers[1][1].epsilon


def define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """A flag for every override that the command line names; any key of a config may be one."""
    for key in dict.fromkeys(found[2] for word in argv if (found := _WORD.fullmatch(word))):
        define_one = flags.DEFINE_boolean if schema.kinds().get(key) is bool else flags.DEFINE_string
        define_one(f"config.{key}", None, "", flag_values=values)


def given(values: flags.FlagValues) -> dict[str, str]:
    """The overrides of a parsed command line, as texts by dotted key."""
    found = values.flag_values_dict().items()
    return {name.removeprefix("config."): str(v) for name, v in found if name.startswith("config.") and v is not None}


def applied(plain: Plain, texts: Mapping[str, str]) -> Plain:
    """The config with the texts in the place of its values.

    Raises: SpecError: for a key that no config has, or a text that is no value of it.
    """
    for key, text in texts.items():
        parts = _PART.findall(key)
        listed = bool(parts) and parts[0] == "regularizers" and len(parts) > 1
        if not (schema.is_known(key) or listed):
            raise schema.unknown(key)
        plain = _set(plain, parts, as_plain({"value": _value(plain, key, text)})["value"], key)
    return plain


def _value(plain: Plain, key: str, text: str) -> Any:
    if isinstance(plain.get("launch", {}).get("slurm", {}).get(key.removeprefix(schema.SLURM)), str):
        return text  # what the config holds as a text stays one: a partition may be called 7
    wanted = schema.kinds().get(key, Any)
    return fields.typed(f"config.{key}", wanted, fields.parsed(text, wanted))


def _set(tree: Any, parts: Sequence[str], value: Any, key: str) -> Any:
    """A copy of a tree of dicts and lists with another value at a place."""
    if not parts:
        return value
    head, *rest = parts
    if isinstance(tree, list):
        require(head.isdigit() and int(head) < len(tree), f"config.{key} has no place {head!r} of {len(tree)}.")
        return [_set(one, rest, value, key) if place == int(head) else one for place, one in enumerate(tree)]
    if not isinstance(tree, dict):
        raise SpecError(f"config.{key} cannot be set within {tree!r}: set the whole of it.")
    return {**tree, head: _set(tree.get(head, {}), rest, value, key)}
