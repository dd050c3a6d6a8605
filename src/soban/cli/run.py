"""`soban run`: a prompt in, a text out."""

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban import messages
from soban.base.border import crossing
from soban.base.errors import UserError
from soban.cli.piped import PipedText
from soban.cli.shared import SAMPLING_FLAGS, ModelFlags, files_of, load_model, use_threads, what_to_run
from soban.cli.terminal import console
from soban.cli.terminal.figures import Peak, run_line
from soban.cli.terminal.interrupt import cancelling
from soban.cli.terminal.keys import WaitingKeys, has_editor
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.messages import translate
from soban.ops.native import Cancelled
from soban.text.grammar.grammar import grammar_of

if TYPE_CHECKING:
    from soban.cli.chat import ChatOptions
    from soban.talk.generation import Generation

INTERRUPTED = 130
EXAMPLES = """\
  soban run "Once upon a time"                                      the bundled model
  soban run gemma2:2b "대한민국의 수도에 대해 알려줘" --dtype q4
  soban run path/to/model "Write a haiku" --temperature 0.7 --seed 7 --max-new-tokens 60
  soban run stories260K.bin -z tok512.bin -t 0 -n 256 -i "Once upon a time"
  soban run stories15M.bin                                          begins a story, as run.c does
  soban run gemma2:2b "서울은 어떤 도시야?" --schema city.json       JSON, always valid
  cat notes.txt | soban run path/to/model "세 줄로 요약해 줘:"
"""


