"""Teaching: texts in their many files, token shards with their manifest, checkpoints and settings of a training."""

import csv
import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.sources import find
from tests.fuzz.changing import changed, changed_json, damaged, kept_size, put_number, written
from tests.fuzz.formats import Files, Format, Wrong, is_json
from tests.fuzz.weights import beyond_header

ROWS = [
    {"instruction": "안녕, ab", "output": 'said "x"\nand y'}, {"instruction": "1", "output": "둘"},
    {"instruction": "", "output": "c;d"},
]  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "cp949", "utf-16", "euc-kr")
TEXT = '옛날에 여우가 살았습니다.\n그리고 "또" 살았습니다.\n\nOnce upon a time.\n<|endoftext|>\n끝.\n'
CHATS = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]},
]


def read_texts(folder: Path, dice: random.Random) -> None:
    """Every document of the folder's only text."""
    (path,) = (path for path in folder.iterdir())
    told: list[Read] = []
    how = Reading(parting=dice.choice(("auto", "auto", "blank", "line", "file")), conversations=dice.random() < 0.3)
    for count, document in enumerate(documents(find([path]).sources, how, told)):
        if (not isinstance(document, str) and not document) or count > 5000:
            raise Wrong(f"document {count}: {type(document)}")


def texts_of(
    name: str, make: Callable[[random.Random], tuple[str, bytes]], beyond: Callable[[bytes], bool], folder: Path
) -> Format:
    def files(dice: random.Random) -> Files:
        ending, data = make(dice)
        return {f"a{ending}": data}

    (sample := folder / "sample").mkdir()  # what the reader keeps for the next file is made here, once for all workers
    (sample / "a.txt").write_bytes((TEXT * 3).encode("cp949"))
    read_texts(sample, random.Random(0))
    return Format(name, files, read_texts, lambda files: beyond(next(iter(files.values()))), {})


def plain(dice: random.Random) -> tuple[str, bytes]:
    data = (TEXT * dice.choice((1, 1, 8))).encode(dice.choice(ENCODINGS), "ignore")
    return dice.choice((".txt", ".md")), damaged(dice, data) if dice.random() < 0.9 else data


def table(dice: random.Random) -> tuple[str, bytes]:
    made = io.StringIO()
    ending, delimiter = dice.choice(((".csv", ","), (".csv", ";"), (".csv", "|"), (".tsv", "\t")))
    writer = csv.writer(
        made,
        delimiter=delimiter,
        quoting=dice.choice((csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC)),
        doublequote=True,
        lineterminator=dice.choice(("\n", "\r\n", "\r")),
    )
    names = list(ROWS[0])
    cells = [names, *([row[name] for name in names] for row in ROWS)] + [["x", "y"]] * dice.choice((0, 20))
    for _ in range(dice.choice((0, 1, 2))):
        row = dice.choice(cells)
        row[dice.randrange(len(row) + 1) :] = [
            dice.choice(("", '"', "a\0b", "\n", "가" * 50, '"",""', "\\", "sep=;", "1e9"))
        ] * dice.randrange(3)
    if dice.random() < 0.1:
        made.write(f"sep={delimiter}\n")
    writer.writerows(cells)
    data = made.getvalue().encode(dice.choice(ENCODINGS), "ignore")
    return ending, damaged(dice, data) if dice.random() < 0.5 else data


