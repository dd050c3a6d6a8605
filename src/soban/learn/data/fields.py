"""Which of a record's fields are its text: told by the user, or known by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from soban.base.errors import UserError
from soban.learn.data.chats import ROLES, Conversation

Record = Mapping[str, Any]

# The first that a file's records have wins; here, what ends in ? may be missing or empty. A story comes before an
# instruction, because TinyStories' records have both.
KNOWN: tuple[tuple[str, ...], ...] = (
    ("story",), ("text",), ("messages",),
    ("conversations", "chosen?"), ("conversation",), ("dialogue",), ("dialog",), ("turns",),
    ("system?", "instruction", "input?", "output"), ("system?", "instruction", "input?", "response"),
    ("system?", "prompt", "completion"), ("system?", "prompt", "response"), ("system?", "prompt", "chosen"),
    ("context?", "question", "answer"), ("question", "response"), ("query", "response"), ("query", "answer"),
    ("q", "a"), ("질문", "답변"), ("질문", "답"),
    ("content",), ("contents",), ("document",), ("passage",), ("article",), ("body",), ("original",), ("sentence",),
    ("본문",), ("내용",), ("원문",), ("텍스트",), ("문장",), ("이야기",),
)  # fmt: skip
# A list of bare texts is one of turns here; in the other single fields above it is a text's.
TURNS = {"messages", "conversations", "conversation", "dialogue", "dialog", "turns"}
INNER = ("content", "value", "text", "utterance", "발화")  # what a turn or a part of one calls its words
ROLE = ("role", "from")  # and who says it
PEEK = 100  # records from which the fields are chosen
PROSE = 40  # characters on average, from which a field of unknown name may be the text
DEEPEST = 8


@dataclass(frozen=True)
class Field:
    """One field, as the records spell it, and what it is for: a system message, or the answer to those before it."""

    name: str
    optional: bool = False
    role: Literal["", "system", "answer"] = ""


@dataclass(frozen=True)
class Fields:
    """The fields whose words, one after the other, are a record's text."""

    fields: tuple[Field, ...]

    def text(self, record: Any) -> str:
        """The record's text; "" where it has none, or lacks a field that it needs."""
        if isinstance(record, str):
            return record
        if not isinstance(record, Mapping):
            return ""
        values = [(field, value(record, field.name)) for field in self.fields]
        parts = [(answer(one) if field.role == "answer" else words(one)).strip() for field, one in values]
        if not all(part or field.optional for part, field in zip(parts, self.fields, strict=True)):
            return ""
        return "\n".join(filter(None, parts))

    def conversation(self, record: Any) -> Conversation | None:
        """The record's turns; None where its text is no conversation.

        Turns are listed in the first field; or the last field answers those before it.
        """
        if not isinstance(record, Mapping):
            return None
        values = [value(record, field.name) for field in self.fields]
        system = [("system", words(values.pop(0)))] if self.fields[0].role == "system" else []
        system = [turn for turn in system if turn[1]]
        if isinstance(values[0], list) and (len(values) > 1 or self._lists_turns(values[0])):
            turns = [_turn(part, number) for number, part in enumerate(values[0])]
            answers = [("assistant", text) for one in values[1:] if (text := answer(one))]
            return Conversation((*system, *turns, *answers))
        if len(values) < 2:
            return None
        question = "\n".join(filter(None, (words(one).strip() for one in values[:-1])))
        return Conversation((*system, ("user", question), ("assistant", answer(values[-1]))))

    def _lists_turns(self, parts: list[Any]) -> bool:
        """Whether a list in the only field is one of turns: where its name does not say so, by who says its parts."""
        name = self.fields[0].name.rpartition(".")[2].strip().lower()
        return name in TURNS or (name,) not in KNOWN or all(map(_role, parts))

    def __str__(self) -> str:
        return " + ".join(field.name for field in self.fields)


def choose(records: Sequence[Any], own_names: Sequence[str], path: str) -> Fields:
    """The fields that hold the text of such records. Raises UserError where that cannot be told."""
    rows = [record for record in records if isinstance(record, Mapping)]
    if not rows:
        return Fields(())  # strings, which are texts themselves
    names = list(dict.fromkeys(name for row in rows for name in row))
    if own_names:
        if missing := [name for name in own_names if not any(words(value(row, name)) for row in rows)]:
            raise _no_field(path, missing[0], names)
        return Fields(tuple(map(Field, own_names)))
    for usual in KNOWN:
        fields = _spelled(usual, names)
        if fields and 2 * sum(bool(fields.text(row)) for row in rows) >= len(rows):
            return fields
    return Fields((Field(_longest(rows, names, path)),))


