"""Sources to documents: the encoding and the fields of each file found, what cannot be read told and counted."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from soban.base.errors import UserError
from soban.base.files import unreadable
from soban.learn.data import fields as choosing
from soban.learn.data.arguments import Parting
from soban.learn.data.chats import Document
from soban.learn.data.decoding import detect
from soban.learn.data.records import records
from soban.learn.data.rows import Broken
from soban.learn.data.sources import Source, broken
from soban.messages import warn

SAMPLE = 300  # characters of a document that are kept to be shown


@dataclass
class Read:
    """What a file was found to be."""

    name: str
    size: int
    encoding: str = ""
    perhaps: tuple[str, ...] = ()  # other encodings, where it is not certain
    damaged: int = 0  # characters
    fields: str = ""
    documents: int = 0
    broken: int = 0  # records
    empty: int = 0  # records without text
    problem: str = ""  # why it was passed over
    samples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    fields: tuple[str, ...] = ()  # which hold the text; () finds them
    parting: Parting = "auto"
    samples: int = 3
    conversations: bool = False  # as such, not as their text
    encoding: str | None = None  # None: it is found


def documents(sources: Sequence[Source], how: Reading, reads: list[Read]) -> Iterator[Document]:
    """The text of every record; `reads` gets what was found of each file.

    A file of a folder that is no text is passed over, with a note. Raises UserError for one that the user has named,
    and for fields that cannot be told.
    """
    for source in sources:
        file = Read(source.name, source.size)
        reads.append(file)
        try:
            yield from _whole(source, how, file)
        except Unreadable as error:
            if source.named:
                raise error.why from None
            file.problem = str(error.why)
            warn("passed over: {problem}", problem=error.why)


class Unreadable(Exception):
    """A file that is no text, or cannot be opened."""

    def __init__(self, why: UserError) -> None:
        self.why = why
        super().__init__(str(why))


def _whole(source: Source, how: Reading, file: Read) -> Iterator[Document]:
    """The documents of one file. Raises Unreadable also where it fails in its middle."""
    try:
        yield from _file(source, how, file)
    except (UnicodeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Unreadable(broken(source.name, error)) from error
    except OSError as error:
        raise Unreadable(unreadable(source.name, error)) from error


def _file(source: Source, how: Reading, file: Read) -> Iterator[Document]:
    """The documents of one file."""
    try:
        encoding = detect(source, how.encoding) if source.kind != "parquet" else None
    except UserError as error:
        raise Unreadable(error) from error
    if encoding is not None:
        file.encoding, file.perhaps, file.damaged = encoding.name, encoding.perhaps, encoding.damage
        if encoding.perhaps:
            warn(
                "{path}: taken for {encoding}, which is not certain (or {others}); --encoding NAME says which it is",
                path=source.name, encoding=encoding.name, others=", ".join(encoding.perhaps),
            )  # fmt: skip
        if encoding.damage:
            warn("{path}: {count} characters are damaged", path=source.name, count=encoding.damage)
    all_of_it = records(source, encoding, how.parting)
    first = list(islice(all_of_it, choosing.PEEK))
    whole = [record for record in first if not isinstance(record, Broken)]
    if first and not whole:
        raise Unreadable(_not_what_it_says(source, first[0]))
    choice = choosing.choose(whole, how.fields, source.name)
    file.fields = str(choice)
    for record in chain(first, all_of_it):
        if isinstance(record, Broken):
            file.broken += 1
        elif text := choice.text(record).strip():
            file.documents += 1
            if len(file.samples) < how.samples:
                file.samples.append(text[:SAMPLE])
            yield (choice.conversation(record) if how.conversations else None) or text
        elif not isinstance(record, str):
            file.empty += 1
    if file.broken:
        warn("{path}: {count} records cannot be read, and are left out", path=source.name, count=file.broken)


def _not_what_it_says(source: Source, problem: Any) -> UserError:
    return UserError(
        "{path}: no {kind} in it ({reason})", path=source.name, kind=source.suffix.lstrip("."),
        reason=str(problem)[:80], hint="check the file, or give it the ending that it should have",
    )  # fmt: skip
