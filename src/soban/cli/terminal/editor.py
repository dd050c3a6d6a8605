"""A terminal to chat in: a line editor with history and completion, answers drawn as they stream."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from soban.base import system
from soban.cli.commands import COMMANDS
from soban.cli.terminal import console
from soban.cli.terminal.completing import PATHS, Completions, Remembered
from soban.cli.terminal.flow import Flow
from soban.cli.terminal.keys import WaitingKeys
from soban.cli.terminal.markdown import DIM, Markdown, printable
from soban.cli.terminal.plain import in_block, messages, unblocked
from soban.cli.terminal.reflow import mind_resizing
from soban.messages import translate

MARK, INDENT = "> ", "  "
MENU_ROWS = len(COMMANDS)
# The terminal's own sixteen colours, so that they suit its background.
STYLE = Style.from_dict(
    {
        "mark": "bold ansiyellow", "meter": "dim",
        "completion-menu": "bg:default noreverse", "completion-menu.completion": "bg:default fg:default",
        "completion-menu.completion.current": "bg:default fg:ansiyellow bold noreverse",
        "completion-menu.meta.completion": "bg:default fg:default dim",
        "completion-menu.meta.completion.current": "bg:default fg:default",
        "scrollbar.background": "bg:default", "scrollbar.button": "bg:default",
    }
)  # fmt: skip

KEYS = {
    "Alt+Enter, Ctrl+J": {"help": "a new line, as does a backslash at the end of one"},
    '"""': {"help": "begins a message of several lines, and ends it"},
    "Ctrl-C": {"help": "stop the answer; twice: leave"},
    "Ctrl-D": {"help": "leave"},
    "Ctrl-R": {"help": "search what was typed before"},
}


class _Terminal(Vt100_Output):
    """Asks for no cursor position: the meter stands right below the text, and no reply mixes with typed keys."""

    responds_to_cpr = False


