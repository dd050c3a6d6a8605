"""Checksums of packed files: what was written is what they are of, and a flipped bit is found."""

import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.weights import checksums
from soban.weights.safetensors import read_safetensors, write_safetensors

VALUES = {
    "a 가": np.arange(300, dtype=np.float32),
    "b": np.arange(7, dtype=np.uint8),
    "c": np.zeros((0, 3), np.float32),
}
DTYPES = {"f4": "F32", "u1": "U8"}


def written(path: Path, sums: bool = True) -> bytes:
    entries = [(name, DTYPES[value.dtype.str[1:]], value.shape) for name, value in VALUES.items()]
    pieces = {name: np.array_split(value, 3) for name, value in VALUES.items()}
    write_safetensors(path, entries, lambda name: pieces[name], {"note": "x"}, sums=sums)
    return path.read_bytes()


def test_each_tensor_has_the_crc_of_its_bytes_and_other_programs_read_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    data = written(tmp_path / "x.safetensors")
    tensors, metadata = read_safetensors(tmp_path / "x.safetensors")
    found = checksums.read(tmp_path / "x.safetensors", metadata)
    assert found == {name: zlib.crc32(value.tobytes()) for name, value in VALUES.items()}
    assert list(checksums.damaged({name: t.data for name, t in tensors.items()}, found)) == []
    for name, value in load_file(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(value, VALUES[name])
    bare = written(tmp_path / "y.safetensors", sums=False)
    assert checksums.KEY.encode() not in bare and bare.endswith(data[-sum(v.nbytes for v in VALUES.values()) :])


def test_any_flipped_bit_of_the_header_is_refused_at_once_and_of_a_tensor_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    good = written(path)
    end = 8 + struct.unpack_from("<Q", good)[0]
    dice = random.Random(3)
    for bit in dice.sample(range(8 * 8, 8 * end), 150):
        blob = bytearray(good)
        blob[bit // 8] ^= 1 << bit % 8
        path.unlink()
        path.write_bytes(blob)
        with pytest.raises(UserError):
            read_safetensors(path)
    for bit in dice.sample(range(8 * end, 8 * len(good)), 50):
        blob = bytearray(good)
        blob[bit // 8] ^= 1 << bit % 8
        path.unlink()
        path.write_bytes(blob)
        tensors, metadata = read_safetensors(path)
        wanted = checksums.read(path, metadata)
        assert len(list(checksums.damaged({name: t.data for name, t in tensors.items()}, wanted))) == 1


@pytest.mark.parametrize("value", ["[", "1", '{"a": 1}', '{"a": "zz"}', "[" * 100_000])
def test_checksums_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(UserError, match="checksums are damaged"):
        checksums.read(Path("x"), {checksums.KEY: value})
    assert checksums.read(Path("x"), {}) == {}
    assert json.loads(checksums.text({"a": 1})) == {
        "": "0" * 8,
        "a": "00000001",
    }
