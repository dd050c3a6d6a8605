"""Values of the types that a dataclass declares: out of JSON that may have been damaged, or from a caller."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST = 1 << 62  # of whole numbers in JSON, which torch and NumPy count with
T = TypeVar("T")


def from_json(kind: type[T], values: Mapping[str, Any]) -> T:
    """An instance of the dataclass with these values; keys that it has not are left out.

    Raises ValueError for a value of another type, an infinity, or a number beyond 62 bits; KeyError and TypeError for
    what is no object or lacks a value.
    """
    hints = get_type_hints(kind)
    own = {field.name: values[field.name] for field in fields(kind) if field.name in values}  # type: ignore[arg-type]
    if wrong := [name for name, value in own.items() if not (fits(value, hints[name]) and _is_usable(value))]:
        raise ValueError(f"{wrong[0]}: {str(own[wrong[0]])[:40]!r}")
    return kind(**own)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type as annotations have it; a whole number is a float, too, and a bool is none."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin in (UnionType, Union):
        return any(fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(one, parts[0]) for one in value)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(fits(one, parts[0]) for one in value)
    if origin is Callable:
        return callable(value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is int if hint is int else isinstance(value, hint)


def _is_usable(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < MOST
    return not isinstance(value, float) or math.isfinite(value)
