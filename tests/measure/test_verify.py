"""Two forms of one model are the same; what was changed in one of them is found by its layer and its name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.convert.gguf import to_gguf
from soban.convert.llama2c import to_llama2c
from soban.convert.source import open_source
from soban.measure.verify import Verification, verify
from soban.models import architecture
from soban.packing.assemble import pack
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors, write_safetensors
from tests.convert import small
from tests.models.official import CONFIGS, folder_of

TEXT = "and hello the world and hello the tree and all the owl at the wall\n" * 3
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.folder(tmp_path_factory.mktemp("models") / "원본")


def gguf(folder: Path, to: Path, kind: str) -> Path:
    to_gguf(open_source(folder), to, kind, tokenizer=None)
    return to


def changed(folder: Path, to: Path, values: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A copy with other tensors, or other keys in its config."""
    shutil.copytree(folder, to)
    keys = json.loads((to / "config.json").read_text(encoding="utf-8"))
    (to / "config.json").write_text(json.dumps(keys | config), encoding="utf-8")
    if values:
        tensors = {name: t.float32() for name, t in read_safetensors(folder / "model.safetensors")[0].items()} | values
        (to / "model.safetensors").unlink()
        write_safetensors(
            to / "model.safetensors", [(n, "F32", v.shape) for n, v in tensors.items()], lambda n: [tensors[n]]
        )
    return to


def tensor(folder: Path, name: str) -> np.ndarray:
    return np.array(read_safetensors(folder / "model.safetensors")[0][name].float32())


def test_a_gguf_and_a_bin_of_float32_have_the_same_weights(folder: Path, tmp_path: Path) -> None:
    to_llama2c(open_source(folder), tmp_path / "m.bin", "v0", tokenizer=None, tokenizer_out=tmp_path / "tokenizer.bin")
    for other in (gguf(folder, tmp_path / "m.gguf", "f32"), tmp_path / "m.bin"):  # neighbours turn together in both
        for one, two in ((folder, other), (other, folder)):
            found = verify(one, two, TEXT)
            assert found.verdict == "same" and found.run is not None and found.layer is None and not found.config
            assert all(tensor.same for tensor in found.tensors) and len(found.tensors) == 21
            assert max(layer.relative for layer in found.run.layers) < 1e-6
            assert found.run.divergence.mean < 1e-10 and found.run.agreement.mean == 1


# Of uniform rounding in blocks of 32 normal numbers, whose range is 4.1 deviations: 4.1 / 2**bits / sqrt(12)
@pytest.mark.parametrize(("kind", "rounding"), [("f16", 2.1e-4), ("bf16", 1.7e-3), ("q8_0", 5.5e-3), ("q4_0", 0.087)])
def test_a_rounded_form_is_the_same_model(folder: Path, tmp_path: Path, kind: str, rounding: float) -> None:
    found = verify(folder, gguf(folder, tmp_path / "m.gguf", kind), TEXT)
    assert found.verdict == "rounded" and found.first is not None and found.run is not None
    assert found.first.name == "model.embed_tokens.weight"
    matrices = [one for one in found.tensors if one.formats[1] == kind]  # not 48 columns, which are no whole blocks
    assert len(matrices) > 12
    assert all(0.7 * rounding < one.relative < 1.4 * rounding for one in matrices)
    assert 0 < found.run.divergence.mean < 0.05


