"""JSON records out of a stream: of arrays, of lines, of values in a row, of pandas' layouts; past what is broken."""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from soban.base.errors import UserError
from soban.learn.data.fields import ROLE, has_text
from soban.learn.data.rows import Broken
from soban.learn.data.sources import Source

PIECE = 1 << 20
BETWEEN = re.compile(r"[\s,]*")
KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:')
CLOSE_TO_THE_END = 16  # characters within which an error may come of a value that is cut, as -Infinit
LOOK = 50  # lines that tell whether each is a value
STRING = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,"\[\]{}]+', re.DOTALL)  # or a word that is no value
PAIRS = {"[": "]", "{": "}"}
PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def line_by_line(stream: io.TextIOBase) -> bool:
    """Whether one of the first lines is an object or a text by itself; else the file is one value, or several."""
    for line in islice(iter(lambda: stream.readline(1 << 20), ""), LOOK):
        try:
            if isinstance(json.loads(line, strict=False), dict | str):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def lines(texts: Iterable[str]) -> Iterator[Any]:
    """A value a line, or several in a row."""
    decoder = json.JSONDecoder(strict=False)
    for line in texts:
        at = BETWEEN.match(line).end()  # type: ignore[union-attr]
        while at < len(line):
            try:
                value, stop = decoder.raw_decode(line, at)
            except (ValueError, RecursionError) as error:
                yield Broken(str(error))
                break
            yield value
            at = BETWEEN.match(line, stop).end()  # type: ignore[union-attr]


def whole(source: Source, stream: io.TextIOBase, longest: int) -> Iterator[Any]:
    """The elements of an array, or values one after the other; in an object that holds a table, its rows."""
    values = _Values(source, stream, longest)
    if values.peek() == "[":
        values.take()
        for value in values.each("]"):
            yield _row(value)
    else:
        for value in values.each(""):
            yield from records_in(value) if not isinstance(value, Broken) else [value]


