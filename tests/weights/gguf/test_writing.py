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


# How far ggml's own blocks are from such rows, the importance of their columns counted where there is one.
GGML = {
    "q4_k": 0.06921, "q5_k": 0.03520, "q6_k": 0.01699, "iq4_xs": 0.07344, "iq4_nl": 0.07295, "q5_1": 0.03670,
}  # fmt: skip
WITH_IMPORTANCE = {
    "q4_k": 0.05887, "q5_k": 0.02976, "q6_k": 0.01483, "iq4_xs": 0.06432, "iq4_nl": 0.06359, "q5_1": 0.02747,
    "q4_0": 0.07253, "q5_0": 0.03588,
}  # fmt: skip


def rows_and_importance() -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(0)
    rows = (dice.normal(0, 0.1, (64, 1024)) * np.exp(dice.normal(0, 1, (64, 1)))).astype(np.float32)
    rows[0], rows[1, :256], rows[2] = 0, 1, rows[2] * 1e-6
    return rows, np.exp(dice.normal(0, 1.5, 1024)).astype(np.float32)


def distance(blocks: np.ndarray, format: str, rows: np.ndarray, importance: np.ndarray | None) -> float:
    back = gguf.dequantize(blocks, gguf.GGMLQuantizationType[format.upper()])
    assert not back[0].any() and np.abs(back[1, :256] - 1).max() < 0.05
    weight = 1 if importance is None else np.sqrt(importance)
    return float(np.linalg.norm((back - rows) * weight) / np.linalg.norm(rows * weight))


@pytest.mark.parametrize("format", GGML)
def test_searched_scales_come_as_near_as_ggmls(format: str) -> None:
    rows, _ = rows_and_importance()
    ours = distance(encoded(format, rows), format, rows, None)
    assert ours < 1.01 * GGML[format]
    if (ggml := ggml_quantised(format, rows, None)) is not None:
        assert distance(ggml, format, rows, None) == pytest.approx(GGML[format], abs=1e-5)


@pytest.mark.parametrize("format", WITH_IMPORTANCE)
def test_with_an_importance_matrix_blocks_come_as_near_as_ggmls_where_it_counts(format: str) -> None:
    rows, importance = rows_and_importance()
    ours = distance(encoded(format, rows, importance), format, rows, importance)
    assert ours < 1.02 * WITH_IMPORTANCE[format]
    assert ours < 0.97 * distance(encoded(format, rows), format, rows, importance)
    if (ggml := ggml_quantised(format, rows, importance)) is not None:
        assert distance(ggml, format, rows, importance) == pytest.approx(WITH_IMPORTANCE[format], abs=1e-5)


def test_columns_that_no_activation_met_are_still_near(tmp_path: Path) -> None:
    rows, importance = rows_and_importance()
    importance[128:] = 0
    back = gguf.dequantize(encoded("q4_k", rows, importance), gguf.GGMLQuantizationType.Q4_K)
    assert np.linalg.norm(back - rows) / np.linalg.norm(rows) < 0.1
    nothing = encoded("q4_k", rows, np.zeros(1024, np.float32))
    assert np.linalg.norm(gguf.dequantize(nothing, gguf.GGMLQuantizationType.Q4_K) - rows) < 0.1 * np.linalg.norm(rows)


def ggml_quantised(format: str, rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray | None:
    """What ggml's own quantiser makes of the rows; None where llama-cpp-python is not installed."""
    import ctypes
    import importlib.util
    import os

    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH", Path(spec.origin).parent / "lib"))
    (path, *_) = [*folder.glob("libggml-base.*"), None]
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    kind = gguf.GGMLQuantizationType[format.upper()]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros((len(rows), rows.shape[1] // values * size), np.uint8)
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    weights = None if importance is None else importance.ctypes.data
    library.ggml_quantize_chunk(int(kind), rows.ctypes.data, out.ctypes.data, 0, *rows.shape, weights)
    return out
