"""`soban run`: a prompt in, a text out."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from soban import messages, system
from soban.cli import console
from soban.cli.interrupt import cancelling
from soban.cli.piped import PipedText
from soban.engine.sampling import Sampling
from soban.errors import UserError
from soban.messages import translate
from soban.ops.native import Cancelled

if TYPE_CHECKING:
    from soban.generation import Figures, Generation

INTERRUPTED = 130
MODEL_FILES = (".bin", ".safetensors", ".gguf")
EXAMPLES = """\
  soban run "Once upon a time"                                      the bundled model
  soban run path/to/gemma-2-2b-it "대한민국의 수도에 대해 알려줘" --dtype q4
  soban run path/to/model "Write a haiku" --temperature 0.7 --seed 7 --max-new-tokens 60
  soban run stories260K.bin -z tok512.bin -t 0 -n 256 -i "Once upon a time"
  cat notes.txt | soban run path/to/model "세 줄로 요약해 줘:"
"""

# Names, types and defaults are those of `Sampling`; these are its words for the command line.
SAMPLING_FLAGS = {
    "max_new_tokens": {"help": "end after N new tokens (default: where the model ends)"},
    "do_sample": {
        "help": "draw each token at random from the likely ones", "off": "--greedy",
        "off_help": "always take the likeliest token",
    },
    "temperature": {"short": "-t", "help": "below 1: safer words; above: bolder; 0: always the likeliest"},
    "top_k": {"help": "draw among the N likeliest tokens; 0: among all"},
    "top_p": {"short": "-p", "help": "draw among the likeliest tokens that together have probability X"},
    "min_p": {"help": "leave out tokens less likely than X times the likeliest"},
    "repetition_penalty": {"help": "above 1: what was said before becomes less likely"},
    "num_return_sequences": {"help": "write N texts, parted by lines of ---"},
    "seed": {"short": "-s", "help": "the same seed gives the same text"},
    "stop": {"help": "end where the text has TEXT, which is left out; may be given several times"},
    "on_full": {"metavar": "error|slide", "help": "when the context is full: stop, or forget the oldest tokens"},
    "prompt_lookup_num_tokens": {
        "help": "where the text repeats, try N tokens at once, for speed alone (default: as many as pay; 0: none)"
    },
}  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """Let a model write. A model with a chat template answers the prompt; any other goes on with it.

    MODEL is a Hugging Face folder or a llama2.c .bin; without one the bundled story model writes. Text from a pipe
    follows the prompt, or is the prompt. As soon as one of llama2.c's short flags (-t -p -s -n -i -z -m -y) is used,
    the defaults are those of its run.c: -t 1.0 -p 0.9 -n 256, no top-k.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL] [PROMPT]"})
    prompt: str | None = field(default=None, metadata={"short": "-i", "help": "the prompt"})
    system: str | None = field(default=None, metadata={"short": "-y", "help": "what the model is told beforehand"})
    raw: bool = field(default=False, metadata={"help": "pass the prompt without the model's chat template"})
    echo: bool | None = field(
        default=None,
        metadata={
            "help": "begin the text with the prompt (default: if there is no chat template)", "off": "--no-echo",
            "off_help": "leave the prompt out",
        },
    )  # fmt: skip
    dtype: Literal["auto", "f32", "bf16", "q8", "q4"] = field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    cache_dtype: Literal["auto", "f32", "f16", "int8"] = field(
        default="auto",
        metadata={"help": "how past tokens are kept; int8: half the memory of f16, quicker in long contexts"},
    )
    context: int | None = field(default=None, metadata={"help": "tokens that prompt and text may have together"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    threads: int | None = field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    force: bool = field(default=False, metadata={"help": "load even if memory seems too short"})
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "no line about time and memory"})
    steps: int = field(default=256, metadata={"short": "-n", "help": "tokens with the prompt's; 0: the whole context"})
    mode: Literal["generate", "chat"] = field(default="generate", metadata={"short": "-m", "help": "only generate yet"})
    sampling: dict[str, Any] = field(
        default_factory=dict,
        metadata={"flags_of": (Sampling, SAMPLING_FLAGS), "help": "how words are chosen (default: as the model says)"},
    )
    spelled: frozenset[str] = field(default=frozenset(), metadata={"spelled": True})


OPTIONS = RunOptions


