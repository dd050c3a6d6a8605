"""Where tensors lie: the bytes at each offset are those that the safetensors library or llama2.c's writer put there."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from soban.weights.inspect import Stored, listing, open_any

from . import test_llama2c as bin_writer


def opened(path: Path, tied: bool = False) -> dict[str, Stored]:
    return {one.name: one for one in listing(open_any(path), {}, tied)}


def held(folder: Path, one: Stored) -> bytes:
    return (folder / one.file).read_bytes()[one.offset : one.offset + one.bytes]


def shards(folder: Path) -> dict[str, np.ndarray]:
    """A folder in two shards, written by the library."""
    from safetensors.numpy import save_file

    dice = np.random.default_rng(3)
    arrays = {
        "model.embed_tokens.weight": dice.normal(size=(7, 4)).astype(np.float16),
        "model.layers.0.mlp.up_proj.weight": dice.normal(size=(3, 5)).astype(np.float32),
        "model.norm.weight": dice.integers(-9, 9, 3).astype(np.int8),
        "empty": np.zeros((0, 4), np.float32),
    }
    names = list(arrays)
    files = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    for file, its in files.items():
        save_file({name: arrays[name] for name in its}, folder / file)
    index = {"weight_map": {name: file for file, its in files.items() for name in its}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return arrays


def test_the_bytes_at_an_offset_are_those_of_the_library_s_tensor(tmp_path: Path) -> None:
    arrays = shards(tmp_path)
    found = opened(tmp_path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        one = found[name]
        assert held(tmp_path, one) == array.tobytes() and one.shape == array.shape and not one.shared
    assert [one.format for one in found.values()] == ["f16", "f32", "f32", "i8"] or {
        one.format for one in found.values()
    } == {"f16", "f32", "i8"}
    places = [(one.file, one.offset) for one in found.values()]
    assert places == sorted(places)


def test_a_real_model_s_offsets_are_those_of_its_header(fixtures: Path) -> None:
    folder = fixtures / "models" / "TinyStories-656K"
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found = opened(folder, tied=True)
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert (found[name].offset, found[name].bytes) == (8 + length + begin, end - begin)
    # the library's save_model keeps one of two names for the same memory, and notes the other
    assert found["model.embed_tokens.weight"].shared == "lm_head.weight"
    assert sum(one.bytes for one in found.values() if not one.shared) == len(data) - 8 - length


def test_a_head_tied_by_the_config_lies_where_the_embedding_does(tmp_path: Path) -> None:
    shards(tmp_path)
    found = opened(tmp_path, tied=True)
    head, embedding = found["lm_head.weight"], found["model.embed_tokens.weight"]
    assert head == dataclasses.replace(embedding, name="lm_head.weight", shared="model.embed_tokens.weight")
    assert "lm_head.weight" not in opened(tmp_path, tied=False)


def test_a_safetensors_file_needs_no_config_beside_it(tmp_path: Path) -> None:
    arrays = shards(tmp_path)
    (tmp_path / "config.json").unlink()
    found = opened(tmp_path / "model-00002-of-00002.safetensors")
    assert held(tmp_path, found["model.norm.weight"]) == arrays["model.norm.weight"].tobytes()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_fields_of_a_bin_are_where_llama2_c_puts_them(tmp_path: Path, version: int, tied: bool) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bin_writer.written(version, tied))
    weights, layers = bin_writer.model(1, tied), range(bin_writer.LAYERS)
    kinds = {
        "token_embedding_table": "tok_embeddings.weight",
        "rms_att_weight": bin_writer.NORMS[0], "rms_ffn_weight": bin_writer.NORMS[1],
        **dict(zip(("wq", "wk", "wv", "wo"), bin_writer.ATTENTION, strict=True)),
        **dict(zip(("w1", "w2", "w3"), bin_writer.MLP, strict=True)),
        "rms_final_weight": "norm.weight", "wcls": "output.weight",
    }  # fmt: skip
    found = opened(path)
    for field, name in kinds.items():
        one = found[field]
        if field == "wcls" and tied:
            table = found["token_embedding_table"]
            assert (one.shared, one.offset, one.bytes) == (table.name, table.offset, table.bytes)
            continue
        arrays = [weights[name.format(i)] for i in layers] if "{}" in name else [weights[name]]
        small = version == 2 and arrays[0].ndim == 2
        written = b"".join(
            b"".join(part.tobytes() for part in bin_writer.quantised(array)) if small else array.tobytes()
            for array in arrays
        )
        assert held(tmp_path, one) == written and not one.shared
        assert one.shape == ((len(layers), *arrays[0].shape) if "{}" in name else arrays[0].shape)
        assert one.known_as == name.format("{i}") and one.format == (f"i8 / {bin_writer.GROUP}" if small else "f32")
    # every byte after the header belongs to one field
    ends = sorted((one.offset, one.offset + one.bytes) for one in found.values() if not one.shared)
    assert ends[0][0] == (28 if version == 0 else 256) and ends[-1][1] == path.stat().st_size
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert ("freq_cis_real" in found) == (version == 0)
