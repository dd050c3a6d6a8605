"""What lies in the cache: packed weights and packed tokenizers; what is refused there is made anew."""

import json
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.loading import loaded
from soban.models import architecture
from soban.packing.assemble import assemble, pack
from soban.text.tokenizers.packed import open_packed
from soban.text.tokenizers.settings import Settings, read_settings
from soban.weights.opening import open_checkpoint
from tests.fuzz.changing import changed, damaged, kept_size, put_number, written
from tests.fuzz.formats import Files, Format, Wrong
from tests.fuzz.weights import GEMMA, LLAMA, beyond_header, make_weights, sound
from tests.tiny import resealed

PACKED = "packed.safetensors"
ROUNDABLE = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32, "vocab_size": 40}


def refusal(path: Path) -> UserError:
    return UserError("{path}: damaged", path=path)


def weights_of(kind: str, config: dict[str, Any], folder: Path) -> Format:
    raw = config | ROUNDABLE
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    make_weights(folder / "model" / "model.safetensors", raw)
    checkpoint = open_checkpoint(folder / "model")
    made = architecture(raw)
    pack(made, checkpoint, kind, folder / PACKED)
    data = (folder / PACKED).read_bytes()

    def read(place: Path, dice: random.Random) -> None:
        path = place / PACKED
        packed = loaded._mapped(path, made, checkpoint)
        if packed is None:
            raise refusal(path)
        sound(made, assemble(made, packed), lambda: float("inf"))

    make = partial(changed_packed, data=data)
    return Format(f"packed-{kind}", make, read, beyond, {PACKED: data})


def beyond(files: Files) -> bool:
    """Whether the header holds, its checksum with it."""
    return beyond_header(files[PACKED]) and resealed(files[PACKED]) == files[PACKED]


def changed_packed(dice: random.Random, data: bytes) -> Files:
    """The file with its header, what is told in its metadata, or its bytes changed."""
    (length,) = struct.unpack_from("<Q", data)
    chance = dice.random()
    if chance < 0.4:
        return {PACKED: kept_size(dice, data, 8 + length)}
    if chance < 0.48:
        return {PACKED: damaged(dice, data)}
    if chance < 0.52:
        return {PACKED: put_number(dice, data, 0, "<Q")}
    header = json.loads(data[8 : 8 + length])
    if chance < 0.85:
        told = header["__metadata__"]
        key = dice.choice(list(told))
        try:
            told[key] = written(dice, changed(dice, json.loads(told[key]))).decode("utf-8", "replace")
        except ValueError:
            told[key] = dice.choice(("", "x", "00000000", "ffffffff", told[key][::-1], told[key] * 2))
        text = json.dumps(header).encode()
    else:
        text = written(dice, changed(dice, header))
    made = struct.pack("<Q", len(text)) + text + data[8 + length :]
    return {PACKED: resealed(made) if dice.random() < 0.9 else made}


def tokenizer(folder: Path) -> Format:
    from soban.text.tokenizers.fast import load_fast
    from soban.text.tokenizers.packing import pack as pack_tokenizer

    bases = {}
    for number, model in enumerate(_models()):
        source = folder / f"{number}.json"
        source.write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")
        pack_tokenizer(source.read_bytes(), load_fast(source, Settings()), folder / f"{number}.safetensors", {})
        bases[number] = (folder / f"{number}.safetensors").read_bytes()
    settings = read_settings(folder, {})

    def make(dice: random.Random) -> Files:
        return changed_packed(dice, bases[dice.choice(list(bases))])

    def read(place: Path, dice: random.Random) -> None:
        path = place / PACKED
        found = open_packed(path, settings)
        if found is None:
            raise refusal(path)
        for text in ("Hello <s>ab 세계  \0 12", "", "<start_of_turn>ab</s>", "ab abba bab"):
            for special in (True, False):
                ids = found.encode(text, special=special)
                if ids and not 0 <= max(ids) < 1 << 32:
                    raise Wrong(f"{ids}")
                stream = found.stream()
                "".join([*(stream.feed(index) for index in ids)])
            found.decode(ids)
        found.encode_rendered("ab<s>\U000f0000ab", {"\U000f0000": "<s>x"})
        found.find_markup("a<s>b")

    return Format("packed-tokenizer", make, read, beyond, {PACKED: bases[0]})


def _models() -> list[dict[str, Any]]:
    """Tokenizers of the kind that is packed: one as Gemma's, one as Llama's."""
    from tests.tiny import tokenizer as tiny

    first = tiny()
    vocabulary = first["model"]["vocab"]
    for piece in ("a", "b", "ab", "abab", "▁a", "▁ab", "세", "계", "세계"):
        vocabulary[piece] = len(vocabulary)
    first["model"]["merges"] = [["a", "b"], ["ab", "ab"], ["▁", "a"], ["▁", "ab"], ["▁a", "b"], ["세", "계"]]
    second = json.loads(json.dumps(first))
    second["normalizer"] = None
    second["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    return [first, second]


FORMATS: dict[str, Callable[[Path], Format]] = {
    "packed-q8": partial(weights_of, "q8", LLAMA), "packed-q4": partial(weights_of, "q4", GEMMA),
    "packed-bf16": partial(weights_of, "bf16", LLAMA), "packed-tokenizer": tokenizer,
}  # fmt: skip
