"""Conversations in files: JSON that people can read, written whole or not at all."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.leftovers import remove_leftovers, temporary
from soban.messages import translate
from soban.text.chat.templates import NAMED

FORMAT = "soban conversation 1"
MAX_BYTES = 64 << 20
JINJA = (".jinja", ".jinja2", ".j2")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Transcript:
    """What a file holds besides its format."""

    messages: list[dict[str, Any]]
    dropped: int = 0
    summary: str = ""
    template: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def write_transcript(path: Path, transcript: Transcript) -> None:
    """Writes the file beside `path` and puts it in place at once. UserError where it cannot."""
    content = {"format": FORMAT, **asdict(transcript)}
    content["messages"] = content.pop("messages")  # the longest last
    if not path.name:  # "", ".", "/"
        raise UserError("{path}: a folder, where a file is expected", path=path, hint="name a file")
    part = temporary(path)
    try:
        remove_leftovers(path)
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except (OSError, MemoryError, ValueError) as error:  # ValueError: half a character, or a path with a NUL
        with contextlib.suppress(OSError, ValueError):
            part.unlink(missing_ok=True)
        raise UserError(
            "{path}: cannot be written ({reason})", path=path, reason=_reason(error), hint="choose another place"
        ) from None  # fmt: skip


def read_transcript(path: Path) -> Transcript:
    """The conversation in a file; a bare list of messages is one too. UserError for anything else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(translate("more than {most} MB", most=MAX_BYTES >> 20))
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(value, list):
            value = {"format": FORMAT, "messages": value}
        return _checked(value)
    except (OSError, MemoryError) as error:
        raise UserError(
            "{path}: cannot be read ({reason})", path=path, reason=_reason(error), hint="check the name"
        ) from None  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise UserError(
            "{path}: not a saved conversation ({reason})", path=path, reason=_reason(error),
            hint="give a file that /save or Dialogue.save has written, or a JSON list of messages",
        ) from None  # fmt: skip


def _checked(value: Any) -> Transcript:
    """The transcript in a JSON value; ValueError saying what is wrong with it."""
    kinds: dict[str, Any] = {"messages": list, "dropped": int, "summary": str, "template": str | None, "options": dict}
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(translate("no format: {format}", format=FORMAT))
    if unknown := [name for name in value if name not in kinds and name != "format"]:
        raise ValueError(translate("unknown: {name}", name=unknown[0]))
    for name, kind in kinds.items():
        if name in value and (not isinstance(value[name], kind) or isinstance(value[name], bool)):
            raise ValueError(f"{name}: {type(value[name]).__name__}")
    if "messages" not in value:
        raise ValueError(translate("no messages"))
    template = value.get("template")
    if template and template not in NAMED and Path(template).suffix not in JINJA:
        raise ValueError(f"template: {template[:60]!r}")  # any file's text would become part of the prompt
    for number, message in enumerate(value["messages"]):
        _check_message(number, message)
    turns = sum(message["role"] == "user" for message in value["messages"])
    if not 0 <= value.get("dropped", 0) <= turns:
        raise ValueError(translate("dropped: {count}, of {turns} turns", count=value["dropped"], turns=turns))
    return Transcript(**{f.name: value[f.name] for f in fields(Transcript) if f.name in value})


def _check_message(number: int, message: Any) -> None:
    if not isinstance(message, dict) or message.keys() != {"role", "content"}:
        raise ValueError(translate("message {number}: not role and content", number=number + 1))
    if message["role"] not in ROLES or (message["role"] == "system" and number):
        reason = translate("message {number}: role {role!r}", number=number + 1, role=str(message["role"])[:40])
        raise ValueError(reason)
    if not isinstance(message["content"], str):
        raise ValueError(translate("message {number}: content is no text", number=number + 1))
    message["content"].encode()  # half a character is a ValueError


def _reason(error: Exception) -> str:
    return " ".join(reason(error).split())[:200] or type(error).__name__