def _turn(part: Any, number: int) -> tuple[str, str]:
    """Who says a part of a conversation, and what; bare texts are a user's and an assistant's in turn."""
    if isinstance(part, str):
        return ("assistant" if number % 2 else "user"), part
    return _role(part), words(part)


def _role(part: Any) -> str:
    """Who says a part of a conversation; "" where that is not told."""
    role = next((part[name] for name in ROLE if name in part), None) if isinstance(part, Mapping) else None
    return role.lower() if isinstance(role, str) else ""


def has_text(record: Record) -> bool:
    """Whether a record has its text in fields of usual names."""
    spellings = (_spelled(usual, list(record)) for usual in KNOWN)
    return any(fields.text(record) for fields in spellings if fields)


def _spelled(usual: tuple[str, ...], names: Sequence[str]) -> Fields | None:
    """Known fields as these records spell them, if they have all that are needed."""
    spelling = {name.strip().lower(): name for name in reversed(names) if isinstance(name, str)}
    if any(name not in spelling for name in usual if not name.endswith("?")):
        return None
    matching = []
    for name in usual:
        if (plain := name.rstrip("?")) in spelling:
            role: Literal["", "system", "answer"] = "system" if plain == "system" else ""
            if name == usual[-1] and len(usual) > 1:
                role = "answer"
            matching.append(Field(spelling[plain], name.endswith("?"), role))
    return Fields(tuple(matching))


def _longest(rows: Sequence[Record], names: Sequence[str], path: str) -> str:
    """The only field with words, or the one whose words are by far the most."""
    sizes = {}
    for name in names:
        if texts := [row[name] for row in rows if isinstance(row.get(name), str) and row[name].strip()]:
            sizes[name] = sum(map(len, texts)) / len(rows)
    ranked = sorted(sizes, key=lambda name: -sizes[name])
    if len(ranked) == 1 or (len(ranked) > 1 and sizes[ranked[0]] > max(PROSE, 3 * sizes[ranked[1]])):
        return ranked[0]
    raise UserError(
        "{path}: which field is the text? It has {fields}", path=path, fields=_listed(names),
        hint="name it with --field NAME; several are put together in the order in which they are named",
    )  # fmt: skip


def _no_field(path: str, field: str, names: Sequence[str]) -> UserError:
    return UserError(
        "{path}: no text in a field {field}; it has {fields}", path=path, field=field, fields=_listed(names),
        hint="give one of these to --field; outer.inner reaches into nested ones",
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    printable = [ascii(name)[1:-1] if not str(name).isprintable() else str(name) for name in names[:12]]
    return ", ".join(name[:40] for name in printable) + (", ..." if len(names) > 12 else "")


def value(record: Any, name: str) -> Any:
    """A field; `outer.inner` reaches into nested ones, and into each of a list of them."""
    if isinstance(record, Mapping) and name in record:
        return record[name]
    outer, dot, inner = name.partition(".")
    if not dot or not isinstance(record, Mapping) or outer not in record:
        return None
    content = record[outer]
    if isinstance(content, list):
        return [deeper for part in content if (deeper := value(part, inner)) is not None]
    return value(content, inner)


def words(content: Any, depth: int = 0) -> str:
    """The words in a value: a text itself, the turns of a conversation, the parts of a turn, one a line."""
    if isinstance(content, str):
        return content
    if depth < DEEPEST and isinstance(content, list):
        return "\n".join(filter(None, (words(part, depth + 1).strip() for part in content)))
    if depth < DEEPEST and isinstance(content, Mapping):
        return next((words(content[name], depth + 1) for name in INNER if name in content), "")
    return ""


def answer(content: Any) -> str:
    """The words in a value; of a list of messages, those of the assistant's last, for the question may be in it."""
    if isinstance(content, list) and content and all(_role(part) for part in content):
        content = next((part for part in reversed(content) if ROLES.get(_role(part)) == "assistant"), content[-1])
    return words(content)
