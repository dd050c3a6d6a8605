"""Hugging Face folders become .bin files that llama2.c's layout, its own programs and its golden texts bear out."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.convert.llama2c import described, to_llama2c
from soban.convert.source import open_source
from soban.packing.fitting import Fitted
from soban.weights.safetensors import read_safetensors

from . import small

FORMATS = ("v0", "v1", "v2")


def written(folder: Path, out: Path, format: str) -> Path:
    """The .bin of a folder, its tokenizer.bin beside it."""
    to_llama2c(open_source(folder), out, format, tokenizer=None, tokenizer_out=out.with_name("tokenizer.bin"))
    return out


def rotated(rows: np.ndarray, heads: int) -> np.ndarray:
    """Row 2j of each head in llama2.c is row j in transformers, and row 2j + 1 is row j + half."""
    size = len(rows) // heads
    order = [h * size + (j // 2) + (j % 2) * (size // 2) for h in range(heads) for j in range(size)]
    return rows[order]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_an_independent_reader_finds_every_weight_in_its_place(tmp_path: Path, format: str, tied: bool) -> None:
    folder = small.folder(tmp_path / "작은 모델", tie_word_embeddings=tied)
    header, arrays = small.read_bin(written(folder, tmp_path / "m.bin", format).read_bytes())
    assert header == {
        "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 300,
        "max_seq_len": 64, "version": int(format[1]), "shared": int(tied), "group": 16 if format == "v2" else 0,
    }  # fmt: skip
    held = {name: tensor.float32() for name, tensor in read_safetensors(folder / "model.safetensors")[0].items()}
    names = {
        "att_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "wq": "self_attn.q_proj",
        "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj", "w1": "mlp.gate_proj",
        "w2": "mlp.down_proj", "w3": "mlp.up_proj",
    }  # fmt: skip
    whole = {"embed": "model.embed_tokens", "norm": "model.norm"} | ({} if tied else {"cls": "lm_head"})
    expected = {ours: held[f"{theirs}.weight"] for ours, theirs in whole.items()}
    for ours, theirs in names.items():
        layers = [held[f"model.layers.{i}.{theirs}.weight"] for i in range(2)]
        heads = {"wq": 4, "wk": 2}.get(ours)
        expected[ours] = np.stack([rotated(rows, heads) for rows in layers] if heads else layers)
    assert expected.keys() == arrays.keys() - {"cos", "sin"}
    for name, array in expected.items():
        if format == "v2" and "norm" not in name:
            # half a step of each group, and the rounding of scale and product
            groups = array.reshape(-1, 16)
            step = np.abs(groups).max(1, keepdims=True) / 127
            assert (np.abs(arrays[name].reshape(-1, 16) - groups) <= step * (0.5 + 127 * 2**-22)).all()
        else:
            np.testing.assert_array_equal(arrays[name], array)


def test_the_tables_of_v0_are_torch_s_to_the_last_bit_or_nearly(tmp_path: Path, fixtures: Path) -> None:
    folder = small.folder(tmp_path / "m", hidden_size=64, num_attention_heads=8, max_position_embeddings=512)
    _, ours = small.read_bin(written(folder, tmp_path / "m.bin", "v0").read_bytes())
    _, theirs = small.read_bin((fixtures / "models" / "stories260K" / "stories260K.bin").read_bytes())
    for name in ("cos", "sin"):
        np.testing.assert_array_max_ulp(ours[name], theirs[name], 1)


def test_stories260k_comes_back_from_a_folder_as_the_file_that_it_was(tmp_path: Path, fixtures: Path) -> None:
    from soban.convert.folder import to_folder

    original = fixtures / "models" / "stories260K" / "stories260K.bin"
    words = original.with_name("tok512.bin")
    to_folder(open_source(original), tmp_path / "folder", "f32", tokenizer=words)
    back = written(tmp_path / "folder", tmp_path / "m.bin", "v0")
    assert (tmp_path / "tokenizer.bin").read_bytes() == words.read_bytes()
    got, wanted = back.read_bytes(), original.read_bytes()
    tables = 4 * 512 * 8  # at the end: cosines and sines, see above
    assert got[:-tables] == wanted[:-tables] and len(got) == len(wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_tinystories_656k_writes_the_same_text_from_a_bin(tmp_path: Path, fixtures: Path, format: str) -> None:
    folder = fixtures / "models" / "TinyStories-656K"
    path = written(folder, tmp_path / "m.bin", format)
    model = soban.load(path, dtype="f32")
    for case in json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        assert model.tokenize(case["prompt"]) == case["prompt_ids"]
        got = model.logits(case["prompt_ids"])[-1]
        if format == "v2":
            assert int(got.argmax()) == case["greedy256_new_ids"][0]
            continue
        text = "".join(piece for _, piece in model.start(case["prompt"], max_new_tokens=256, do_sample=False))
        assert text == case["text256"]  # transformers' own
        np.testing.assert_allclose(got[:8], case["last_logits_first8"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", ["v0", "v2"])
def test_llama2c_s_own_programs_write_what_soban_writes(
    tmp_path: Path, fixtures: Path, format: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = small.program({"v0": "run", "v2": "runq"}[format], tmp_path_factory.getbasetemp())
    folder = fixtures / "models" / "TinyStories-656K"
    path = written(folder, tmp_path / "m.bin", format)
    model = soban.load(path, dtype="f32")
    for case in json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        told = small.says(run, path, tmp_path / "tokenizer.bin", case["prompt"], 100)
        if format == "v0":
            steps = min(100 - len(case["prompt_ids"]), len(case["greedy256_new_ids"]) - 1)
            text = "".join(piece for _, piece in model.start(case["prompt"], max_new_tokens=steps, do_sample=False))
            assert told.startswith(text)
        else:  # runq.c rounds activations, too, so the likeliest token may be another one after a while
            near = "".join(piece for _, piece in model.start(case["prompt"], max_new_tokens=8, do_sample=False))
            assert told.startswith(near)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_llama2c_s_exporter_writes_the_same_bytes(tmp_path: Path, format: str) -> None:
    pytest.importorskip("transformers")
    checkout = small.checkout()
    # its reader of Hugging Face folders knows no grouped heads
    folder = small.folder(tmp_path / "m", hidden_size=64, intermediate_size=192, num_key_value_heads=4)
    words = [sys.executable, "export.py", tmp_path / "theirs.bin", "--hf", folder, "--version", format[1]]
    subprocess.run(words, cwd=checkout, check=True, capture_output=True)
    got, wanted = written(folder, tmp_path / "ours.bin", format).read_bytes(), (tmp_path / "theirs.bin").read_bytes()
    head = 4 * 300 * 64 if format == "v0" else 0
    tables = 4 * 64 * 16 if format == "v0" else 0  # before the head, see above
    before = len(wanted) - head - tables
    assert len(got) == len(wanted) and got[:before] == wanted[:before]
    assert got[before + tables :] == wanted[before + tables :]


def test_another_epsilon_is_carried_by_the_weights(tmp_path: Path) -> None:
    for tied in (True, False):
        folder = small.folder(tmp_path / f"m{tied}", rms_norm_eps=1e-3, tie_word_embeddings=tied)
        path = written(folder, tmp_path / f"{tied}.bin", "v0")
        ids = [1, 5, 80, 200, 7]
        want, got = (soban.load(place, dtype="f32").logits(ids) for place in (folder, path))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
        plain = soban.load(small.folder(tmp_path / f"p{tied}", tie_word_embeddings=tied), dtype="f32").logits(ids)
        assert np.abs(plain - want).max() > 100 * np.abs(got - want).max()  # it matters in this model


REFUSED = {
    "model_type=gemma2": {"model_type": "gemma2"},
    "head_dim=16": {"head_dim": 16},
    "attention_bias=True": {"attention_bias": True},
    "mlp_bias=True": {"mlp_bias": True},
    "rope_theta=500000.0": {"rope_theta": 500000.0},
    "rope_scaling=linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "rope_scaling=llama3": {"rope_parameters": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 10000.0,
    }},
    "sliding_window=32": {"model_type": "mistral", "sliding_window": 32},
    "hidden_act=gelu": {"hidden_act": "gelu"},
    "max_position_embeddings=2000000": {"max_position_embeddings": 2_000_000},
    "eos_token_id=7": {"eos_token_id": [2, 7]},
    "quantised by bitnet": {"quantization_config": {"quant_method": "bitnet"}},
}  # fmt: skip


@pytest.mark.parametrize("named", REFUSED)
def test_what_the_format_cannot_hold_is_refused_by_name(
    tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is asked about comes before the tensors, which these configs do not fit
    monkeypatch.setattr("soban.convert.source.fitted", lambda made, checkpoint: Fitted(made, checkpoint, ()))
    folder = small.folder(tmp_path / "m", **REFUSED[named])
    with pytest.raises(UserError) as caught:
        written(folder, tmp_path / "m.bin", "v0")
    assert named in str(caught.value) and "\n" not in str(caught.value) and ";" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_mistral_with_a_window_as_long_as_its_context_is_a_llama(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m", model_type="mistral", sliding_window=64)
    assert written(folder, tmp_path / "m.bin", "v1").exists()


@pytest.mark.parametrize(("widths", "group"), [((64, 128), 64), ((96, 128), 32), ((64, 172), 4), ((32, 33), 1)])
def test_the_group_divides_both_widths(tmp_path: Path, widths: tuple[int, int], group: int) -> None:
    folder = small.folder(tmp_path / "m", hidden_size=widths[0], intermediate_size=widths[1])
    header, _ = small.read_bin(written(folder, tmp_path / "m.bin", "v2").read_bytes())
    assert header["group"] == group


def test_nothing_is_written_over_and_an_equal_tokenizer_is_kept(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m")
    words = tmp_path / "tokenizer.bin"
    path = written(folder, tmp_path / "m.bin", "v0")
    written(folder, tmp_path / "n.bin", "v1")
    with pytest.raises(UserError, match="exists already"):
        written(folder, path, "v1")
    words.write_bytes(words.read_bytes() + b"!")
    with pytest.raises(UserError, match=r"belongs to another model.*--tokenizer-out"):
        written(folder, tmp_path / "o.bin", "v0")
    assert not (tmp_path / "o.bin").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_write_that_is_broken_off_leaves_nothing(tmp_path: Path, format: str) -> None:
    folder = small.folder(tmp_path / "m")

    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        to_llama2c(
            open_source(folder), out / "m.bin", format, tokenizer=None, tokenizer_out=out / "t.bin", progress=stop
        )  # fmt: skip
    assert not list(out.iterdir())


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.folder(tmp_path / "m")
    monkeypatch.setattr("soban.base.files.free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"no room: .* bytes needed, 1,000 free"):
        written(folder, tmp_path / "m.bin", "v0")
    header, _ = described(*open_source(folder).fitted(), 0)
    monkeypatch.setattr("soban.base.files.free_bytes", lambda folder: header.file_size)  # not for the tokenizer, too
    with pytest.raises(UserError, match=rf"no room: .*, {header.file_size:,} free"):
        written(folder, tmp_path / "m.bin", "v0")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-4:] = struct.pack("<f", np.nan)
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="holds nan at"):
        written(folder, tmp_path / "m.bin", "v0")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
