"""What `run` and `chat` share: the words and flags that say which model, how it is loaded and how it writes."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.model import Model

# Names, types and defaults are those of `Sampling`; these are its words for the command line.
SAMPLING_FLAGS = {
    "max_new_tokens": {"help": "end after this many new tokens (default: where the model ends)"},
    "max_length": {"help": "end at this many tokens, the prompt's included"},
    "min_new_tokens": {"help": "no end before this many new tokens"},
    "min_length": {"help": "no end before this many tokens, the prompt's included"},
    "do_sample": {
        "help": "draw each token at random from the likely ones", "off": "--greedy",
        "off_help": "always take the likeliest token",
    },
    "temperature": {"short": "-t", "help": "below 1: safer words; above: bolder; 0: always the likeliest"},
    "top_k": {"help": "draw among this many of the likeliest tokens; 0: among all"},
    "top_p": {"short": "-p", "help": "draw among the likeliest tokens that have this probability together"},
    "min_p": {"help": "leave out tokens less likely than this share of the likeliest one"},
    "repetition_penalty": {"help": "above 1: what was said before becomes less likely"},
    "presence_penalty": {"help": "above 0: words that the text has had already become less likely; OpenAI's"},
    "frequency_penalty": {"help": "the same, the more the more often it has had them; OpenAI's"},
    "no_repeat_ngram_size": {"help": "no so many tokens in a row come twice, the prompt's included; 0: they may"},
    "suppress_tokens": {"help": "the id of a token that never comes"},
    "begin_suppress_tokens": {"help": "the id of a token that is not the first of the text"},
    "num_return_sequences": {"help": "write N texts, parted by lines of ---"},
    "seed": {"short": "-s", "help": "the same seed gives the same text, on processors with the same instruction set"},
    "stop": {"help": "end where this would be written, and leave it out"},
    "prompt_lookup_num_tokens": {
        "help": "for speed: where the text repeats, try this many tokens at once (default: as many as pay; 0: none)"
    },
}  # fmt: skip
CHAT_SAMPLING_FLAGS = {name: about for name, about in SAMPLING_FLAGS.items() if name != "num_return_sequences"}
CHAT_ON_FULL = {
    "metavar": "error|slide|summarise",
    "help": "when the context is full: stop, forget the oldest turns, or have the model sum them up",
}


@dataclass(frozen=True)
class ModelFlags:
    """How a model is loaded."""

    dtype: Literal["auto", "f32", "bf16", "gguf", "q8", "q4"] = field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    cache_dtype: Literal["auto", "f32", "bf16", "int8"] = field(
        default="auto",
        metadata={"help": "how past tokens are kept; int8: half the memory of bf16, quicker in long contexts"},
    )
    context: int | None = field(default=None, metadata={"help": "tokens that prompt and text may have together"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    threads: int | None = field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    force: bool = field(default=False, metadata={"help": "load even if memory seems too short"})
    adapter: str | None = field(
        default=None,
        metadata={"metavar": "PATH", "help": "a LoRA adapter: peft's folder, or a GGUF file"},
    )


def use_threads(count: int | None) -> None:
    """The number of threads for this process; None leaves it. Raises UserError for what is no such number."""
    if count is not None:
        if not 1 <= count <= system.MOST_THREADS:
            raise UserError(
                "--threads {value}: out of range", value=count, most=system.MOST_THREADS,
                hint="give a number from 1 to {most}",
            )  # fmt: skip
        os.environ["SOBAN_THREADS"] = str(count)


def load_model(name: str | Path | None, flags: ModelFlags, status: console.Status) -> "tuple[Model, float]":
    """The model (None: the bundled one), and the seconds that it took; the status says what is being done.

    A name whose files are not on this PC is fetched first; those seconds do not count.
    """
    from soban.model import load

    path = None if name is None else files_of(name)
    status.show(translate("loading the model ..."))
    start = time.perf_counter()
    model = load(
        path, dtype=flags.dtype, context=flags.context, tokenizer=flags.tokenizer, force=flags.force,
        cache_dtype=flags.cache_dtype, adapter=flags.adapter,
        progress=lambda share: status.show(translate("packing the weights ... {percent:.0f} %", percent=100 * share)),
    )  # fmt: skip
    return model, time.perf_counter() - start


def files_of(name: str | Path) -> Path:
    """Where a model's files lie, fetched now if they are not on this PC."""
    from soban.cli.bringing import bring
    from soban.loading.locate import locate

    return locate(name, bring)


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
        case [word] if _names_a_model(word):
            return word, None
        case [word]:
            return None, _checked(word)
    return None, None


def _names_a_model(word: str) -> bool:
    from soban.hub import names, neighbours
    from soban.loading import custom

    if custom.find(word) is not None:
        return True
    return neighbours.is_name(word) or (len(word.split()) == 1 and names.find(word) is not None)


def _checked(prompt: str) -> str:
    """The prompt. Raises UserError for what is rather the name of a model that was mistyped, or is not here."""
    from soban.hub import meant

    if meant.looks_like_name(prompt):
        raise meant.no_prompt(prompt)
    return prompt
