"""What a packed file says of its matrices: every lie is a refusal, and no scale that is no number is used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.packing.layout import LAYOUT, OLD_LAYOUT, packed_layout
from soban.weights.checkpoint import Checkpoint
from tests.tiny import CONFIG, make_model, write_weights

LIES: list[Any] = [
    None, 1, [], "x", {"a": None}, {"a": []}, {"a": ["q8", 1]}, {"a": ["q8", 1, 1, 1]}, {"a": ["zz", 1, 1]},
    {"a": [["q8"], 1, 1]}, {"a": ["q8", "1", 1]}, {"a": ["q8", 1.5, 1]}, {"a": ["q8", True, 1]}, {"a": ["q8", 0, 1]},
    {"a": ["q8", -1, 1]}, {"a": ["q8", 10**400, 1]}, {"a": ["q8", 1 << 31, 1]}, {"a": {"0": "q8"}}, {"a": "q8"},
]  # fmt: skip
DEEP = ["[" * 100_000, '{"a":' * 100_000, '{"a": ["q8", 1e999, 1]}', '{"a": ["q8", 1, 1], "a": ["q8", 2, 2]}', "NaN"]


@pytest.mark.parametrize("text", [*map(json.dumps, LIES), *DEEP], ids=lambda text: text[:24])
def test_a_list_of_packed_tensors_that_lies_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="list of packed tensors is damaged"):
        packed_layout(Checkpoint(Path("x"), {}, {}, {}, (), {LAYOUT: text}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


@pytest.mark.parametrize("dtype", ["q8", "q4", "bf16"])
def test_a_scale_that_is_no_number_is_found_and_the_file_made_anew(tmp_path: Path, cache: Path, dtype: str) -> None:
    folder = make_model(tmp_path / "model")
    right = soban.load(folder, dtype=dtype).logits([1, 2, 3])
    (path,) = (path for path in cache.glob("*.safetensors") if "-tokenizer-" not in path.name)
    good = path.read_bytes()
    begin = 8 + int.from_bytes(good[:8], "little")
    for name, entry in json.loads(good[8:begin]).items():
        if name == "__metadata__":
            continue
        width = 2 if dtype == "bf16" and entry["dtype"] != "F32" else 4
        for bad in (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff"):  # a NaN, minus infinity; their upper halves in bfloat16
            blob = bytearray(good)
            place = begin + entry["data_offsets"][0]
            blob[place : place + width] = bad[-width:]
            path.unlink()
            path.write_bytes(blob)
            np.testing.assert_array_equal(soban.load(folder, dtype=dtype).logits([1, 2, 3]), right)
            assert path.read_bytes() == good
    # the same in a model that somebody has published so: nothing to make it anew from
    (folder / "model.safetensors").write_bytes(blob)
    with pytest.raises(UserError, match="holds"):
        soban.load(folder)


def test_a_file_of_before_there_were_checksums_is_used_as_it_is(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(tmp_path / "model")
    right = soban.load(folder, dtype="q8").logits([1, 2, 3])
    (path,) = (path for path in cache.glob("*.safetensors") if "-tokenizer-" not in path.name)
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    del header["__metadata__"]["soban.crc32"]
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    old = len(text).to_bytes(8, "little") + text + data[begin:]
    path.unlink()
    path.write_bytes(old)
    caplog.clear()
    np.testing.assert_array_equal(soban.load(folder, dtype="q8").logits([1, 2, 3]), right)
    assert path.read_bytes() == old and not caplog.records


def test_the_largest_weights_can_be_kept(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model")
    write_weights(folder, CONFIG, model__layers__0__mlp__down_proj__weight=np.full((64, 128), 3e38, np.float32))
    for dtype in ("q8", "q4"):
        assert soban.load(folder, dtype=dtype).loaded.dtype == dtype


def test_a_file_with_the_blocks_of_an_older_version_is_refused() -> None:
    with pytest.raises(UserError, match="packed by an older soban"):
        packed_layout(Checkpoint(Path("x"), {}, {}, {}, (), {OLD_LAYOUT: json.dumps({"a": ["q4", 16, 256]})}))
