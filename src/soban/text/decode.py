"""Token ids to text, whole or as a stream that never splits a character."""

import codecs
import re
from collections.abc import Callable, Container, Sequence
from typing import Protocol

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
WINDOW = 64  # tokens that a difference stream decodes again before it moves on
LONGEST_CHARACTER = 4  # bytes, so tokens at the most
CONTEXT = 16  # tokens that it keeps for context when it does


class StreamDecoder(Protocol):
    """Text out of one sequence of tokens: the pieces that `feed` and `finish` return join to its decoded text."""

    def feed(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class ByteStream:
    """A stream for tokenizers whose tokens are bytes: holds back an unfinished UTF-8 character (3 bytes at most).

    The first `lead` spaces of the text are dropped (SentencePiece's dummy prefix), and again after the token `restart`;
    with `each`, those of every token until something is left of one.
    """

    def __init__(
        self, token_bytes: Callable[[int], bytes], *, lead: int = 0, restart: int | None = None, each: bool = False
    ) -> None:
        self._token_bytes = token_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._lead = self._drop = lead
        self._restart = restart
        self._each = each

    def feed(self, token_id: int) -> str:
        """The characters that this token completes."""
        data = self._token_bytes(token_id)
        if self._drop and data:
            spaces = len(data) - len(data.lstrip(b" "))
            data = data[min(spaces, self._drop) :]
            if data or not self._each:
                self._drop = 0
        if token_id == self._restart:
            self._drop = self._lead
        return self._decode(data)

    def finish(self) -> str:
        """U+FFFD for a character that was left unfinished."""
        return self._decode(b"", True)


class DifferenceStream:
    """A stream for any other decoder: what each token adds to the decoded text of the tokens before it."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._told = ""  # what has been returned of the text of self._ids
        self._held = 0  # tokens since then, which end in an unfinished character

    def feed(self, token_id: int) -> str:
        """The characters that this token adds, but for an unfinished one."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if text.endswith(REPLACEMENT) and self._held < LONGEST_CHARACTER - 1:
            self._held += 1
            return ""
        self._held = 0
        added = self._after_told(text)
        self._told = text
        if len(self._ids) >= WINDOW:
            self._ids = self._ids[-CONTEXT:]
            self._told = self._decode(self._ids)
        return added

    def finish(self) -> str:
        """What was held back."""
        return self._after_told(self._decode(self._ids))

    def _after_told(self, text: str) -> str:
        """What is new in the text; where a decoder changes its mind about what was told, from there on."""
        same = 0
        for told, now in zip(self._told, text, strict=False):
            if told != now:
                break
            same += 1
        return text[same:]


class PieceBytes(dict[int, bytes]):
    """The bytes that each token adds to the text, asked for once; b"" for those that are `silent`."""

    def __init__(self, shown: Callable[[int], bytes], silent: Container[int]) -> None:
        super().__init__()
        self._shown, self._silent = shown, silent

    def __missing__(self, token_id: int) -> bytes:
        found = self[token_id] = b"" if token_id in self._silent else self._shown(token_id)
        return found


def run(stream: StreamDecoder, ids: Sequence[int]) -> str:
    """The whole text of `ids`."""
    return "".join(map(stream.feed, ids)) + stream.finish()


def sentencepiece_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece piece: `<0xNN>` is one byte, U+2581 a space."""
    if byte := BYTE_PIECE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    # GPT-2's: printable bytes stand for themselves, the others follow from U+0100 on
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_ALPHABET = _byte_alphabet()


def byte_level_bytes(piece: str) -> bytes:
    """The bytes of a byte-level BPE piece; text outside its alphabet stands for itself."""
    try:
        return bytes([BYTE_ALPHABET[character] for character in piece])
    except KeyError:
        return piece.encode()
