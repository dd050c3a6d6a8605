"""Folders made of .bin files, of other dtypes, of the bundled model: transformers and golden figures bear them out."""

import json
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.convert.folder import to_folder, write_shards
from soban.convert.llama2c import to_llama2c
from soban.convert.source import open_source
from soban.loading.loaded import BUNDLED
from soban.ops import formats
from soban.packing.layout import packed_layout
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors

from ..sentences import sentence_model
from . import small


def values(folder: Path) -> dict[str, np.ndarray]:
    return {name: tensor.float32() for name, tensor in read_safetensors(folder / "model.safetensors")[0].items()}


def test_transformers_gives_run_c_s_logits_and_ids(tmp_path: Path, fixtures: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    original = fixtures / "models" / "stories260K"
    to_folder(
        open_source(original / "stories260K.bin"), tmp_path / "m", "f32", tokenizer=original / "tok512.bin"
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    for case in json.loads((original / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        fed = case["input_token_ids_fed"]
        ids = words(case["prompt"])["input_ids"]
        assert fed[: len(ids)] == ids
        if case["prompt"].isascii():  # run.c leaves out single bytes that are not printable, half a Hangul syllable
            assert case["text"].startswith(words.decode(fed, skip_special_tokens=True))
        with torch.no_grad():
            got = model(torch.tensor([fed])).logits[0].numpy()
        for row, name in ((0, "logits_first_pos_top5"), (-1, "logits_last_pos_top5")):
            for token, score in case[name]:
                # float32 sums of 64 to 172 products in another order, five layers deep
                assert abs(got[row, token] - score) < 1e-4
    assert sorted(model.generation_config.eos_token_id) == [1, 2]  # run.c ends at the first


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("format", ["v0", "v1", "v2"])
def test_there_and_back_is_the_same_model(tmp_path: Path, format: str, tied: bool) -> None:
    folder = small.folder(tmp_path / "모델", tie_word_embeddings=tied)
    path, words = tmp_path / "m.bin", tmp_path / "t.bin"
    to_llama2c(open_source(folder), path, format, tokenizer=None, tokenizer_out=words)
    to_folder(open_source(path), tmp_path / "back", "f32", tokenizer=words)
    before, after = values(folder), values(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, array in before.items():
        if format == "v2" and array.ndim == 2:  # in groups of 16 of the same row
            step = np.abs(array.reshape(-1, 16)).max(1, keepdims=True) / 127
            off = np.abs(after[name] - array).reshape(-1, 16)
            assert (off <= step * (0.5 + 127 * 2**-22)).all()
        else:
            np.testing.assert_array_equal(after[name], array)
    config = json.loads((tmp_path / "back" / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in small.CONFIG.items() if key != "torch_dtype"}
    assert config | kept | {"tie_word_embeddings": tied, "dtype": "float32"} == config


def test_bfloat16_is_torch_s(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = small.folder(tmp_path / "m")
    (folder / "LICENSE").write_text("free", encoding="utf-8")
    to_folder(open_source(folder), tmp_path / "half", "bf16", tokenizer=None)
    tensors, metadata = read_safetensors(tmp_path / "half" / "model.safetensors")
    assert metadata == {"format": "pt"}
    for name, array in values(folder).items():
        assert tensors[name].format == "bf16"
        wanted = torch.from_numpy(array.copy()).bfloat16().view(torch.int16).numpy().view(np.uint16)
        np.testing.assert_array_equal(tensors[name].data, wanted)
    config = json.loads((tmp_path / "half" / "config.json").read_text(encoding="utf-8"))
    assert config == {**small.CONFIG, "torch_dtype": "bfloat16"}
    for name in ("tokenizer.json", "tokenizer_config.json", "LICENSE"):
        assert (tmp_path / "half" / name).read_bytes() == (folder / name).read_bytes()


def test_the_bundled_model_becomes_a_folder_with_the_same_weights(tmp_path: Path) -> None:
    to_folder(open_source(BUNDLED), tmp_path / "m", "f32", tokenizer=None)
    packed = open_checkpoint(BUNDLED)
    found = values(tmp_path / "m")
    layout = packed_layout(packed)
    assert found.keys() == packed.tensors.keys() and layout
    for name, array in found.items():
        if name in layout:
            format, rows, columns = layout[name]
            data = packed.tensors[name].data[: formats.stored_bytes(format, rows, columns)]
            np.testing.assert_array_equal(array, formats.decode(formats.Rows(format, rows, columns, data)))
        else:
            np.testing.assert_array_equal(array, packed.tensors[name].float32())
    bundled, folder = soban.load(), soban.load(tmp_path / "m", dtype="f32")
    ids = bundled.tokenize("Once upon a time, a little fox")
    assert folder.tokenize("Once upon a time, a little fox") == ids
    a, b = bundled.logits(ids)[-1], folder.logits(ids)[-1]
    assert np.corrcoef(a, b)[0, 1] > 0.999  # the bundled one's activations are in 8 bits


def test_shards_have_an_index_and_hold_everything(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m")
    held = values(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_bytes((folder / "config.json").read_bytes())
    shares: list[float] = []
    write_shards(
        tmp_path / "out", [(name, "F32", array.shape) for name, array in held.items()],
        lambda name: iter([held[name]]), shares.append, most=20_000,
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors" and len(names) > 3
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in held.values())
    opened = open_checkpoint(tmp_path / "out")  # which refuses an index that does not fit
    for name, array in held.items():
        np.testing.assert_array_equal(opened.tensors[name].float32(), array)
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m")

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyboardInterrupt):
        to_folder(open_source(folder), tmp_path / "empty", "bf16", tokenizer=None, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "m"]
    to_folder(open_source(folder), tmp_path / "empty", "bf16", tokenizer=None)
    assert (tmp_path / "empty" / "model.safetensors").exists()
    with pytest.raises(UserError, match="exists already"):
        to_folder(open_source(folder), tmp_path / "empty", "bf16", tokenizer=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "m"]


def test_weights_that_are_quantised_elsewhere_are_refused(tmp_path: Path) -> None:
    folder = small.folder(tmp_path / "m", quantization_config={"quant_method": "bitnet"})
    with pytest.raises(UserError, match="quantised by bitnet"):
        open_source(folder)


def test_an_encoder_keeps_what_makes_vectors_of_its_states(tmp_path: Path) -> None:
    original = sentence_model(tmp_path / "m", {"pooling_mode": "max"}, dense="torch.nn.modules.activation.Tanh")
    to_folder(open_source(original), tmp_path / "bf16", "bf16", tokenizer=None)
    vectors = [soban.load(folder, dtype="f32").embed("the cat sat") for folder in (original, tmp_path / "bf16")]
    assert vectors[0].shape == (12,) and 0 < np.abs(vectors[0] - vectors[1]).max() < 0.05
