"""`soban serve`: models for other programs, over HTTP."""

import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from soban.base.errors import UserError
from soban.cli.shared import files_of, use_threads
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.serve.guard import Record

PORT = 11435
EXAMPLES = """\
  soban serve gemma2:2b                          http://127.0.0.1:11435, for OpenAI's, Ollama's and Anthropic's programs
  soban serve gemma2:2b+./abstracts qwen3:0.6b   two models; the first with an adapter
  soban serve                                    whatever is on this PC, loaded when it is asked for
  soban serve gemma2:2b --port 11434             for programs that insist on Ollama's port
  soban serve --new-key mina                     a key for somebody; then --host 0.0.0.0 opens the server to the network
"""


@dataclass(frozen=True)
class ServeOptions:
    """Let other programs use models: OpenAI's, Ollama's and Anthropic's clients, at http://127.0.0.1:11435.

    MODEL is a name, a folder or a .bin, and base+adapter a model with an adapter; all of them are loaded at the start
    and stay. Without any, whatever is on this PC is loaded when it is asked for, and unloaded when nobody has used it
    for a while. Only this PC can reach the server, unless --host says otherwise; then every request has to bring a key
    (--new-key, or one in SOBAN_API_KEY). Ctrl-C lets what is being written come to its end; a second one does not.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL ...]"})
    host: str = field(default="127.0.0.1", metadata={"help": "the address to listen at; 0.0.0.0: all networks"})
    port: int = field(default=PORT, metadata={"help": "the port to listen at; 0: any that is free"})
    dtype: Literal["auto", "f32", "bf16", "gguf", "q8", "q4"] = field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    cache_dtype: Literal["auto", "f32", "bf16", "int8"] = field(
        default="auto", metadata={"help": "how past tokens are kept"}
    )
    context: int | None = field(default=None, metadata={"help": "tokens that a prompt and its text may have together"})
    threads: int | None = field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    users: int | None = field(
        default=None,
        metadata={"help": "texts of full length that the cache holds at once (default: by the free memory)"},
    )
    force: bool = field(default=False, metadata={"help": "load even if memory seems too short"})
    keep_alive: str = field(
        default="5m", metadata={"help": "how long a model that was not named stays unused, as in 90s, 5m, 2h"}
    )
    waiting: int = field(default=256, metadata={"help": "requests of one model at the same time; more are refused"})
    timeout: str = field(default="10m", metadata={"help": "how long a request may take, as in 90s, 10m"})
    allow_host: tuple[str, ...] = field(
        default=(), metadata={"metavar": "NAME", "help": "a name by which this server may be called besides localhost"}
    )
    allow_origin: tuple[str, ...] = field(
        default=(), metadata={"metavar": "URL", "help": "a site whose pages may ask, as in https://example.org"}
    )
    new_key: str | None = field(default=None, metadata={"metavar": "NAME", "help": "make a key for NAME, and end"})
    forget_key: str | None = field(default=None, metadata={"metavar": "NAME", "help": "take a key away, and end"})
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "no line about each request"})


OPTIONS = ServeOptions


def call(options: ServeOptions) -> int:
    """Serves until it is stopped; a line about each request on stderr."""
    from soban.serve import keys

    if options.new_key is not None:
        key = keys.add(options.new_key)
        console.tell(translate("the key of {name}; it is shown this once:", name=options.new_key))
        console.write(key + "\n")
        return 0
    if options.forget_key is not None:
        keys.forget(options.forget_key)
        return 0
    from soban.serve.guard import Record
    from soban.serve.presence import Presence
    from soban.serve.running import LOOPBACK, serve
    from soban.serve.settings import Limits, Settings

    use_threads(options.threads)
    env = {keys.digest(key): "SOBAN_API_KEY" for key in (os.environ.get("SOBAN_API_KEY"),) if key}
    digests = env | {digest: name for name, digest in keys.read_keys().items()}
    if options.host not in LOOPBACK and not digests:
        raise UserError(
            "{host} can be reached from other machines, and there is no key yet", host=options.host,
            hint="make one with soban serve --new-key NAME, or put one into SOBAN_API_KEY",
        )  # fmt: skip
    if not 0 <= options.port < 1 << 16:
        raise UserError("--port {port}: out of range", port=options.port, hint="give one from 1024 to 65535")
    settings = Settings(
        tuple(_checked_name(word) for word in options.words),
        {name: getattr(options, name) for name in ("dtype", "cache_dtype", "context", "threads", "users", "force")},
        seconds(options.keep_alive, "--keep-alive"), digests if options.host not in LOOPBACK else env,
        options.allow_host if options.host in LOOPBACK or options.allow_host else None, options.allow_origin,
        Limits(waiting=options.waiting, seconds=seconds(options.timeout, "--timeout")),
    )  # fmt: skip

    with console.Status(options.quiet) as status:

        def ready(presence: Presence) -> None:
            status.clear()
            console.tell(translate("serving at {url} (OpenAI: {url}/v1); Ctrl-C ends it", url=presence.url))

        def log(record: Record) -> None:
            if not options.quiet:
                status.clear()
                console.tell(line(record))

        serve(
            settings, options.host, options.port, log=log, ready=ready,
            loading=lambda name: status.show(translate("loading {model} ...", model=name)),
        )  # fmt: skip
    return 0


def line(record: "Record") -> str:
    """What a request was: when, its status, who, what, tokens and seconds."""
    tokens = f" {record.model} {record.prompt_tokens}+{record.new_tokens} tokens" if record.model else ""
    left = f" {record.outcome}" if record.outcome else ""
    who = f"{record.owner}@{record.client}" if record.owner else record.client
    return (
        f"{time.strftime('%H:%M:%S')} {who} {record.method} {record.path} {record.status}{tokens} "
        f"{record.seconds:.2f} s{left}"
    )


def seconds(text: str, flag: str) -> float:
    """A duration as in 90s, 5m, 2h, or seconds alone; -1 is for ever."""
    parts = re.fullmatch(r"(-1|\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if parts is None:
        raise UserError("{flag} {value}: no duration", flag=flag, value=text, hint="write 90s, 5m or 2h")
    return float(parts[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[parts[2]]


def _checked_name(word: str) -> str:
    """A model that is to be served, found now: a name that was mistyped is told before anything is loaded."""
    from soban.loading import custom

    base, plus, adapter = word.partition("+")
    if base != custom.BUNDLED and (source := custom.base_of(base)) is not None:
        files_of(source)
    if plus and not os.path.exists(adapter):
        raise UserError("{path}: no such file or folder", path=adapter, hint="name an adapter, as in base+./folder")
    return word