class _Values:
    """JSON values out of a stream, as many at a time as a piece of it holds."""

    def __init__(self, source: Source, stream: io.TextIOBase, longest: int) -> None:
        self._source, self._stream, self._longest = source, stream, longest
        self._text, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder(strict=False)  # a line end within a text is no reason to lose it
        self._key = ""  # what the first object began with

    def _more(self) -> None:
        """At least twice what is waiting, so that a long value is not tried too often."""
        waiting = self._text[self._at :]
        if len(waiting) > self._longest:
            raise self._too_long()
        new = self._stream.read(max(PIECE, len(waiting)))
        self._ended = not new
        self._text, self._at = waiting + new, 0

    def _too_long(self) -> UserError:
        return UserError(
            "{path}: a record of more than {most:,} characters", path=self._source.name, most=self._longest,
            hint="break it into smaller ones, or save it as .jsonl",
        )  # fmt: skip

    def peek(self) -> str:
        """The next character that is neither blank nor comma; "" at the end."""
        while True:
            self._at = BETWEEN.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def take(self) -> None:
        """Passes over one character."""
        self._at += 1

    def each(self, end: str) -> Iterator[Any]:
        """The values up to that character, and a Broken for each that is damaged. Raises UserError for one too long."""
        while (character := self.peek()) != end:
            if not character:
                yield Broken("it ends early")
                return
            try:
                value, stop = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if self._may_be_cut(error):
                    self._more()
                    continue
                yield from self._past(str(error), end)
                continue
            except RecursionError:
                yield from self._past("nested too deeply", end)
                continue
            if not self._key and (first := KEY.match(self._text, self._at)):
                self._key = first[1]
            self._at = stop
            yield value

    def _may_be_cut(self, error: ValueError) -> bool:
        """Whether the error may be that the rest is not read yet."""
        if self._ended or not isinstance(error, json.JSONDecodeError):
            return False
        unended = error.msg.startswith("Unterminated string") and len(self._text) - self._at <= self._longest
        return unended or error.pos + CLOSE_TO_THE_END >= len(self._text)

    def _past(self, problem: str, end: str) -> Iterator[Broken]:
        """Goes on behind a broken value: at its last bracket if its brackets match, else where an object begins as the
        others do; a Broken for each that is passed over."""
        start, too_long = self._at, len(self._text) - self._at > self._longest and problem.startswith("Unterminated")
        if (stop := self._matching()) is not None:
            self._at = stop
            yield Broken(problem)
            return
        self._at = start
        key = self._key or ((first := KEY.match(self._text, start)) and first[1]) or ""
        begin = re.compile(r"\{\s*" + re.escape(key) + r"\s*:") if key else None
        yield Broken(problem)
        passed = 1
        while begin is not None:
            match = begin.search(self._text, self._at + passed)
            if match is None:
                if self._ended:
                    break
                self._at = max(self._at, len(self._text) - len(key) - CLOSE_TO_THE_END)
                passed = 0
                self._more()
                continue
            self._at, passed = match.start(), 1
            try:
                self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if not self._may_be_cut(error):
                    yield Broken(str(error))
                    continue
            except RecursionError:
                pass
            return
        if too_long:
            raise self._too_long()
        self._at = len(self._text)
        if end:
            self._text, self._at = end, 0  # nothing more can be told apart

    def _matching(self) -> int | None:
        """Where the brackets of the value at hand are closed, if a value or the end follows; or where its text ends."""
        at = self._at
        awaited = ""
        if self._text[at] not in "[{":
            return match.end() if (match := STRING.match(self._text, at)) else None
        while True:
            part = PARTS.search(self._text, at)
            if part is None:
                return None
            at = part.end()
            if part[0] in PAIRS:
                awaited += PAIRS[part[0]]
            elif part[0] in PAIRS.values():
                if not awaited.endswith(part[0]):
                    return None
                awaited = awaited[:-1]
                if not awaited:
                    break
        behind = BETWEEN.match(self._text, at)
        assert behind is not None
        if self._text[behind.end() : behind.end() + 1] in ("", "]"):
            return at
        try:
            self._decoder.raw_decode(self._text, behind.end())
        except ValueError as error:
            return at if self._may_be_cut(error) else None
        except RecursionError:
            return None
        return at


def records_in(value: Any) -> Iterator[Any]:
    """The records in a value: itself, or the rows of a table in it that has no text beside it."""
    if isinstance(value, list):
        yield from map(_row, value)
        return
    if not isinstance(value, dict) or has_text(value):
        yield value
        return
    lists = [table for table in value.values() if _is_table(table)]
    if lists:
        yield from max(lists, key=len)
    else:
        yield from _of_pandas(value) or [value]


def _is_table(table: Any) -> bool:
    return isinstance(table, list) and bool(table) and all(isinstance(row, dict) for row in table)


def _of_pandas(value: dict[str, Any]) -> list[Any]:
    """The rows of a DataFrame as to_json writes it: orient "split", "columns" (the usual one) or "index"."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data if isinstance(row, list)]
    parts = list(value.values())
    if not parts or not all(isinstance(one, dict) and one and one.keys() == parts[0].keys() for one in parts):
        return []
    labels = list(parts[0])
    if _are_numbers(value) and not _are_numbers(labels):
        return parts  # by rows
    if _are_numbers(labels) or len(labels) > max(3, len(parts)):
        return [{name: column[label] for name, column in value.items()} for label in labels]
    return parts if len(parts) > 1 and has_text(parts[0]) else []


def _are_numbers(names: Iterable[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _row(value: Any) -> Any:
    """A row without names, as to_json's orient "values" writes it, by the numbers of its cells; turns as turns."""
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(part, Mapping) and any(name in part for name in ROLE) for part in value):
        return {"messages": value}
    if not any(isinstance(part, list | dict) for part in value):
        return {str(number + 1): part for number, part in enumerate(value)}
    return value
