"""`soban data`: text of any kind to cleaned, split and encoded data for training."""

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.transfer import Transfer
from soban.learn.data.arguments import PrepareArguments
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
class DataOptions(PrepareArguments):
    """Make training data of text: read, cleaned of duplicates and personal data, split, and encoded.

    Files may be UTF-8, UTF-16, cp949 or of the neighbours' encodings, gzipped or in zips; which one, and which field of
    a record is its text, is found by itself.
    Without --out it only looks, and tells what it would do. What is made already is not made again.
    """

    words: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"positional": True, "metavar": "FILE|FOLDER ... | tinystories [STEP]"}
    )
    sample: str | None = dataclasses.field(
        default=None,
        metadata={"metavar": "FILE", "help": "tinystories: take these stories, and fetch nothing", "after": "examples"},
    )
    json: bool = dataclasses.field(default=False, metadata={"help": "write the report as JSON", "after": "force"})
    quiet: bool = dataclasses.field(
        default=False, metadata={"short": "-q", "help": "show no progress", "after": "json"}
    )


OPTIONS = DataOptions


def call(options: DataOptions) -> int:
    """Writes the report to stdout; 130 if Ctrl-C ended it."""
    with console.Status(options.quiet) as status:
        try:
            if options.words[:1] == (TINYSTORIES,):
                return _tinystories(options, status)
            if options.sample is not None:
                raise UserError("--sample goes with tinystories", hint="name the file without --sample")
            return _prepare(_preparation(options, options.words), options, status)
        except KeyboardInterrupt:
            status.clear()
            console.tell(translate("stopped; what was there before is as it was"))
            return INTERRUPTED


def _preparation(options: DataOptions, paths: tuple[str, ...]) -> "Preparation":
    from soban.learn.data.prepare import preparation

    return preparation(dataclasses.replace(options, paths=paths))


def _prepare(preparation: "Preparation", options: DataOptions, status: console.Status) -> int:
    from soban.cli.terminal.data_report import table
    from soban.learn.data.prepare import prepare

    with ExitStack() as stack:

        def progress(stage: str, count: int, share: float | None) -> None:
            if stage == "moving":
                stack.enter_context(unbroken())
            else:
                status.show(_stage(stage, count, share))

        prepared = prepare(preparation, progress)
    try:
        status.clear()
        if options.json:
            console.write(json.dumps(prepared.report, ensure_ascii=False) + "\n")
            return 0
        console.write(table(prepared.report, preparation.out, options.samples))
        if not prepared.new:
            console.tell(translate("{path}: here already; --force makes it again", path=preparation.out))
        elif preparation.out is None:
            console.tell(translate("nothing was written; --out FOLDER makes training data of it"))
    except KeyboardInterrupt:
        return INTERRUPTED  # only the report is cut short: the data are there
    return 0


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C comes too late meanwhile, and is not heard."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen to signals
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stage(stage: str, count: int, share: float | None) -> str:
    """A line of progress."""
    line = STAGES[stage](count)
    return line if share is None else f"{line} {100 * share:.0f} %"


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
    preparation = dataclasses.replace(_preparation(options, stories()), beside=tinystories.BESIDE)
    if step == "train-vocab":
        folder = tinystories.train_vocabulary(preparation, lambda *stage: status.show(_stage(*stage)))
        status.clear()
        console.write(f"{folder}\n")
        return 0
    return _prepare(tinystories.with_vocabulary(preparation) if step == "pretokenize" else preparation, options, status)
