"""A folder of shards whose manifest or arrays were damaged: every field and every header is checked before its use."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.learn.data.shards import FORMAT, MANIFEST, Shards, shard_json, starts_of, write_json, write_shards

STRANGE: tuple[Any, ...] = (None, True, -1, 1 << 60, 1.5, "x", "../../x.npy", [], {}, [None], {"a": None})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shards = write_shards(tmp_path, "train", [np.array([1, 5, 6, 2]), np.array([1, 7, 2])], 10)
    tokenizer = {"entries": 10, "bos_token_id": 1, "eos_token_id": 2, "sha256": "c" * 64}
    split = {"documents": 2, "tokens": 7, "bytes": 9, "shards": shard_json(shards)}
    write_json(
        tmp_path / MANIFEST,
        {"format": FORMAT, "data_hash": "a" * 64, "tokenizer": tokenizer, "splits": {"train": split}},
    )
    return tmp_path


def paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a tree."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(*before, key), *paths(value[key], (*before, key))]]


def test_every_field_of_another_type_or_range_is_refused(folder: Path) -> None:
    good = (folder / MANIFEST).read_text(encoding="utf-8")
    assert [list(document) for document in Shards(folder).documents] == [[1, 5, 6, 2], [1, 7, 2]]
    refused = 0
    for place in paths(json.loads(good)):
        for value in STRANGE:
            changed = json.loads(good)
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            if holder[place[-1]] == value:
                continue
            holder[place[-1]] = value
            (folder / MANIFEST).write_text(json.dumps(changed), encoding="utf-8")
            try:
                shards = Shards(folder)
                assert shards.tokens == 7 and len(shards.documents) == 2, (place, value)
            except UserError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 150


HEADERS = (
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (4000000000000,), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (-7,), }",
    b"{'descr': '<u2', 'fortran_order': False, 'shape': (1e9,), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (7,), }",
    b"{'descr': '<u2', 'shape': (7,)}",
    b"{'descr': 'zz', 'fortran_order': 1, 'shape': 7}",
    *(b"(", b"'\\", b"[" * 5000, b"\xff\xfe", b"0x"),
)


@pytest.mark.parametrize("of", [lambda path: path, starts_of], ids=["ids", "starts"])
def test_every_header_of_an_array_that_is_damaged_is_refused(folder: Path, of: Any) -> None:
    path = of(folder / "train" / "00000.npy")
    good = path.read_bytes()
    for text in HEADERS:
        header = text + b" " * (-(10 + len(text) + 1) % 64) + b"\n"
        path.unlink()
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + good[128:])
        with pytest.raises(UserError, match="not as the manifest has it"):
            Shards(folder)
    for data in (b"", good[:5], good[:100], good[:-1], b"PK\x03\x04" + good, good[:6] + b"\x09" + good[7:]):
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(UserError, match="not as the manifest has it"):
            Shards(folder)


def test_ids_beyond_the_vocabulary_and_starts_out_of_order_are_refused(folder: Path) -> None:
    path = folder / "train" / "00000.npy"
    for place, array in ((path, np.array([1, 5, 10, 2, 1, 7, 2], np.uint16)), (starts_of(path), np.array([0, 9, 7])),
                         (starts_of(path), np.array([0.0, 4.0, 7.0]))):  # fmt: skip
        before = place.read_bytes()
        place.unlink()
        np.save(file := io.BytesIO(), array)
        place.write_bytes(file.getvalue())
        with pytest.raises(UserError, match="not as the manifest has it"):
            Shards(folder)
        place.unlink()
        place.write_bytes(before)
    Shards(folder)
