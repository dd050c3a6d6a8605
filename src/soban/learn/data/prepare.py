"""From files to a folder of token shards: every step in order, nothing half-written, and nothing done twice."""

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.base.files import write_error
from soban.learn import tokenizer as learning
from soban.learn.data import chats, decoding, encoding, keeping, shards, sources, vocabulary
from soban.learn.data.arguments import PrepareArguments, Progress
from soban.learn.data.cleaning import Cleaned, Cleaning, Tally, clean
from soban.learn.data.quality import LANGUAGES, Quality
from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.splitting import SPLITS, split
from soban.learn.tokenizer import SMALLEST_VOCABULARY, Layout
from soban.text.chat.templates import find_template

SAMPLE = 64_000_000  # bytes of text from which a tokenizer learns
MOST_ENTRIES = 1 << 20
TEMPORARY: dict[str, Any] = {"prefix": "soban-data-", "ignore_cleanup_errors": True}


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared, and how."""

    paths: tuple[str, ...]
    out: Path | None = None  # None: look at the data, and write nothing
    reading: Reading = field(default_factory=Reading)
    cleaning: Cleaning = field(default_factory=Cleaning)
    validation: float = 0.02  # shares of the documents that are held out
    test: float = 0.0
    seed: int = 0
    vocab_size: int | None = None  # None: by bits per byte
    layout: Layout = "llama"
    tokenizer: Path | None = None  # a folder with one that is there already
    template: str | None = None  # a chat template's name or file: conversations are written by it
    examples: bool = False  # of what was left out, in the report
    force: bool = False
    beside: frozenset[str] = frozenset()  # what else may lie in `out`


@dataclass(frozen=True)
class TrainingData:
    """What came of it."""

    folder: Path | None  # of the data; None where they were only looked at
    report: dict[str, Any]
    new: bool  # False: it was there already

    def __repr__(self) -> str:
        count = f"{self.report['kept']} of {self.report['documents']} documents"
        return f"<TrainingData {self.folder or 'nothing'}: {count}{'' if self.new else ', there already'}>"


def preparation(arguments: PrepareArguments) -> Preparation:
    """What the arguments ask for. Raises UserError for values that cannot be."""
    paths = (arguments.paths,) if isinstance(arguments.paths, str | Path) else arguments.paths
    if not paths:
        raise UserError("no text is named", hint="name files or folders, as in soban data notes/ --out data/")
    if arguments.samples < 0:
        raise UserError("--samples {value} is below 0", value=arguments.samples, hint="give 0 or more")
    languages = tuple(word for words in arguments.language for word in words.split(","))
    if unknown := [word for word in languages if word not in LANGUAGES]:
        raise UserError(
            "--language {value} is not known", value=unknown[0][:60], known=", ".join(LANGUAGES),
            hint="choose among {known}",
        )  # fmt: skip
    if not (arguments.similarity > 0 and arguments.max_symbols >= 0):
        raise UserError("--similarity and --max-symbols cannot be below 0", hint="0.8 and 0.4 are usual")
    quality = Quality(arguments.min_characters, arguments.max_characters, arguments.max_symbols, languages)
    return Preparation(
        tuple(map(str, paths)),
        out=None if arguments.out is None else Path(arguments.out),
        reading=Reading(
            arguments.field, arguments.parting, max(3, arguments.samples), arguments.template is not None,
            None if arguments.encoding is None else decoding.python_name(arguments.encoding),
        ),
        cleaning=Cleaning(quality, arguments.personal, arguments.similarity, arguments.near),
        validation=arguments.validation, test=arguments.test, seed=arguments.seed,
        vocab_size=arguments.vocab_size, layout=arguments.layout,
        tokenizer=None if arguments.tokenizer is None else Path(arguments.tokenizer),
        template=arguments.template, examples=arguments.examples, force=arguments.force,
    )  # fmt: skip


def prepare(request: Preparation, tell: Progress = lambda stage, count, share: None) -> TrainingData:
    """Reads, cleans, splits, learns a tokenizer and writes shards; where all that is there already, does nothing.

    Raises UserError for what cannot be read or written; `out` is then as it was, as after a KeyboardInterrupt. `tell`
    hears of the stage "moving" when the finished files are about to be moved to their place.
    """
    start = time.monotonic()
    check(request)
    inputs = _inputs(request)
    if request.out is None:
        with _room_told(inputs, None), tempfile.TemporaryDirectory(**TEMPORARY) as folder:
            report = _look(request, inputs, Path(folder), tell)
            return TrainingData(None, report | {"seconds": time.monotonic() - start}, True)
    keeping.room(request.out, sum(source.size for source in inputs.sources))
    mark = fingerprint(request, inputs.sources)
    with keeping.alone(request.out, request.beside):
        if not request.force and (finished := keeping.finished_report(request.out, mark)) is not None:
            return TrainingData(request.out, finished, False)
        if not request.force and keeping.earlier_files(request.out) is not None:
            raise UserError(
                "{path}: holds finished data, of other text or made with other options", path=request.out,
                hint="--force replaces them; or choose another folder with --out",
            )  # fmt: skip
        work = request.out / keeping.WORK
        # of a run that could not move it to its place
        report = keeping.finished_report(work, mark) or _finish(request, inputs, work, mark, start, tell)
        tell("moving", 0, None)
        keeping.publish(work, request.out)
        shutil.rmtree(work, ignore_errors=True)
    return TrainingData(request.out, report, True)


@contextlib.contextmanager
def _room_told(inputs: sources.Inputs, out: Path | None) -> Iterator[None]:
    """UserError for whatever the system refuses to write there: the texts are read, and what fails there is told."""
    try:
        yield
    except OSError as error:
        place = Path(tempfile.gettempdir()) if out is None else out
        raise write_error(place, keeping.ROOM * sum(source.size for source in inputs.sources), error) from error


def check(request: Preparation) -> None:
    """UserError for values that cannot be."""
    held_out = request.validation + request.test
    if not (0 <= request.validation < 1 and 0 <= request.test < 1 and held_out < 1):
        raise UserError(
            "{share} of the documents cannot be held out", share=held_out,
            hint="give --validation and --test as shares from 0, below 1 together",
        )  # fmt: skip
    if request.template is not None:
        find_template(request.template)
    if request.seed < 0:
        raise UserError("--seed {value} is below 0", value=request.seed, hint="give 0 or more")
    if request.vocab_size is not None and not SMALLEST_VOCABULARY <= request.vocab_size <= MOST_ENTRIES:
        raise UserError(
            "--vocab-size {value}: out of range", value=request.vocab_size, least=SMALLEST_VOCABULARY,
            most=MOST_ENTRIES, hint="give {least} to {most}: 256 entries stand for bytes",
        )  # fmt: skip


def _inputs(request: Preparation) -> sources.Inputs:
    """The sources, but for what earlier runs have written themselves."""
    inputs = sources.find(request.paths)
    if request.out is not None:
        out = request.out.resolve()
        for path in map(Path, request.paths):
            if not (full := path.resolve()).is_relative_to(out):
                inputs.sources = [one for one in inputs.sources if not one.path.resolve().is_relative_to(out)]
            elif full == out or full.relative_to(out).parts[0] in keeping.OURS:  # which would be replaced
                raise UserError(
                    "{path}: holds the text itself", path=request.out, hint="choose another folder with --out"
                )
    return inputs


def fingerprint(request: Preparation, files: Sequence[sources.Source]) -> str:
    """What the result depends on, as a hash: the files by name, size and time, and the options."""
    options = asdict(replace(request, out=None, force=False, paths=(), beside=frozenset()))
    causes = [shards.FORMAT, options, [(file.name, file.size, file.modified) for file in files]]
    if request.tokenizer is not None and (path := request.tokenizer / "tokenizer.json").is_file():
        causes.append(shards.file_hash(path))
    if request.template is not None:
        causes.append(find_template(request.template).source)
    return hashlib.sha256(json.dumps(causes, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _look(request: Preparation, inputs: sources.Inputs, work: Path, tell: Progress) -> dict[str, Any]:
    """The report alone."""
    read: list[Read] = []
    with clean(documents(inputs.sources, request.reading, read), request.cleaning, work, tell) as cleaned:
        return _report(request, inputs, read, cleaned)


def _finish(
    request: Preparation, inputs: sources.Inputs, work: Path, mark: str, start: float, tell: Progress
) -> dict[str, Any]:
    """The report; the working folder then holds all that is to be moved, or is gone."""
    shutil.rmtree(work, ignore_errors=True)
    try:
        with _room_told(inputs, request.out):
            work.mkdir()
            report, manifest = _make(request, inputs, work, tell)
            report["seconds"] = time.monotonic() - start
            shards.write_json(work / keeping.REPORT, report)
            shards.write_json(work / shards.MANIFEST, manifest | {"fingerprint": mark})
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return report


def _make(
    request: Preparation, inputs: sources.Inputs, work: Path, tell: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything but the manifest, in the working folder; the report and the manifest."""
    read: list[Read] = []
    with clean(documents(inputs.sources, request.reading, read), request.cleaning, work, tell) as cleaned:
        if not len(cleaned):
            raise UserError(
                "no text is left of {count} documents", count=cleaned.tally.documents,
                hint="the report without --out tells why: soban data ... --examples",
            )  # fmt: skip
        parts = split(cleaned.keys, cleaned.groups, cleaned.numbers, (request.validation, request.test), request.seed)
        encoder, trials = _encoder(request, cleaned, parts["train"], tell)
        learning.save_tokenizer(encoder.tokenizer, work)
        if request.tokenizer is not None:
            _copy_config(request.tokenizer, work)
        if request.template is not None:
            encoder = replace(encoder, writer=chats.writer_in(work, request.template))
        splits = {
            name: _write_split(cleaned, name, parts[name], encoder, work, tell) for name in SPLITS if len(parts[name])
        }
    about = {
        "sha256": shards.file_hash(work / "tokenizer.json"), "entries": encoder.entries,
        "bos_token_id": encoder.bos_id, "eos_token_id": encoder.eos_id,
    }  # fmt: skip
    manifest = {
        "format": shards.FORMAT, "data_hash": _data_hash(request, cleaned.keys, parts), "tokenizer": about,
        "dtype": np.dtype(shards.dtype_for(encoder.entries)).name, "seed": request.seed, "splits": splits,
        "inputs": [{"name": source.name, "bytes": source.size} for source in inputs.sources],
    }  # fmt: skip
    report = _report(request, inputs, read, cleaned)
    short = {name: {key: one[key] for key in ("documents", "bytes", "tokens")} for name, one in splits.items()}
    report |= {"splits": short, "tokenizer": {"entries": encoder.entries, "tried": [asdict(one) for one in trials]}}
    return report | {"data_hash": manifest["data_hash"]}, manifest


