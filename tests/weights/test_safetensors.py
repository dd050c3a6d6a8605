"""safetensors files: what the library writes is read alike, it reads what we write, and no damage passes unseen."""

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base import files
from soban.base.errors import UserError
from soban.weights import safetensors as ours
from soban.weights.checkpoint import finite_check

library = pytest.importorskip("safetensors.numpy")


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def raw(header: object, data: bytes = b"") -> bytes:
    """A file by the format's description; a header in bytes stands as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refusal(path: Path, content: bytes) -> str:
    """The one line with which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        ours.read_safetensors(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400 + len(str(path))
    return message


def arrays(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "a.weight": random.standard_normal((5, 7), dtype=np.float32),
        "half": random.standard_normal((3, 2, 4)).astype(np.float16),
        "bytes": random.integers(0, 256, 13, dtype=np.uint8),
        "ints": random.integers(-128, 128, (2, 9), dtype=np.int8),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
        "한글 이름": np.arange(6, dtype=np.float32).reshape(2, 3),
    }


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    names = {"float32": "F32", "float16": "F16", "uint8": "U8", "int8": "I8"}
    entries = [(name, names[array.dtype.name], array.shape) for name, array in arrays.items()]
    ours.write_safetensors(path, entries, lambda name: [arrays[name]], metadata)


def test_a_file_of_the_library_is_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "모델 하나.safetensors"
    library.save_file(arrays(1), path, metadata={"format": "np"})
    tensors, metadata = ours.read_safetensors(path)
    assert metadata == {"format": "np"}
    assert tensors.keys() == arrays(1).keys()
    for name, array in arrays(1).items():
        assert tensors[name].shape == array.shape and tensors[name].source == path
        np.testing.assert_array_equal(tensors[name].data, array)
        assert not tensors[name].data.flags.writeable


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "쓴 것.safetensors"
    write(path, arrays(2), {"kind": "시험"})
    for name, array in library.load_file(path).items():
        np.testing.assert_array_equal(array, arrays(2)[name])
        assert array.dtype == arrays(2)[name].dtype
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        assert file.metadata() == {"kind": "시험"} and set(file.keys()) == set(arrays(2))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_bfloat16_and_float16_become_torch_s_float32(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    path = tmp_path / "bf16.safetensors"
    values = torch.randn(33, 17, generator=torch.Generator().manual_seed(3))
    save_file({"b": values.bfloat16(), "h": values.half(), "one": torch.tensor(1.5).bfloat16()}, path)
    tensors, _ = ours.read_safetensors(path)
    assert (tensors["b"].format, tensors["h"].format) == ("bf16", "f16")
    np.testing.assert_array_equal(tensors["b"].float32(), values.bfloat16().float().numpy())
    np.testing.assert_array_equal(tensors["b"].float32(5, 9), values.bfloat16().float().numpy()[5:9])
    np.testing.assert_array_equal(tensors["h"].float32(30), values.half().float().numpy()[30:])
    assert tensors["one"].float32() == 1.5 and tensors["one"].float32().dtype == np.float32


def test_unaligned_weights_are_given_out_aligned(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)
    for spaces in range(4):
        path = tmp_path / f"{spaces}.safetensors"
        header = json.dumps({"x": entry("F32", [4, 2], 0, 32)}).encode() + b" " * spaces
        path.write_bytes(raw(header, values.tobytes()))
        tensors, _ = ours.read_safetensors(path)
        assert tensors["x"].float32().flags.aligned
        np.testing.assert_array_equal(tensors["x"].float32().ravel(), values)


def test_an_aligned_float32_is_a_view_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", {"x": np.ones((16, 16), np.float32)})
    tensors, _ = ours.read_safetensors(tmp_path / "x.safetensors")
    assert np.shares_memory(tensors["x"].float32(3, 5), tensors["x"].data)


def test_written_tensors_begin_at_multiples_of_64(tmp_path: Path) -> None:
    sizes = {"odd": (13,), "norm": (48,), "panel": (64, 3), "other": (5,), "wide": (128,)}
    for length in range(1, 70):  # every length of header
        path = tmp_path / f"{length}.safetensors"
        entries = [(name * length, "F32" if name == "norm" else "U8", shape) for name, shape in sizes.items()]
        sized = {name: np.zeros(shape, np.float32 if dtype == "F32" else np.uint8) for name, dtype, shape in entries}
        write(path, sized)
        tensors, _ = ours.read_safetensors(path)
        for name in ("norm", "panel", "wide"):
            assert tensors[name * length].data.ctypes.data % 64 == 0


def test_tensors_may_stand_in_any_order_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw({"b": entry("U8", [3], 2, 5), "a": entry("U8", [2], 0, 2)}, b"aabbb"))
    tensors, _ = ours.read_safetensors(path)
    assert bytes(tensors["a"].data) == b"aa" and bytes(tensors["b"].data) == b"bbb"


def test_other_dtypes_are_carried_and_refused_by_name_when_used(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    library.save_file({"position_ids": np.arange(4), "double": np.ones(3)}, path)
    tensors, _ = ours.read_safetensors(path)
    np.testing.assert_array_equal(tensors["position_ids"].data, np.arange(4))
    np.testing.assert_array_equal(tensors["double"].float32(), np.ones(3, np.float32))  # rounded, as transformers does
    with pytest.raises(UserError, match=r"position_ids.* is I64"):
        tensors["position_ids"].float32()


GOOD = {"x": entry("U8", [4], 0, 4)}
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "seven bytes": (b"1234567", "7 bytes"),
    "header length 0": (raw(b""), "not a valid JSON object"),
    "header longer than the file": (struct.pack("<Q", 500) + b"{}", "claims 500 bytes; the file holds 2 more"),
    "header of 2^63": (struct.pack("<Q", 2**63) + b"{}", str(2**63)),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
    "HTML": (b"<!DOCTYPE html><html></html>", "fetch it again"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "byte 2 is not UTF-8"),
    "not JSON": (raw(b"{"), "not a valid JSON object"),
    "space before": (raw(b' {"x":1}'), "it begins with"),
    "a list": (raw(b"[]"), "begins with"),
    "half a character": (raw(b'{"\\ud800": {}}'), "surrogates"),
    "duplicate tensor": (raw(b'{"x":1,"x":1}'), "'x' stands twice"),
    "duplicate inside": (raw(b'{"x":{"dtype":"U8","dtype":"U8"}}'), "'dtype' stands twice"),
    "deep nesting": (raw(b'{"x":' + b"[" * 200_000), "nested too deeply"),
    "deep shape": (raw(b'{"x":{"dtype":"U8","data_offsets":[0,1],"shape":' + b"[" * 90 + b"]" * 90 + b"}}"), "shape"),
    "NaN": (raw(b'{"x":NaN}'), "NaN is no JSON number"),
    "infinite number": (raw(b'{"x":1e999}'), "too large"),
    "endless number": (raw(b'{"x":' + b"9" * 5000 + b"}"), "not a valid JSON object"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata a list": (raw({"__metadata__": []}), "__metadata__"),
    "entry no object": (raw({"x": 5}), "not a dtype, a shape and data_offsets"),
    "entry without shape": (raw({"x": {"dtype": "U8", "data_offsets": [0, 1]}}, b"1"), "a shape"),
    "entry with more": (raw({"x": GOOD["x"] | {"strides": [1]}}, b"1234"), "strides"),
    "unknown dtype": (raw({"x": entry("F4", [4], 0, 2)}, b"12"), "unknown dtype 'F4'"),
    "dtype a list": (raw({"x": entry(["U8"], [4], 0, 4)}, b"1234"), "unknown dtype"),  # type: ignore[arg-type]
    "shape negative": (raw({"x": entry("U8", [-4], 0, 4)}, b"1234"), "shape [-4]"),
    "shape of floats": (raw({"x": entry("U8", [4.0], 0, 4)}, b"1234"), "shape [4.0]"),
    "shape of truths": (raw({"x": entry("U8", [True], 0, 1)}, b"1"), "shape [True]"),
    "nine axes": (raw({"x": entry("U8", [1] * 9, 0, 1)}, b"1"), "at most 8"),
    "product overflow": (raw({"x": entry("F32", [2**31, 2**31, 4], 0, 4)}, b"1234"), "too large"),
    "product wraps to fit": (raw({"x": entry("F32", [2**62, 4], 0, 0)}), "too large"),
    "zero hides overflow": (raw({"x": entry("F32", [0, 2**62, 2**62], 0, 0)}), "too large"),
    "offsets negative": (raw({"x": entry("U8", [4], -4, 0)}, b"1234"), "data_offsets [-4, 0]"),
    "offsets swapped": (raw({"x": entry("U8", [4], 4, 0)}, b"1234"), "data_offsets [4, 0]"),
    "offsets too few": (raw({"x": GOOD["x"] | {"data_offsets": [4]}}, b"1234"), "data_offsets [4]"),
    "offsets for another shape": (raw({"x": entry("F32", [4], 0, 4)}, b"1234"), "for 16 bytes of F32 [4]"),
    "not from 0": (raw({"x": entry("U8", [4], 4, 8)}, b"12345678"), "bytes 0 to 4"),
    "gap": (raw(GOOD | {"y": entry("U8", [2], 6, 8)}, b"12345678"), "bytes 4 to 6, before tensor 'y'"),
    "overlap": (raw(GOOD | {"y": entry("U8", [4], 2, 6)}, b"123456"), "'y' begins at byte 2, inside 'x'"),
    "truncated": (raw(GOOD, b"123"), "promises 4 bytes of tensors; the file holds 3"),
    "trailing bytes": (raw(GOOD, b"12345"), "promises 4 bytes of tensors; the file holds 5"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DAMAGED)
def test_a_damaged_file_is_refused_with_its_figures(tmp_path: Path, defect: str) -> None:
    content, expected = DAMAGED[defect]
    assert expected in refusal(tmp_path / "손상 된.safetensors", content)


def test_the_file_that_the_damaged_ones_are_made_from_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(raw(GOOD, b"1234"))
    assert ours.read_safetensors(tmp_path / "x.safetensors")[0].keys() == {"x"}


def test_a_header_above_100_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:  # sparse: it takes no room
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)
    with pytest.raises(UserError, match="100000001 bytes"):
        ours.read_safetensors(path)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder, where a file is expected"):
        ours.read_safetensors(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        ours.read_safetensors(tmp_path / "none.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(UserError, match="not a regular file"):
        ours.read_safetensors(tmp_path / "pipe.safetensors")


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(GOOD, b"1234"))

    def denied(*_: object) -> None:  # file modes do not stop root, so the system's answer is played
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match="cannot be read: permission denied"):
        ours.read_safetensors(path)


def is_refused(path: Path) -> bool:
    """Whether a file is refused, and not for example a cause of IndexError. Nothing stays mapped."""
    try:
        for tensor in ours.read_safetensors(path)[0].values():
            assert tensor.data.nbytes <= path.stat().st_size
            tensor.float32()
    except UserError as error:
        assert "\n" not in str(error)
        return True
    return False


def test_damage_at_random_never_raises_anything_but_a_user_error(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    path = tmp_path / "x.safetensors"
    library.save_file(arrays(4), path, metadata={"format": "pt"})
    content = path.read_bytes()
    end_of_header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for _ in range(3000):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(end_of_header)] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(damaged))] if random.random() < 0.2 else damaged)
        refused += is_refused(path)
    assert refused > 2000


