"""What messages hold: plain values, a role, and a content that is one text or several parts."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from soban.base.errors import UserError
from soban.base.files import quoted

Render = Callable[[list[Any]], str]

ROLE = re.compile(r"[\w-]+")
MARKER = "\U0010f000text\U0010f000"  # in a private plane, so that no template or message means anything by it


def plain(value: Any, depth: int = 0) -> Any:
    """The value rebuilt of JSON types, so that a template meets no methods of ours; UserError for anything else."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > 50:
        raise UserError("a message is nested too deeply", hint="give it as role and content")
    if isinstance(value, Mapping):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise UserError(
        "a message holds a {kind}, which is no text, number, list or object",
        kind=type(value).__name__,
        hint="give plain values, as in JSON",
    )


def checked_message(message: Any) -> Any:
    """The message. Its role is written between the template's own tokens, so it must be a word; parts must be text."""
    if not isinstance(message, dict):
        raise UserError(
            "a message is {value!r} where an object with role and content belongs",
            value=message,
            hint="give it as role and content",
        )
    role = message.get("role")
    if not isinstance(role, str) or not ROLE.fullmatch(role):
        raise UserError("a message has the role {role!r}", role=role, hint="use system, user or assistant")
    if isinstance(content := message.get("content"), list):
        for part in content:
            _check_part(part)
    elif isinstance(content, int | float):  # a tool's may be an object, which some templates read
        raise UserError("the content of a message is of type {kind}", kind=type(content).__name__, hint="give text")
    return message


def _check_part(part: Any) -> None:
    if not isinstance(part, dict) or "type" not in part:
        raise UserError(
            "a part of a message is {value} where an object with type and text belongs", value=quoted(part),
            hint='give it as {{"type": "text", "text": "Hello"}}, or give the message one text',
        )  # fmt: skip
    if part["type"] != "text":
        raise UserError(
            "a message has a part of type {kind}, and only text can be read", kind=quoted(part["type"]),
            hint="leave it out, or say in words what is in it",
        )  # fmt: skip
    if not isinstance(part.get("text"), str):
        raise UserError(
            "the text of a part of a message is of type {kind}", kind=type(part.get("text")).__name__, hint="give text"
        )


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says, be it one text or several parts."""
    content = message.get("content") or ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in content)
    return str(content)


def one_part(text: str) -> dict[str, str]:
    """A text as the part of a content. Templates may trim parts, so blank lines belong inside one."""
    return {"type": "text", "text": text}


def with_parts(render: Render, messages: list[Any]) -> list[Any]:
    """The messages, parts joined to one text for the roles in which the template does not read parts itself."""
    roles = {message["role"] for message in messages if isinstance(message.get("content"), list)}
    joined = {role for role in roles if not _reads_parts(render, messages, role)}
    return [
        {**message, "content": text_of(message)}
        if message["role"] in joined and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _reads_parts(render: Render, messages: list[Any], role: str) -> bool:
    """Whether the template writes one part as it writes the same text alone, or only takes parts."""

    def with_content(content: Any) -> str | None:
        try:
            return render([{**m, "content": content} if m["role"] == role else m for m in messages])
        except UserError:
            return None

    parted, alone = with_content([one_part(MARKER)]), with_content(MARKER)
    if parted is None or MARKER not in parted:
        return False
    return parted == alone or alone is None or MARKER not in alone