def _encoder(
    request: Preparation, cleaned: Cleaned, train: NDArray[np.int64], tell: Progress
) -> tuple[encoding.Encoder, list[vocabulary.Trial]]:
    """The tokenizer: the one that is given, or one that is learnt from the texts to learn from."""
    if request.tokenizer is not None:
        return encoding.from_folder(request.tokenizer), []
    sample = [cleaned.texts[number] for number in _spread(cleaned, train, SAMPLE)]
    if request.template is not None:
        writer = chats.Writer(request.template)
        sample = [writer.render(text) for text in sample]
    size, trials = request.vocab_size, list[vocabulary.Trial]()
    if size is None:
        tell("sizes", len(sample), 0.0)
        size, trials = vocabulary.choose_size(sample, request.layout, lambda share: tell("sizes", len(sample), share))
    tell("tokenizer", len(sample), None)
    tokenizer = learning.train_tokenizer(sample, size, request.layout)
    if (entries := tokenizer.get_vocab_size()) < size and request.vocab_size is not None:
        raise UserError(
            "--vocab-size {value}: this text supports only {most} entries", value=size, most=entries,
            hint="give at most {most}, or more text, or leave it out",
        )  # fmt: skip
    return encoding.own(tokenizer), trials


def _spread(cleaned: Cleaned, numbers: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Documents from all over that have about so many bytes together."""
    total = sum(cleaned.texts.size(int(number)) for number in numbers)
    return numbers[:: max(1, -(-total // most))]


def _write_split(
    cleaned: Cleaned, name: str, numbers: NDArray[np.int64], encoder: encoding.Encoder, work: Path, tell: Progress
) -> dict[str, Any]:
    """The shards of a split, for the manifest."""

    def texts() -> Iterator[str]:
        for count, number in enumerate(numbers.tolist()):
            if count % 1000 == 0:
                tell("writing", len(numbers), count / len(numbers))
            yield cleaned.texts[number]

    files = shards.write_shards(work, name, encoder.encode(texts()), encoder.entries)
    return {
        "documents": len(numbers), "bytes": sum(cleaned.texts.size(int(number)) for number in numbers),
        "tokens": sum(shard.tokens for shard in files), "shards": shards.shard_json(files),
    }  # fmt: skip


def _data_hash(request: Preparation, keys: NDArray[np.uint64], parts: dict[str, NDArray[np.int64]]) -> str:
    """Which documents there are, in which order and split, as a hash."""
    digest = hashlib.sha256()
    if request.template is not None and request.tokenizer is not None:
        # one that is learnt differs with the template, and has a hash of its own in the manifest
        digest.update(find_template(request.template).source.encode())
    for name in SPLITS:
        digest.update(name.encode() + keys[parts[name]].astype("<u8").tobytes())
    return digest.hexdigest()


def _copy_config(tokenizer: Path, work: Path) -> None:
    """A given tokenizer keeps its own settings."""
    path = (tokenizer if tokenizer.is_dir() else tokenizer.parent) / "tokenizer_config.json"
    if path.is_file():
        shutil.copyfile(path, work / path.name)


def _report(request: Preparation, inputs: sources.Inputs, read: Sequence[Read], cleaned: Cleaned) -> dict[str, Any]:
    """What was found, as JSON has it."""
    tally: Tally = cleaned.tally
    report: dict[str, Any] = {
        "files": [asdict(one) for one in read], "files_ignored": inputs.ignored,
        "documents": tally.documents, "bytes": tally.bytes,
        "left_out": {why: count for why, count in tally.left_out.items() if count},
        "kept": len(cleaned), "kept_bytes": sum(cleaned.texts.size(int(number)) for number in cleaned.numbers),
        "near_duplicates_kept": tally.near,
        "personal": {"what": request.cleaning.personal, "documents": tally.documents_with_personal, **tally.personal},
        "options": asdict(request.cleaning) | {"seed": request.seed},
    }  # fmt: skip
    return report | ({"examples": tally.examples} if request.examples else {})