def records(dice: random.Random) -> tuple[str, bytes]:
    columns = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}
    split = {"columns": list(ROWS[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]}
    value: Any = dice.choice(
        (ROWS, CHATS, columns, split, {"data": ROWS}, {"0": ROWS[0], "1": ROWS[1]}, ["a", "b"], ROWS[0])
    )
    text = json.dumps(value, ensure_ascii=dice.random() < 0.5)
    if dice.random() < 0.4:
        lines = [changed_json(dice, json.dumps(row)) for row in (*ROWS, *CHATS)]
        return dice.choice((".jsonl", ".ndjson", ".json")), b"\n".join(lines)
    return ".json", changed_json(dice, text)


def archive(dice: random.Random) -> tuple[str, bytes]:
    """A zip or a gzip: its own fields damaged, or what is in it."""
    ending, data = dice.choice((plain, table, records))(dice)
    if dice.random() < 0.4:
        packed = gzip.compress(data, dice.choice((0, 1)), mtime=0)
        return ending + ".gz", damaged(dice, packed) if dice.random() < 0.7 else packed
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed_file:
        for number in range(dice.choice((1, 2))):
            name = dice.choice(
                (
                    f"{number}{ending}",
                    f"폴더/{number}{ending}",
                    f"../{number}.txt",
                    f"/{number}.txt",
                    f"{number}.zip",
                    f"{number}\0.txt",
                )
            )
            info = zipfile.ZipInfo(name)
            packed_file.writestr(info, data)
    whole = made.getvalue()
    chance = dice.random()
    if chance < 0.25:
        return ".zip", whole
    if chance < 0.6:  # a field of the central directory or of a local header
        at = whole.rfind(b"PK\x01\x02") if dice.random() < 0.7 else 0
        width = dice.choice(("<H", "<I"))
        return ".zip", put_number(dice, whole, at + 4 + 2 * dice.randrange(16), width)
    return ".zip", damaged(dice, whole)


def parquet(dice: random.Random) -> tuple[str, bytes]:
    data = _parquets[dice.randrange(len(_parquets))]
    (length,) = struct.unpack("<I", data[-8:-4])
    chance = dice.random()
    if chance < 0.4:
        return ".parquet", kept_size(dice, data, 4, len(data) - 8 - length)
    if chance < 0.85:
        return ".parquet", kept_size(dice, data, len(data) - 8 - length, len(data) - 8)
    return ".parquet", damaged(dice, data)


_parquets: list[bytes] = []


def parquet_format(folder: Path) -> Format:
    import pyarrow
    import pyarrow.parquet

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    for rows in (ROWS, CHATS[:1]):
        for compression in ("none", "snappy", "zstd"):
            made = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), made, compression=compression)
            _parquets.append(made.getvalue())
    return texts_of("data-parquet", parquet, lambda data: data[-4:] == b"PAR1", folder)


def shards(folder: Path) -> Format:
    from soban.learn.data.shards import FORMAT, MANIFEST, Shards, shard_json, write_shards

    dice_ = np.random.default_rng(0)
    made = {
        split: write_shards(
            folder, split, [np.concatenate([[1], dice_.integers(3, 50, n), [2]]) for n in sizes], 50, 40
        )
        for split, sizes in (("train", (10, 20, 30)), ("validation", (5, 7)))
    }
    manifest = {
        "format": FORMAT,
        "data_hash": "a" * 64,
        "fingerprint": "b" * 64,
        "tokenizer": {"entries": 50, "bos_token_id": 1, "eos_token_id": 2, "sha256": "c" * 64},
        "splits": {
            split: {
                "documents": sum(s.documents for s in held),
                "tokens": sum(s.tokens for s in held),
                "bytes": 100,
                "shards": shard_json(held),
            }
            for split, held in made.items()
        },
    }
    text = json.dumps(manifest)
    arrays = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.npy"))
    base = {name: (folder / name).read_bytes() for name in arrays} | {MANIFEST: text.encode()}

    def make(dice: random.Random) -> Files:
        if dice.random() < 0.5:
            return {MANIFEST: changed_json(dice, text)}
        name = dice.choice(arrays)
        data = base[name]
        chance = dice.random()
        if chance < 0.5:
            return {name: kept_size(dice, data, 128)}
        if chance < 0.8:
            return {name: kept_size(dice, data, 0, 128)}
        return {name: damaged(dice, data)}

    def read(place: Path, dice: random.Random) -> None:
        for split in ("train", "validation"):
            held = Shards(place, split)
            for document in held.documents:
                if len(document) and int(document.max()) >= held.entries:
                    raise Wrong(f"id {int(document.max())} of {held.entries}")
            if held.tokens != int(held.documents.lengths.sum()) or not isinstance(held.bytes, int):
                raise Wrong("counts")

    def beyond(files: Files) -> bool:
        (name, data), *_ = files.items()
        return is_json(files) if name == MANIFEST else data[:128] == base[name][:128]

    return Format("token-shards", make, read, beyond, base)


