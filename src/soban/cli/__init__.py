"""The command `soban`: finds the subcommand, runs it, and turns what went wrong into one line and an exit code."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soban import __version__
from soban.cli import console
from soban.errors import UserError
from soban.messages import translate

FINE, UNEXPECTED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

# The module is imported when the command is called: each has OPTIONS, a dataclass; EXAMPLES; and call(options).
COMMANDS = {
    "run": {"help": "let a model write, or answer"},
    "chat": {"help": "talk with a model"},
    "eval": {"help": "measure how well a model predicts a text"},
    "convert": {"help": "write a model in another form"},
    "data": {"help": "make training data of text"},
    "train": {"help": "teach a small model from text"},
    "plan": {"help": "what a model takes of memory, disk and time, before it is fetched"},
    "bench": {"help": "measure how fast this PC is"},
    "show": {"help": "look at a model without loading it"},
    "doctor": {"help": "check this PC and this installation"},
    "recommend": {"help": "name models that suit this PC"},
    "search": {"help": "look for models"},
    "pull": {"help": "fetch a model to this PC"},
    "list": {"help": "list the models on this PC"},
    "du": {"help": "show what models take on the disk"},
    "rm": {"help": "delete models from the disk"},
    "login": {"help": "keep an access token, for models that ask for consent"},
    "logout": {"help": "delete the access token from this PC"},
    "move": {"help": "move all models to another disk"},
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
    given = [*(sys.argv[1:] if arguments is None else arguments)]  # list is a module here after `soban list`
    console.prepare()
    return _guarded(lambda: _dispatch(given), given)


def _guarded(command: Callable[[], int], arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    try:
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
    except MemoryError:
        if debug:
            raise
        console.tell(translate("soban: memory ran out; close other programs, or take a smaller model or --context"))
        return USER_ERROR
    except Exception as error:
        if debug:
            raise
        _tell_unexpected(error, arguments)
        return UNEXPECTED


def _tell_unexpected(error: Exception, arguments: Sequence[str]) -> None:
    """One line: what it was, where more is told, and what to do with that."""
    from soban.cli.crash import save_report

    said: dict[str, object] = {"kind": type(error).__name__, "problem": console.shortened(error, 200)}
    if path := save_report(error, arguments):
        console.tell(
            translate(
                "soban: unexpected error: {kind}: {problem}; a report is in {path}: please read it through and send it "
                "to those from whom you have soban", path=path, **said,
            )
        )  # fmt: skip
    else:
        console.tell(translate("soban: unexpected error: {kind}: {problem}; --debug shows where", **said))


def _dispatch(arguments: list[str]) -> int:
    arguments = _as_text(arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        console.write(_help())
        return FINE
    if name == "--version":
        console.write(f"soban {__version__}\n")
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
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{translate(about['help'])}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            translate("Small language models on an ordinary PC with no GPU."),
            "",
            translate("usage: soban COMMAND ...   (soban COMMAND --help tells more; soban --version)"),
            "",
            *lines,
            "",
            translate("examples:"),
            EXAMPLES,
        ]
    )
