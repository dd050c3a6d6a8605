"""TinyStories by llama2.c's three steps: download, train-vocab, pretokenize."""

import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from soban.base.errors import UserError
from soban.base.files import free_bytes, no_space, write_error
from soban.hub import download
from soban.hub.names import Repository
from soban.learn.data.arguments import Progress
from soban.learn.data.chats import Document, parts
from soban.learn.data.cleaning import clean
from soban.learn.data.keeping import LEFT_BY_SYSTEMS
from soban.learn.data.prepare import SAMPLE, Preparation, check
from soban.learn.data.reading import Read, documents
from soban.learn.data.sources import broken, find
from soban.learn.sentencepiece_model import save_sentencepiece
from soban.learn.tokenizer import save_tokenizer, train_tokenizer

STEPS = ("all", "download", "train-vocab", "pretokenize")
REPOSITORY = Repository("roneneldan/TinyStories", kind="datasets")
ARCHIVE = "TinyStories_all_data.tar.gz"
FOLDER = "TinyStories_all_data"
DONE = ".complete"
VOCABULARY = "vocabulary"
BESIDE = frozenset((FOLDER, VOCABULARY, ARCHIVE, f"{ARCHIVE}.part", f"{ARCHIVE}.part.map"))
MADE = re.compile(r"tokenizer(_config)?\.json|tok\d+\.model")  # what lies in VOCABULARY
MEMBER = re.compile(r"(?:\./)?(?:\w+/)?(data\d+\.json)")
EXPANSION = 5  # the unpacked stories for the archive's size, about
USUAL_ENTRIES = 4096
PIECE = 1 << 20


def stories(out: Path, progress: download.Report, fetch: bool) -> tuple[str, ...]:
    """The files with the stories, fetched and unpacked where they are not and `fetch` allows it."""
    folder = out / FOLDER
    if not (folder / DONE).is_file():
        if not fetch:
            raise UserError(
                "{path}: no TinyStories in it", path=out,
                hint="fetch them: soban data tinystories download --out {path}; or name a file with --sample",
            )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        archive = out / ARCHIVE
        if not archive.is_file():
            download.to_file(REPOSITORY, ARCHIVE, archive, progress)
        unpack(archive, folder)
        archive.unlink()
    return tuple(str(path) for path in sorted(folder.glob("data*.json")))


def unpack(archive: Path, folder: Path) -> None:
    """The archive's stories into the folder; whatever else is in it is left there. Raises UserError."""
    size, free = EXPANSION * archive.stat().st_size, free_bytes(folder)
    if size > free:
        raise no_space(folder, size, free)
    folder.mkdir(exist_ok=True)
    count = 0
    try:
        with tarfile.open(archive, "r|gz") as stream:
            for member in stream:
                name = MEMBER.fullmatch(member.name)
                content = stream.extractfile(member) if name and member.isfile() else None
                if name is None or content is None:
                    continue
                part = folder / f"{name[1]}.part"
                with part.open("wb") as file:
                    shutil.copyfileobj(content, file, PIECE)
                os.replace(part, folder / name[1])
                count += 1
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise broken(archive.name, error) from error
    except OSError as error:
        raise write_error(folder, size, error) from error
    if not count:
        raise UserError("{path}: no stories in it", path=archive, hint="delete it, and fetch it again")
    (folder / DONE).write_text("", encoding="utf-8")


def train_vocabulary(request: Preparation, tell: Progress) -> Path:
    """Learns a tokenizer of `request.vocab_size` entries from the stories, as llama2.c's train_vocab does.

    Returns its folder, which has a tokenizer.json and a SentencePiece model named as llama2.c names it.
    """
    assert request.out is not None
    check(request)
    size = request.vocab_size or USUAL_ENTRIES
    folder = request.out / VOCABULARY
    inner = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []  # which is replaced
    if others := [name for name in inner if name not in LEFT_BY_SYSTEMS and not MADE.fullmatch(name)]:
        raise UserError(
            "{path}: holds other files ({name})", path=folder, name=others[0][:60],
            hint="choose a new folder with --out",
        )  # fmt: skip
    inputs = find(request.paths)
    with tempfile.TemporaryDirectory(prefix="soban-data-", ignore_cleanup_errors=True) as work:
        reads: list[Read] = []
        texts = _first(documents(inputs.sources, replace(request.reading, conversations=False), reads))
        with clean(texts, replace(request.cleaning, similarity=2.0), Path(work), tell) as cleaned:
            tell("tokenizer", len(cleaned), None)
            tokenizer = train_tokenizer(
                (cleaned.texts[int(number)] for number in cleaned.numbers), size, request.layout
            )
    if (most := tokenizer.get_vocab_size()) < size:
        raise UserError(
            "--vocab-size {value}: this text supports only {most} entries", value=size, most=most,
            hint="give at most {most}, or more text, or leave it out",
        )  # fmt: skip
    new = request.out / f"{VOCABULARY}.new"
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        save_tokenizer(tokenizer, new)
        save_sentencepiece(tokenizer, new / f"tok{size}.model")
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    except OSError as error:
        raise write_error(folder, 1 << 20, error) from error
    return folder


def _first(texts: Iterable[Document]) -> Iterator[Document]:
    """As many texts as a tokenizer learns from."""
    size = 0
    for text in texts:
        yield text
        size += sum(map(len, parts(text)))
        if size >= SAMPLE:
            return


def with_vocabulary(request: Preparation) -> Preparation:
    """With the tokenizer that train-vocab has left, unless another is asked for."""
    assert request.out is not None
    folder = request.out / VOCABULARY
    if request.tokenizer is None and (folder / "tokenizer.json").is_file():
        if request.vocab_size is not None and not (folder / f"tok{request.vocab_size}.model").is_file():
            raise UserError(
                "{path}: its tokenizer has not {value} entries", path=folder, value=request.vocab_size,
                hint="soban data tinystories train-vocab --vocab-size {value} --out ... makes one",
            )  # fmt: skip
        return replace(request, tokenizer=folder, vocab_size=None)
    return request
