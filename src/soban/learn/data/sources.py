"""Where text lies: files, and files in folders and zips, each as a stream of bytes that can be opened again."""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import is_there, open_regular, unreadable
from soban.messages import warn

KINDS = {
    ".txt": "text", ".text": "text", ".md": "text", ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".csv": "table", ".tsv": "table", ".parquet": "parquet", ".zip": "zip",
}  # fmt: skip
# A text rarely shrinks to a twentieth; a file that is made to fill the disk, to a thousandth.
MOST_EXPANSION = 200
HARMLESS = 64 << 20  # bytes up to which an archive may expand as it likes
MOST_MEMBERS = 2_000_000
UTF8_NAME = 0x800  # a zip's flag for names in UTF-8; without it, old archivers wrote their system's code page
ENCRYPTED = 0x1


@dataclass(frozen=True)
class Source:
    """One file with text, wherever it lies."""

    name: str  # as the user is told: folder/a.txt, or a.zip/inner.csv
    kind: str  # text, json, table or parquet
    suffix: str
    path: Path
    size: int  # bytes: of a packed file, unpacked if that is known
    member: str | None = None  # its name within the zip at `path`
    gzipped: bool = False
    named: bool = False  # by the user himself, so that it is not passed over where it cannot be read

    @property
    def modified(self) -> int:
        """When the file on the disk was last changed, in nanoseconds."""
        return self.path.stat().st_mtime_ns

    def stream(self) -> BinaryIO:
        """Its bytes. Raises UserError where it cannot be opened, or read further."""
        file = open_regular(self.path)
        if self.member is not None:
            try:
                return zipfile.ZipFile(file).open(self.member)  # type: ignore[return-value]
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
                raise broken(self.name, error) from error
        if self.gzipped:
            limit = max(HARMLESS, MOST_EXPANSION * self.path.stat().st_size)
            return io.BufferedReader(_Limited(gzip.GzipFile(fileobj=file), limit, self.name))  # type: ignore[type-var]
        return file


class _Limited(io.RawIOBase):
    """A stream that ends in an error where it is longer than it may be."""

    def __init__(self, stream: gzip.GzipFile, limit: int, name: str) -> None:
        self._stream, self._left, self._name = stream, limit, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise broken(self._name, error) from error
        self._left -= len(data)
        if self._left < 0:
            raise _bomb(self._name)
        buffer[: len(data)] = data
        return len(data)


@dataclass
class Inputs:
    """The sources, and how many files of which ending hold none."""

    sources: list[Source] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)


def find(paths: Sequence[str | Path]) -> Inputs:
    """Every file with text among these files and folders, in a fixed order. Raises UserError where there is none."""
    inputs = Inputs()
    for path in map(Path, paths):
        if not is_there(path):
            raise UserError("{path}: no such file or folder", path=path, hint="check the spelling")
        if path.is_dir():
            _add_folder(inputs, path)
        else:
            _add(inputs, path, path.name, strict=True)
    if not inputs.sources:
        raise UserError(
            "{path}: no text in it", path=", ".join(map(str, paths)),
            hint="soban data reads txt, md, json, jsonl, csv, tsv, parquet, also gzipped, and zips and folders of them",
        )  # fmt: skip
    return inputs


def _add_folder(inputs: Inputs, folder: Path) -> None:
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
    except OSError as error:
        raise unreadable(folder, error) from error
    for path in paths:
        inner = path.relative_to(folder)
        if not any(part.startswith(".") or part == "__MACOSX" for part in inner.parts):
            _add(inputs, path, f"{folder.name or folder}/{inner.as_posix()}", strict=False)


def _add(inputs: Inputs, path: Path, name: str, strict: bool) -> None:
    """One file of the disk."""
    kind, suffix, gzipped = _kind(path.name)
    if kind == "zip" and not gzipped:
        _add_zip(inputs, path, name, strict)
    elif kind and kind != "zip":
        inputs.sources.append(Source(name, kind, suffix, path, path.stat().st_size, None, gzipped, strict))
    elif strict:
        inputs.sources.append(Source(name, "text", suffix, path, path.stat().st_size, None, gzipped, strict))
    else:
        inputs.ignored[suffix or "-"] = inputs.ignored.get(suffix or "-", 0) + 1


def _add_zip(inputs: Inputs, path: Path, name: str, strict: bool) -> None:
    """The files in a zip; one of a folder that cannot be read is passed over, with a note."""
    inside = Inputs()
    try:
        inside.sources += _members(inside, path, name)
    except UserError as error:
        if strict:
            raise
        warn("passed over: {problem}", problem=error)
        inside = Inputs([], {".zip": 1})
    inputs.sources += inside.sources
    for suffix, count in inside.ignored.items():
        inputs.ignored[suffix] = inputs.ignored.get(suffix, 0) + count


def _kind(name: str) -> tuple[str | None, str, bool]:
    """What a file's name says: its kind, the ending that says so, and whether it is gzipped."""
    path = PurePosixPath(name.lower())
    gzipped = path.suffix == ".gz"
    suffix = (path.with_suffix("") if gzipped else path).suffix
    return KINDS.get(suffix), suffix, gzipped


def _members(inputs: Inputs, path: Path, name: str) -> Iterator[Source]:
    """The text files in a zip. Raises UserError for one that is broken, locked, or made to do harm."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise broken(name, error) from error
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or total > max(HARMLESS, MOST_EXPANSION * path.stat().st_size):
        raise _bomb(name)
    for member in sorted(members, key=lambda member: member.filename):
        inner = _inner_name(member)
        parts = re.split(r"[/\\]", inner)
        if inner.startswith(("/", "\\")) or ".." in parts or inner[1:2] == ":" or "\0" in inner:
            raise UserError(
                "{path}: it has a file called {name}, which would lie outside of it", path=name,
                name=ascii(inner)[1:-1][:80], hint="do not trust this archive",
            )  # fmt: skip
        if not member.filename or member.is_dir() or parts[-1].startswith(".") or "__MACOSX" in parts:
            continue
        kind, suffix, gzipped = _kind(inner)
        if kind in (None, "zip") or gzipped:
            inputs.ignored[suffix or "-"] = inputs.ignored.get(suffix or "-", 0) + 1
            if kind == "zip":
                warn("{path}: a zip in a zip, which is not read: unpack the outer one", path=f"{name}/{inner}")
            continue
        if member.flag_bits & ENCRYPTED:
            raise UserError(
                "{path}: locked by a password", path=f"{name}/{inner}", hint="unpack it, and name the folder"
            )
        assert kind is not None
        yield Source(f"{name}/{inner}", kind, suffix, path, member.file_size, member.filename)


def _inner_name(member: zipfile.ZipInfo) -> str:
    """The name as it was meant: Korean archivers write cp949 where the flag for UTF-8 is not set."""
    if member.flag_bits & UTF8_NAME:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("cp949")
    except UnicodeError:
        return member.filename


def broken(name: str, error: Exception) -> UserError:
    """What to tell of an archive that ends early, or is none."""
    return UserError("{path}: damaged ({reason})", path=name, reason=reason(error), hint="fetch or make it again")


def _bomb(name: str) -> UserError:
    return UserError(
        "{path}: unpacked, it is more than {times} times as large: it may be made to fill the disk", path=name,
        times=MOST_EXPANSION, hint="unpack it yourself if you trust it, and name the folder",
    )  # fmt: skip