class Terminal:
    """Reads messages and shows answers. Use as a context manager, which leaves the terminal as it was."""

    interactive = attended = True

    def __init__(self, history: Path | None, keys: WaitingKeys) -> None:
        """`history` is the file of what was typed, None for none; `keys` keep what is typed while nobody reads."""
        self.obeys = system.obeys_escapes()
        self.coloured = self.obeys and not os.environ.get("NO_COLOR")
        self.keys = KEYS
        self.pressed = False  # Ctrl-C, and no key since
        self._meter, self._drafting = "", False
        self._waiting = keys
        *lines, self._begun = keys.typed.split("\n")
        self._typed = list(messages(lines))  # before there was a line editor, each with Enter; the last without
        self._session: PromptSession[str] = PromptSession(
            message=[("class:mark", MARK)], prompt_continuation=INDENT, multiline=True, style=STYLE, output=_output(),
            key_bindings=self._keys(), history=Remembered(history), enable_suspend=True,
            completer=Completions(), complete_while_typing=Condition(_types_command),
        )  # fmt: skip
        # The session's own toolbar shows only where the cursor's position is known.
        meter = Window(FormattedTextControl(self._below), height=1, dont_extend_height=True)
        whole = HSplit([self._session.layout.container, ConditionalContainer(meter, ~is_done)])
        self._session.app.layout = Layout(whole, self._session.default_buffer)
        mind_resizing(self._session)
        self._session.default_buffer.on_completions_changed += self._make_room
        self._session.default_buffer.on_text_changed += lambda _: self._calm()

    @property
    def columns(self) -> int:
        """Of the terminal, as wide as it is now."""
        return self._session.output.get_size().columns

    def __enter__(self) -> "Terminal":
        self._before = signal.signal(signal.SIGINT, lambda *_: self._press())
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        self.restore()

    def restore(self) -> None:
        """Keys are echoed again, as before."""
        self._waiting.restore()

    def read(self, meter: str, draft: str = "") -> str:
        """What was typed; of a `draft` maybe nothing. EOFError at Ctrl-D, KeyboardInterrupt at a second Ctrl-C."""
        self._meter, self._drafting = meter, bool(draft)
        if self._typed and not draft:
            text = self._session.prompt(default=self._typed.pop(0), accept_default=True)
        else:
            begun, self._begun = self._begun, ""
            text = self._session.prompt(default=draft or begun)
        self.pressed = False
        return unblocked(text.encode("utf-8", "replace").decode("utf-8"))  # bytes that were no characters

    def confirm(self, question: str) -> bool:
        """Whether the answer is yes."""
        asking: PromptSession[str] = PromptSession(output=_output())
        try:
            return asking.prompt(f"{question} [y/N] ").strip().lower() in console.YES
        except (EOFError, KeyboardInterrupt):
            return False

    def repeat(self, message: str) -> None:
        """A message as if it had just been typed."""
        mark = f"\x1b[1;33m{MARK}\x1b[0m" if self.coloured else MARK
        console.write(mark + printable(message).replace("\n", "\n" + INDENT) + "\n")

    def write(self, pieces: Iterable[str], remark: Callable[[], str] = str) -> None:
        """An answer, as its pieces come, and below it what is to be remarked on it then."""
        flow = Flow(lambda: self.columns) if self.obeys else None
        markdown, begun = Markdown(flow), False
        try:
            for piece in pieces:
                text = piece if begun else piece.lstrip()  # blanks before an answer would only move its first line
                begun = begun or bool(text)
                if self.coloured:
                    console.write(markdown.feed(text))
                else:
                    console.write(flow.text(printable(text)) if flow else printable(text))
        finally:
            console.write((markdown.finish() if self.coloured else "") + "\n")
            if text := remark():
                console.write(self._dim(text) + "\n")
            console.write("\n")

    def show(self, text: str) -> None:
        """Something that is no answer."""
        console.write(self._dim(text) + "\n\n")

    def _dim(self, text: str) -> str:
        text = printable(text)
        return f"\x1b[{DIM}m{text}\x1b[0m" if self.coloured else text

    def tell(self, text: str) -> None:
        """What went wrong."""
        console.tell(printable(text))
        console.write("\n")

    def _press(self) -> None:
        self.pressed = True

    def _calm(self) -> None:
        self.pressed = False

    def _make_room(self, buffer: Buffer) -> None:
        """As many rows below the line as the menu has, so that the meter moves no further than it must."""
        rows = len(buffer.complete_state.completions) if buffer.complete_state else 0
        self._session.reserve_space_for_menu = min(rows, MENU_ROWS) + 1

    def _below(self) -> StyleAndTextTuples:
        text = translate("Ctrl-C again, or Ctrl-D, leaves") if self.pressed else self._meter
        return [("class:meter", INDENT + text)]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            line = buffer.document
            if (
                line.current_line.endswith("\\")
                and line.is_cursor_at_the_end_of_line
                and not line.text.startswith(PATHS)
            ):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            elif in_block(buffer.text):
                buffer.insert_text("\n")
            elif buffer.text.strip() or self._drafting:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("tab")
        def _(event: KeyPressEvent) -> None:
            # The menu comes a moment after the typing; whoever is faster gets what it would have offered.
            buffer = event.current_buffer
            if buffer.complete_state:
                buffer.complete_next()
                return
            completions = list(
                buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True))
            )
            if len(completions) == 1:
                buffer.apply_completion(completions[0])
            elif completions:
                buffer.start_completion(insert_common_part=True)

        @keys.add("c-c")
        @keys.add(Keys.SIGINT)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if self._drafting:
                event.app.exit(result="")
            elif buffer.text or not self.pressed:
                buffer.reset()
                self._press()
            else:
                event.app.exit(exception=KeyboardInterrupt)

        return keys


def _types_command() -> bool:
    return get_app().current_buffer.text.startswith("/")


def _output() -> Output:
    """Where the line editor draws."""
    if sys.platform == "win32":
        return create_output()
    return _Terminal.from_pty(sys.stdout, term=os.environ.get("TERM"), default_color_depth=ColorDepth.from_env())
