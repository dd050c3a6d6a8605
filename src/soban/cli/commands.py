"""What can be typed in a chat beside messages: lines that begin with a slash."""

import difflib
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from soban.base.errors import UserError
from soban.cli import flags
from soban.cli.shared import CHAT_ON_FULL, CHAT_SAMPLING_FLAGS
from soban.cli.terminal import console
from soban.cli.terminal.wrapping import definitions
from soban.engine.limits import ON_FULL, checked_on_full
from soban.engine.sampling import Sampling
from soban.messages import padded, translate, width

if TYPE_CHECKING:
    from soban.cli.conversation import Chat

# In the order in which /help shows them; `takes` is what may follow.
COMMANDS: dict[str, dict[str, str]] = {
    "help": {"help": "show this"},
    "system": {"takes": "[TEXT]", "help": 'show or change what the model is told beforehand; "" takes it away'},
    "set": {"takes": "[NAME VALUE]", "help": "show or change how words are chosen; the value default undoes it"},
    "retry": {"help": "have the last message answered again"},
    "edit": {"takes": "[TEXT]", "help": "change the last message, and have it answered"},
    "stats": {"takes": "[on|off]", "help": "what the last answer took, or every answer from now on"},
    "save": {"takes": "FILE", "help": "keep the conversation and its settings"},
    "load": {"takes": "FILE", "help": "go on with one that was kept"},
    "clear": {"help": "begin a new conversation; the system text stays"},
    "exit": {"help": "leave; so do /bye, and exit and quit without a slash"},
}
ALSO = {"bye": "exit", "quit": "exit", "?": "help"}  # what other programs call them
FAREWELLS = ("exit", "quit")  # that mean themselves where somebody types
LONG = ("system", "edit")  # that may be followed by several lines
# What /set knows, and how it is said; values of on_full are as easily typed as those of `Sampling`.
SETTINGS = {
    field.name: CHAT_SAMPLING_FLAGS[field.name] for field in fields(Sampling) if field.name in CHAT_SAMPLING_FLAGS
}
SETTINGS["on_full"] = CHAT_ON_FULL
SWITCHES = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
CHOICES = {"do_sample": ("on", "off"), "on_full": ON_FULL}
UNDO = "default"
QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』"))
COMMAND = re.compile(r"/([^\W\d_]+|\?)(?:\s+(.*))?\s*", re.DOTALL)


class Leave(Exception):
    """The user wants to end the chat."""


def command(text: str) -> tuple[str, str] | None:
    """The command that a text is, and what follows it; None for a message. Raises UserError for unknown commands.

    Paths and other words with a slash are messages, and so are several lines, save where a command takes them; what
    begins with two slashes is a message that begins with one.
    """
    match = COMMAND.fullmatch(text)
    if not match:
        return None
    name = ALSO.get(match[1].lower(), match[1].lower())
    if "\n" in text.strip() and name not in LONG:
        return None
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        if near:
            raise UserError("no command /{name}", name=name, near=near[0], hint="did you mean /{near}?")
        raise UserError(
            "no command /{name}", name=console.shortened(name),
            hint="/help lists them; // begins a message that begins with a slash",
        )  # fmt: skip
    argument = (match[2] or "").strip()
    if argument and "takes" not in COMMANDS[name]:
        raise UserError(
            "/{name} stands alone, without {argument}", name=name, argument=console.shortened(argument),
            hint="// begins a message that begins with a slash",
        )  # fmt: skip
    return name, argument


def message(text: str) -> str:
    """The message that a text which is no command stands for."""
    return text[1:] if text.startswith("//") else text


def run(chat: "Chat", name: str, argument: str) -> None:
    """Does it. Raises Leave, and UserError for what cannot be done."""
    ACTIONS[name](chat, argument)


def _help(chat: "Chat", _: str) -> None:
    starts = {
        f"/{name} {about.get('takes', '')}".rstrip(): translate(about["help"]) for name, about in COMMANDS.items()
    }
    starts |= {key: translate(about["help"]) for key, about in chat.screen.keys.items()}
    chat.screen.show(definitions([(f"  {start}", about) for start, about in starts.items()], chat.screen.columns))


def _system(chat: "Chat", text: str) -> None:
    if text:
        chat.dialogue.system = unquoted(text) or None
    chat.screen.show(chat.dialogue.system or translate("(no system text)"))


def _set(chat: "Chat", argument: str) -> None:
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    if not name:
        own, now = settings_of(chat, {}), settings_of(chat, chat.dialogue.options)
        chat.screen.show(settings(own, now, chat.screen.columns))
        return
    name = name.replace("-", "_")
    if name not in SETTINGS:
        near = difflib.get_close_matches(name, SETTINGS, 1)
        raise UserError(
            "/set knows no {name}", name=console.shortened(name), near=near[0] if near else next(iter(SETTINGS)),
            hint="did you mean {near}?" if near else "/set alone lists what it knows",
        )  # fmt: skip
    if value.strip():
        chat.dialogue.change(**{name: setting(name, value.strip())})
    chat.screen.show(f"{name} = {setting_text(settings_of(chat, chat.dialogue.options)[name])}")


