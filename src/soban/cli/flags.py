"""Flags from a dataclass: each field is a flag, and its metadata says what it does and how it is spelled.

A field with `help` is a flag. The keys:
    help        what it does, in English; translated for the user
    short       one more spelling, as "-t"
    also        other names that are taken for it, as ("--dim",), and shown nowhere
    example     a value for the hint, of a float that is not like 0.7
    metavar     what stands for the value in the help
    off         for a bool: the spelling that sets it to False
    positional  the field takes the words that are no flags (a tuple of them); `metavar` shows them in the usage, if any
    flags_of    (dataclass, {field: metadata}): the field is a dict of those fields of that class that are given
    spelled     the field holds the spellings that were used, as "-t"
    after       the flag that it follows in the help, of those that the command shares with others
"""

import argparse
import dataclasses
import difflib
import inspect
import re
import shutil
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from soban.base.errors import UserError
from soban.cli.examples import text_of
from soban.cli.terminal import console
from soban.cli.terminal.wrapping import wrapped
from soban.messages import translate

Options = TypeVar("Options")
USUAL, WIDEST = 80, 110  # columns of a help text: where there is no terminal, and at the most


def _columns() -> int:
    return min(shutil.get_terminal_size((USUAL, 0)).columns, WIDEST)


def _reflowed(text: str) -> str:
    """The paragraphs in lines that fit."""
    return "\n\n".join("\n".join(wrapped(part, _columns())) for part in text.split("\n\n"))


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=_columns())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or translate("usage: "))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Says in our words, and in the user's language, what argparse says in its own."""
        if match := re.fullmatch(r"argument (.+): expected one argument", message):
            raise UserError(
                "{flag} needs a value", flag=match[1], command=self.prog, hint="{command} --help says which"
            )
        if match := re.fullmatch(r"argument (.+): ignored explicit argument '(.*)'", message, re.DOTALL):
            if "token" in match[1]:  # which is shown nowhere
                raise UserError("{flag} takes no value", flag=match[1], hint="leave the value out")
            raise UserError(
                "{flag} takes no value, not {value}", flag=match[1], value=console.shortened(match[2]),
                hint="leave the value out",
            )  # fmt: skip
        if match := re.fullmatch(r"the following arguments are required: (.+)", message):
            raise UserError(
                "{flags} must be given", flags=match[1], command=self.prog, hint="{command} --help says what it means"
            )
        raise UserError("{problem}", problem=message, command=self.prog, hint="{command} --help lists the flags")


def parse(command: str, options: type[Options], arguments: Sequence[str], examples: str) -> Options | None:
    """The options of `soban {command}`; None where its help was asked for, which then has been written.

    Raises UserError for flags that do not exist and values of the wrong kind.
    """
    spellings: set[str] = set()
    parser = _parser(f"soban {command}", options, examples, spellings)
    arguments = _own_spelling(arguments, parser, _other_names(options))
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if {"-h", "--help"} & set(flags):
        console.write(parser.format_help())
        return None
    namespace, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise _unknown(parser, unknown[0])
    values = vars(namespace)
    words = tuple(values.pop("words", ()))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if field.metadata.get("positional"):
            fields[field.name], words = words, ()
        elif field.metadata.get("spelled"):
            fields[field.name] = frozenset(spellings)
        elif "flags_of" in field.metadata:
            inner = (part.name for part in dataclasses.fields(field.metadata["flags_of"][0]))
            fields[field.name] = {name: values[name] for name in inner if name in values}
        elif field.name in values:
            fields[field.name] = values[field.name]
    if words:
        raise UserError(
            "{command} takes only flags, not {word}", command=parser.prog, word=console.shortened(words[0]),
            hint="{command} --help lists the flags",
        )  # fmt: skip
    return options(**fields)


def _other_names(options: type) -> dict[str, str]:
    """Flags by the other names that are taken for them."""
    described: dict[str, Mapping[str, Any]] = {}
    for field in dataclasses.fields(options):
        described |= field.metadata["flags_of"][1] if "flags_of" in field.metadata else {field.name: field.metadata}
    return {also: _flag(name) for name, metadata in described.items() for also in metadata.get("also", ())}


