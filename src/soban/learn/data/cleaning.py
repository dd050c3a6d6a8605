"""Documents that are good enough to learn from, each once, in a working file; what was left out is counted."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soban.base.files import write_error
from soban.learn.data import chats, near
from soban.learn.data.personal import masked
from soban.learn.data.quality import Quality, fault, tidied

EXAMPLES = 3  # documents of each kind that are kept to be shown
SHOWN = 200  # characters of one
AT_ONCE = 256  # documents whose signatures are made together
CACHED = 4096  # documents whose shingles are kept
TELL_EVERY = 200  # documents


@dataclass(frozen=True)
class Cleaning:
    """What is done with documents."""

    quality: Quality = field(default_factory=Quality)
    personal: Literal["mask", "drop", "keep"] = "mask"
    similarity: float = 0.8  # from which two documents are near-duplicates; above 1: none are
    near: Literal["drop", "keep"] = "drop"


@dataclass
class Tally:
    """How many documents there were, and what became of them."""

    documents: int = 0
    bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    personal: Counter[str] = field(default_factory=Counter)  # by kind
    documents_with_personal: int = 0
    near: int = 0  # near-duplicates that were not left out
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, why: str, text: str) -> None:
        """Counts a document that is left out."""
        self.left_out[why] += 1
        self.show(why, text)

    def show(self, why: str, text: str) -> None:
        """Keeps it as an example, if there are few of its kind."""
        examples = self.examples.setdefault(why, [])
        if len(examples) < EXAMPLES:
            examples.append(text[:SHOWN])


class Texts:
    """Documents on the disk: written one after the other, then read in any order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, text: str) -> int:
        """Keeps a document; the number of its bytes. Raises UserError where the disk is full."""
        data = text.encode()
        try:
            self._file.write(data)
        except OSError as error:
            raise write_error(self._path, len(data), error) from error
        self._ends.append(self._ends[-1] + len(data))
        return len(data)

    def size(self, number: int) -> int:
        """Bytes."""
        return self._ends[number + 1] - self._ends[number]

    def __getitem__(self, number: int) -> str:
        start = self._ends[number]
        if self._file.tell() != start:
            self._file.seek(start)
        return self._file.read(self._ends[number + 1] - start).decode()

    def flush(self) -> None:
        """Lets all that was added be read."""
        try:
            self._file.flush()
        except OSError as error:
            raise write_error(self._path, self._ends[-1], error) from error

    def close(self) -> None:
        self._file.close()


def key(text: str) -> int:
    """64 bits that tell documents apart, whatever blanks part their words."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest(), "little")


@dataclass
class Cleaned:
    """The documents that are kept."""

    texts: Texts
    numbers: NDArray[np.int64]  # their numbers in `texts`
    keys: NDArray[np.uint64]  # of all in `texts`
    groups: NDArray[np.int64]  # of all in `texts`: the number of the first that is like it
    tally: Tally

    def __len__(self) -> int:
        return len(self.numbers)


@contextmanager
def clean(
    documents: Iterable[chats.Document], how: Cleaning, work: Path, tell: Callable[[str, int, float | None], None]
) -> Iterator[Cleaned]:
    """Tidies, masks, judges and compares documents. `tell` gets a stage, how many documents, and a share of it.

    What is kept can be read until the block ends: then its file is closed, so that Windows too lets `work` be deleted.
    """
    texts = Texts(work / "texts.bin")
    try:
        yield _clean(documents, how, work, texts, tell)
    finally:
        texts.close()


def _clean(
    documents: Iterable[chats.Document], how: Cleaning, work: Path, texts: Texts,
    tell: Callable[[str, int, float | None], None],
) -> Cleaned:  # fmt: skip
    """What is kept, its texts in `texts`."""
    tally = Tally()
    keys = array("Q")
    with (work / "signatures.bin").open("wb", buffering=0) as file:
        for batch in _signed(_worthy(documents, how, tally, texts, keys, tell), how.similarity <= 1):
            try:
                file.write(batch.tobytes())
            except OSError as error:
                raise write_error(work, batch.nbytes, error) from error
    texts.flush()
    all_keys = np.array(keys, np.uint64)
    groups, dropped = np.arange(len(texts)), np.zeros(len(texts), bool)
    if how.similarity <= 1 and len(texts):
        signatures = np.memmap(work / "signatures.bin", np.uint32, "r", shape=(len(texts), near.HASHES))
        shingles = lru_cache(CACHED)(lambda number: near.shingles(near.code_points(chats.plain(texts[number]))))
        similar, groups, pairs = near.alike(
            signatures, shingles, how.similarity, lambda share: tell("comparing", len(texts), share)
        )
        for first, second in pairs[:EXAMPLES]:
            tally.show("near-duplicates", "\n~\n".join(chats.plain(texts[n])[:SHOWN] for n in (first, second)))
        if how.near == "drop":
            dropped = similar
            tally.left_out["near-duplicates"] = int(similar.sum())
        else:
            tally.near = int(similar.sum())
    return Cleaned(texts, np.flatnonzero(~dropped), all_keys, groups, tally)


def _worthy(
    documents: Iterable[chats.Document], how: Cleaning, tally: Tally, texts: Texts, keys: "array[int]",
    tell: Callable[[str, int, float | None], None],
) -> Iterator[near.Codes]:  # fmt: skip
    """The code points of each document that is good enough and new; its text goes to `texts`."""
    hashes: set[int] = set()
    for document in documents:
        tally.documents += 1
        parts = chats.parts(document)
        tally.bytes += sum(len(part.encode("utf-8", "replace")) for part in parts)
        if tally.documents % TELL_EVERY == 0:
            tell("reading", tally.documents, None)
        parts = [tidied(part) for part in parts]
        if how.personal != "keep":
            hidden = [masked(part) for part in parts]
            if kinds := sum((counts for _, counts in hidden), Counter[str]()):
                parts = [part for part, _ in hidden]
                example = "\n".join(parts)
                tally.show("personal", example)  # masked: a report is shown to others
                tally.documents_with_personal += 1
                tally.personal += kinds
                if how.personal == "drop":
                    tally.leave_out("personal", example)
                    continue
        if (why := chats.fault(document, parts)) is not None:
            tally.leave_out(why, "\n".join(parts))
            continue
        content = chats.text_of(document, parts)
        text = chats.plain(content)
        codes = near.code_points(text)
        if (why := fault(text, codes, how.quality)) is not None:
            tally.leave_out(why, text)
            continue
        one = key(text)
        if one in hashes:
            tally.leave_out("duplicates", text)
            continue
        hashes.add(one)
        keys.append(one)
        texts.add(content)
        yield codes


def _signed(documents: Iterable[near.Codes], near_too: bool) -> Iterator[NDArray[np.uint32]]:
    """The signatures of some documents at a time; none where they are not wanted."""
    waiting: list[near.Hashes] = []
    for codes in documents:
        if near_too:
            waiting.append(near.runs(codes))
            if len(waiting) == AT_ONCE:
                yield near.signatures(waiting)
                waiting = []
    if waiting:
        yield near.signatures(waiting)
