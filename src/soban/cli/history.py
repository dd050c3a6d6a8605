"""What was typed before: a file of the user's own, one message to a line, as JSON."""

import json
import os
import sys
from pathlib import Path

MOST = 1000  # messages; a file with twice as many is cut to these


def history_path() -> Path:
    """Where the history belongs: the system's place for what programs remember of their use."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "soban" / "chat-history.jsonl"


def read(path: Path) -> list[str]:
    """The messages, oldest first, at most MOST; lines that are none are passed over. Raises OSError."""
    if not path.exists():
        return []
    found = [_message(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    messages = [message for message in found if message is not None]
    if len(messages) > 2 * MOST:
        _replace(path, messages[-MOST:])
    return messages[-MOST:]


def add(path: Path, message: str) -> None:
    """Appends a message. The file is readable by its owner alone. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
        file.write(_line(message))


def _replace(path: Path, messages: list[str]) -> None:
    other = path.with_suffix(f".{os.getpid()}")
    for message in messages:
        add(other, message)
    os.replace(other, path)


def _line(message: str) -> str:
    return json.dumps(message, ensure_ascii=False) + "\n"


def _message(line: str) -> str | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, str) else None
