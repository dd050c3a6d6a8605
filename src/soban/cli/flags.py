"""Flags from a dataclass: each field is a flag, and its metadata says what it does and how it is spelled.

Metadata keys, all but `help` optional:
    help        what it does, in English; translated for the user
    short       one more spelling, as "-t"
    metavar     what stands for the value in the help
    off         for a bool: the spelling that sets it to False
    positional  the field takes the words that are no flags (a tuple of them)
    flags_of    (dataclass, {field: metadata}): the field is a dict of that class's fields, as far as they are given
    spelled     the field holds the spellings that were used, as "-t"
"""

import argparse
import dataclasses
import difflib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from soban.cli import console
from soban.errors import UserError
from soban.messages import translate

Options = TypeVar("Options")


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or translate("usage: "))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError("{problem}", problem=message, command=self.prog, hint="{command} --help lists the flags")


def parse(
    command: str, options: type[Options], arguments: Sequence[str], examples: str, prog: str = "soban"
) -> Options | None:
    """The command's options; None where the help was asked for, which then has been written.

    Raises UserError for flags that do not exist and values of the wrong kind.
    """
    parser = _Parser(
        f"{prog} {command}", usage=f"{prog} {command} {_words(options)}[...]",
        description=translate(inspect.cleandoc(options.__doc__ or "")), epilog=f"{translate('examples:')}\n{examples}",
        formatter_class=_Help, allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    positional: list[str] = []
    nested: dict[str, str] = {}  # flag's field -> the dict field that it belongs to
    spellings: set[str] = set()
    group = parser.add_argument_group(translate("flags"))
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if field.metadata.get("positional"):
            positional.append(field.name)
        elif "flags_of" in field.metadata:
            kind, described = field.metadata["flags_of"]
            more = parser.add_argument_group(translate(field.metadata["help"]))
            hints = get_type_hints(kind)
            for inner in dataclasses.fields(kind):
                nested[inner.name] = field.name
                _add(more, inner.name, hints[inner.name], described[inner.name], False, spellings)
        elif not field.metadata.get("spelled"):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            _add(group, field.name, get_type_hints(options)[field.name], field.metadata, required, spellings)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    end = parser.add_argument_group(translate("others"))
    end.add_argument("-h", "--help", action="store_true", help=translate("show this"))
    end.add_argument("--debug", action="store_true", help=translate("show where an error comes from"))
    if {"-h", "--help"} & set(arguments):
        console.write(parser.format_help())
        return None
    given, unknown = parser.parse_known_intermixed_args(arguments)
    values = vars(given)
    values.pop("debug", None)
    words = values.pop("words", None) or []
    if unknown:
        raise _unknown(parser, unknown[0])
    if words and not positional:
        raise UserError(
            "{command} takes only flags, not {word}", command=parser.prog, word=words[0],
            hint="{command} --help lists the flags",
        )  # fmt: skip
    made = {name: tuple(words) for name in positional}
    made |= {outer: {k: values.pop(k) for k in list(values) if nested.get(k) == outer} for outer in dict.fromkeys(nested.values())}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if field.metadata.get("spelled"):
            made[field.name] = frozenset(spellings)
    return options(**values, **made)


def _words(options: type) -> str:
    """The positional words for the usage line."""
    shown = (f.metadata.get("metavar", "") for f in dataclasses.fields(options) if f.metadata.get("positional"))
    return "".join(f"{words} " for words in shown)


def _add(
    group: Any, name: str, kind: Any, metadata: Mapping[str, Any], required: bool, spellings: set[str]
) -> None:
    """Adds one field's flag, and the one that turns it off."""
    flag = "--" + name.replace("_", "-")
    names = [*([metadata["short"]] if "short" in metadata else []), flag]
    text = translate(metadata["help"])
    many, kind = get_origin(kind) is tuple, _inner(kind)
    if kind is bool:
        group.add_argument(*names, dest=name, action="store_true", help=text)
        if "off" in metadata:
            group.add_argument(metadata["off"], dest=name, action="store_false", help=translate(metadata["off_help"]))
        return
    group.add_argument(
        *names, dest=name, required=required, help=text, action=_noting(spellings, many),
        type=_reader(flag, kind), metavar=_metavar(kind, metadata),
    )  # fmt: skip


def _inner(kind: Any) -> Any:
    """The type of one value: int of `int | None`, str of `tuple[str, ...]`."""
    if get_origin(kind) in (tuple, types.UnionType, Union):
        return next(part for part in get_args(kind) if part not in (type(None), Ellipsis))
    return kind


def _metavar(kind: Any, metadata: Mapping[str, Any]) -> str:
    if "metavar" in metadata:
        return str(metadata["metavar"])
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return {int: "N", float: "X"}.get(kind, "TEXT")


def _noting(spellings: set[str], many: bool) -> type[argparse.Action]:
    """An action that keeps the value, or appends it, and notes the spelling."""

    class Keep(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
            spellings.add(str(option_string))
            setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), value) if many else value)

    return Keep


def _reader(flag: str, kind: Any) -> Callable[[str], Any]:
    """What turns the text after a flag into its value; raises UserError where it is of the wrong kind."""
    if get_origin(kind) is Literal:
        return lambda text: _chosen(flag, text, get_args(kind))
    return {int: lambda text: _whole(flag, text), float: lambda text: _number(flag, text)}.get(kind, str)


def _chosen(flag: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise UserError(
            "{flag} {value} is not known", flag=flag, value=text, known=", ".join(known), hint="choose among {known}"
        )
    return text


def _whole(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(
            "{flag} takes a whole number, not {value}", flag=flag, value=console.shortened(text),
            hint="give one, as in {flag} 7",
        ) from None  # fmt: skip


def _number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(
            "{flag} takes a number, not {value}", flag=flag, value=console.shortened(text),
            hint="give one, as in {flag} 0.7",
        ) from None  # fmt: skip


def _unknown(parser: argparse.ArgumentParser, word: str) -> UserError:
    flag = word.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    if near := difflib.get_close_matches(flag, known, 1):
        return UserError("no flag {flag}", flag=flag, near=near[0], hint="did you mean {near}?")
    return UserError("no flag {flag}", flag=flag, command=parser.prog, hint="{command} --help lists the flags")
