"""Token ids to text, whole or as a stream that never splits a character."""

import codecs
import re
from collections.abc import Callable, Container, Sequence
from typing import Protocol

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


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


class PieceBytes(dict[int, bytes]):
    """The bytes that each token adds to the text, asked for once; b"" for those that are `silent`."""

    def __init__(self, bytes_of: Callable[[int], bytes], silent: Container[int]) -> None:
        super().__init__()
        self._bytes_of, self._silent = bytes_of, silent

    def __missing__(self, token_id: int) -> bytes:
        piece = self[token_id] = b"" if token_id in self._silent else self._bytes_of(token_id)
        return piece


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