def test_divergence_and_agreement_are_those_of_transformers(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from soban.convert.folder import to_folder

    to_folder(open_source(gguf(folder, tmp_path / "m.gguf", "q4_0")), tmp_path / "back", "f32", tokenizer=None)
    found = verify(folder, tmp_path / "m.gguf", TEXT, tokens=50)
    ids = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))(TEXT)["input_ids"][:50]
    with torch.no_grad():
        one, other = (
            transformers.LlamaForCausalLM.from_pretrained(path)(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            for path in (folder, tmp_path / "back")
        )
    assert found.run is not None and found.run.tokens == 50
    assert found.run.divergence.mean == pytest.approx(float((one.exp() * (one - other)).sum(-1).mean()), rel=1e-3)
    assert found.run.agreement.mean == float((one.argmax(-1) == other.argmax(-1)).double().mean())


def packed(folder: Path, to: Path, dtype: str) -> Path:
    """A packed model as a folder."""
    shutil.copytree(folder, to)
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    (to / "model.safetensors").unlink()
    pack(fit.architecture, fit.checkpoint, dtype, to / "model.safetensors")
    return to


@pytest.mark.parametrize("dtype", ["q8", "q4"])
def test_powers_of_two_that_packing_moves_are_no_difference(folder: Path, tmp_path: Path, dtype: str) -> None:
    large = np.ones(32, np.float32)
    large[[3, 17]] = 64  # in a norm, and in the rows of a matrix: what reads them is that much smaller
    norm, query = "model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.{}_proj.weight"
    values = {norm: tensor(folder, norm) * large}
    values |= {query.format(x): tensor(folder, query.format(x)) / large for x in "qkv"}
    rows = np.ones(48, np.float32)
    rows[5] = 64
    up = "model.layers.0.mlp.up_proj.weight"
    values |= {
        up: tensor(folder, up) * rows[:, None],
        DOWN.replace("1", "0"): tensor(folder, DOWN.replace("1", "0")) / rows,
    }
    other = changed(folder, tmp_path / "m", values)
    moved = read_safetensors(packed(other, tmp_path / "packed", dtype) / "model.safetensors")[0][norm].float32()
    assert abs(moved[3] / values[norm][3]) < 0.5  # the packed form is another one
    for one, two in ((other, tmp_path / "packed"), (tmp_path / "packed", other)):
        found = verify(one, two, TEXT)
        assert found.verdict == "rounded" and found.run is not None and found.run.divergence.mean < 0.05
        assert [one.same for one in found.tensors if one.name == norm] == [True]


def test_a_changed_tensor_is_named_with_its_layer(folder: Path, tmp_path: Path) -> None:
    wrong = tensor(folder, DOWN)
    wrong[7] *= 1.1
    other = changed(folder, tmp_path / "m", {DOWN: wrong})
    for path in (other, gguf(other, tmp_path / "m.gguf", "f16")):
        found = verify(folder, path, TEXT)
        assert found.verdict == "different" and found.layer == 1 and found.run is not None
        assert found.first is not None and found.first.name == DOWN and found.first.beyond
        assert [one.layer for one in found.run.layers if one.beyond] == [1]
        assert found.run.layers[2].states > 1e-3  # what comes after it differs, but not by its own doing


def test_a_little_training_in_bfloat16_is_no_rounding(folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    before = tensor(folder, DOWN)
    after = before + random.normal(0, 0.001, before.shape).astype(np.float32)  # a third of a percent
    other = changed(folder, tmp_path / "m", {DOWN: after})
    assert verify(folder, gguf(folder, tmp_path / "a.gguf", "bf16"), TEXT).verdict == "rounded"
    found = verify(tmp_path / "a.gguf", gguf(other, tmp_path / "b.gguf", "bf16"), TEXT)
    assert found.verdict == "different" and found.first is not None and found.first.name == DOWN


def test_rows_that_were_not_put_in_order_are_found(folder: Path, tmp_path: Path) -> None:
    from soban.convert.source import pairs

    names = [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)]
    other = changed(folder, tmp_path / "m", {name: pairs(tensor(folder, name), 4) for name in names})
    found = verify(folder, gguf(other, tmp_path / "m.gguf", "q4_0"), TEXT)
    assert found.verdict == "different" and found.layer == 0
    assert found.first is not None and found.first.name == names[0] and found.first.relative > 0.8
    assert found.worst is not None and found.worst.name in names


@pytest.mark.parametrize(
    ("key", "value", "layer"), [("rope_theta", 500.0, 0), ("rms_norm_eps", 1e-2, 0), ("hidden_act", "gelu", 0)]
)
def test_another_config_is_told_where_it_matters(
    folder: Path, tmp_path: Path, key: str, value: Any, layer: int
) -> None:
    found = verify(folder, changed(folder, tmp_path / "m", **{key: value}), TEXT)
    assert found.verdict == "different" and found.layer == layer and all(one.same for one in found.tensors)
    assert [*found.config] == ["rope_parameters" if key == "rope_theta" else key]


def test_another_number_that_hardly_shows_is_told_too(folder: Path, tmp_path: Path) -> None:
    found = verify(folder, changed(folder, tmp_path / "m", rms_norm_eps=2e-5), TEXT)
    assert found.verdict == "config" and found.config == {"rms_norm_eps": (1e-5, 2e-5)}
    found = verify(folder, changed(folder, tmp_path / "long", max_position_embeddings=128), TEXT)
    assert found.verdict == "same" and found.config["max_position_embeddings"] == (64, 128)


def test_another_tokenizer_is_told_with_the_ids_that_differ(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "m")
    words = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = words["model"]["vocab"]
    vocabulary["▁the"], vocabulary["▁and"] = vocabulary["▁and"], vocabulary["▁the"]
    small.write_tokenizer(other, words)
    found = verify(folder, other, TEXT)
    assert found.verdict == "tokenizers" and all(one.same for one in found.tensors)
    assert found.tokenizers.ids == tuple(sorted((vocabulary["▁the"], vocabulary["▁and"])))
    assert found.tokenizers.count == 2 and found.tokenizers.text == 1


def test_another_control_token_is_another_tokenizer(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (other / name).read_text(encoding="utf-8").replace('"</s>"', '"<end>"')
        (other / name).write_text(text, encoding="utf-8")
    found = verify(folder, other, TEXT)
    assert found.verdict == "tokenizers" and found.tokenizers.ids == (2,) and found.tokenizers.text is None


def with_template(folder: Path, to: Path, template: str) -> Path:
    other = changed(folder, to)
    settings = json.loads((other / "tokenizer_config.json").read_text(encoding="utf-8"))
    (other / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}), encoding="utf-8")
    return other


