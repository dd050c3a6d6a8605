"""`soban chat`: a conversation, in a terminal or through a pipe."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.cli import commands
from soban.cli.shared import CHAT_ON_FULL, CHAT_SAMPLING_FLAGS, ModelFlags, found, load_model, use_threads, what_to_run
from soban.cli.terminal import console, history
from soban.cli.terminal.figures import turn_line
from soban.cli.terminal.interrupt import cancelling
from soban.cli.terminal.keys import WaitingKeys, has_editor
from soban.cli.terminal.wrapping import paragraphs
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.messages import translate
from soban.ops.native import Cancelled

if TYPE_CHECKING:
    from soban.model import Model
    from soban.talk.dialogue import Dialogue, Reply
    from soban.talk.generation import Figures

FINE, USER_ERROR, INTERRUPTED = 0, 2, 130
EXAMPLES = """\
  soban chat                                        the bundled model
  soban chat path/to/gemma-2-2b-it --system "짧게 답해 줘"
  soban chat path/to/model --temperature 0.7 --on-full slide --stats
  soban chat path/to/model --template alpaca "Name three colours"
  soban chat path/to/model < questions.txt > answers.txt
"""


@dataclass(frozen=True)
class ChatOptions(ModelFlags):
    '''Talk with a model. Enter sends a message, /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.

    MODEL is a name (gemma2:2b, or owner/name on the hub), a Hugging Face folder or a llama2.c .bin; without one the
    bundled model tells stories and answers about them. PROMPT is the first message. Where stdin or stdout is no
    terminal, each line is a message (a backslash at its end joins the next line to it, and lines between two """ are
    one message), and stdout gets the answers alone.
    '''

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL] [PROMPT]"})
    prompt: str | None = field(default=None, metadata={"short": "-i", "help": "the first message"})
    system: str | None = field(default=None, metadata={"short": "-y", "help": "what the model is told beforehand"})
    template: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME|FILE",
            "help": "how turns are written: alpaca, chatml, koalpaca, llama2, plain, vicuna, or a Jinja file "
            "(default: the model's own)",
        },
    )
    strict: bool = field(default=False, metadata={"help": "refuse what the model's template has no place for"})
    on_full: str | None = field(default=None, metadata=CHAT_ON_FULL)
    stats: bool = field(default=False, metadata={"help": "after each answer a line about time and tokens"})
    no_history: bool = field(default=False, metadata={"help": "neither read nor keep what is typed"})
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "no greeting"})
    sampling: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "flags_of": (Sampling, CHAT_SAMPLING_FLAGS),
            "help": "how words are chosen (default: as the model says)",
        },
    )


OPTIONS = ChatOptions


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


def call(options: ChatOptions) -> int:
    """Talks until the user leaves. 130 if by Ctrl-C; 2 if by the end of a file with a message that failed."""
    name, prompt = what_to_run(options.words, options.prompt)
    if prompt is not None and not prompt.strip():
        raise UserError("the message is empty", hint="give some text")
    use_threads(options.threads)
    Sampling(**options.sampling)
    checked_on_full(options.on_full)
    path = None if name is None else found(name)  # first, for whoever is asked whether to fetch it types an answer
    with WaitingKeys(has_editor()) as keys:
        with console.Status(options.quiet) as status:
            model, _ = load_model(path, options, status)
        return talk(model, name, prompt, options, keys)


def talk(model: "Model", name: str | None, prompt: str | None, options: ChatOptions, keys: WaitingKeys) -> int:
    """The same with a model that is loaded already; `keys` keep what has been typed meanwhile."""
    from soban.talk.dialogue import Dialogue

    with _screen(options, keys) as screen:
        if screen.attended and not options.quiet:
            screen.show(paragraphs(greeting(name, model), screen.columns))
        on_full = options.on_full or ("error" if name else "slide")  # a few turns fill the bundled model's context
        with console.notes_afterwards(screen.tell):
            dialogue = Dialogue(
                model, system=options.system, template=options.template, strict=options.strict,
                on_full=on_full, **options.sampling,
            )  # fmt: skip
        return Chat(model, dialogue, screen, options).run(prompt)


def _screen(options: ChatOptions, keys: WaitingKeys) -> AbstractContextManager[Screen]:
    if has_editor():
        from soban.cli.terminal.editor import Terminal

        return Terminal(None if options.no_history else history.history_path(), keys)
    from soban.cli.terminal.plain import Plain

    return Plain()


def greeting(name: str | None, model: "Model") -> str:
    """What a terminal shows first."""
    parts = [
        f"soban {VERSION}", os.path.basename(os.path.abspath(name)) if name else translate("the bundled model"),
        model.loaded.kind, translate("{count:,} tokens of context", count=model.engine.context),
    ]  # fmt: skip
    lines = [" · ".join(parts)]
    if name is None:
        lines.append(
            translate('It tells little stories, and answers about them: "Tell me a story." "이야기 하나 해 줘."')
        )
    return "\n".join([*lines, translate("/help lists the commands, Ctrl-D leaves")])


class Chat:
    """A conversation and where it takes place; what the commands work on."""

    def __init__(self, model: "Model", dialogue: "Dialogue", screen: Screen, options: ChatOptions) -> None:
        self.model, self.dialogue, self.screen = model, dialogue, screen
        self.stats, self.quiet = options.stats, options.quiet
        self.figures: Figures | None = None  # of the last answer
        self.draft = ""  # what the next line of input begins with: a message that is being changed

    def run(self, first: str | None) -> int:
        """Takes messages until there are no more, and returns the exit code."""
        failed = False
        if first:
            self.screen.repeat(first)
        while True:
            draft, self.draft = self.draft, ""
            try:
                text = first or self.screen.read(self.meter(), draft)
                first = None
                with console.notes_afterwards(self.screen.tell):
                    self.take(text, draft)
                if self.screen.pressed and not self.screen.interactive:
                    return INTERRUPTED
            except (EOFError, commands.Leave):
                return USER_ERROR if failed and not self.screen.interactive else FINE
            except KeyboardInterrupt:
                return INTERRUPTED
            except UserError as error:
                first, failed = None, True
                self.screen.tell(f"soban: {error}")

    def take(self, text: str, draft: str) -> None:
        """A command, a message, or what has become of a draft; nothing left of it means that it stays as it was."""
        if self.screen.attended and text.strip().lower() in commands.FAREWELLS:
            raise commands.Leave
        found = commands.command(text)
        message = commands.message(text)
        if found:
            commands.run(self, *found)
        elif not draft:
            self.answer(lambda: self.dialogue.say(message))
        elif message.strip():
            self.answer(lambda: self.dialogue.edit(message))

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
                used = min(self.dialogue.used, context)  # the next turn makes room where it is more
            except UserError:
                return ""  # a template that fails; the next turn says so
        parts = [translate("{used:,} of {context:,} tokens", used=used, context=context)]
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
