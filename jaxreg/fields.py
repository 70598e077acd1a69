"""What a field of a spec may hold, told by its type: values are checked against it, texts become such values."""

import ast
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from jaxreg.spec import require

S = TypeVar("S")
_SHOWN: Mapping[Any, str] = {int: "8", float: "0.5", str: "a"}


def types_of(cls: type) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def needed_of(cls: type) -> list[str]:
    """The fields of a dataclass that have no default."""
    missing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing]


def typed(name: str, wanted: Any, value: Any) -> Any:
    """The value as `wanted` has it: lists as tuples, integers as floats where floats are wanted.

    Raises: SpecError: if it is none.
    """
    fits, found = _fitted(wanted, value)
    require(fits, f"{name} must be {_told(wanted)}, got {value!r}.")
    return found


def parsed(text: str, wanted: Any) -> Any:
    """The value that a text on the command line stands for: a text where one is wanted, else what Python reads in it.

    Fractions are numbers, and names need no quotes; where a list is wanted, one value alone is a list of one. What
    cannot be read stays a text, which `typed` then refuses.
    """
    if wanted is str or typing.get_origin(wanted) is Literal:
        return text
    if wanted is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body) if text.strip() else ()
    except (SyntaxError, ValueError, ZeroDivisionError):
        value = tuple(part.strip() for part in text.split(",")) if "," in text else text
    listed = not isinstance(value, tuple) and not _fitted(wanted, value)[0] and _fitted(wanted, (value,))[0]
    return (value,) if listed else value


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Tuple() | ast.List():
            return tuple(map(_value, node.elts))
        case ast.Dict():
            return {_value(key): _value(value) for key, value in zip(node.keys, node.values) if key is not None}
        case ast.BinOp(op=ast.Div()):
            return _number(node.left) / _number(node.right)
        case ast.Name():
            return node.id
    return ast.literal_eval(node)


def _number(node: ast.expr) -> float:
    value = _value(node)
    if not isinstance(value, int | float):
        raise ValueError(f"no number: {value!r}")
    return value


def _fitted(wanted: Any, value: Any) -> tuple[bool, Any]:
    """Whether a value is `wanted`, and what it is then."""
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        options = [_fitted(one, value) for one in inside]
        return next((one for one in options if one[0]), (False, value))
    if origin in (tuple, Sequence):
        return _fitted_items(inside, value)
    if wanted is Any:
        return True, tuple(value) if isinstance(value, list) else value
    if wanted is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return fits, float(value) if fits else value
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if wanted is None or wanted is type(None):
        return value is None, value
    if origin is Literal:
        return isinstance(value, str), value  # which one, the spec checks itself
    return isinstance(value, wanted), value


def _fitted_items(inside: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    several = len(inside) == 1 or inside[1:] == (...,)
    kinds = inside[:1] * len(value) if several else inside
    items = [_fitted(kind, item) for kind, item in zip(kinds, value)]
    return len(kinds) == len(value) and all(fits for fits, _ in items), tuple(item for _, item in items)


def _told(wanted: Any) -> str:
    origin, inside = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_told, inside))
    if origin in (tuple, Sequence):
        item = inside[0]
        shown = f" such as ({_SHOWN[item]},)" if item in _SHOWN else ""
        return f"a list of {_told(item)}{shown}"
    if origin is Literal:
        return " or ".join(map(repr, inside))
    return "None" if wanted in (None, type(None)) else getattr(wanted, "__name__", str(wanted))
