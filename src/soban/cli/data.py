"""`soban data`: text of any kind to cleaned, split and encoded data for training."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.transfer import Transfer
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.data.prepare import Preparation

INTERRUPTED = 130
TINYSTORIES = "tinystories"
EXAMPLES = """\
  soban data notes/ --out data/                  a folder of txt, json, jsonl, csv, tsv, parquet, zip
  soban data chats.csv                           look only: which field, how many duplicates, samples
  soban data chats.csv --field A --field Q --out data/
  soban data aihub.zip --field Meta.summary --samples 3
  soban data tinystories --out data/             fetches 1.5 GB, and goes on where it was stopped
  soban data tinystories --sample stories.txt --out data/
  soban data tinystories download --out data/    llama2.c's steps, one at a time: then
  soban data tinystories train-vocab --vocab-size 4096 --out data/
  soban data tinystories pretokenize --out data/
"""


@dataclass(frozen=True)
class DataOptions:
    """Make training data of text: read, cleaned of duplicates and personal data, split, and encoded.

    Files may be UTF-8, UTF-16, cp949 or of the neighbours' encodings, gzipped or in zips; which one, and which field of
    a record is its text, is found by itself.
    Without --out it only looks, and tells what it would do. What is made already is not made again.
    """

    words: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"positional": True, "metavar": "FILE|FOLDER ... | tinystories [STEP]"}
    )
    out: str | None = dataclasses.field(default=None, metadata={"metavar": "FOLDER", "help": "where to put the data"})
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
    parting: Literal["auto", "blank", "line", "file"] = dataclasses.field(
        default="auto",
        metadata={
            "help": "what parts the documents of a text file; auto: <|endoftext|> if it has that, else blank lines"
        },
    )
    vocab_size: int | None = dataclasses.field(
        default=None, metadata={"help": "entries of the tokenizer (default: chosen by bits per byte)"}
    )
    layout: Literal["llama", "gemma"] = dataclasses.field(
        default="llama", metadata={"help": "how the tokenizer begins; llama2.c's run.c needs llama"}
    )
    tokenizer: str | None = dataclasses.field(
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
    sample: str | None = dataclasses.field(
        default=None, metadata={"metavar": "FILE", "help": "tinystories: take these stories, and fetch nothing"}
    )
    force: bool = dataclasses.field(default=False, metadata={"help": "make it again even if it is there"})
    json: bool = dataclasses.field(default=False, metadata={"help": "write the report as JSON"})
    quiet: bool = dataclasses.field(default=False, metadata={"short": "-q", "help": "show no progress"})


OPTIONS = DataOptions


def call(options: DataOptions) -> int:
    """Writes the report to stdout; 130 if Ctrl-C ended it."""
    if not options.words:
        raise UserError("no text is named", hint="name files or folders, as in soban data notes/ --out data/")
    if options.samples < 0:
        raise UserError("--samples {value} is below 0", value=options.samples, hint="give 0 or more")
    with console.Status(options.quiet) as status:
        try:
            if options.words[0] == TINYSTORIES:
                return _tinystories(options, status)
            if options.sample is not None:
                raise UserError("--sample goes with tinystories", hint="name the file without --sample")
            return _prepare(preparation(options, options.words), options, status)
        except KeyboardInterrupt:
            status.clear()
            console.tell(translate("stopped; what was there before is as it was"))
            return INTERRUPTED


def preparation(options: DataOptions, paths: tuple[str, ...], **more: Any) -> "Preparation":
    """What the flags ask for. Raises UserError for values that cannot be."""
    from soban.learn.data import decoding
    from soban.learn.data.cleaning import Cleaning
    from soban.learn.data.prepare import Preparation
    from soban.learn.data.quality import LANGUAGES, Quality
    from soban.learn.data.reading import Reading

    languages = tuple(word for words in options.language for word in words.split(","))
    if unknown := [word for word in languages if word not in LANGUAGES]:
        raise UserError(
            "--language {value} is not known", value=console.shortened(unknown[0]), known=", ".join(LANGUAGES),
            hint="choose among {known}",
        )  # fmt: skip
    if not (options.similarity > 0 and options.max_symbols >= 0):
        raise UserError("--similarity and --max-symbols cannot be below 0", hint="0.8 and 0.4 are usual")
    quality = Quality(options.min_characters, options.max_characters, options.max_symbols, languages)
    given = {
        "out": None if options.out is None else Path(options.out),
        "reading": Reading(
            options.field, options.parting, max(3, options.samples), options.template is not None,
            None if options.encoding is None else decoding.named(options.encoding),
        ),
        "cleaning": Cleaning(quality, options.personal, options.similarity, options.near),
        "validation": options.validation, "test": options.test, "seed": options.seed,
        "vocab_size": options.vocab_size, "layout": options.layout,
        "tokenizer": None if options.tokenizer is None else Path(options.tokenizer),
        "template": options.template, "examples": options.examples, "force": options.force,
    }  # fmt: skip
    return Preparation(paths, **(given | more))


def _prepare(wanted: "Preparation", options: DataOptions, status: console.Status) -> int:
    from soban.cli.terminal.data_report import table
    from soban.learn.data.prepare import prepare

    outcome = prepare(wanted, lambda stage, count, share: status.show(_stage(stage, count, share)))
    try:
        status.clear()
        if options.json:
            console.write(json.dumps(outcome.report, ensure_ascii=False) + "\n")
            return 0
        console.write(table(outcome.report, wanted.out, options.samples))
        if not outcome.made:
            console.tell(translate("{path}: here already; --force makes it again", path=wanted.out))
        elif wanted.out is None:
            console.tell(translate("nothing was written; --out FOLDER makes training data of it"))
    except KeyboardInterrupt:
        return INTERRUPTED  # only the report is cut short: the data are there
    return 0


def _stage(stage: str, count: int, share: float | None) -> str:
    """A line of progress."""
    told = STAGES[stage](count)
    return told if share is None else f"{told} {100 * share:.0f} %"


STAGES = {
    "reading": lambda count: translate("reading: {count:,} documents ...", count=count),
    "comparing": lambda count: translate("looking for near-duplicates among {count:,} ...", count=count),
    "sizes": lambda count: translate("trying sizes of vocabulary ..."),
    "tokenizer": lambda count: translate("learning the tokenizer from {count:,} documents ...", count=count),
    "writing": lambda count: translate("encoding {count:,} documents ...", count=count),
}


def _tinystories(options: DataOptions, status: console.Status) -> int:
    """llama2.c's three steps under their names, or all of them."""
    from soban.learn.data import tinystories

    if options.out is None:
        raise UserError("tinystories needs a folder", hint="name one, as in soban data tinystories --out data/")
    step = options.words[1].replace("_", "-") if len(options.words) > 1 else "all"
    if step not in tinystories.STEPS or len(options.words) > 2:
        raise UserError(
            "tinystories has no step {step}", step=console.shortened(options.words[-1]),
            known=", ".join(tinystories.STEPS), hint="choose among {known}",
        )  # fmt: skip
    out = Path(options.out)

    def stories() -> tuple[str, ...]:
        if options.sample is not None:
            return (options.sample,)
        with Transfer(tinystories.ARCHIVE, options.quiet) as line:
            return tinystories.stories(out, line.show, fetch=step in ("all", "download"))

    if step == "download":
        status.clear()
        console.write("".join(f"{path}\n" for path in stories()))
        return 0
    given = preparation(options, stories(), beside=tinystories.BESIDE, validation=options.validation)
    if step == "train-vocab":
        folder = tinystories.train_vocabulary(given, lambda *told: status.show(_stage(*told)))
        status.clear()
        console.write(f"{folder}\n")
        return 0
    return _prepare(tinystories.with_vocabulary(given) if step == "pretokenize" else given, options, status)
