"""GGUF files: what the gguf package wrote is read, what is damaged is refused in one line."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from soban.base.errors import UserError
from soban.weights.gguf.header import read_gguf_header
from soban.weights.gguf.reading import read_gguf

ROWS = np.random.default_rng(0).normal(0, 1, (4, 64)).astype(np.float32)


def write(path: Path, tensors: dict[str, Any] | None = None, alignment: int | None = None, **keys: Any) -> Path:
    """A file by the gguf package; tensors are arrays, or (blocks, type)."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in keys.items():
        name = key.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint16(name, value)
    for name, value in ({"a.weight": ROWS} if tensors is None else tensors).items():
        data, kind = value if isinstance(value, tuple) else (value, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_keys_and_tensors_are_those_that_were_written(tmp_path: Path) -> None:
    blocks = gguf.quantize(ROWS, gguf.GGMLQuantizationType.Q8_0)
    path = write(
        tmp_path / "a.gguf",
        {"a": ROWS, "b": (blocks, gguf.GGMLQuantizationType.Q8_0), "c": ROWS[0].astype(np.float16)},
        llama__block_count=3, llama__rope__freq_base=1e6, tokenizer__ggml__tokens=["가", "", "x"],
        tokenizer__ggml__scores=[0.5, -1.25, 3.0], tokenizer__ggml__add_bos_token=True,
    )  # fmt: skip
    found = read_gguf(path)
    assert found.files == (path,) and found.keys["llama.block_count"] == 3
    assert found.keys["llama.rope.freq_base"] == 1e6 and found.keys["tokenizer.ggml.add_bos_token"] is True
    texts = found.keys["tokenizer.ggml.tokens"]
    assert list(texts) == ["가", "", "x"] == [texts[0], texts[1], texts[-1]] and texts[1:] == ["", "x"]
    assert found.keys["tokenizer.ggml.scores"].tolist() == [0.5, -1.25, 3.0]
    a, b, c = (found.tensors[name] for name in "abc")
    assert (a.format, b.format, c.format) == ("f32", "q8_0", "f16")
    assert a.shape == b.shape == (4, 64) and c.shape == (64,)
    assert np.array_equal(a.float32(), ROWS)
    assert np.array_equal(b.float32(), gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0))
    assert np.array_equal(b.float32(1, 3), b.float32()[1:3]) and len(b.rows(1, 3)) == 2
    assert np.array_equal(c.float32(), ROWS[0].astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_any_alignment_that_is_a_power_of_two_is_read(tmp_path: Path, alignment: int) -> None:
    path = write(tmp_path / "a.gguf", {"a": ROWS[0, :5], "b": ROWS[1]}, alignment=alignment)
    assert np.array_equal(read_gguf(path).tensors["b"].float32(), ROWS[1])


def test_version_2_is_read_and_version_1_and_big_endian_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    data = path.read_bytes()
    assert struct.unpack_from("<I", data, 4) == (3,)
    path.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert np.array_equal(read_gguf(path).tensors["a.weight"].float32(), ROWS)
    path.write_bytes(data[:4] + struct.pack("<I", 1) + data[8:])
    with pytest.raises(UserError, match="version 1 of GGUF; this reads 2, 3"):
        read_gguf(path)
    path.write_bytes(data[:4] + struct.pack(">I", 3) + data[8:])
    with pytest.raises(UserError, match="big-endian"):
        read_gguf(path)


def splits(folder: Path) -> list[Path]:
    paths = [folder / f"m-{n:05}-of-00002.gguf" for n in (1, 2)]
    for n, path in enumerate(paths):
        more = {"general__name": "x"} if n == 0 else {}
        keys = {"split__no": n, "split__count": 2, "split__tensors__count": 2}
        write(path, {f"t{n}": ROWS + n}, **more, **keys)
    return paths


def test_a_model_in_several_files_is_opened_by_any_of_them(tmp_path: Path) -> None:
    paths = splits(tmp_path)
    for path in paths:
        found = read_gguf(path)
        assert found.files == tuple(paths) and found.keys["general.name"] == "x"
        assert all(np.array_equal(found.tensors[f"t{n}"].float32(), ROWS + n) for n in (0, 1))


def test_a_missing_file_of_several_is_named(tmp_path: Path) -> None:
    paths = splits(tmp_path)
    paths[1].unlink()
    with pytest.raises(UserError, match=r"in 2 files, and m-00002-of-00002.gguf is not there"):
        read_gguf(paths[0])
    renamed = paths[0].rename(tmp_path / "m.gguf")
    with pytest.raises(UserError, match=r"name has to end in -00001-of-00002.gguf"):
        read_gguf(renamed)


def test_files_of_two_models_are_not_joined(tmp_path: Path) -> None:
    paths = splits(tmp_path)
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(UserError, match="are not of one model"):
        read_gguf(paths[0])


def test_a_type_that_is_not_read_is_refused_by_its_name(tmp_path: Path) -> None:
    data = np.zeros((2, 66), np.uint8)
    path = write(tmp_path / "a.gguf", {"blk.0.x": (data, gguf.GGMLQuantizationType.IQ2_XXS)})
    with pytest.raises(UserError, match=r"tensor 'blk.0.x' is of type IQ2_XXS, which is not read"):
        read_gguf(path)


def number(data: bytes, at: int, form: str, value: int) -> bytes:
    made = bytearray(data)
    struct.pack_into(form, made, at, value)
    return bytes(made)


def entry(data: bytes) -> int:
    """Where the tensor's entry goes on behind its name: axes, two lengths, type, offset."""
    return data.index(b"a.weight") + 8


DAMAGES = {
    "cut": (lambda d: d[: len(d) - 1], "ends at byte"),
    "cut in the header": (lambda d: d[:60], "promised at"),
    "tensors": (lambda d: number(d, 8, "<Q", 2**60), "entries are promised"),
    "keys": (lambda d: number(d, 16, "<Q", 2**40), "entries are promised"),
    "key's length": (lambda d: number(d, 24, "<Q", 2**63), "a text of"),
    "axes": (lambda d: number(d, entry(d), "<I", 9), "has 9 axes"),
    "length": (lambda d: number(d, entry(d) + 4, "<Q", 2**62), "has the shape"),
    "no length": (lambda d: number(d, entry(d) + 4, "<Q", 0), "has the shape"),
    "longer": (lambda d: number(d, entry(d) + 12, "<Q", 5), "ends at byte"),
    "type": (lambda d: number(d, entry(d) + 20, "<I", 777), "is of type 777"),
    "offset": (lambda d: number(d, entry(d) + 24, "<Q", 32), "ends at byte"),
    "between": (lambda d: number(d, entry(d) + 24, "<Q", 4), "no multiple of 32"),
    "name": (lambda d: d.replace(b"a.weight", b"a.\xff\n\0ght"), "the name"),
    "magic": (lambda d: b"GGML" + d[4:], "it begins with"),
    "empty header": (lambda d: b"GGUF", "promised at"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    change, said = DAMAGES[damage]
    path = write(tmp_path / "a.gguf")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=said) as refusal:
        read_gguf(path)
    assert "\n" not in str(refusal.value)


def test_a_key_that_stands_twice_and_an_alignment_of_48_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", general__abcdefghi=1, general__alignmenx=48)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"general.abcdefghi", b"general.alignmenx"))
    with pytest.raises(UserError, match=r"'general.alignmenx' stands twice"):
        read_gguf(path)
    path.write_bytes(data.replace(b"general.alignmenx", b"general.alignment"))
    with pytest.raises(UserError, match="48; it has to be a power of two"):
        read_gguf(path)


def test_two_tensors_do_not_share_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"a": ROWS[:1], "b": ROWS[:1]})
    data = path.read_bytes()
    at = data.index(b"\x01\0\0\0\0\0\0\0b") + 9 + 4 + 16 + 4
    assert struct.unpack_from("<Q", data, at) == (256,)
    path.write_bytes(number(data, at, "<Q", 0))
    with pytest.raises(UserError, match="'b' lies in 'a'"):
        read_gguf(path)


def test_the_beginning_of_a_file_tells_all_about_its_tensors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"a": ROWS})
    data = path.read_bytes()
    header = read_gguf_header(path, data[:-1024], len(data))
    assert header.tensors["a"].shape == (4, 64) and header.tensors["a"].begin == len(data) - 1024
