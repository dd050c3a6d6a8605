"""`soban quantize`: a file that soban and others run, nearer to the model with a text than without."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

import soban as library
from soban.convert.gguf import to_gguf
from soban.convert.source import open_source
from soban.measure.importance import collect, pieces_of
from soban.weights.gguf.adapter import write_gguf_adapter
from soban.weights.gguf.importance import read_importance
from tests import tiny

from .conftest import Command

TEXT = "다람쥐 헌 쳇바퀴에 타고파. The quick brown fox jumps over the lazy dog.\n" * 40


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make_model(tmp_path / "모델", hidden_size=256, intermediate_size=512, head_dim=64,
                           query_pre_attn_scalar=64)  # fmt: skip


def test_a_text_gives_a_file_and_its_matrix_which_gives_the_same_file(
    soban: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "글.txt").write_text(TEXT, encoding="utf-8")
    done = soban("quantize", model, "--imatrix", "글.txt", "--save-imatrix", "i.gguf", "--type", "iq4_xs")
    assert done.returncode == 0 and done.stdout == b"" and "wrote 모델-IQ4_XS.gguf" in done.stderr.decode()
    assert soban("quantize", model, "b.gguf", "--imatrix", "i.gguf", "--type", "iq4_xs").returncode == 0
    one, other = (gguf.GGUFReader(tmp_path / name) for name in ("모델-IQ4_XS.gguf", "b.gguf"))
    assert all(a.data.tobytes() == b.data.tobytes() for a, b in zip(one.tensors, other.tensors, strict=True))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in one.tensors}
    assert kinds["blk.0.ffn_up.weight"] == "IQ4_XS" and kinds["token_embd.weight"] == "Q6_K"
    assert one.fields["quantize.imatrix.dataset"].contents() == "글.txt"
    assert read_importance(tmp_path / "i.gguf").chunks > 10
    run = soban("run", tmp_path / "b.gguf", "ab", "-q", "--max-new-tokens", "4")
    assert run.returncode == 0 and run.stdout.startswith(b"ab")


KINDS = {
    "q6_k": {"Q6_K"}, "q5_k_m": {"Q5_K", "Q6_K"}, "q4_k_m": {"Q4_K", "Q6_K"}, "iq4_xs": {"IQ4_XS", "Q6_K"},
    "q4_0": {"Q4_0", "Q8_0"},
}  # fmt: skip


@pytest.mark.parametrize(
    "type", [kind if kind in ("q4_k_m", "iq4_xs") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_logits_are_nearer_with_the_importance_of_the_text(model: Path, tmp_path: Path, type: str) -> None:
    dice = np.random.default_rng(3)  # a few columns matter: what is multiplied with them is far larger
    norms = [f"model__layers__{i}__{norm}_layernorm__weight" for i in (0, 1) for norm in ("input", "pre_feedforward")]
    replaced = {name: np.exp(dice.normal(0, 1.5, 256)).astype(np.float32) for name in norms}
    tiny.write_weights(model, json.loads((model / "config.json").read_text(encoding="utf-8")), **replaced)
    exact = library.load(model, dtype="f32")
    pieces = pieces_of(exact.loaded.tokenizer, TEXT, 4000, 128)
    importance = collect(model, pieces, "x")
    ids = pieces[0][:60]
    apart = []
    for how in (None, importance):
        file = tmp_path / f"{how is None}.gguf"
        to_gguf(open_source(model), file, type, tokenizer=None, importance=how)
        apart.append(float(np.square(library.load(file, dtype="f32").logits(ids) - exact.logits(ids)).mean()))
        assert {t.tensor_type.name for t in gguf.GGUFReader(file).tensors if len(t.shape) == 2} == KINDS[type]
    assert apart[1] < (1.05 if type == "q6_k" else 0.9) * apart[0]  # which loses little anyway


def test_channels_are_made_even_before_and_their_importance_with_them(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    norm = np.ones(256, np.float32)
    norm[7] = 300
    shrunk = np.random.default_rng(4).normal(0, 0.1, (512, 256)).astype(np.float32)
    shrunk[:, 7] /= 300
    names = {f"model__layers__0__mlp__{part}_proj__weight": shrunk for part in ("gate", "up")}
    tiny.write_weights(model, config, model__layers__0__pre_feedforward_layernorm__weight=norm, **names)
    source = open_source(model)
    importance = collect(model, pieces_of(library.load(model).loaded.tokenizer, TEXT, 2000, 128), "x")
    files = [tmp_path / "even.gguf", tmp_path / "uneven.gguf", tmp_path / "exact.gguf"]
    to_gguf(source, files[0], "q4_k_m", tokenizer=None, importance=importance, balanced=True)
    to_gguf(source, files[1], "q4_k_m", tokenizer=None, importance=importance)
    to_gguf(source, files[2], "f32", tokenizer=None, balanced=True)
    exact, same = (library.load(path, dtype="f32").logits([5, 6, 7]) for path in (model, files[2]))
    assert "LoRA adapters of the original do not fit" in caplog.text
    write_gguf_adapter(tmp_path / "a.gguf", "gemma2", None, {
        "blk.0.ffn_up": (np.ones((1, 256), np.float32), np.ones((512, 1), np.float32), 1.0)
    })  # fmt: skip
    assert library.load(files[1], adapter=tmp_path / "a.gguf")
    with pytest.raises(library.UserError, match="channels were made even"):
        library.load(files[0], adapter=tmp_path / "a.gguf")
    assert np.abs(same - exact).max() < 1e-3
    apart = []
    for file in files[:2]:
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
        up, its_norm = tensors["blk.0.ffn_up.weight"], tensors["blk.0.ffn_norm.weight"].data
        meant = gguf.dequantize(up.data, up.tensor_type) * its_norm  # what a channel brings in, in the end
        apart.append(np.linalg.norm((meant - shrunk * (1 + norm))[:, 7]) / np.linalg.norm((shrunk * (1 + norm))[:, 7]))
    assert apart[0] < 0.1 and apart[0] < 0.5 * apart[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--imatrix", "none.txt"], "none.txt: no such file"),
        (["--save-imatrix", "i.gguf"], "--save-imatrix without a text"),
        (["--tokens", "5"], "--tokens without a text"),
        (["out.bin"], "out.bin: a GGUF file's name ends in .gguf"),
        (["글.txt.gguf", "--imatrix", "짧은.txt"], "says too little"),
        (["b.gguf", "more"], "3 words"),
        (["--type", "q3_k"], "q3_k"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    soban: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "짧은.txt").write_text("가", encoding="utf-8")
    done = soban("quantize", model, *words)
    assert done.returncode == 2 and said in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1 and not list(tmp_path.glob("*.gguf"))
