"""What was typed before: a file of the user's own, one message to a line, as JSON."""

import json
import os
from pathlib import Path

from soban.base import system
from soban.base.errors import UserError
from soban.base.leftovers import remove_leftovers, temporary

MOST = 1000  # messages; a file with twice as many is cut to these


def history_path() -> Path | None:
    """Where the history belongs: the system's place for what programs remember of their use. None: no home folder."""
    try:
        return system.state_folder() / "chat-history.jsonl"
    except UserError:
        return None


def read(path: Path) -> list[str]:
    """The messages, oldest first, at most MOST; lines that are none are passed over. Raises OSError."""
    if not path.exists():
        return []
    entries = [_message(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    messages = [message for message in entries if message is not None]
    if len(messages) > 2 * MOST:
        _replace(path, messages[-MOST:])
    return messages[-MOST:]


def add(path: Path, message: str) -> None:
    """Appends a message. The file is readable by its owner alone. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(message, ensure_ascii=False) + "\n")


def _replace(path: Path, messages: list[str]) -> None:
    remove_leftovers(path)
    other = temporary(path)
    for message in messages:
        add(other, message)
    os.replace(other, path)


def _message(line: str) -> str | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, str) else None
