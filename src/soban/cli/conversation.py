"""A conversation and the screen on which it takes place: answers as they come, what they took, what still fits."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.figures import turn_line
from soban.cli.terminal.interrupt import cancelling
from soban.cli.terminal.wrapping import paragraphs
from soban.messages import translate
from soban.ops.native import Cancelled

if TYPE_CHECKING:
    from soban.model import Model
    from soban.talk.dialogue import Dialogue, Reply
    from soban.talk.generation import Figures


class Screen(Protocol):
    """Where messages come from and answers go: a terminal or a pipe."""

    interactive: bool  # there is a line editor, and somebody can be asked
    attended: bool  # somebody types the messages
    pressed: bool  # Ctrl-C has just stopped something

    @property
    def columns(self) -> int | None: ...  # that what is shown may have; None: any number
    @property
    def keys(self) -> Mapping[str, dict[str, str]]: ...
    def restore(self) -> None: ...
    def read(self, meter: str, draft: str = "") -> str: ...
    def confirm(self, question: str) -> bool: ...
    def repeat(self, message: str) -> None: ...
    def write(self, pieces: Iterable[str], remark: Callable[[], str] = str) -> None: ...
    def show(self, text: str) -> None: ...
    def tell(self, text: str) -> None: ...


class Chat:
    """A conversation and where it takes place; what the commands work on."""

    def __init__(self, model: "Model", dialogue: "Dialogue", screen: Screen, stats: bool, quiet: bool) -> None:
        self.model, self.dialogue, self.screen = model, dialogue, screen
        self.stats, self.quiet = stats, quiet
        self.figures: Figures | None = None  # of the last answer
        self.draft = ""  # what the next line of input begins with: a message that is being changed

    def answer(self, ask: Callable[[], "Reply"]) -> None:
        """Writes the reply that `ask` gives, as it comes. Ctrl-C ends it, and what there is of it stays."""
        figures = None
        with (
            console.Status(self.quiet) as status,
            cancelling(self.dialogue.cancel, self.screen.restore) as pressed,
            console.Patience(status) as patience,
        ):
            try:
                reply = ask()
                if pressed.yes or self.screen.pressed:  # before there was anything to stop
                    reply.cancel()
                self.screen.write(patience.until(reply), lambda: self._remark(reply.figures))
                figures = reply.figures
            except Cancelled:
                pass  # before the answer began
        self.screen.pressed = self.screen.pressed or pressed.yes
        self.figures = figures or self.figures
        if self.stats and figures:
            self.show_figures(figures)

    def show_figures(self, figures: "Figures") -> None:
        """What an answer took."""
        self.screen.show(paragraphs(turn_line(figures), self.screen.columns))

    def _remark(self, figures: "Figures") -> str:
        """What is said below an answer that was cut off; in a pipe only where nobody asked for that."""
        if figures.finished == "context":
            return translate("(cut off: the context is full)")
        if figures.finished == "length" and self.screen.attended:
            return translate("(cut off after {count} tokens: max_new_tokens)", count=figures.new_tokens)
        return ""

    def meter(self) -> str:
        """How full the context is, and what no longer fits."""
        context = self.dialogue.context
        with console.notes_afterwards(self.screen.tell):
            try:
                tokens = min(self.dialogue.used, context)  # the next turn makes room where it is more
            except UserError:
                return ""  # a template that fails; the next turn says so
        parts = [translate("{used:,} of {context:,} tokens", used=tokens, context=context)]
        if self.dialogue.dropped:
            count = self.dialogue.dropped
            parts.append(
                translate("summed up: {count} oldest turns", count=count)
                if self.dialogue.summary
                else translate("forgotten: {count} oldest turns", count=count)
            )
        return " · ".join(parts)

    def recall(self) -> None:
        """Shows where a conversation stands that was begun at another time."""
        self.screen.show(translate("loaded: {count} messages", count=len(self.dialogue.messages)))
        last = self.dialogue.messages[-2:]
        if self.screen.interactive and [message["role"] for message in last] == ["user", "assistant"]:
            self.screen.repeat(last[0]["content"])
            self.screen.write([last[1]["content"]])