def settings_of(chat: "Chat", options: Mapping[str, Any]) -> dict[str, Any]:
    """What each setting is."""
    sampling = chat.model.sampling(**{name: value for name, value in options.items() if name != "on_full"})
    on_full = checked_on_full(options.get("on_full"))
    return {name: on_full if name == "on_full" else getattr(sampling, name) for name in SETTINGS}


def setting(name: str, text: str) -> Any:
    """The value that the text stands for, None for the default. Raises UserError where it is of the wrong kind."""
    text = unquoted(text)
    if text == UNDO:
        return None
    if name == "do_sample":
        if text.lower() not in SWITCHES:
            raise _no_switch(name, text)
        return SWITCHES[text.lower()]
    kind = str if name == "on_full" else get_type_hints(Sampling)[name]
    value = flags.reader(f"/set {name}", flags.inner(kind))(text)
    return (value,) if typing.get_origin(kind) is tuple else value


def _no_switch(name: str, value: str) -> UserError:
    return UserError("{name} cannot be {value}", name=name, value=console.shortened(value), hint="write on or off")


def settings(own: Mapping[str, Any], now: Mapping[str, Any], columns: int | None) -> str:
    """Name, value and meaning of each setting in so many columns; those that are not the model's own have a mark."""
    values = {name: setting_text(value) for name, value in now.items()}
    wide, longest = max(map(len, SETTINGS)), max(map(width, values.values()))
    rows = []
    for name, value in values.items():
        mark, choices = " " if now[name] == own[name] else "*", "|".join(CHOICES.get(name, ()))
        meaning = translate(SETTINGS[name]["help"])
        rows.append(
            (f"{mark} {name:<{wide}}  {padded(value, longest)}", f"{meaning} ({choices})" if choices else meaning)
        )
    return definitions(rows, columns)


def setting_text(value: Any) -> str:
    """A setting's value as it can be typed."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _retry(chat: "Chat", _: str) -> None:
    chat.answer(chat.dialogue.retry)


def _edit(chat: "Chat", text: str) -> None:
    if text:
        chat.answer(lambda: chat.dialogue.edit(text))
        return
    last = [m["content"] for m in chat.dialogue.messages if m["role"] == "user"]
    if not last:
        raise UserError("there is no message yet that could be changed", hint="write a message first")
    if not chat.screen.interactive:
        raise UserError("/edit needs the new text here", hint="write it behind /edit")
    chat.draft = last[-1]


def _stats(chat: "Chat", argument: str) -> None:
    if argument:
        if argument.lower() not in SWITCHES:
            raise _no_switch("/stats", argument)
        chat.stats = SWITCHES[argument.lower()]
    elif chat.figures is None:
        raise UserError("there is no answer yet", hint="write a message first")
    else:
        chat.show_figures(chat.figures)


def _save(chat: "Chat", argument: str) -> None:
    path = _path("/save", argument)
    if path.is_dir():
        raise UserError("{path}: a folder, where a file is expected", path=path, hint="name a file")
    if path.exists():
        if not chat.screen.interactive:
            raise UserError("{path} is there already", path=path, hint="choose another name")
        if not chat.screen.confirm(translate("{path} is there already. Write over it?", path=path)):
            return
    chat.dialogue.save(path)
    chat.screen.show(translate("saved: {path}", path=path))


def _load(chat: "Chat", argument: str) -> None:
    path = _path("/load", argument)
    chat.dialogue.load(path)
    chat.figures = None
    chat.recall()


def _path(name: str, argument: str) -> Path:
    """The path that was given; quotation marks around it, as consoles put them around blanks, do not belong to it."""
    argument = unquoted(argument)
    if not argument:
        raise UserError("{name} needs a file", name=name, hint="as in {name} talk.json")
    try:
        return Path(argument).expanduser()
    except RuntimeError:
        return Path(argument)  # ~somebody whom this system does not know


def unquoted(text: str) -> str:
    """The text without the one pair of quotation marks around it, English or Korean, that a shell would take away.

    Marks that also stand further in are part of the text: `"yes" or "no"`.
    """
    for first, last in QUOTES:
        inner = text.strip()[1:-1]
        if text.strip() == first + inner + last and first not in inner and last not in inner:
            return inner
    return text


def _clear(chat: "Chat", _: str) -> None:
    chat.dialogue.clear()
    chat.figures = None
    chat.screen.show(translate("a new conversation"))


def _exit(chat: "Chat", _: str) -> None:
    raise Leave


ACTIONS: dict[str, Callable[["Chat", str], None]] = {
    "help": _help, "system": _system, "set": _set, "retry": _retry, "edit": _edit, "stats": _stats, "save": _save,
    "load": _load, "clear": _clear, "exit": _exit,
}  # fmt: skip