def checkpoints(folder: Path) -> Format:
    import torch

    from soban.learn.training import checkpoint

    torch.set_num_threads(1)
    weights = {"a": torch.arange(12, dtype=torch.float32).reshape(3, 4), "b": torch.ones(5)}
    state = {"m": torch.zeros(3, 4), "step": torch.zeros(1, dtype=torch.int64)}
    progress = checkpoint.Progress(7, 100, 1.5, 2.25, 5)
    checkpoint.save(folder / checkpoint.NAME, weights, state, progress, "mark")
    data = (folder / checkpoint.NAME).read_bytes()
    (length,) = struct.unpack_from("<Q", data)

    def make(dice: random.Random) -> Files:
        chance = dice.random()
        if chance < 0.25:
            made = kept_size(dice, data, 8 + length)
        elif chance < 0.4:
            made = damaged(dice, data)
        else:
            header = json.loads(data[8 : 8 + length])
            if chance < 0.75:
                told = header["__metadata__"]
                told["progress"] = changed_json(dice, told["progress"]).decode("utf-8", "replace")
            else:
                header = changed(dice, header)
            text = written(dice, header)
            made = struct.pack("<Q", len(text)) + text + data[8 + length :]
        return {checkpoint.NAME: made}

    def read(place: Path, dice: random.Random) -> None:
        path = place / checkpoint.NAME
        into = (
            {name: torch.zeros_like(t) for name, t in weights.items()},
            {name: torch.zeros_like(t) for name, t in state.items()},
        )
        found = [checkpoint.progress_of(path), checkpoint.load(path, *into, "mark")]
        for one in found:
            if (
                type(one.step) is not int
                or one.step < 0
                or type(one.tokens) is not int
                or not isinstance(one.seconds, int | float)
            ):
                raise Wrong(str(one))

    return Format("checkpoint", make, read, lambda files: beyond_header(files[checkpoint.NAME]), {})


def settings(folder: Path) -> Format:
    from soban.learn.training import checkpoint
    from soban.learn.training.folder import settings_of
    from soban.learn.training.presets import Shape
    from soban.learn.training.settings import Settings, check

    shape = Shape(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        context=32,
    )
    kept = Settings("llama", shape, 50, 2, 10, 1e-3)
    text = json.dumps(
        {"settings": kept.as_json(), "command": "soban train", "versions": {}, "before": [], "minutes": 5}
    )

    def make(dice: random.Random) -> Files:
        return {"training/settings.json": changed_json(dice, text)}

    def read(place: Path, dice: random.Random) -> None:
        found = settings_of(place)
        check(found)
        if (
            not 0 <= found.rate(min(3, found.steps - 1)) <= found.learning_rate
            or len(found.mark) != 64
            or found.step_tokens < 1
        ):
            raise Wrong(str(found))

    return Format("training-settings", make, read, is_json, {f"training/{checkpoint.NAME}": b"x"})


FORMATS: dict[str, Callable[[Path], Format]] = {
    "data-text": partial(texts_of, "data-text", plain, bool),
    "data-table": partial(texts_of, "data-table", table, bool),
    "data-json": partial(texts_of, "data-json", records, bool),
    "data-archive": partial(texts_of, "data-archive", archive, lambda data: data[:2] in (b"PK", b"\x1f\x8b")),
    "data-parquet": parquet_format,
    "token-shards": shards,
    "checkpoint": checkpoints,
    "training-settings": settings,
}
