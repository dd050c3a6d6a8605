"""SentencePiece's tokenizer.model: a strict, bounded reader of the part of its protobuf that tokenizing needs.

Field numbers are those of sentencepiece_model.proto (google/sentencepiece).
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from soban.base.errors import UserError
from soban.messages import translate
from soban.text.tokenizers.charsmap import Charsmap

MAX_BYTES = 64 << 20  # Gemma's 256,000 pieces take 4 MB
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
SPELLED = {"bos": "<s>", "eos": "</s>"}  # where the file has no other word for them


class PieceType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):  # of which there are hundreds of thousands
    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceFile:
    """The pieces in the order of their ids, and how text is prepared."""

    pieces: list[Piece]
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    charsmap: bytes = field(default=b"", repr=False)
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


class _Malformed(ValueError):
    """The bytes are not what they promise to be."""


def read_sentencepiece(path: Path) -> SentencePieceFile:
    """The contents of a tokenizer.model; UserError where it is no whole SentencePiece model."""
    size = path.stat().st_size
    if size == 0:
        raise UserError("{path}: the file is empty", path=path, hint="fetch it again")
    if size > MAX_BYTES:
        raise UserError(
            "{path}: {size} bytes is too much for a SentencePiece model; at most {most} are read",
            path=path,
            size=size,
            most=MAX_BYTES,
            hint="name a tokenizer.model",
        )
    try:
        return _parse_model(path.read_bytes())
    except (ValueError, struct.error) as error:
        raise UserError(
            "{path}: not a whole SentencePiece model ({reason})", path=path, reason=str(error), hint="fetch it again"
        ) from None


def _parse_model(data: bytes) -> SentencePieceFile:
    pieces: list[Piece] = []
    options: dict[str, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_parse_piece(_message(value)))
        elif number == 2:
            options |= _parse_trainer(_message(value))
        elif number == 3:
            options |= _parse_normalizer(_message(value))
        elif number == 5 and _parse_normalizer(_message(value)).get("charsmap"):
            raise _Malformed(translate("rewriting of decoded text is not supported"))
    if not pieces:
        raise _Malformed(translate("it has no pieces"))
    # sentencepiece goes by the pieces, whatever ids the trainer's settings have
    unknown = [index for index, piece in enumerate(pieces) if piece.type is PieceType.UNKNOWN]
    if len(unknown) != 1:
        raise _Malformed(translate("it has {count} unknown pieces", count=len(unknown)))
    control = {piece.text: index for index, piece in enumerate(pieces) if piece.type is PieceType.CONTROL}
    for role, spelled in SPELLED.items():
        options[f"{role}_id"] = control.get(options.pop(role, spelled), -1)
    model = SentencePieceFile(pieces, **options, unk_id=unknown[0])
    if model.model_type not in (UNIGRAM, BPE, WORD, CHAR):
        raise _Malformed(translate("the unknown model type {kind}", kind=model.model_type))
    if model.charsmap:
        Charsmap(model.charsmap)  # refused here, where the file is known
    byte_pieces = {piece.text for piece in pieces if piece.type is PieceType.BYTE}
    if byte_pieces and not model.byte_fallback:
        raise _Malformed(translate("it has byte pieces and no byte fallback"))
    if model.byte_fallback and byte_pieces != {f"<0x{byte:02X}>" for byte in range(256)}:
        raise _Malformed(translate("it promises byte fallback and lacks byte pieces"))
    return model


def _parse_piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, PieceType.NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _message(value).decode()
        elif number == 2:
            (score,) = struct.unpack("<f", _message(value))
        elif number == 3:
            kind = PieceType(_number(value))
    if not text:
        raise _Malformed(translate("a piece is empty"))
    if not math.isfinite(score):
        raise _Malformed(translate("the score of {text!r} is {score}", text=text, score=score))
    return Piece(text, score, kind)


def _parse_trainer(data: bytes) -> dict[str, Any]:
    options: dict[str, Any] = {}
    names = {46: "bos", 47: "eos"}
    for number, value in _fields(data):
        if number == 3:
            options["model_type"] = _number(value)
        elif number in names:
            options[names[number]] = _message(value).decode()
        elif number == 35:
            options["byte_fallback"] = bool(_number(value))
        elif number == 24 and value:
            raise _Malformed(translate("whitespace as a suffix is not supported"))
    return options


def _parse_normalizer(data: bytes) -> dict[str, Any]:
    options: dict[str, Any] = {}
    names = {3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces"}
    for number, value in _fields(data):
        if number in names:
            options[names[number]] = bool(_number(value))
        elif number == 2:
            options["charsmap"] = _message(value)
    return options


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Malformed(translate("a number stands where bytes belong"))
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise _Malformed(translate("bytes stand where a number belongs"))
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (field number, value) pairs of one message: an int for a varint, else the bytes."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed(translate("field {number} has the unknown wire type {kind}", number=number, kind=wire))
        if length > end - position:
            raise _Malformed(
                translate(
                    "field {number} promises {length} bytes and {left} are left", number=number, length=length,
                    left=end - position,
                )
            )  # fmt: skip
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Malformed(translate("it ends in the middle of a number"))
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise _Malformed(translate("a number is longer than 64 bits"))
