"""Bytes of unknown encoding to text: what text files in Korea come in, and those of its neighbours."""

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from soban.base.errors import UserError
from soban.text.letters import likelihood

# The longer marks first: UTF-32's begins as UTF-16's does
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (b"\x84\x31\x95\x33", "gb18030"),
)  # fmt: skip
ALL = ("ko", "ja", "zh", "zh-tw", "ru", "la")
# What is told apart, by Python's names: how many of a hundred thousand files it is, and the languages that it is for.
KNOWN: dict[str, tuple[int, tuple[str, ...]]] = {
    "utf-8": (900_000, ALL), "cp949": (99_000, ("ko",)), "johab": (10, ("ko",)),
    "cp1252": (200, ("la",)), "cp932": (200, ("ja",)), "euc_jp": (50, ("ja",)),
    "gb18030": (200, ("zh",)), "cp950": (100, ("zh-tw",)), "cp1251": (20, ("ru",)),
}  # fmt: skip
WIDE: dict[str, tuple[int, tuple[str, ...]]] = {
    "utf-16-le": (100, ALL), "utf-16-be": (10, ALL), "utf-32-le": (1, ALL), "utf-32-be": (1, ALL),
}  # fmt: skip
WIDTHS = {"utf-16": 2, "utf-32": 4}
# Seven-bit encodings: what switches to their letters, which is no ASCII text's
SWITCHES = ((re.compile(rb"\x1b\$\)C"), "iso2022_kr"), (re.compile(rb"\x1b\$(?:[@B]|\(D)"), "iso2022_jp_1"))
# EUC-KR's way to write a syllable that it has no code for, as Python does: a filler and three letters
SPELLED = re.compile(rb"\xa4\xd4(?:\xa4[\xa1-\xd4]){3}")
# More control characters than this share, and more than so many, are no text's
MOST_CONTROLS, FEW_CONTROLS = 0.01, 3
CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1a\x1b"))
SURE = math.log(1e6)  # of the best over the second
USUAL = 0.7  # share of the characters


@dataclass(frozen=True)
class Guess:
    """Encodings that the bytes may be in, the likeliest first."""

    names: tuple[str, ...]
    sure: bool


def marked(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning tells."""
    return next((name for mark, name in BOMS if data.startswith(mark)), None)


def controls(data: bytes) -> int:
    """How many control characters there are that a text has no use for."""
    return len(data) - len(data.translate(None, CONTROLS))


def too_many_controls(count: int, size: int) -> bool:
    """Whether so many control characters in so many bytes make them no text of one byte a letter, or of two."""
    return count > max(FEW_CONTROLS, MOST_CONTROLS * size)


def guess(pieces: Sequence[bytes]) -> Guess:
    """What pieces of a text without a mark are in; each begins where a character may, if one has two or four bytes.

    The encoding under which the bytes are likeliest: each has a share of the files, a character of the language that it
    is for the chance that it has there, damage next to none. No names: no text.
    """
    whole = b"".join(pieces)
    if name := next((name for switch, name in SWITCHES if whole.isascii() and switch.search(whole)), None):
        return Guess((name,), True)
    strange = controls(whole)
    candidates = KNOWN
    if too_many_controls(strange, len(whole)):
        candidates = WIDE
    elif strange > MOST_CONTROLS * len(whole):
        candidates = KNOWN | WIDE
    if SPELLED.search(whole) and candidates is not WIDE:
        candidates = candidates | {"euc_kr": KNOWN["cp949"]}
    lines = [_lines(piece) if len(pieces) > 1 else piece for piece in pieces]
    ranking = []
    for name, (share, languages) in candidates.items():
        texts = [piece.decode(name, "replace") for piece in (pieces if name in WIDE else lines)]
        size = max(1, sum(map(len, pieces if name in WIDE else lines)))
        score, usual = likelihood("".join(texts), languages)
        # by what is read: a candidate may see fewer bytes than another
        ranking.append((score * (len(whole) / size) + math.log(share), usual, name))
    ranking.sort(reverse=True)
    best, usual, name = ranking[0]
    if name in WIDE and usual < USUAL:
        return Guess((), False)
    rivals = [score for score, _, other in ranking[1:] if {name, other} != {"cp949", "euc_kr"}]
    return Guess(tuple(name for _, _, name in ranking), usual >= USUAL and best - max(rivals) > SURE)


def _lines(piece: bytes) -> bytes:
    """The whole lines of a piece out of a text's midst, so that no character is cut; all of it if there are none."""
    first, last = piece.find(b"\n") + 1, piece.rfind(b"\n") + 1
    return piece[first:last] if first < last else piece


def decode(data: bytes, path: Path) -> str:
    """Text in the encoding that its mark tells, in UTF-8, or in the one that fits best; with plain line ends.

    Short texts fit many: where it is not certain, it is cp949 or nothing. Raises UserError for what is no text, and
    for bytes that the encoding has not.
    """
    name = marked(data)
    for encoding in (name,) if name else _likely(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n")
    raise UserError(
        "{path}: not text in UTF-8, UTF-16, cp949 or another encoding that is known here", path=path,
        hint="save it again as UTF-8",
    )  # fmt: skip


def _likely(data: bytes) -> Iterator[str]:
    yield "utf-8"  # before anything is guessed, which costs a tenth of a second the first time
    best = guess([data])
    yield from best.names[:1] if best.sure or best.names[:1] == ("euc_kr",) else ("cp949",)
