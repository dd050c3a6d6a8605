"""`soban stop`: ends a server."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.serve.presence import Presence

EXAMPLES = """\
  soban stop             the server that runs on this PC
  soban stop 11434       the one at that port, where there are several
"""
PATIENCE = 40.0  # seconds: as long as a server lets answers come to their end, and a little


@dataclass(frozen=True)
class StopOptions:
    """End a server on this PC. What it is writing comes to its end; what asks afterwards is not answered."""

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[PORT]"})


OPTIONS = StopOptions


def call(options: StopOptions) -> int:
    """Returns when the server has ended."""
    from soban.serve import presence

    port = _port(options.words)
    one = presence.server_at(port)
    one.ask("/soban/stop", "POST")
    until = time.monotonic() + PATIENCE
    while presence.is_noted(one) and time.monotonic() < until:
        time.sleep(0.1)
    if presence.is_noted(one) and _answers(one):
        raise UserError(
            "{url} is still writing", url=one.url, process=one.process, hint="end process {process} by force"
        )
    console.tell(translate("{url} has ended", url=one.url))
    return 0


def _answers(one: "Presence") -> bool:
    try:
        one.ask("/livez")
    except OSError:
        return False
    return True


def _port(words: tuple[str, ...]) -> int | None:
    if len(words) > 1:
        raise UserError("{count} words, where one port is meant", count=len(words), hint="name one server at a time")
    if not words:
        return None
    if not words[0].isdecimal():
        raise UserError("{port}: no port", port=words[0], hint="give a number, as soban ps shows it")
    return int(words[0])