def test_a_not_finite_weight_is_named_with_its_place(tmp_path: Path) -> None:
    values = np.zeros((700, 1600), np.float32)  # more than one piece
    write(tmp_path / "x.safetensors", {"fine": values})
    finite_check(ours.read_safetensors(tmp_path / "x.safetensors")[0]["fine"])
    for bad, dtype in ((np.nan, np.float32), (-np.inf, np.float16)):
        damaged = values.astype(dtype)
        damaged[690, 3] = bad
        path = tmp_path / f"{bad}.safetensors"
        write(path, {"model.norm.weight": damaged})
        with pytest.raises(UserError, match=rf"'model.norm.weight' holds {bad} at \[690, 3\]"):
            finite_check(ours.read_safetensors(path)[0]["model.norm.weight"])


def test_a_bfloat16_infinity_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw({"x": entry("BF16", [3], 0, 6)}, struct.pack("<3H", 0x3F80, 0x7F7F, 0x7F80)))
    with pytest.raises(UserError, match=r"inf at \[2\]"):
        finite_check(ours.read_safetensors(path)[0]["x"])


def test_pieces_of_a_tensor_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    ours.write_safetensors(path, [("x", "F32", (6, 4))], lambda _: [values[:2], values[2:2], values[2:].tobytes(), b""])
    np.testing.assert_array_equal(ours.read_safetensors(path)[0]["x"].data, values)


