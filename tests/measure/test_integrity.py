"""`soban show --check`: a flipped bit is found where there is a checksum or a hash, and a packed file made anew."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.cli import main
from soban.measure import integrity
from tests.tiny import CONFIG, make_model, write_weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def flipped(path: Path, dice: random.Random, first: int = 0) -> None:
    data = bytearray(path.read_bytes())
    bit = dice.randrange(8 * first, 8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.unlink()
    path.write_bytes(data)


def test_a_flipped_bit_of_a_packed_file_is_found_and_the_next_run_has_a_right_one(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model")
    right = soban.load(folder, dtype="q8").logits([1, 2, 3])
    (path,) = cache.glob("*-q8-*.safetensors")
    good, dice = path.read_bytes(), random.Random(1)
    assert [(one.by, one.damage) for one in integrity.check(folder)] == [("numbers", ())] + [("checksums", ())] * 2
    for _ in range(20):
        flipped(path, dice, first=8 + int.from_bytes(good[:8], "little"))
        (found,) = (one for one in integrity.check(folder) if one.path == path)
        assert [finding.code for finding in found.damage] == ["packed-damaged"] and not path.exists()
        np.testing.assert_array_equal(soban.load(folder, dtype="q8").logits([1, 2, 3]), right)
        assert path.read_bytes() == good


def test_a_flipped_bit_of_what_the_hub_knows_by_its_hash_is_found(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "models--owner--tiny" / "snapshots" / "c0ffee")
    data = (folder / "model.safetensors").read_bytes()
    blob = tmp_path / "models--owner--tiny" / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    assert [(one.by, one.damage) for one in integrity.check(folder)] == [("hash", ())]
    flipped(blob, random.Random(2), first=len(data) - 1000)
    (found,) = integrity.check(folder)
    assert "SHA-256" in found.damage[0].problem


def test_the_command_tells_of_it_and_ends_with_1(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model(tmp_path / "model", chat=True)
    main(["show", str(folder), "--check"])
    assert "model.safetensors" in capsys.readouterr().out.splitlines()[-1]
    bad = np.zeros((64, 128), np.float32)
    bad[3, 5] = np.nan
    write_weights(folder, CONFIG, model__layers__0__mlp__down_proj__weight=bad)
    assert main(["show", str(folder), "--check"]) == 1
    out = capsys.readouterr().out
    assert "nan at [3, 5]" in " ".join(out.split()) and out.splitlines()[-1].endswith("damaged")
    assert main(["show", str(folder), "--check", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["damaged"] for one in report["checked"]] == [True] and report["findings"][0]["code"] == "file-damaged"
    assert main(["show"]) == 0 and main(["show", "--check"]) == 0


def test_a_gguf_file_is_read_whole_by_the_hubs_hash_or_for_numbers(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny.gguf"
    assert main(["convert", str(make_model(tmp_path / "model")), str(path), "--weights-only", "--type", "f32"]) == 0
    assert [(one.by, one.bytes, one.damage) for one in integrity.check(path)] == [("numbers", path.stat().st_size, ())]
    data = bytearray(path.read_bytes())
    blob = tmp_path / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    path.rename(blob)
    path.symlink_to(blob)
    assert [(one.by, one.damage) for one in integrity.check(path)] == [("hash", ())]
    flipped(blob, random.Random(3), first=len(data) - 1000)
    assert [finding.code for finding in integrity.check(path)[0].damage] == ["file-damaged"]
    path.unlink()
    data[-4:] = b"\x00\x00\xc0\x7f"  # NaN; the last tensor ends with the file
    path.write_bytes(data)
    (found,) = integrity.check(path)
    assert "nan" in found.damage[0].problem and found.damage[0].file == "tiny.gguf"
