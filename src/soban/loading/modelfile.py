"""A Modelfile, as Ollama's users write it: a model, and the system text and settings that it is to be used with."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from soban.base.errors import UserError
from soban.hub.names import quotable
from soban.text.chat.templates import NAMED

MOST = 1 << 20  # characters of a Modelfile
MOST_MESSAGES = 1000
ROLES = ("system", "user", "assistant")
QUOTES = '"""'
QUOTED = re.compile(r'"{3}(.*?)"{3}(?!")', re.DOTALL)  # a text may end with quotation marks of its own
HEADED = ("PARAMETER", "MESSAGE")  # a name or a role stands before the value
INSTRUCTIONS = "FROM, ADAPTER, PARAMETER, SYSTEM, TEMPLATE, MESSAGE, LICENSE"
# Ollama's parameters, and how a value is read. Those about the hardware change nothing of a text, and are passed over.
VALUES: dict[str, Callable[[Any], Any]] = {
    "temperature": float, "top_k": int, "top_p": float, "min_p": float, "repeat_penalty": float, "num_predict": int,
    "stop": str, "num_ctx": int,
}  # fmt: skip
HARDWARE = ("num_gpu", "num_thread", "num_batch", "main_gpu", "use_mmap", "use_mlock", "numa", "low_vram", "num_keep")


@dataclass(frozen=True)
class Modelfile:
    """What the instructions of one say. `base`: a name or a path; `parameters` by Ollama's names, stop as a tuple."""

    base: str
    adapter: str | None = None
    parameters: tuple[tuple[str, Any], ...] = ()
    system: str | None = None
    template: str | None = None
    messages: tuple[tuple[str, str], ...] = ()  # role and content
    license: str = ""

    @property
    def context(self) -> int | None:
        """How many tokens the context is to have, if it says so."""
        return dict(self.parameters).get("num_ctx")

    def on(self, other: "Modelfile") -> "Modelfile":
        """This one, whose base is what the other one describes."""
        return replace(
            other, adapter=self.adapter or other.adapter, system=other.system if self.system is None else self.system,
            parameters=tuple((dict(other.parameters) | dict(self.parameters)).items()),
            template=self.template or other.template, messages=self.messages or other.messages,
            license=self.license or other.license,
        )  # fmt: skip

    def parameter_lines(self) -> list[str]:
        """A line for each parameter, of stop for each of its texts."""
        pairs = [(key, one) for key, value in self.parameters for one in (value if key == "stop" else (value,))]
        return [f"{key} {_quoted(str(one))}" for key, one in pairs]

    def text(self) -> str:
        """A Modelfile that says the same. Raises UserError for a text with three quotation marks within."""
        lines = [f"FROM {self.base}"]
        if self.adapter:
            lines.append(f"ADAPTER {self.adapter}")
        lines += [f"PARAMETER {line}" for line in self.parameter_lines()]
        if self.template:
            lines.append(f"TEMPLATE {self.template}")
        if self.system is not None:
            lines.append(f"SYSTEM {_quoted(self.system)}")
        lines += [f"MESSAGE {role} {_quoted(content)}" for role, content in self.messages]
        if self.license:
            lines.append(f"LICENSE {_quoted(self.license)}")
        return "\n".join(lines) + "\n"


