"""GGUF files: a model with its words and template, whose header, keys, blocks or bytes are changed."""

import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from soban.loading.model_files import files_of
from soban.models import architecture
from soban.packing.assemble import assemble
from soban.packing.fitting import fitted
from soban.weights.gguf.blocks import TYPES
from soban.weights.gguf.header import SCALARS
from soban.weights.opening import open_checkpoint
from tests.fuzz.changing import damaged, kept_size, put_number
from tests.fuzz.formats import Files, Format
from tests.fuzz.weights import GEMMA, LLAMA, largest_of, make_weights, sound

NAME = "model.gguf"
COUNTS = (0, 1, 2, 3, 4, 7, 8, 16, 32, 48, 64, 255, 256, 4096, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (0.0, -1.0, 1e-9, 0.5, 1.0, 1e4, 1e30, float("inf"), float("nan"))
SIZES = {**{kind: np.dtype(form).itemsize for kind, form in SCALARS.items()}, 7: 1}


def read_gguf_model(folder: Path, dice: random.Random) -> None:
    """Opens the file, runs what is in it, and asks for its words, its template and what it says of both."""
    checkpoint = open_checkpoint(folder / NAME)
    fit = fitted(architecture(checkpoint.config, rope_interleaved=checkpoint.interleaved), checkpoint)
    made, files = fit.architecture, files_of(checkpoint)
    tensors = fit.checkpoint.tensors.values()
    sound(made, assemble(made, fit.checkpoint), lambda: largest_of(tensors))
    files.entries()
    files.template()
    tokenizer = files.tokenizer()
    ids = tokenizer.encode("ab 가\n<s> 12", special=dice.random() < 0.5)
    assert all(0 <= index < tokenizer.vocab_size for index in ids)
    assert isinstance(tokenizer.decode(ids), str)


def places(data: bytes) -> dict[str, list[tuple[int, int, int]]]:
    """Where values of keys (place, type, elements), and tensors' fields (place, axes, -) stand in a whole file."""
    found: dict[str, list[tuple[int, int, int]]] = {"values": [], "tensors": [], "texts": []}
    at = 24
    tensors, keys = struct.unpack_from("<QQ", data, 8)

    def text() -> None:
        nonlocal at
        found["texts"].append((at, 0, 0))
        at += 8 + struct.unpack_from("<Q", data, at)[0]

    def value(kind: int, count: int) -> None:
        nonlocal at
        for _ in range(count if kind == 8 else 0):
            text()
        if kind != 8:
            found["values"].append((at, kind, count))
            at += SIZES[kind] * count

    for _ in range(keys):
        text()
        found["values"].append((at, -1, 1))  # the type's own number
        (kind,) = struct.unpack_from("<I", data, at)
        at += 4
        if kind == 9:
            kind, count = struct.unpack_from("<IQ", data, at)
            found["values"] += [(at, -1, 1), (at + 4, -2, 1)]
            at += 12
            value(kind, count)
        else:
            value(kind, 1)
    for _ in range(tensors):
        text()
        (axes,) = struct.unpack_from("<I", data, at)
        found["tensors"].append((at, axes, 0))
        at += 4 + 8 * axes + 12
    found["end"] = [(at, 0, 0)]
    return found


def changed_gguf(dice: random.Random, data: bytes, known: dict[str, list[tuple[int, int, int]]]) -> bytes:
    """The file with some of it changed; most of the time so that the header can still be read."""
    chance, (end, *_) = dice.random(), known["end"][0]
    if chance < 0.12:
        return damaged(dice, data)
    if chance < 0.22:
        return kept_size(dice, data, 0, end)
    if chance < 0.35:
        return kept_size(dice, data, end)
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 2))):
        at, kind, count = dice.choice(known[dice.choice(("values", "values", "values", "tensors", "texts"))])
        if (at, kind, count) in known["tensors"]:
            return put_tensor(dice, bytes(made), at, kind)
        if (at, kind, count) in known["texts"]:
            (length,) = struct.unpack_from("<Q", made, at)
            if length and dice.random() < 0.8:
                made[at + 8 + dice.randrange(length)] = dice.choice((0, 32, 48, 65, 0x7B, 0x80, 0xC3, 0xFF))
            else:
                struct.pack_into("<Q", made, at, dice.choice((0, length + 1, max(length, 1) - 1, 2**20, 2**63)))
        elif kind < 0:
            form = "<I" if kind == -1 else "<Q"
            struct.pack_into(form, made, at, dice.choice((*range(13), 255, 2**31, 10**5)))
        else:
            place = at + SIZES[kind] * dice.randrange(max(count, 1)) if count else at
            if kind == 7:
                made[place] = dice.choice((0, 1, 2))
            elif kind in (6, 12):
                struct.pack_into("<f" if kind == 6 else "<d", made, place, dice.choice(FLOATS))
            else:
                number = dice.choice(COUNTS) % (1 << 8 * SIZES[kind])
                made[place : place + SIZES[kind]] = number.to_bytes(SIZES[kind], "little")
    return bytes(made)


def put_tensor(dice: random.Random, data: bytes, at: int, axes: int) -> bytes:
    """One field of a tensor's entry: its axes, a length, its type, its place."""
    act = dice.randrange(4)
    if act == 0:
        return put_number(dice, data, at)
    if act == 1:
        made, place = bytearray(data), at + 4 + 8 * dice.randrange(axes)
        struct.pack_into("<Q", made, place, dice.choice((*COUNTS, 2**40, 2**62, 2**64 - 1)))
        return bytes(made)
    if act == 2:
        made = bytearray(data)
        struct.pack_into("<I", made, at + 4 + 8 * axes, dice.choice((*TYPES, 3, 16, 29, 36, 40, 99)))
        return bytes(made)
    return put_number(dice, data, at + 8 + 8 * axes, "<Q")


def of_model(folder: Path, config: dict[str, object], kind: str) -> Format:
    import json

    from tests.tiny import tokenizer
    from tests.weights.gguf.making import make_gguf

    whole = config | {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 264, "head_dim": 16}
    make_weights(folder / "model.safetensors", whole)
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": True, **whole}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    named = {"tokenizer__chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    make_gguf(folder, folder / NAME, kind, **named)
    data = (folder / NAME).read_bytes()
    known = places(data)
    end = known["end"][0][0]

    def make(dice: random.Random) -> Files:
        return {NAME: changed_gguf(dice, data, known)}

    def beyond(files: Files) -> bool:
        return len(files[NAME]) == len(data) and files[NAME][:24] == data[:24] and files[NAME][end:] != b""

    return Format(f"gguf-{kind.lower()}", make, read_gguf_model, beyond, {NAME: data})


FORMATS: dict[str, Callable[[Path], Format]] = {
    "gguf-q8_0": partial(of_model, config=LLAMA, kind="Q8_0"),
    "gguf-f32": partial(of_model, config=GEMMA, kind="F32"),
}
