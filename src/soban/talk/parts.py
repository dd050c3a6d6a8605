"""An answer in parts as it is written: text, thoughts, and calls of tools with their arguments."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from soban.text.chat.calls import CallForm, Thinking

Kind = Literal["text", "reasoning", "call", "arguments", "end"]


class Part(NamedTuple):
    """A piece of an answer. A "call" begins one, by its name and id; "arguments" are pieces of its JSON; "end" ends it.

    `call` counts the answer's calls.
    """

    kind: Kind
    text: str = ""
    call: int = -1
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be called, and the arguments as JSON."""

    id: str
    name: str
    arguments: str

    def values(self) -> dict[str, Any]:
        """The arguments read."""
        return json.loads(self.arguments)


class Json:
    """Finds the end of a JSON value that begins with a brace, as its text comes."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped = 0, False, False

    def feed(self, text: str) -> int:
        """How many of the characters belong to the value; less than all of them where it ends."""
        for n, letter in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped, self.quoted = letter == "\\", letter != '"'
            elif letter == '"':
                self.quoted = True
            elif letter in "{[":
                self.depth += 1
            elif letter in "}]":
                self.depth -= 1
                if not self.depth:
                    return n + 1
        return len(text)

    @property
    def ended(self) -> bool:
        return not self.depth


class Parts:
    """Text in, parts out, each as soon as it is certain: calls where there is a `form`, thoughts where `thinking`."""

    def __init__(self, form: CallForm | None = None, thinking: Thinking | None = None) -> None:
        self.form, self.thinking = form, thinking
        self.rest = ""  # what has come and is not certain yet
        self.calls = 0
        self.json = Json()
        self.has_text = False  # anything but blanks, so that no thoughts can begin any more
        self._step = self._reasoning if thinking and thinking.in_prompt else self._opening if thinking else self._text
        self._trim = bool(thinking and thinking.in_prompt)  # blanks that begin a part, which are the template's

    @property
    def within_thoughts(self) -> bool:
        """Whether what comes next is thought."""
        return self._step == self._reasoning

    def feed(self, text: str) -> list[Part]:
        """What a piece of text makes certain."""
        if self.form is None and self.thinking is None:
            return [Part("text", text)] if text else []
        self.rest += text
        return self._parts(False)

    def finish(self) -> list[Part]:
        """What was held back, for nothing follows; a call that was cut off has no end."""
        return self._parts(True)

    def _parts(self, last: bool) -> list[Part]:
        parts: list[Part] = []
        while True:
            step, length = self._step, len(self.rest)
            parts += self._step(last)
            if self._step == step and len(self.rest) == length:
                return [part for part in parts if part.text or part.kind in ("call", "end")]

    def _opening(self, last: bool) -> list[Part]:
        """Before anything: thoughts may begin."""
        assert self.thinking
        begun, mark = self.rest.lstrip(), self.thinking.begin
        if begun.startswith(mark):
            self.rest, self._step, self._trim = begun[len(mark) :], self._reasoning, True
        elif last or not mark.startswith(begun):
            self._step = self._text
        return []

    def _reasoning(self, last: bool) -> list[Part]:
        assert self.thinking
        self._trim_blanks()
        before, mark, after = self.rest.partition(self.thinking.end)
        if mark:
            self.rest, self._step, self._trim = after, self._text, True
            return [Part("reasoning", before.rstrip())]
        text = self._certain([self.thinking.end], last, blanks=True)
        return [Part("reasoning", text)]

    def _text(self, last: bool) -> list[Part]:
        self._trim_blanks()
        if self.form is None:
            return [Part("text", self._certain([], last))]
        begin = self.form.begin
        whole = begin[:1] in "{["  # such a call is the whole answer
        place = (0 if self.rest.startswith(begin) and not self.has_text else -1) if whole else self.rest.find(begin)
        if place >= 0:
            before, self.rest = self.rest[:place].rstrip(), self.rest[place + len(begin) :]
            self._step = self._name
            return [Part("text", before)]
        if whole and self.has_text:
            return [Part("text", self._certain([], last))]
        text = self._certain([begin], last, blanks=not whole)
        self.has_text = self.has_text or bool(text)
        return [Part("text", text)]

    def _name(self, last: bool) -> list[Part]:
        assert self.form
        name, mark, after = self.rest.partition(self.form.middle)
        if not mark:
            return []
        self.rest, self._step, self.json = after, self._arguments, Json()
        self.calls += 1
        return [Part("call", "", self.calls - 1, name, f"call_{secrets.token_hex(12)}")]

    def _arguments(self, last: bool) -> list[Part]:
        if not self.rest:
            return []
        count = self.json.feed(self.rest)
        part = Part("arguments", self.rest[:count], self.calls - 1)
        self.rest = self.rest[count:]
        if not self.json.ended:
            return [part]
        self._step = self._after
        return [part, Part("end", "", self.calls - 1)]

    def _after(self, last: bool) -> list[Part]:
        """Between two calls, or after the last."""
        assert self.form
        between, end = self.form.between, self.form.end
        if between is not None and self.rest.startswith(between):
            self.rest, self._step = self.rest[len(between) :], self._name
        elif self.rest.startswith(end) and (between is None or last or not between.startswith(self.rest)):
            self.rest, self._step, self._trim = self.rest[len(end) :], self._text, True
        return []

    def _trim_blanks(self) -> None:
        if self._trim:
            self.rest = self.rest.lstrip()
            self._trim = not self.rest

    def _certain(self, marks: Sequence[str], last: bool, *, blanks: bool = False) -> str:
        """The text that begins none of the marks; with `blanks`, nor what may stand before one."""
        text = self.rest
        if not last:
            reach = max((_begun(text, mark) for mark in marks), default=0)
            text = text[: len(text) - reach]
            text = text.rstrip() if blanks else text
        elif blanks and self._step == self._reasoning:
            text = text.rstrip()
        self.rest = "" if last else self.rest[len(text) :]
        return text


def _begun(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    place = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while place >= 0 and not mark.startswith(text[place:]):
        place = text.find(mark[0], place + 1)
    return len(text) - place if place >= 0 else 0
