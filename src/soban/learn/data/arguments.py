"""What `soban.learn.prepare` can be told: its arguments, with the help of those that are flags of `soban data`, too."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from soban.learn.tokenizer import Layout

Parting = Literal["auto", "blank", "line", "file"]  # what stands between the documents of a text file
Progress = Callable[[str, int, float | None], None]  # a stage, how many documents, the share of it that is done


@dataclass(frozen=True)
class PrepareArguments:
    """Text, and what is made of it. Those with a help are flags, too."""

    paths: str | Path | Sequence[str | Path] = ()
    out: str | Path | None = dataclasses.field(
        default=None, metadata={"metavar": "FOLDER", "help": "where to put the data"}
    )
    field: tuple[str, ...] = dataclasses.field(
        default=(),
        metadata={
            "metavar": "NAME",
            "help": "the field that is the text; given several times, they are put together in this order; "
            "outer.inner reaches into nested ones",
        },
    )
    encoding: str | None = dataclasses.field(
        default=None,
        metadata={"metavar": "NAME", "help": "what the files are encoded in, as cp949 (default: found for each)"},
    )
    parting: Parting = dataclasses.field(
        default="auto",
        metadata={
            "help": "what parts the documents of a text file; auto: <|endoftext|> if it has that, else blank lines"
        },
    )
    vocab_size: int | None = dataclasses.field(
        default=None, metadata={"help": "entries of the tokenizer (default: chosen by bits per byte)"}
    )
    layout: Layout = dataclasses.field(
        default="llama", metadata={"help": "how the tokenizer begins; llama2.c's run.c needs llama"}
    )
    tokenizer: str | Path | None = dataclasses.field(
        default=None, metadata={"metavar": "FOLDER", "help": "take the tokenizer of this model, and learn none"}
    )
    template: str | None = dataclasses.field(
        default=None,
        metadata={
            "metavar": "NAME|FILE",
            "help": "conversations are written by this chat template: llama2, chatml, ... or a Jinja file (default: as "
            "their plain text)",
        },
    )
    validation: float = dataclasses.field(
        default=0.02, metadata={"help": "share of the documents that is held out for measuring"}
    )
    test: float = dataclasses.field(default=0.0, metadata={"help": "share that is held out for the very end"})
    seed: int = dataclasses.field(default=0, metadata={"help": "decides which documents are held out"})
    personal: Literal["mask", "drop", "keep"] = dataclasses.field(
        default="mask",
        metadata={
            "help": "e-mail addresses, phone, resident, card and account numbers: put [email] and the like in their "
            "place, leave out the documents, or keep them"
        },
    )
    similarity: float = dataclasses.field(
        default=0.8,
        metadata={"help": "share of common letter runs from which two documents are near-duplicates; 2: none"},
    )
    near: Literal["drop", "keep"] = dataclasses.field(
        default="drop", metadata={"help": "near-duplicates: leave them out, or keep them, all in one split"}
    )
    min_characters: int = dataclasses.field(default=5, metadata={"help": "leave out shorter documents"})
    max_characters: int = dataclasses.field(default=1_000_000, metadata={"help": "leave out longer documents"})
    max_symbols: float = dataclasses.field(
        default=0.4, metadata={"help": "leave out documents with a larger share of signs that are no letters"}
    )
    language: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"metavar": "ko|en|...", "help": "leave out documents that are mostly in other scripts"}
    )
    samples: int = dataclasses.field(default=0, metadata={"help": "show the first N documents of each file"})
    examples: bool = dataclasses.field(
        default=False, metadata={"help": "show some of what was left out, and keep them in the report"}
    )
    force: bool = dataclasses.field(default=False, metadata={"help": "make it again even if it is there"})
    progress: Progress | None = None
