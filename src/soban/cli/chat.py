"""`soban chat`: a conversation, in a terminal or through a pipe."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.cli import commands
from soban.cli.conversation import Chat, Screen
from soban.cli.shared import (
    CHAT_ON_FULL,
    CHAT_SAMPLING_FLAGS,
    ModelFlags,
    files_of,
    load_model,
    use_threads,
    what_to_run,
)
from soban.cli.terminal import console, history
from soban.cli.terminal.keys import WaitingKeys, has_editor
from soban.cli.terminal.wrapping import paragraphs
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.messages import translate

if TYPE_CHECKING:
    from soban.model import Model

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

    MODEL is a name (gemma2:2b, owner/name, ollama/gemma2:2b), a Hugging Face folder, a GGUF file or a llama2.c .bin;
    without one the bundled model tells stories and answers about them. PROMPT is the first message. Where stdin or
    stdout is no terminal, each line is a message (a backslash at its end joins the next line to it, and lines between
    two """ are one message), and stdout gets the answers alone.
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


def call(options: ChatOptions, as_run_c: bool = False) -> int:
    """Talks until the user leaves. 130 if by Ctrl-C; 2 if by the end of a file with a message that failed.

    `as_run_c`: a model of llama2.c, which names no template, is talked to in Llama 2's turns.
    """
    name, prompt = what_to_run(options.words, options.prompt)
    if prompt is not None and not prompt.strip():
        raise UserError("the message is empty", hint="give some text")
    use_threads(options.threads)
    Sampling(**options.sampling)
    checked_on_full(options.on_full)
    path = None if name is None else files_of(name)  # first, for whoever is asked whether to fetch it types an answer
    with WaitingKeys(has_editor()) as keys:
        with console.Status(options.quiet) as status:
            model, _ = load_model(path, options, status)
        if as_run_c and model.loaded.llama2c:
            options = replace(options, template="llama2")
        return talk(model, name, prompt, options, keys)


def talk(model: "Model", name: str | None, prompt: str | None, options: ChatOptions, keys: WaitingKeys) -> int:
    """The same with a model that is loaded already; `keys` keep what has been typed meanwhile."""
    from soban.talk.dialogue import Dialogue

    with _screen(options, keys) as screen:
        if screen.attended and not options.quiet:
            screen.show(paragraphs(greeting(name, model), screen.columns))
        on_full = options.on_full or ("error" if name else "slide")  # a few turns fill the bundled model's context
        with console.notes_afterwards(screen.tell):
            system = model.loaded.system if options.system is None else options.system
            dialogue = Dialogue(
                model, system=system, template=options.template, strict=options.strict,
                on_full=on_full, turns=model.loaded.turns, **options.sampling,
            )  # fmt: skip
        return run(Chat(model, dialogue, screen, options.stats, options.quiet), prompt)


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
        model.loaded.dtype, translate("{count:,} tokens of context", count=model.engine.context),
    ]  # fmt: skip
    lines = [" · ".join(parts)]
    if name is None:
        lines.append(
            translate('It tells little stories, and answers about them: "Tell me a story." "이야기 하나 해 줘."')
        )
    return "\n".join([*lines, translate("/help lists the commands, Ctrl-D leaves")])


def run(chat: Chat, first: str | None) -> int:
    """Takes messages until there are no more, and returns the exit code."""
    failed = False
    if first:
        chat.screen.repeat(first)
    while True:
        draft, chat.draft = chat.draft, ""
        try:
            text = first or chat.screen.read(chat.meter(), draft)
            first = None
            with console.notes_afterwards(chat.screen.tell):
                take(chat, text, draft)
            if chat.screen.pressed and not chat.screen.interactive:
                return INTERRUPTED
        except (EOFError, commands.Leave):
            return USER_ERROR if failed and not chat.screen.interactive else FINE
        except KeyboardInterrupt:
            return INTERRUPTED
        except UserError as error:
            first, failed = None, True
            chat.screen.tell(f"soban: {error}")


def take(chat: Chat, text: str, draft: str) -> None:
    """A command, a message, or what has become of a draft; nothing left of it means that it stays as it was."""
    if chat.screen.attended and text.strip().lower() in commands.FAREWELLS:
        raise commands.Leave
    command = commands.command(text)
    message = commands.message(text)
    if command:
        commands.run(chat, *command)
    elif not draft:
        chat.answer(lambda: chat.dialogue.say(message))
    elif message.strip():
        chat.answer(lambda: chat.dialogue.edit(message))
