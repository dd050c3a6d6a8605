"""The decoders of the tokenizers library, piece by piece: what each makes of a text, as soon as it is certain."""

import codecs
import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from soban.text.stream.decode import BYTE_PIECE, byte_level_bytes

CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Stage(Protocol):
    """A decoder: pieces come in one by one, and others go out; both join to the text before and after it."""

    def feed(self, piece: str) -> list[str]: ...

    def finish(self) -> list[str]: ...


class PieceStream:
    """A stream of tokens through the stages of a decoder; `piece_of` is None for tokens that add nothing."""

    def __init__(self, piece_of: Callable[[int], str | None], stages: Sequence[Stage]) -> None:
        self._piece_of, self._stages = piece_of, stages
        self._ahead = ""  # text that is known from elsewhere and still to come from here

    def feed(self, token_id: int) -> str:
        """The text that this token makes certain."""
        piece = self._piece_of(token_id)
        return "" if piece is None else self._new("".join(_through(self._stages, [piece])))

    def finish(self) -> str:
        """What was held back."""
        return self._new(_rest(self._stages))

    def go_on(self) -> None:
        """The text of the tokens so far is known, its end as well, which more tokens may still change."""
        self._ahead = _rest(copy.deepcopy(self._stages))

    def _new(self, text: str) -> str:
        if not self._ahead:
            return text
        common = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, self._ahead, strict=False))
        )
        self._ahead = self._ahead[common:] if common == len(text) else ""
        return text[common:]


def _through(stages: Sequence[Stage], pieces: list[str]) -> list[str]:
    for stage in stages:
        pieces = [part for piece in pieces for part in stage.feed(piece)]
    return pieces


def _rest(stages: Sequence[Stage]) -> str:
    pieces: list[str] = []
    for stage in stages:
        pieces = [part for piece in pieces for part in stage.feed(piece)] + stage.finish()
    return "".join(pieces)


class Each:
    """Changes every piece by itself; whether it is the text's first may make a difference."""

    def __init__(self, change: Callable[[str, bool], str], *, one: bool = False) -> None:
        """`one`: the pieces are parts of one, the first."""
        self._change, self._one, self._first = change, one, True

    def feed(self, piece: str) -> list[str]:
        text = self._change(piece, self._first)
        self._first = self._one
        return [text]

    def finish(self) -> list[str]:
        return []


class Distinct(Each):
    """`Each`, but for pieces that are like the one before, and those of which nothing is left."""

    _before: str | None = None

    def feed(self, piece: str) -> list[str]:
        if piece == self._before:
            return []
        self._before = piece
        return [part for part in super().feed(piece) if part]


class WordEnds:
    """BPEDecoder: the suffix of a word is a space, but at the text's end."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._held: list[str] = []

    def feed(self, piece: str) -> list[str]:
        before = [last.replace(self._suffix, " ") for last in self._held]
        self._held = [piece]
        return before

    def finish(self) -> list[str]:
        return [last.replace(self._suffix, "") for last in self._held]


class Bytes:
    """Pieces that are bytes become characters; with `apart` a run of them becomes one piece, at its end."""

    def __init__(self, bytes_of: Callable[[str], bytes | None], *, apart: bool = False) -> None:
        """`bytes_of`: a piece's bytes; None for one that stays text."""
        self._bytes_of, self._apart = bytes_of, apart
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._run = ""

    def feed(self, piece: str) -> list[str]:
        data = self._bytes_of(piece)
        if data is None:
            return [*self.finish(), piece]
        self._run += self._decoder.decode(data)
        return [] if self._apart else self._take_run()

    def finish(self) -> list[str]:
        self._run += self._decoder.decode(b"", True)
        self._decoder.reset()
        return self._take_run()

    def _take_run(self) -> list[str]:
        run, self._run = self._run, ""
        return [run] if run else []


class Stripped:
    """Of one text, up to `start` of a character are left out at the beginning and up to `stop` at the end."""

    def __init__(self, content: str, start: int, stop: int) -> None:
        self._content, self._start, self._stop = content, start, stop
        self._held = ""

    def feed(self, piece: str) -> list[str]:
        skip = 0
        while skip < min(self._start, len(piece)) and piece[skip] == self._content:
            skip += 1
        self._start = 0 if skip < len(piece) else self._start - skip
        text = self._held + piece[skip:]
        end = len(text) - min(self._stop, len(text) - len(text.rstrip(self._content)))
        self._held = text[end:]
        return [text[:end]]

    def finish(self) -> list[str]:
        return []


