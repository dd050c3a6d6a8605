"""llama.cpp's importance matrices: written as the gguf package reads them, and read in both of their forms."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from soban.base.errors import UserError
from soban.weights.gguf.importance import Importance, is_importance, read_importance, write_importance

NAMES = ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"]


def matrix() -> Importance:
    dice = np.random.default_rng(0)
    sums = {name: dice.uniform(0, 9, (1, columns)).astype(np.float32) for name, columns in zip(NAMES, (8, 12))}  # noqa: B905
    counts = {name: np.array([40 + i], np.float32) for i, name in enumerate(NAMES)}
    return Importance(sums, counts, ("말뭉치.txt",), 3, 512, "x.gguf")


def dat(path: Path, importance: Importance, calls: int = 5) -> Path:
    """The older form, as llama-imatrix wrote it: means over the tokens times the number of calls."""
    data = struct.pack("<i", len(importance.sums))
    for name, sums in importance.sums.items():
        values = (sums[0] / importance.counts[name][0] * calls).astype("<f4")
        data += struct.pack("<i", len(name.encode())) + name.encode()
        data += struct.pack("<ii", calls, len(values)) + values.tobytes()
    text = importance.datasets[0].encode()
    path.write_bytes(data + struct.pack("<ii", importance.chunks, len(text)) + text)
    return path


def test_what_is_written_the_gguf_package_reads_by_llama_cpps_names(tmp_path: Path) -> None:
    ours = matrix()
    write_importance(tmp_path / "i.gguf", ours)
    reader = gguf.GGUFReader(tmp_path / "i.gguf")
    fields = {key: reader.fields[key].contents() for key in (
        "general.type", gguf.Keys.IMatrix.DATASETS, gguf.Keys.IMatrix.CHUNK_COUNT, gguf.Keys.IMatrix.CHUNK_SIZE
    )}  # fmt: skip
    assert list(fields.values()) == [gguf.GGUFType.IMATRIX, ["말뭉치.txt"], 3, 512]
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    for name in NAMES:
        assert np.array_equal(tensors[f"{name}.in_sum2"].reshape(-1), ours.sums[name][0])
        assert tensors[f"{name}.counts"].reshape(-1).tolist() == ours.counts[name].tolist()


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    ours = matrix()
    write_importance(tmp_path / "i.gguf", ours)
    today, older = read_importance(tmp_path / "i.gguf"), read_importance(dat(tmp_path / "i.dat", ours))
    columns = {NAMES[0]: 8, NAMES[1]: 12, "output.weight": 8}
    wanted = {name: ours.sums[name][0] / ours.counts[name][0] for name in NAMES}
    for read in (today, older):
        assert (read.datasets, read.chunks) == (("말뭉치.txt",), 3)
        weights = read.weights(columns)
        assert weights.keys() == wanted.keys()
        assert all(np.allclose(weights[name], wanted[name], rtol=1e-6) for name in NAMES)
    assert is_importance(tmp_path / "i.gguf") and is_importance(tmp_path / "i.dat")
    (tmp_path / "글.txt").write_text("글", encoding="utf-8")
    assert not is_importance(tmp_path / "글.txt")


def test_the_experts_of_a_layer_are_counted_together(tmp_path: Path) -> None:
    sums, counts = np.array([[2, 4], [6, 8]], np.float32), np.array([1, 3], np.float32)
    write_importance(tmp_path / "e.gguf", Importance({"x": sums}, {"x": counts}, (), 1, 512, ""))
    read = read_importance(tmp_path / "e.gguf")
    assert np.array_equal(read.sums["x"], sums) and np.array_equal(read.counts["x"], counts)
    assert read.weights({"x": 2})["x"].tolist() == [2, 3]


def test_the_matrix_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 columns, the model's 16"):
        matrix().weights({NAMES[0]: 16})
    with pytest.raises(UserError, match="no matrix of the model"):
        matrix().weights({"blk.9.attn_q.weight": 8})


def test_damage_of_every_kind_is_one_clear_line(tmp_path: Path) -> None:
    whole = dat(tmp_path / "i.dat", matrix()).read_bytes()
    dice = np.random.default_rng(1)
    refused = 0
    for n in range(400):
        data = bytearray(whole[: dice.integers(1, len(whole))] if n % 2 else whole)
        for _ in range(dice.integers(1, 4)):
            data[dice.integers(0, len(data))] = dice.integers(0, 256)
        path = tmp_path / f"{n}.dat"
        path.write_bytes(bytes(data))
        try:
            read_importance(path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 200
    wrong = Importance({"x": np.array([[-1.0]], np.float32)}, {"x": np.ones(1, np.float32)}, (), 1, 1, "")
    write_importance(tmp_path / "i.gguf", wrong)
    with pytest.raises(UserError, match="no sum of squares"):
        read_importance(tmp_path / "i.gguf")
