"""The order of a conversation's messages, mended for templates that insist on user and assistant in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from soban import messages as notices
from soban.text.chat.contents import one_part, text_of

Message = Mapping[str, Any]

TURN = {"role", "content"}  # a message of these keys alone can be joined to another

TOLD: Mapping[str, Callable[[], None]] = {
    "empty": lambda: notices.warn("a message without content is taken to be empty"),
    "moved": lambda: notices.warn("a system message in the middle of the conversation became a user's"),
    "joined": lambda: notices.warn("messages of the same role in a row became one, with a blank line between them"),
    "opened": lambda: notices.warn("the conversation begins with an answer: an empty user turn was put before it"),
}


def with_contents(messages: Sequence[Any]) -> tuple[list[Any], set[str]]:
    """The messages, none of them without content: templates would write "None"; and what was mended."""
    lacking = [message.keys() <= TURN and message.get("content") is None for message in messages]
    filled = [{**m, "content": ""} if empty else m for m, empty in zip(messages, lacking, strict=True)]
    return filled, {"empty"} if any(lacking) else set()


def alternating(messages: Sequence[Any]) -> tuple[list[Any], set[str]]:
    """The messages, each of another role than the one before, a user's the first; and what was mended."""
    turns: list[Any] = []
    changes: set[str] = set()
    for message in messages:
        role = message["role"]
        if role == "system" and turns and turns[-1]["role"] != "system":
            message, role = {**message, "role": "user"}, "user"
            changes.add("moved")
        if role == "assistant" and all(m["role"] == "system" for m in turns):
            turns.append({"role": "user", "content": ""})
            changes.add("opened")
        if turns and turns[-1]["role"] == role and message.keys() | turns[-1].keys() <= TURN:
            turns[-1] = {"role": role, "content": _joined(turns[-1], message)}
            changes.add("joined")
        else:
            turns.append(message)
    return turns, changes


def _joined(first: Message, second: Message) -> Any:
    """The contents of both as one: a text, or a part, where one of them has parts."""
    text = "\n\n".join(text for text in (text_of(first), text_of(second)) if text)
    return [one_part(text)] if isinstance(first["content"], list) or isinstance(second["content"], list) else text


def tell(changes: set[str]) -> None:
    """Say what was mended, each once."""
    for kind in sorted(changes):
        TOLD[kind]()
