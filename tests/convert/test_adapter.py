"""LoRA adapters as GGUF files: written for llama.cpp, read back, and of llama.cpp's own making."""

import os
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.convert.adapter import adapter_to_gguf
from soban.convert.gguf import to_gguf
from soban.convert.source import open_source, pairs
from soban.models import architecture
from soban.weights.adapter import open_adapter
from soban.weights.gguf.adapter import write_gguf_adapter
from soban.weights.opening import open_checkpoint

from ..models.official import CONFIGS, IDS, folder_of

pytest.importorskip("peft")
from ..packing.test_adapters import adapted

FAMILIES = {"llama": {}, "gemma2": {"query_pre_attn_scalar": 16}, "gpt2": {"scale_attn_by_inverse_layer_idx": False}}


def model(tmp_path: Path, family: str, **options: Any) -> tuple[Path, Path, Path]:
    """A model with an adapter: its folder, its GGUF file, and the adapter's GGUF file."""
    folder = folder_of(tmp_path / "m", CONFIGS[family] | FAMILIES[family])
    adapted(folder, family, **options)
    to_gguf(open_source(folder), tmp_path / "m.gguf", "f32", tokenizer=None, words=False)
    checkpoint = open_checkpoint(folder)
    written = tmp_path / "a.gguf"
    adapter_to_gguf(open_adapter(folder / "adapter"), architecture(checkpoint.config), checkpoint, written)
    return folder, tmp_path / "m.gguf", written


@pytest.mark.parametrize("family", FAMILIES)
def test_both_forms_of_an_adapter_give_the_same_logits_on_both_forms_of_a_model(tmp_path: Path, family: str) -> None:
    folder, file, written = model(tmp_path, family)
    bare, wanted = soban.load(folder, dtype="f32"), None
    wanted = bare.adapted(folder / "adapter").logits(IDS)
    assert np.abs(wanted - bare.logits(IDS)).max() > 0.1
    assert np.allclose(bare.adapted(written).logits(IDS), wanted, atol=1e-5)
    packed = soban.load(folder, dtype="f32", adapter=written)
    assert np.allclose(packed.logits(IDS), wanted, atol=1e-5)
    if family == "gpt2":  # whose file has no tokenizer here
        return
    checkpoint = open_checkpoint(file)
    again = tmp_path / "b.gguf"
    shape = architecture(checkpoint.config, rope_interleaved=checkpoint.interleaved)
    adapter_to_gguf(open_adapter(folder / "adapter"), shape, checkpoint, again)
    assert tensors(again).keys() == tensors(written).keys()
    assert all(np.array_equal(tensors(again)[name], value) for name, value in tensors(written).items())


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}


def test_a_file_has_llama_cpps_names_and_rows_that_turn_as_its_own_do(tmp_path: Path) -> None:
    folder, _, written = model(tmp_path, "llama", rank_pattern={"v_proj": 2}, alpha_pattern={"down_proj": 9})
    found, reader = tensors(written), gguf.GGUFReader(written)
    assert reader.fields["adapter.type"].contents() == "lora" and reader.fields["general.type"].contents() == "adapter"
    alpha, adapter = reader.fields["adapter.lora.alpha"].contents(), open_adapter(folder / "adapter")
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    names |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    assert len(found) == 2 * 7 * 2 + 2 * ("output.weight.lora_a" in found)
    for module, low in adapter.layers.items():
        if "layers" not in module:
            continue
        name = f"blk.{module.split('.')[2]}.{names[module.split('.')[-1]]}.weight"
        a, b = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
        wanted = low.scale * low.b.float32() @ low.a.float32()
        if module.endswith(("q_proj", "k_proj")):
            wanted = pairs(wanted, 4 if module.endswith("q_proj") else 2)
        assert np.allclose(alpha / len(a) * b @ a, wanted, rtol=1e-5, atol=1e-6), module


def test_alpha_zero_means_the_rank(tmp_path: Path) -> None:
    a, b = np.ones((3, 8), np.float32), np.ones((16, 3), np.float32)
    write_gguf_adapter(tmp_path / "a.gguf", "llama", None, {"blk.0.attn_q": (a, b, 0.0)})
    path = tmp_path / "a.gguf"
    data = path.read_bytes()
    place = data.index(b"adapter.lora.alpha") + len(b"adapter.lora.alpha") + 4
    path.write_bytes(data[:place] + bytes(4) + data[place + 4 :])
    assert open_adapter(path).layers["blk.0.attn_q"].scale == 1


def test_what_is_no_lora_or_another_models_is_refused(tmp_path: Path) -> None:
    folder, file, written = model(tmp_path, "llama")
    with pytest.raises(UserError, match="no LoRA adapter"):
        open_adapter(file)
    other = folder_of(tmp_path / "other", CONFIGS["llama"] | {"num_hidden_layers": 1})
    with pytest.raises(UserError, match=r"blk\.1\.\w+.*no layer of this model"):
        soban.load(other, adapter=written)
    wide = folder_of(tmp_path / "wide", CONFIGS["llama"] | {"intermediate_size": 64})
    with pytest.raises(UserError, match="and this model's has"):
        soban.load(wide, adapter=written)
    assert soban.load(folder, adapter=written)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_llama_cpp_writes_the_same_greedy_text_with_ours(tmp_path: Path, family: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    folder, _, written = model(tmp_path, family)
    file = tmp_path / "words.gguf"
    to_gguf(open_source(folder), file, "f32", tokenizer=None)
    theirs = llama_cpp.Llama(str(file), n_ctx=128, n_threads=1, logits_all=True, verbose=False, lora_path=str(written))
    ours = soban.load(folder, dtype="f32", adapter=written)
    ids = list(IDS)
    for _ in range(16):
        theirs.reset()
        theirs.eval(ids)
        logits = ours.logits(ids)[-1]
        assert np.abs(theirs.scores[len(ids) - 1] - logits).max() < 0.1
        assert int(np.argmax(theirs.scores[len(ids) - 1])) == int(np.argmax(logits))
        ids.append(int(np.argmax(logits)))


def test_llama_cpps_own_writer_makes_the_same_file(tmp_path: Path) -> None:
    script = os.environ.get("LLAMA_CPP_CONVERT_LORA")
    if script is None:
        pytest.skip("LLAMA_CPP_CONVERT_LORA: the path of llama.cpp's convert_lora_to_gguf.py")
    import subprocess

    folder, _, written = model(tmp_path, "llama")
    out = tmp_path / "theirs.gguf"
    command = [sys.executable, script, "--base", str(folder), "--outfile", str(out), "--outtype", "f32"]
    subprocess.run([*command, str(folder / "adapter")], check=True)
    ours, theirs = tensors(written), tensors(out)
    assert ours.keys() == theirs.keys()
    assert all(np.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
