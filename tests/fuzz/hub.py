"""What the hub answers and what fetching keeps: listings, search results, heads of remote files, the map of a part."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path

from soban.hub import names, partial, remote, searching
from soban.hub.choosing import RemoteFile
from tests.fuzz.changing import changed_json, damaged, kept_size, put_number
from tests.fuzz.formats import Files, Format, Wrong, is_json
from tests.fuzz.weights import LLAMA, changed_safetensors, make_weights

REPOSITORY = names.Repository("owner/tiny")
LISTING = {
    "id": "owner/tiny",
    "sha": "a" * 40,
    "gated": False,
    "private": False,
    "siblings": [
        {"rfilename": "config.json", "size": 600, "blobId": "b" * 40},
        {"rfilename": "model.safetensors", "size": 5000, "blobId": "c" * 40, "lfs": {"size": 5000, "sha256": "d" * 64}},
        {"rfilename": "tokenizer.json", "size": 100, "blobId": "e" * 40},
        {"rfilename": "a/b.txt", "size": 1, "blobId": "f" * 40},
    ],
}
SEARCH = [
    {"id": "owner/tiny", "downloads": 5, "gated": "auto", "config": {"model_type": "llama"}},
    {"id": "x/y", "gated": False},
]


def answers(folder: Path) -> Format:
    sources = [json.dumps(LISTING), json.dumps(SEARCH)]

    def make(dice: random.Random) -> Files:
        return {"answer": changed_json(dice, dice.choice(sources))}

    def read(place: Path, dice: random.Random) -> None:
        from soban.base.errors import UserError

        try:
            told = json.loads((place / "answer").read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError("no JSON") from error  # as session.json_answer has it
        listed = told if isinstance(told, list) else [told]
        found = [one for model in listed[:20] if (one := searching._entry(model)) is not None]
        if not all(is_dataclass(one) and isinstance(asdict(one)["id"], str) for one in found):
            raise Wrong(str(found))
        remote.listing_of(REPOSITORY, told)

    return Format("hub-answer", make, read, is_json, {})


def heads(folder: Path) -> Format:
    from soban.measure.headers import remote_outline

    make_weights(folder / "model.safetensors", LLAMA)
    data, config = (folder / "model.safetensors").read_bytes(), json.dumps(LLAMA)
    index = json.dumps({"weight_map": {"model.norm.weight": "model-1.safetensors"}})

    def make(dice: random.Random) -> Files:
        chance = dice.random()
        if chance < 0.5:
            return {"model.safetensors": changed_safetensors(dice, data)}
        if chance < 0.9:
            return {"config.json": changed_json(dice, config)}
        return {"model.safetensors.index.json": changed_json(dice, index), "model-1.safetensors": data}

    def read(place: Path, dice: random.Random) -> None:
        files = [RemoteFile(path.name, path.stat().st_size, "a" * 64) for path in sorted(place.iterdir())]
        remote_outline(REPOSITORY, files, lambda name, start, stop: (place / name).read_bytes()[start:stop])

    base = {"config.json": config.encode(), "model.safetensors": data, "tokenizer.json": b"{}"}
    return Format("hub-heads", make, read, lambda files: len(next(iter(files.values()))) > 8, base)


def parts(folder: Path) -> Format:
    size, segment = 3000, 1024
    content = bytes(range(256)) * 12
    import zlib

    records = b"".join(
        partial.RECORD.pack(count, zlib.crc32(content[n * segment : n * segment + count]), 0)
        for n, count in enumerate((1024, 500, 0))
    )
    data = partial.HEADER.pack(partial.MAGIC, size, segment) + records

    def make(dice: random.Random) -> Files:
        act = dice.randrange(6)
        if act < 2:
            return {"blob.part.map": kept_size(dice, data, partial.HEADER.size)}
        if act == 2:
            return {"blob.part.map": put_number(dice, data, dice.choice((8, 16)), "<Q")}
        if act == 3:
            return {"blob.part.map": damaged(dice, data)}
        if act == 4:
            return {"blob.part": damaged(dice, content[:1524])}
        return {"blob.part.map": put_number(dice, data, partial.HEADER.size + 16 * dice.randrange(3), "<Q")}

    def read(place: Path, dice: random.Random) -> None:
        blob = place / "blob"
        partial.there(blob, size)
        found = partial.Partial(blob, size)
        try:
            for index in found.missing():
                start, stop = found.rest(index)
                if not 0 <= start < stop <= size:
                    raise Wrong(f"{start} to {stop}")
                found.add(index, content[start:stop])
            if found.done != size:
                raise Wrong(f"{found.done} of {size}")
        finally:
            found.close()

    base = {"blob.part": content[:1524], "blob.part.map": data}
    return Format(
        "hub-part", make, read, lambda files: "blob.part" in files or files["blob.part.map"][:24] == data[:24], base
    )


FORMATS: dict[str, Callable[[Path], Format]] = {"hub-answer": answers, "hub-heads": heads, "hub-part": parts}