def call(options: RunOptions) -> int:
    """Writes the text to stdout as it comes; one line about time and memory to stderr. 130 if Ctrl-C ended it."""
    from soban.cli import llama2c
    from soban.model import load

    as_run_c = bool(options.spelled & llama2c.SHORT_FLAGS)
    name, prompt = what_to_run(options.words, options.prompt)
    check(options)
    piped = PipedText()
    text = prompt or prompt_from_pipe(piped, empty=prompt is not None, needed=not as_run_c)
    with console.Status(options.quiet) as status:
        status.show(translate("loading the model ..."))
        start = time.perf_counter()
        model = load(
            name, dtype=options.dtype, context=options.context, tokenizer=options.tokenizer, force=options.force,
            cache_dtype=options.cache_dtype,
            progress=lambda done: status.show(translate("packing the weights ... {percent:.0f} %", percent=100 * done)),
        )  # fmt: skip
        load_seconds = time.perf_counter() - start
        memory = Peak()
        if prompt:  # only now, for whoever writes into the pipe may need as long
            text = prompt_and_pipe(prompt, piped)
        with cancelling(model.runner.cancel) as pressed:
            status.show(translate("reading the prompt ..."))
            shape: dict[str, Any] = {"system": options.system, "raw": options.raw, "echo": options.echo}
            if as_run_c:
                generation = llama2c.start(model, text, steps=options.steps, sampling=options.sampling, **shape)
            else:
                generation = model.start(text, **shape, **options.sampling)
            write_texts(generation, status)
    memory.note()
    if not options.quiet:
        console.tell(figures_line(load_seconds, generation.figures, len(generation.sequences), memory))
    return INTERRUPTED if pressed.yes else 0


def what_to_run(words: Sequence[str], prompt: str | None) -> tuple[str | None, str | None]:
    """The model (None: the bundled one) and the prompt (None: not given). One word alone is either of them."""
    if len(words) > (2 if prompt is None else 1):
        raise UserError(
            "{count} words, where a model and a prompt are meant; this is too much: {word}",
            count=len(words), word=console.shortened(words[-1]), hint="put the prompt in quotation marks",
        )  # fmt: skip
    if prompt is not None:
        return (words[0] if words else None), prompt
    match words:
        case [model, prompt]:
            return model, prompt
        case [word] if os.path.exists(word):
            return word, None
        case [word] if looks_like_path(word):
            raise UserError(
                "{path}: no such file or folder", path=console.shortened(word),
                hint="check the spelling; if it is a prompt, give it with -i",
            )  # fmt: skip
        case [word]:
            return None, word
    return None, None


def looks_like_path(word: str) -> bool:
    """Whether it ends as a model file does, or has a separator before any blank ("and/or" has, "what is 3/4" not)."""
    first = word.split(maxsplit=1)[0] if word.strip() else ""
    return word.endswith(MODEL_FILES) or "/" in first or "\\" in first


def check(options: RunOptions) -> None:
    """Raises UserError for values that are out of range, before anything is loaded."""
    if options.mode == "chat":
        raise UserError("this version has no chat yet", hint="leave out -m chat, and give a prompt")
    if options.threads is not None:
        os.environ["SOBAN_THREADS"] = str(system.checked_threads(str(options.threads)))
    Sampling(**{name: value for name, value in options.sampling.items() if (name, value) != ("temperature", 0)})


def prompt_from_pipe(piped: PipedText, *, empty: bool, needed: bool) -> str:
    """The text from stdin where there is no other prompt."""
    text = piped.text(patient=needed) or ""
    if not text and needed:
        if empty:
            raise UserError("the prompt is empty", hint="give some text")
        raise UserError("there is no prompt", hint='give one, as in soban run "Once upon a time"')
    return text


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


class Peak:
    """The greatest memory use that was seen; None where the system does not tell."""

    def __init__(self) -> None:
        self.use = system.memory_use()

    def note(self) -> None:
        now = system.memory_use()
        if now and self.use:
            self.use = system.MemoryUse(max(now.anonymous, self.use.anonymous), max(now.mapped, self.use.mapped))


def figures_line(load_seconds: float, figures: "Figures", texts: int, memory: Peak) -> str:
    """Load, prompt and text apart, then memory: what is the process's own, and pages of files mapped into it."""
    computed = figures.prompt_tokens - figures.reused_tokens
    decoded = max(0, figures.new_tokens - texts)  # each text's first token comes out of the prompt's step
    parts = [
        translate("load {seconds:.2f} s", seconds=load_seconds),
        translate(
            "prompt {tokens} tokens in {seconds:.2f} s ({rate:.0f}/s)", tokens=figures.prompt_tokens,
            seconds=figures.prefill_seconds, rate=_rate(computed, figures.prefill_seconds),
        ),
        translate(
            "{tokens} tokens in {seconds:.2f} s ({rate:.0f}/s, {characters:.0f} characters/s)",
            tokens=figures.new_tokens, seconds=figures.decode_seconds, rate=_rate(decoded, figures.decode_seconds),
            characters=_rate(figures.characters, figures.prefill_seconds + figures.decode_seconds),
        ),
    ]  # fmt: skip
    if figures.drafted_tokens:
        parts.append(
            translate(
                "{accepted} of {drafted} looked-up tokens were right", accepted=figures.accepted_tokens,
                drafted=figures.drafted_tokens,
            )
        )  # fmt: skip
    if memory.use:
        own, mapped = memory.use.anonymous / 1e6, memory.use.mapped / 1e6
        parts.append(translate("memory {own:.0f} MB + {mapped:.0f} MB mapped files", own=own, mapped=mapped))
    return " · ".join(parts)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