def parse(text: str, name: str = "Modelfile") -> Modelfile:
    """What a Modelfile says; paths in it stay as they are written. Raises UserError with the number of a wrong line."""
    if len(text) > MOST:
        raise UserError("{name}: too long for a Modelfile", name=name, hint="give one of at most a megabyte")
    fields: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    messages: list[tuple[str, str]] = []
    for line, word, head, value in _instructions(text, name):
        kind = word.upper()
        if kind not in INSTRUCTIONS.split(", "):
            raise UserError(
                "{name}, line {line}: {word} is no instruction of a Modelfile", name=name, line=line,
                word=quotable(word), known=INSTRUCTIONS,
                hint="there are {known}",
            )  # fmt: skip
        if not value and kind not in ("SYSTEM", "LICENSE"):
            raise UserError(
                "{name}, line {line}: {word} says nothing", name=name, line=line, word=quotable(word),
                known=INSTRUCTIONS, hint="a line is an instruction and its value; there are {known}",
            )  # fmt: skip
        match kind:
            case "FROM":
                fields["base"] = value
            case "TEMPLATE":
                fields["template"] = _template(value, name, line)
            case "PARAMETER":
                _parameter(parameters, head, value, name, line)
            case "MESSAGE":
                messages.append((_role(head, name, line), value))
            case _:
                fields[word.lower()] = value
    if not fields.get("base"):
        raise UserError("{name} has no FROM", name=name, hint="begin with FROM and a model, as in FROM gemma2:2b")
    if len(messages) > MOST_MESSAGES:
        raise UserError("{name}: too many messages", name=name, most=MOST_MESSAGES, hint="give at most {most}")
    return Modelfile(parameters=tuple(parameters.items()), messages=tuple(messages), **fields)


def _instructions(text: str, name: str) -> Iterator[tuple[int, str, str, str]]:
    """The number of its line, its word, the word after that for those that have one, and its value."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    place, line = 0, 1
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        word, _, rest = text[place:end].strip().partition(" ")
        if not word or word.startswith("#"):
            place, line = end + 1, line + 1
            continue
        head, start = "", text.index(word, place) + len(word)
        if word.upper() in HEADED:
            head = rest.strip().partition(" ")[0]
            start = text.index(head, start) + len(head)
        value = text[start:end].strip()
        if value.startswith(QUOTES):
            quoted = QUOTED.match(text, text.index(QUOTES, start))
            if quoted is None:
                raise UserError(
                    "{name}, line {line}: a text that begins with {quotes} does not end", name=name, line=line,
                    quotes=QUOTES, hint="put {quotes} at its end",
                )  # fmt: skip
            value = quoted[1]
            end = text.find("\n", quoted.end())
            end = len(text) if end < 0 else end
            if behind := text[quoted.end() : end].strip():
                raise UserError(
                    "{name}, line {line}: {text} stands behind the end of a text", name=name,
                    line=line + text.count("\n", place, quoted.end()), text=quotable(behind),
                    hint="begin a new line for it",
                )  # fmt: skip
        elif len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        yield line, word, head, value
        line += text.count("\n", place, end) + 1
        place = end + 1


def _template(value: str, name: str, line: int) -> str:
    if value not in NAMED:
        raise UserError(
            "{name}, line {line}: a TEMPLATE is told by its name here, not by its text", name=name, line=line,
            known=", ".join(sorted(NAMED)), hint="choose among {known}; without it, the model's own is taken",
        )  # fmt: skip
    return value


def _parameter(parameters: dict[str, Any], key: str, value: str, name: str, line: int) -> None:
    if key in HARDWARE:
        return
    if key not in VALUES:
        raise UserError(
            "{name}, line {line}: {key} is no parameter that soban follows", name=name, line=line, key=quotable(key),
            known=", ".join(VALUES), hint="there are {known}",
        )  # fmt: skip
    try:
        number = VALUES[key](value)
    except ValueError:
        raise UserError(
            "{name}, line {line}: {key} is {value}, where a number belongs", name=name, line=line, key=key,
            value=quotable(value), hint="as in PARAMETER temperature 0.5",
        ) from None  # fmt: skip
    parameters[key] = (*parameters.get(key, ()), number) if key == "stop" else number


def _role(role: str, name: str, line: int) -> str:
    if role not in ROLES:
        raise UserError(
            "{name}, line {line}: a MESSAGE is a role and a text", name=name, line=line, roles=", ".join(ROLES),
            hint="roles are {roles}",
        )  # fmt: skip
    return role


def _quoted(text: str) -> str:
    if QUOTES in text:
        raise UserError("a text has three quotation marks in a row, where it would end", hint="leave them out")
    plain = text.strip() == text and "\n" not in text and not text.startswith('"')
    return text if plain and text else f"{QUOTES}{text}{QUOTES}"
