"""What a chat in a terminal shows: messages, answers, and how full the context is."""

import unicodedata
from collections.abc import Callable

import soban
from soban.talk.dialogue import Reply
from tests.cli.test_flow import laid as flowed
from tests.cli.tmux import Terminal

Start = Callable[..., Terminal]
SAMPLING = {"seed": 3, "max_new_tokens": 24}
FLAGS = ("--template", "plain", "--seed", "3", "--max-new-tokens", "24", "--quiet")
CONTEXT = 512  # of the bundled model


def laid(text: str, columns: int) -> str:
    """The text as a terminal breaks it: anywhere, but never in the middle of a wide character."""
    lines = []
    for line in text.split("\n"):
        lines.append("")
        for character in line:
            if width(lines[-1] + character) > columns:
                lines.append("")
            lines[-1] += character
    return "\n".join(line.rstrip() for line in lines)


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def prompt(dialogue: soban.Dialogue, typed: str = "") -> str:
    """The end of a screen: an input line, and below it how full the context is."""
    return f"> {typed}".rstrip() + f"\n  {dialogue.used} of {CONTEXT} tokens"


def exchange(message: str, answer: str, columns: int = 60) -> str:
    indented = message.replace("\n", "\n  ")
    flowing = "\n".join(line.rstrip() for line in flowed(answer.lstrip(), columns))
    return laid(f"> {indented}\n", columns) + flowing + "\n\n"


def whole(reply: Reply) -> str:
    """An answer as it is shown, with the remark below one that was cut off."""
    answer = reply.read()
    return f"{answer}\n(cut off after 24 tokens: max_new_tokens)" if reply.figures.finished == "length" else answer


def joined(terminal: Terminal) -> str:
    return "\n".join(line.rstrip() for line in terminal.all().rstrip().split("\n"))