def test_another_template_is_told(folder: Path, tmp_path: Path) -> None:
    one = with_template(folder, tmp_path / "one", "{{ messages[0]['content'] }}")
    other = with_template(folder, tmp_path / "other", "{{ messages[0]['content'] }} ->")
    assert verify(one, gguf(one, tmp_path / "m.gguf", "f32"), TEXT).templates == "same"
    found = verify(one, other, TEXT)
    assert (found.verdict, found.templates) == ("templates", "different")
    found = verify(folder, other, TEXT)
    assert (found.verdict, found.templates) == ("same", "second only")


def test_another_family_or_size_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    found = verify(folder, folder_of(tmp_path / "gemma", CONFIGS["gemma2"]), TEXT)
    assert (found.verdict, found.families, found.tensors) == ("other family", ("llama", "gemma2"), ())
    found = verify(folder, small.folder(tmp_path / "larger", intermediate_size=64), TEXT)
    assert found.verdict == "other shape" and found.config == {"intermediate_size": (48, 64)}
    assert found.shape == ("model.layers.0.mlp.gate_proj.weight", (48, 32), (64, 32))


@pytest.mark.parametrize("tied", ["one", "other"])
def test_a_head_that_is_the_embedding_is_the_same_as_a_copy_of_it(tmp_path: Path, tied: str) -> None:
    apart = small.folder(tmp_path / "apart")
    copied = changed(apart, tmp_path / "copied", {"lm_head.weight": tensor(apart, "model.embed_tokens.weight")})
    without = changed(copied, tmp_path / "tied", tie_word_embeddings=True)
    paths = (without, copied) if tied == "one" else (copied, without)
    found = verify(*paths, TEXT)
    assert found.verdict == "same" and len(found.tensors) == 21
    found = verify(without, apart, TEXT)
    assert found.verdict == "different" and found.first is not None and found.first.name == "lm_head.weight"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_is_compared_layer_by_layer(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "m", CONFIGS[name])
    whole = verify(folder, folder, TEXT)
    assert whole.verdict == "same" and whole.run is not None
    assert max(layer.states for layer in whole.run.layers) < 1e-5  # sums in another order, of twice the rows
    _, arch = open_source(folder).fitted()
    last = len(arch.plan.layers) - 1
    part = next(weight for weight in arch.plan.layers[last].weights if weight.kind == "matrix").parts[0]
    file = part.source()
    assert file is not None
    values = tensor(folder, file)
    values[0] += 1
    found: Verification = verify(folder, changed(folder, tmp_path / "changed", {file: values}), TEXT)
    assert found.verdict == "different" and found.layer == last and found.run is not None
    assert [one.layer for one in found.run.layers if one.beyond] == [last]
