"""A tokenizer.model, SentencePiece's own file, from a tokenizer that was learnt here.

Layout: sentencepiece_model.proto; protocol buffers' wire format: a key (field number * 8 + type) before every value.
"""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from soban.learn.tokenizer import BYTES, LLAMA_SPECIALS, special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VARINT, FIXED32, BYTES_OF = 0, 5, 2  # types of values
PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of the model
PIECE, SCORE, TYPE = 1, 2, 3  # fields of a piece
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of pieces
MODEL_TYPE, VOCAB_SIZE, BYTE_FALLBACK, UNK_ID, BOS_ID, EOS_ID, PAD_ID = 3, 4, 35, 40, 41, 42, 43  # of the trainer
UNK_PIECE, BOS_PIECE, EOS_PIECE, PAD_PIECE = 45, 46, 47, 48
BPE = 2
NAME, DUMMY_PREFIX, REMOVE_EXTRA, ESCAPE = 1, 3, 4, 5  # fields of the normalizer


def save_sentencepiece(tokenizer: "Tokenizer", path: Path) -> None:
    """Writes the file; text that is NFC gets the same ids by it."""
    path.write_bytes(model(tokenizer))


def model(tokenizer: "Tokenizer") -> bytes:
    """The file's content."""
    vocabulary = tokenizer.get_vocab()
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    ids = special_ids(tokenizer)
    llama = ordered[:3] == list(LLAMA_SPECIALS)
    first_merge = ordered.index(BYTES[-1]) + 1
    content = b""
    for index, piece in enumerate(ordered):
        score = 0.0 if index < first_merge else float(first_merge - index)  # the earlier, the sooner it is merged
        kind = NORMAL if index >= first_merge else BYTE if piece in BYTES else CONTROL
        kind = UNKNOWN if piece == "<unk>" else kind
        message = _text(PIECE, piece) + _float(SCORE, score) + _number(TYPE, kind)
        content += _bytes(PIECES, message)
    trainer = _number(MODEL_TYPE, BPE) + _number(VOCAB_SIZE, len(ordered)) + _number(BYTE_FALLBACK, 1)
    roles = {"unk": vocabulary["<unk>"], **{key.removesuffix("_token_id"): index for key, index in ids.items()}}
    for number, spelled, role in (
        (UNK_ID, UNK_PIECE, "unk"), (BOS_ID, BOS_PIECE, "bos"), (EOS_ID, EOS_PIECE, "eos"), (PAD_ID, PAD_PIECE, "pad"),
    ):  # fmt: skip
        trainer += _number(number, roles.get(role, -1))
        if role in roles:
            trainer += _text(spelled, ordered[roles[role]])
    normalizer = _text(NAME, "identity") + _number(DUMMY_PREFIX, int(llama)) + _number(REMOVE_EXTRA, 0)
    return content + _bytes(TRAINER, trainer) + _bytes(NORMALIZER, normalizer + _number(ESCAPE, 1))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers have ten bytes
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | FIXED32) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES_OF) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