class Replaced:
    """In one text a word is replaced; the beginning of one is held back."""

    def __init__(self, word: str, content: str) -> None:
        self._word, self._content = word, content
        self._held = ""

    def feed(self, piece: str) -> list[str]:
        *parts, last = (self._held + piece).split(self._word)
        size = next(n for n in range(len(self._word) - 1, -1, -1) if last.endswith(self._word[:n]))
        self._held = last[len(last) - size :]
        return ["".join(part + self._content for part in parts) + last[: len(last) - size]]

    def finish(self) -> list[str]:
        rest, self._held = self._held, ""
        return [rest]


class Whole:
    """Any other decoder: the library's own, once all pieces are there."""

    def __init__(self, decode: Callable[[list[str]], str], *, one: bool) -> None:
        """`one`: the pieces are parts of one."""
        self._decode, self._one = decode, one
        self._pieces: list[str] = []

    def feed(self, piece: str) -> list[str]:
        self._pieces.append(piece)
        return []

    def finish(self) -> list[str]:
        pieces = ["".join(self._pieces)] if self._one else self._pieces
        return [self._decode(pieces)] if self._pieces else []


def stages(
    state: Mapping[str, Any], decoder_of: Callable[[Mapping[str, Any]], Callable[[list[str]], str]]
) -> list[Stage]:
    """The stages of a decoder that the library describes as `state`; without one it joins pieces with spaces.

    decoder_of: the library's own way from pieces to text by a description.
    """
    if not state:
        return [Each(lambda piece, first: piece if first else f" {piece}")]
    parts = _flat(state)
    result: list[Stage] = []
    one = False  # whether what comes is one text by now
    for n, part in enumerate(parts):
        kind, last = part.get("type"), n + 1 == len(parts) or parts[n + 1].get("type") == "Fuse"
        stage = _of_one(kind, part) if one else _of_pieces(kind, part, last)
        if stage is None and kind != "Fuse":
            stage = Whole(decoder_of(part), one=one)
            one = True
        if stage is not None:
            result.append(stage)
        one = one or kind in ("Fuse", "ByteLevel")
    return result


def _flat(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if state.get("type") != "Sequence":
        return [state]
    return [part for inner in state["decoders"] for part in _flat(inner)]


def _of_pieces(kind: object, part: Mapping[str, Any], last: bool) -> Stage | None:
    """The stage for pieces; `last`: what comes after it joins them."""
    if kind == "ByteLevel":
        return Bytes(byte_level_bytes)
    if kind == "ByteFallback":
        return Bytes(_byte, apart=not last)
    if kind == "WordPiece":
        return Each(_word_piece(part["prefix"], part["cleanup"]))
    if kind == "Metaspace":
        return Each(_metaspace(part))
    if kind == "CTC":
        return Distinct(_ctc(part["pad_token"], part["word_delimiter_token"], part["cleanup"]))
    if kind == "BPEDecoder" and part["suffix"]:
        return WordEnds(part["suffix"])
    if kind == "Strip":
        return Each(lambda piece, _: _stripped(piece, part["content"], part["start"], part["stop"]))
    if kind == "Replace" and (word := part["pattern"].get("String")):
        return Each(lambda piece, _: piece.replace(word, part["content"]))
    return None


def _of_one(kind: object, part: Mapping[str, Any]) -> Stage | None:
    """The stage for one text that comes in parts."""
    if kind == "Metaspace":
        return Each(_metaspace(part), one=True)
    if kind == "Strip":
        return Stripped(part["content"], part["start"], part["stop"])
    if kind == "BPEDecoder" and part["suffix"]:
        return Replaced(part["suffix"], "")
    if kind == "Replace" and (word := part["pattern"].get("String")):
        return Replaced(word, part["content"])
    return None


def _byte(piece: str) -> bytes | None:
    match = BYTE_PIECE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else None


def _word_piece(prefix: str, cleanup: bool) -> Callable[[str, bool], str]:
    def change(piece: str, first: bool) -> str:
        if not first:
            piece = piece[len(prefix) :] if piece.startswith(prefix) else f" {piece}"
        return _cleaned(piece) if cleanup else piece

    return change


def _metaspace(part: Mapping[str, Any]) -> Callable[[str, bool], str]:
    sign, bare = part["replacement"], part["prepend_scheme"] != "never"
    return lambda piece, first: piece.replace(sign, "" if first and bare else " ")


def _ctc(pad: str, delimiter: str, cleanup: bool) -> Callable[[str, bool], str]:
    def change(piece: str, first: bool) -> str:
        piece = piece.replace(pad, "")
        return _cleaned(piece).replace(delimiter, " ") if cleanup else piece

    return change


def _cleaned(piece: str) -> str:
    for dirty, clean in CLEANED:
        piece = piece.replace(dirty, clean)
    return piece


def _stripped(piece: str, content: str, start: int, stop: int) -> str:
    begin = min(start, len(piece) - len(piece.lstrip(content)))
    end = len(piece) - min(stop, len(piece) - begin - len(piece[begin:].rstrip(content)))
    return piece[begin:end]
