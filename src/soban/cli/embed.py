"""`soban embed`: texts in, a vector of each out."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from soban.base.border import crossing, reason
from soban.base.errors import UserError
from soban.base.files import check_absent, new_file
from soban.cli.shared import ModelFlags, load_model, use_threads
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.model import Model
    from soban.ops.formats import Floats

TOGETHER = 512  # texts whose vectors are written at once
ENDINGS = (".npy", ".jsonl")
EXAMPLES = """\
  soban embed multilingual-e5-small lines.txt > vectors.jsonl      a text on each line
  soban embed path/to/model records.jsonl --key body --out vectors.npy
  soban embed path/to/model --text "query: 서울 날씨" --dimensions 256
  cat lines.txt | soban embed path/to/model --prompt-name query
"""


@dataclass(frozen=True)
class EmbedOptions(ModelFlags):
    """Turn texts into vectors, for search. Texts compare by the product of their vectors.

    FILE has a text on each line, or with the ending .jsonl a record, whose text is under "text" or --key; without a
    file, the lines come from a pipe. What is written are lines of JSON: the text, or the record, and its "embedding".
    With --out to a .npy file it is an array of float32, a row for each text. A model that was made for this (of
    BERT's kinds, or Qwen3-Embedding) says in its files how; of another the mean of its states is taken.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "MODEL [FILE]"})
    text: tuple[str, ...] = field(default=(), metadata={"metavar": "TEXT", "help": "a text, in place of a file"})
    key: str = field(default="text", metadata={"help": "where the text of a record is"})
    out: str | None = field(default=None, metadata={"metavar": "FILE", "help": "write a .npy or .jsonl file"})
    prompt_name: str | None = field(
        default=None, metadata={"metavar": "NAME", "help": "put this prompt of the model's files before each text"}
    )
    pooling: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME",
            "help": "mean, cls, last, max, weightedmean or mean_sqrt_len_tokens of a text's states (default: as the "
            "model's files say, else mean)",
        },
    )
    dimensions: int | None = field(default=None, metadata={"help": "keep the first N numbers of each vector"})
    truncate: bool = field(default=False, metadata={"help": "cut texts that are too long for the model"})
    unscaled: bool = field(default=False, metadata={"help": "leave vectors as long as the model's files have them"})
    quiet: bool = field(default=False, metadata={"short": "-q", "help": "say nothing while it works"})


OPTIONS = EmbedOptions


class Source(NamedTuple):
    """A text, what is written beside its vector, and where it stands."""

    text: str
    record: dict[str, Any]
    place: str


def call(options: EmbedOptions) -> int:
    """Writes lines of JSON to stdout, or a file."""
    name, sources = check(options)
    with console.Status(options.quiet) as status:
        model, _ = load_model(name, options, status)
        if options.dimensions is not None and options.dimensions > (
            width := model.pooling.width(model.config.hidden_size)
        ):
            raise UserError(
                "--dimensions {value}: the model's vectors have {width}", value=options.dimensions, width=width,
                hint="give a number up to {width}",
            )  # fmt: skip
        pieces = computed(model, sources, options, status)
        if options.out is None:
            for some, vectors in pieces:
                status.clear()
                console.write(lines(some, vectors))
            return 0
        written = [(some, vectors) for some, vectors in pieces]
    data = b"".join(lines(*piece).encode() for piece in written) if options.out.endswith(".jsonl") else array(written)
    with new_file(Path(options.out), len(data)) as file:
        file.write(data)
    return 0


def check(options: EmbedOptions) -> tuple[str, list[Source]]:
    """The model and the texts. UserError for what cannot be, before anything is loaded."""
    use_threads(options.threads)
    if not options.words:
        raise UserError("there is no model", hint="name one, as in soban embed multilingual-e5-small lines.txt")
    name, *files = options.words
    if len(files) + bool(options.text) > 1:
        raise UserError(
            "{count} words, where a model and a file are meant; this is too much: {word}", count=len(options.words),
            word=console.shortened(options.words[-1]), hint="put the lines of all into one file",
        )  # fmt: skip
    if options.out is not None:
        if not options.out.endswith(ENDINGS):
            raise UserError(
                "--out {path}: what is to be written?", path=options.out, hint="end the name in .npy or .jsonl"
            )
        with crossing(options.out):
            check_absent(Path(options.out))
    if options.dimensions is not None and options.dimensions < 1:
        raise UserError(
            "--dimensions {value}: out of range", value=options.dimensions, hint="give a number of 1 or more"
        )
    return name, [*read(options, files[0] if files else None)]


