"""Dataclasses out of JSON that may have been damaged: each field of the type that it is declared with."""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

MOST = 1 << 62  # of whole numbers, which torch and NumPy count with
T = TypeVar("T")


def from_json(kind: type[T], told: Mapping[str, Any]) -> T:
    """An instance of the dataclass with these values; keys that it has not are left out.

    Raises ValueError for a value of another type, an infinity, or a number beyond 62 bits; KeyError and TypeError for
    what is no object or lacks a value.
    """
    hints = get_type_hints(kind)
    known = {field.name: told[field.name] for field in fields(kind) if field.name in told}  # type: ignore[arg-type]
    if wrong := [name for name, value in known.items() if not _fits(value, hints[name])]:
        raise ValueError(f"{wrong[0]}: {str(known[wrong[0]])[:40]!r}")
    return kind(**known)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if hint is float:
        return type(value) in (int, float) and _is_usable(value)
    if hint is int:
        return type(value) is int and _is_usable(value)
    return isinstance(value, hint)


def _is_usable(value: Any) -> bool:
    return abs(value) < MOST if isinstance(value, int) else math.isfinite(value)
