"""Blocks and files that are written: bit for bit those of the gguf package, and read back by it."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from soban.weights.gguf.quantise import ENCODERS, encoded
from soban.weights.gguf.reading import read_gguf
from soban.weights.gguf.writing import write_gguf


@pytest.mark.parametrize("format", ENCODERS)
def test_blocks_are_those_that_the_gguf_package_writes(format: str) -> None:
    dice = np.random.default_rng(0)
    rows = dice.normal(0, 1, (200, 64)) * 10.0 ** dice.integers(-6, 4, (200, 1))
    rows[3], rows[4, :32] = 0, 0
    rows[5] = np.repeat([0.5, 1.5, 127, -127], 16)  # halves after scaling by one
    rows[6] = np.tile([-8.0, 8, 0.5, -0.5], 16)
    rows[7] = np.tile([127, 0.49999997, -0.49999997, 2.5], 16)
    rows = rows.astype(np.float32)
    theirs = gguf.quantize(rows, gguf.GGMLQuantizationType[format.upper()])
    assert encoded(format, rows).tobytes() == theirs.tobytes()


def test_what_is_written_is_read_by_both(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(0, 1, (3, 64)).astype(np.float32)
    keys = {
        "general.architecture": "llama", "a.b": 7, "a.c": 0.5, "a.d": True, "a.e": ["가", "", "x y"],
        "a.f": np.array([1, 2], np.int32), "a.g": np.array([0.5], np.float32), "a.h": "글",
    }  # fmt: skip
    entries = [("x", "f32", (5,)), ("y", "q8_0", (3, 64)), ("z", "bf16", (3, 64))]
    data = {"x": rows[0, :5], "y": encoded("q8_0", rows), "z": encoded("bf16", rows)}
    write_gguf(tmp_path / "a.gguf", keys, entries, lambda name: [data[name]])
    theirs = gguf.GGUFReader(tmp_path / "a.gguf")
    for key, value in keys.items():
        found = theirs.fields[key].contents()
        assert found == (value.tolist() if isinstance(value, np.ndarray) else value)
    for tensor in theirs.tensors:
        assert tensor.data.tobytes() == data[tensor.name].tobytes()
    ours = read_gguf(tmp_path / "a.gguf")
    assert list(ours.keys) == list(keys) and list(ours.keys["a.e"]) == keys["a.e"]
    assert {name: (tensor.format, tensor.shape) for name, tensor in ours.tensors.items()} == {
        name: (format, shape) for name, format, shape in entries
    }
    assert np.array_equal(ours.tensors["x"].float32(), rows[0, :5])