def failed(path: Path, fill: Callable[[str], Iterable[bytes]], error: type[BaseException]) -> str:
    """The message of a write that fails, after which nothing may be left."""
    with pytest.raises(error) as caught:
        ours.write_safetensors(path, [("x", "U8", (8192,))], fill)
    assert list(path.parent.iterdir()) == []
    return str(caught.value)


def no_room(_: str) -> Iterable[bytes]:
    yield bytes(4096)
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(_: str) -> Iterable[bytes]:
    yield bytes(4096)
    raise KeyboardInterrupt


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert "bytes needed" in failed(path, no_room, UserError)
    failed(path, interrupted, KeyboardInterrupt)
    assert "100 bytes filled" in failed(path, lambda _: [bytes(100)], AssertionError)


def test_a_file_larger_than_the_free_space_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: 1234)
    message = failed(tmp_path / "x.safetensors", lambda _: pytest.fail("begun"), UserError)
    assert "1,234 free" in message and "needed" in message


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        ours.write_safetensors(tmp_path / "none" / "x.safetensors", [("x", "U8", (1,))], lambda _: [b"1"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from soban.base.errors import UserError
from soban.weights.safetensors import write_safetensors
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_safetensors(Path(sys.argv[1]), [("x", "U8", (1 << 22,))], lambda _: (bytes(1 << 16) for _ in range(64)))
except UserError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "x.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no room: 4,194" in done.stdout and list(tmp_path.iterdir()) == []


def test_a_file_is_never_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"first")
    with pytest.raises(UserError, match="exists already"):
        ours.write_safetensors(path, [("x", "U8", (1,))], lambda _: [b"1"])
    path.unlink()

    def overtaken(_: str) -> Iterable[bytes]:
        path.write_bytes(b"first")
        yield b"1"

    ours.write_safetensors(path, [("x", "U8", (1,))], overtaken)
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]