def _own_spelling(arguments: Sequence[str], parser: argparse.ArgumentParser, others: Mapping[str, str]) -> list[str]:
    """The arguments with each flag as the parser knows it: by its own name, and with - where _ was written."""
    own_words: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*own_words, *arguments[place:]]
        name, sign, value = argument.partition("=")
        own = name.replace("_", "-") if name.startswith("--") else name
        own = others.get(own, own)
        own_words.append(own + sign + value if own in parser._option_string_actions else argument)
    return own_words


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parser(prog: str, options: type, examples: str, spellings: set[str]) -> argparse.ArgumentParser:
    """Knows every flag; what is not given leaves no trace, and which spellings were used is noted in `spellings`."""
    hints = get_type_hints(options)
    # a command's own flags first, then those that it shares with others
    fields = sorted(dataclasses.fields(options), key=lambda field: field.name not in options.__annotations__)
    for field in [field for field in fields if "after" in field.metadata]:
        fields.remove(field)
        fields.insert([other.name for other in fields].index(field.metadata["after"]) + 1, field)
    words = "".join(
        f"{field.metadata['metavar']} "
        for field in fields
        if field.metadata.get("metavar") and field.metadata.get("positional")
    )
    parser = _Parser(
        prog, usage=f"{prog} {words}[...]", description=_reflowed(translate(inspect.cleandoc(options.__doc__ or ""))),
        epilog=f"{translate('examples:')}\n{text_of(examples, _columns())}", formatter_class=_Help, allow_abbrev=False,
        add_help=False, argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    group = parser.add_argument_group(translate("flags"))
    for field in fields:
        if "flags_of" in field.metadata:
            kind, described = field.metadata["flags_of"]
            nested = parser.add_argument_group(translate(field.metadata["help"]))
            for name, hint in get_type_hints(kind).items():
                if name in described:
                    _add(nested, name, hint, described[name], None, spellings)
        elif "help" in field.metadata:
            _add(group, field.name, hints[field.name], field.metadata, field.default, spellings)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    others = parser.add_argument_group(translate("others"))
    others.add_argument("-h", "--help", action="store_true", help=translate("show this"))
    others.add_argument("--debug", action="store_true", help=translate("show where an error comes from"))
    return parser


def _add(group: Any, name: str, kind: Any, metadata: Mapping[str, Any], default: Any, spellings: set[str]) -> None:
    """Adds one field's flag, and the one that turns it off."""
    flag = _flag(name)
    names = [*([metadata["short"]] if "short" in metadata else []), flag]
    text = translate(metadata["help"]).replace("%", "%%")  # which argparse would take for a format
    many, kind = get_origin(kind) is tuple, inner(kind)
    if kind is bool:
        group.add_argument(*names, dest=name, action="store_true", help=text)
        if "off" in metadata:
            group.add_argument(metadata["off"], dest=name, action="store_false", help=translate(metadata["off_help"]))
        return
    if isinstance(default, int | float | str):
        text = f"{text} [{default}]"
    if many:
        text = translate("{help}; may be given several times", help=text)
    group.add_argument(
        *names, dest=name, required=default is dataclasses.MISSING and not many, help=text,
        action=_noting(spellings, many), type=reader(flag, kind, metadata.get("example", "0.7")),
        metavar=_metavar(kind, metadata),
    )  # fmt: skip


def inner(kind: Any) -> Any:
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


def reader(flag: str, kind: Any, example: str = "0.7") -> Callable[[str], Any]:
    """What turns the text after a flag into its value; raises UserError where it is of the wrong kind."""
    if get_origin(kind) is Literal:
        return lambda text: _choice(flag, text, get_args(kind))
    return {int: lambda text: _whole(flag, text), float: lambda text: _number(flag, text, example)}.get(kind, str)


def _choice(flag: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise UserError(
            "{flag} {value} is not known", flag=flag, value=text, known=", ".join(choices), hint="choose among {known}"
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


def _number(flag: str, text: str, example: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(
            "{flag} takes a number, not {value}", flag=flag, value=console.shortened(text),
            example=example, hint="give one, as in {flag} {example}",
        ) from None  # fmt: skip


def _unknown(parser: argparse.ArgumentParser, word: str) -> UserError:
    flag = word.partition("=")[0]
    flags = [name[2:] for action in parser._actions for name in action.option_strings if name.startswith("--")]
    if near := difflib.get_close_matches(flag.lstrip("-"), flags, 1):
        return UserError("no flag {flag}", flag=flag, near=near[0], hint="did you mean --{near}?")
    return UserError("no flag {flag}", flag=flag, command=parser.prog, hint="{command} --help lists the flags")