def read(options: EmbedOptions, file: str | None) -> Iterator[Source]:
    """The texts, in their order. UserError for a record without one, by its line."""
    if options.text:
        yield from (Source(text, {"text": text}, f"--text {console.shortened(text)}") for text in options.text)
        return
    from soban.text.encodings import decode

    place = file or "stdin"
    with crossing(file):
        if file is None:
            if sys.stdin is None or sys.stdin.isatty():
                raise UserError("there are no texts", hint="name a file, pipe lines in, or give --text")
            data = sys.stdin.buffer.read()
        else:
            data = Path(file).read_bytes()
    count = 0
    for number, line in enumerate(decode(data, Path(place)).split("\n") if data else (), 1):
        if line.strip():
            count += 1
            yield _record(line, options.key, f"{place}:{number}") if _of_records(file) else Source(
                line, {"text": line}, f"{place}:{number}"
            )  # fmt: skip
    if not count:
        raise UserError("{path}: no texts in it", path=place, hint="put a text on each line")


def _of_records(file: str | None) -> bool:
    return file is not None and file.lower().endswith(".jsonl")


def _record(line: str, key: str, place: str) -> Source:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError("{path}: not JSON ({reason})", path=place, reason=reason(error), hint="correct it") from None
    text = record.get(key) if isinstance(record, dict) else None
    if not isinstance(text, str) or not text:
        raise UserError(
            "{path}: no text under {key}", path=place, key=json.dumps(key, ensure_ascii=False),
            hint="say with --key where the text is",
        )  # fmt: skip
    return Source(text, record, place)


def computed(
    model: "Model", sources: list[Source], options: EmbedOptions, status: console.Status
) -> Iterator[tuple[list[Source], "Floats"]]:
    """Some texts at a time with their vectors."""
    from soban.loading.pooling import unit
    from soban.talk.embedding import pooled

    how = pooled(model.pooling, options.pooling)
    for first in range(0, len(sources), TOGETHER):
        some = sources[first : first + TOGETHER]
        status.show(translate("{done:,} of {count:,} texts ...", done=first, count=len(sources)))
        ids, skip = model.embedding_ids([one.text for one in some], how, options.prompt_name, options.truncate)
        check_lengths(model, some, ids)
        vectors = model.vectors(ids, how, skip, normalize=not options.unscaled)[:, : options.dimensions]
        if options.dimensions is not None and not options.unscaled:
            vectors = np.stack([unit(vector) for vector in vectors])
        yield some, vectors


def check_lengths(model: "Model", sources: list[Source], ids: list[list[int]]) -> None:
    """UserError for the first text that is too long, with its place."""
    for source, own in zip(sources, ids, strict=True):
        if len(own) > model.context:
            raise UserError(
                "{path}: {count} tokens, where the model reads {context}", path=source.place, count=len(own),
                context=model.context, hint="shorten the text, or cut those that are too long with --truncate",
            )  # fmt: skip


def lines(sources: list[Source], vectors: "Floats") -> str:
    """Records in JSON, each on a line."""
    return "".join(
        json.dumps({**source.record, "embedding": [round(float(x), 8) for x in vector]}, ensure_ascii=False) + "\n"
        for source, vector in zip(sources, vectors, strict=True)
    )


def array(pieces: list[tuple[list[Source], "Floats"]]) -> bytes:
    """All vectors as NumPy writes them to a file."""
    file = io.BytesIO()
    np.save(file, np.concatenate([vectors for _, vectors in pieces]).astype(np.float32), allow_pickle=False)
    return file.getvalue()