@dataclass(frozen=True)
class RunOptions(ModelFlags):
    """Let a model write. A model with a chat template answers the prompt; any other, and the bundled one, goes on.

    MODEL is a name (gemma2:2b, owner/name, ollama/gemma2:2b), a Hugging Face folder, a GGUF file or a llama2.c .bin;
    without one the bundled story model writes. Text from a pipe follows the prompt, or is the prompt. Without any
    prompt a model that answers converses as in `soban chat`, where there is a terminal, and any other begins a text.
    As soon as one of llama2.c's short flags (-t -p -s -n -i -z -m -y) is used, the defaults are those of its run.c:
    -t 1.0 -p 0.9 -n 256, no top-k.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL] [PROMPT]"})
    prompt: str | None = field(default=None, metadata={"short": "-i", "help": "the prompt"})
    system: str | None = field(default=None, metadata={"short": "-y", "help": "what the model is told beforehand"})
    raw: bool = field(
        default=False,
        metadata={"help": "pass the prompt without the model's chat template; tokens written out in it are read"},
    )
    echo: bool | None = field(
        default=None,
        metadata={
            "help": "begin the text with the prompt (default: if the model goes on with it)", "off": "--no-echo",
            "off_help": "leave the prompt out",
        },
    )  # fmt: skip
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "no line about time and memory"})
    on_full: str | None = field(
        default=None,
        metadata={"metavar": "error|slide", "help": "when the context is full: stop, or forget the oldest tokens"},
    )
    schema: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "write JSON that fits the JSON schema in this file"}
    )
    regex: str | None = field(
        default=None, metadata={"metavar": "PATTERN", "help": "write a text that this regular expression matches"}
    )
    choices: tuple[str, ...] = field(
        default=(), metadata={"metavar": "TEXT", "help": "write one of these texts and nothing else"}
    )
    steps: int = field(default=256, metadata={"short": "-n", "help": "tokens with the prompt's; 0: the whole context"})
    mode: Literal["generate", "chat"] = field(
        default="generate", metadata={"short": "-m", "help": "write a text, or talk as `soban chat` does"}
    )
    sampling: dict[str, Any] = field(
        default_factory=dict,
        metadata={"flags_of": (Sampling, SAMPLING_FLAGS), "help": "how words are chosen (default: as the model says)"},
    )
    spelled: frozenset[str] = field(default=frozenset(), metadata={"spelled": True})


OPTIONS = RunOptions


def call(options: RunOptions) -> int:
    """Writes the text to stdout as it comes; one line about time and memory to stderr. 130 if Ctrl-C ended it."""
    from soban.cli import llama2c

    as_run_c = bool(options.spelled & llama2c.SHORT_FLAGS)
    name, prompt = what_to_run(options.words, options.prompt)
    form = check(options)
    if options.mode == "chat":
        return talk(options, name, prompt)
    piped = PipedText()
    text = prompt or piped.text(patient=not as_run_c) or ""
    attended = prompt is None and sys.stdin is not None and sys.stdin.isatty()
    if not text and not attended and not options.raw and known_to_answer(name):
        raise nothing_to_answer(name, prompt)
    path = None if name is None else files_of(name)
    with WaitingKeys(attended and has_editor()) as keys, console.Status(options.quiet) as status:
        model, load_seconds = load_model(path, options, status)
        if not text and model.template is not None and not options.raw:  # a model that was taught both answers, too
            if not attended:
                raise nothing_to_answer(name, prompt)
            status.clear()
            if any(form.values()):
                raise in_conversation()
            from soban.cli import chat

            return chat.talk(model, name, None, chat_options(options, as_run_c), keys)
        if not text and model.loaded.llama2c and not options.sampling:
            as_run_c = True  # for that is the whole of run.c's own command: ./run model.bin
        memory = Peak()
        if prompt:  # only now, for whoever writes into the pipe may need as long
            text = prompt_and_pipe(prompt, piped)
        with cancelling(restore=keys.restore) as pressed:
            status.show(translate("reading the prompt ..."))
            shape: dict[str, Any] = {
                "system": options.system, "raw": options.raw, "echo": options.echo, "on_full": options.on_full
            }  # fmt: skip
            if as_run_c:
                generation = llama2c.start(
                    model, text, steps=options.steps, sampling=options.sampling, form=grammar_of(**form), **shape
                )
            else:
                generation = model.start(text, **shape, **form, **options.sampling)
            pressed.stops(generation.cancel)
            on_terminal = sys.stdout is not None and sys.stdout.isatty()
            with console.notes_afterwards(console.tell) if on_terminal else nullcontext():
                write_texts(generation, status)
    memory.note()
    if not options.quiet:
        console.tell(run_line(load_seconds, generation.figures, len(generation.sequences), memory))
    return INTERRUPTED if pressed.yes else 0


def check(options: RunOptions) -> dict[str, Any]:
    """The form that the text is to have, if any. UserError for values that cannot be, before anything is loaded."""
    use_threads(options.threads)
    from soban.cli import llama2c

    as_run_c = options.spelled & llama2c.SHORT_FLAGS
    sampling = llama2c.run_c_options(options.sampling) if as_run_c else options.sampling
    Sampling(**sampling)
    checked_on_full(options.on_full)
    form: dict[str, Any] = {"regex": options.regex, "choices": options.choices or None}
    if options.schema is not None:
        with crossing(options.schema):
            form["schema"] = Path(options.schema).read_text(encoding="utf-8-sig", errors="replace")
    if grammar_of(**form) and options.mode == "chat":
        raise in_conversation()
    return form


def in_conversation() -> UserError:
    """The error for a form in a conversation, whose answers are free."""
    return UserError("a conversation has no form to keep", hint="give a prompt, or leave the form out")


def known_to_answer(name: str | None) -> bool:
    """Whether the catalogue knows that a model answers, so that it need not be fetched and loaded to tell."""
    if name is None or os.path.exists(name):
        return False
    from soban.hub import names, neighbours

    repository = None if neighbours.is_name(name) else names.find(name)
    return repository is not None and repository.entry is not None and repository.entry.kind == "chat"


def nothing_to_answer(name: str | None, prompt: str | None) -> UserError:
    """The error for a model that answers, where there is no question, and nobody who could be asked for one."""
    if prompt is not None:
        return UserError("the prompt is empty", hint="give some text")
    command = "soban chat" if name is None else f'soban chat "{name}"' if " " in name else f"soban chat {name}"
    return UserError("there is no prompt", command=command, hint="give one, or talk with the model: {command}")


def prompt_and_pipe(prompt: str, piped: PipedText) -> str:
    """The prompt, and after a blank line the text from stdin if there is any."""
    text = piped.text(patient=False)
    if text is None:
        messages.warn("nothing came in on stdin for a while, so the prompt stands alone")
    return f"{prompt}\n\n{text}" if text else prompt


def write_texts(generation: "Generation", status: console.Status) -> None:
    """One text as it comes; of several, which run together, each in its turn when all are there."""
    several = [""] * len(generation.sequences)
    try:
        for index, piece in generation:
            status.clear()
            if len(several) == 1:
                console.write(piece)
            else:
                several[index] += piece
    except Cancelled:
        pass  # by Ctrl-C; what there is of the text stands
    status.clear()
    console.write("\n---\n".join(several) + "\n")


def talk(options: RunOptions, name: str | None, prompt: str | None) -> int:
    """The conversation that run.c's chat mode holds: its sampling, and Llama 2's turns for a model of its own."""
    from soban.cli import chat

    shared = {field.name: getattr(options, field.name) for field in fields(ModelFlags)}
    if shared["context"] is None and options.spelled & {"-n", "--steps"}:
        shared["context"] = options.steps or None
    conversation = chat_options(options, as_run_c=True)
    return chat.call(replace(conversation, **shared, words=(name,) if name else (), prompt=prompt), as_run_c=True)


def chat_options(options: RunOptions, as_run_c: bool) -> "ChatOptions":
    """What holds in a conversation, too."""
    from soban.cli import llama2c
    from soban.cli.chat import ChatOptions

    sampling = dict(options.sampling)
    if sampling.pop("num_return_sequences", 1) > 1:
        raise UserError("a conversation has one answer to each turn", hint="leave out num_return_sequences")
    return ChatOptions(
        system=options.system, quiet=options.quiet, on_full=options.on_full,
        sampling=llama2c.run_c_options(sampling) if as_run_c else sampling,
    )  # fmt: skip
