"""How a server is set up: which models, for whom, and how much of everything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many may wait."""

    body: int = 32 << 20  # bytes
    messages: int = 4096  # of a conversation
    texts: int = 16  # that one request asks for (n)
    prompts: int = 256  # of one request: a list of prompts, or of texts to embed
    stops: int = 64
    stop_characters: int = 1024
    biases: int = 1024  # entries of logit_bias
    schema: int = 256 << 10  # bytes of a schema or a grammar
    responses: int = 1000  # that are kept, so that a conversation can go on from them
    response_bytes: int = 8 << 20  # of all of them, as compressed JSON
    waiting: int = 256  # requests of one model, those that are being answered included
    seconds: float = 600  # from a request's arrival to its end


@dataclass(frozen=True)
class Settings:
    """A server's settings.

    `models`: names, paths, or base+adapter; none: whatever is on this PC. `load` goes to `soban.load`. `keep_alive`:
    seconds after its last request in which an unnamed model stays in memory. `keys`: SHA-256 digests, in hex, of keys
    that are let in, each with a name for its owner; without any, nobody is asked for one. `hosts` (None: any) and
    `origins`: names by which the server may be called, and pages that may call it, besides its own.
    """

    models: tuple[str, ...] = ()
    load: dict[str, Any] = field(default_factory=dict)
    keep_alive: float = 300
    keys: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] | None = ()
    origins: tuple[str, ...] = ()
    limits: Limits = Limits()
