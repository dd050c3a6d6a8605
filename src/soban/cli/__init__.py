"""The command `soban`: finds the subcommand, runs it, and turns what went wrong into one line and an exit code."""

import importlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soban.base.border import crossing
from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.cli.terminal import console
from soban.cli.terminal.wrapping import definitions, wrapped
from soban.messages import translate

FINE, UNEXPECTED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

# The module is imported when the command is called: each has OPTIONS, a dataclass; EXAMPLES; and call(options).
# In --help they stand by group, in this order.
COMMANDS = {
    "run": {"group": "talk", "help": "let a model write, or answer"},
    "chat": {"group": "talk", "help": "talk with a model"},
    "embed": {"group": "talk", "help": "turn texts into vectors, for search"},
    "serve": {"group": "talk", "help": "let other programs use models"},
    "create": {"group": "talk", "help": "name a model with a system text and settings"},
    "cp": {"group": "talk", "help": "give a model another name"},
    "ps": {"group": "talk", "help": "show the servers that run, and their models"},
    "stop": {"group": "talk", "help": "end a server"},
    "recommend": {"group": "fetch", "help": "name models that suit this PC"},
    "search": {"group": "fetch", "help": "look for models"},
    "plan": {"group": "fetch", "help": "what a model takes of memory, disk and time, before it is fetched"},
    "pull": {"group": "fetch", "help": "fetch a model to this PC"},
    "login": {"group": "fetch", "help": "keep an access token, for models that ask for consent"},
    "logout": {"group": "fetch", "help": "delete the access token from this PC"},
    "data": {"group": "teach", "help": "make training data of text"},
    "train": {"group": "teach", "help": "teach a small model from text"},
    "tune": {"group": "teach", "help": "teach a model a task of your own"},
    "eval": {"group": "teach", "help": "measure how well a model predicts a text"},
    "compare": {"group": "teach", "help": "set the answers of models side by side"},
    "convert": {"group": "teach", "help": "write a model in another form"},
    "quantize": {"group": "teach", "help": "write a model in four to six bits, after a text of yours"},
    "merge": {"group": "teach", "help": "make one model of several"},
    "verify": {"group": "teach", "help": "say whether two models are the same"},
    "list": {"group": "here", "help": "list the models on this PC"},
    "show": {"group": "here", "help": "look at a model without loading it"},
    "du": {"group": "here", "help": "show what models take on the disk"},
    "rm": {"group": "here", "help": "delete models from the disk"},
    "move": {"group": "here", "help": "move all models to another disk"},
    "bench": {"group": "here", "help": "measure how fast this PC is"},
    "doctor": {"group": "here", "help": "check this PC and this installation"},
}
EXAMPLES = """\
  soban run "Once upon a time"
  soban recommend --ram 8 --lang ko
  soban run gemma2:2b "대한민국의 수도에 대해 알려줘"
  soban chat gemma2:2b --system "짧게 답해 줘"
  cat notes.txt | soban run path/to/model "세 줄로 요약해 줘:"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0 fine, 1 unexpected, 2 the user's error, 130 after Ctrl-C."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]  # list is a module here after `soban list`
    console.prepare()
    return _guarded(lambda: _dispatch(words), words)


def _guarded(command: Callable[[], int], arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    try:
        with crossing():
            code = command()
        console.write("")  # a pipe that closed is noticed here, not while Python shuts down
        return code
    except UserError as error:
        if debug:
            raise
        console.tell(f"soban: {error}")
        return USER_ERROR
    except console.ClosedPipe:
        return FINE  # whoever reads has all that he wants
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        _tell_unexpected(error, arguments)
        return UNEXPECTED


def _tell_unexpected(error: Exception, arguments: Sequence[str]) -> None:
    """One line: what it was, where more is told, and what to do with that."""
    from soban.cli.crash import save_report

    facts: dict[str, object] = {"kind": type(error).__name__, "problem": console.shortened(error, 200)}
    if path := save_report(error, arguments, COMMANDS):
        console.tell(
            translate(
                "soban: unexpected error: {kind}: {problem}; a report is in {path}: please read it through and send it "
                "to those from whom you have soban", path=path, **facts,
            )
        )  # fmt: skip
    else:
        console.tell(translate("soban: unexpected error: {kind}: {problem}; --debug shows where", **facts))


def _dispatch(arguments: list[str]) -> int:
    arguments = _as_text(arguments)
    name = arguments[0] if arguments else "--help"
    if name == "help" and len(arguments) > 1:
        name, arguments = arguments[1], [arguments[1], "--help"]
    if name in ("-h", "--help", "help"):
        console.write(_help())
        return FINE
    if name == "--version":
        console.write(f"soban {VERSION}\n")
        return FINE
    if name not in COMMANDS:
        raise _unknown(name)
    from soban.cli import flags

    if name in ("run", "chat"):
        _spare_threads()
    with _ended_by_ctrl_c():
        command: Any = importlib.import_module(f"soban.cli.{name}")
    options = flags.parse(name, command.OPTIONS, arguments[1:], command.EXAMPLES)
    return FINE if options is None else int(command.call(options))


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process at once: NumPy, while it is imported, would take an exception for a fault of its own."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _spare_threads() -> None:
    """One thread for NumPy's BLAS where the native library computes: it starts one a core while it is imported."""
    native = any(Path(__file__).parents[1].glob("*soban_native.*"))
    if native and os.environ.get("SOBAN_OPS", "native") == "native":
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _as_text(arguments: list[str]) -> list[str]:
    """The arguments as UTF-8, whatever the locale: Python brings bytes that its locale does not know as surrogates.

    Raises UserError for bytes that are no UTF-8.
    """
    texts = []
    for number, argument in enumerate(arguments, 1):
        try:
            texts.append(argument.encode("utf-8", "surrogateescape").decode("utf-8"))
        except UnicodeError:
            raise UserError(
                "argument {number} is not valid UTF-8", number=number, hint="set the terminal to UTF-8"
            ) from None
    return texts


def _unknown(name: str) -> UserError:
    import difflib

    if near := difflib.get_close_matches(name, COMMANDS, 1):
        return UserError("no command {name}", name=name, near=near[0], hint="did you mean {near}?")
    return UserError("no command {name}", name=name, hint="soban --help lists the commands")


def _help() -> str:
    columns = min(shutil.get_terminal_size((80, 24)).columns, 110)
    groups = {
        "talk": translate("talk:"), "fetch": translate("find and fetch models:"), "teach": translate("teach a model:"),
        "here": translate("this PC and what is on it:"),
    }  # fmt: skip
    wide = max(map(len, COMMANDS))
    listed = {
        group: [
            (f"  {name:<{wide}}", translate(about["help"]))
            for name, about in COMMANDS.items()
            if about["group"] == group
        ]
        for group in groups
    }
    return "\n".join(
        [
            *wrapped(translate("Small language models on an ordinary PC with no GPU."), columns),
            "",
            *wrapped(translate("usage: soban COMMAND ...   (soban help COMMAND tells more; soban --version)"), columns),
            "",
            *(f"{title}\n{definitions(listed[group], columns)}\n" for group, title in groups.items()),
            translate("examples:"),
            EXAMPLES,
        ]
    )
