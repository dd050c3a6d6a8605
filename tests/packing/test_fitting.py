"""Which tensors a model takes from a checkpoint, against transformers: other names, a head of its own, leftovers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import soban
from soban.convert.folder import to_folder
from soban.convert.llama2c import to_llama2c
from soban.convert.source import open_source
from soban.measure.inspect import inspect_model
from soban.models import architecture
from soban.packing.fitting import fitted, same_numbers
from soban.resources import memory
from soban.weights.opening import open_checkpoint

from ..models.official import CONFIGS, IDS, changed, configure, difference, folder_of, ours, theirs, weights, write

pytest.importorskip("transformers")
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Tensors = dict[str, npt.NDArray]


def other_head(tensors: Tensors) -> npt.NDArray:
    return np.random.default_rng(5).normal(0, 0.3, tensors[EMBED].shape).astype(np.float32)


STORED: dict[str, Callable[[Tensors], Tensors]] = {
    "as usual": lambda t: t,
    "without the prefix": lambda t: {name.removeprefix("model."): value for name, value in t.items()},
    "with the prefix twice": lambda t: {f"model.{name}": value for name, value in t.items()},
    "a head of its own": lambda t: {**t, HEAD: other_head(t)},
    "the embedding once more": lambda t: {**t, HEAD: t[EMBED]},
    "the embedding once more, in other numbers": lambda t: {
        **{name: value.astype(np.float16) for name, value in t.items()},
        HEAD: t[EMBED].astype(np.float16).astype(np.float32),
    },
    "the head alone": lambda t: {**{n: v for n, v in t.items() if n != EMBED}, HEAD: other_head(t)},
    "no head": lambda t: {name: value for name, value in t.items() if name != HEAD},
    "leftovers": lambda t: {
        **t, "model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32), "v_head.weight": other_head(t),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32), "model.layers.5.x": other_head(t),
    },
    "in float64": lambda t: {name: value.astype(np.float64) for name, value in t.items()},
    "a head with other rows": lambda t: {**t, HEAD: other_head(t)[:200]},
    "without a layer": lambda t: {name: value for name, value in t.items() if ".layers.1." not in name},
}  # fmt: skip


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("gemma2", True)])
def test_tensors_are_taken_as_transformers_takes_them(tmp_path: Path, family: str, tied: bool) -> None:
    config = changed(CONFIGS[family], tie_word_embeddings=tied)
    folder = folder_of(tmp_path / "m", config)
    for name, store in STORED.items():
        write(folder, store(weights(config)))
        official, own = theirs(folder), ours(folder)
        assert difference(official, own) == "", (name, official.refusal, own.refusal)


def own_head(path: Path, **changes: object) -> Path:
    """A model that says it is tied, with another head."""
    config = changed(CONFIGS["llama"], tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-5, head_dim=8,
                     **changes)  # fmt: skip
    folder = folder_of(path, config)
    tensors = weights(config)
    write(folder, {**tensors, HEAD: other_head(tensors)})
    return folder


@pytest.mark.parametrize("dtype", ["f32", "bf16", "q8", "q4"])
def test_a_head_of_its_own_is_used_in_every_form_and_when_it_is_loaded_again(tmp_path: Path, dtype: str) -> None:
    folder = own_head(tmp_path / "m")
    first = soban.load(folder, dtype=dtype).logits(IDS)
    assert np.array_equal(soban.load(folder, dtype=dtype).logits(IDS), first)
    config = changed(CONFIGS["llama"], rope_theta=10000.0, rms_norm_eps=1e-5, head_dim=8)
    configure(folder, config)  # which says what the file holds
    assert np.array_equal(soban.load(folder, dtype=dtype).logits(IDS), first)


def test_a_head_of_its_own_counts_in_sizes_and_is_told(tmp_path: Path) -> None:
    folder = own_head(tmp_path / "m")
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    stored = sum(tensor.data.nbytes for tensor in checkpoint.tensors.values())
    assert memory.stored_weights(fit.architecture, fit.checkpoint, "f32") == stored
    report = inspect_model(folder)
    assert report["run"]["memory"]["weights"] == stored and not report["model"]["tied"]
    assert [finding.code for finding in report["findings"] if finding.file == "config.json"] == ["head-of-its-own"]


def test_a_head_of_its_own_is_converted(tmp_path: Path) -> None:
    folder = own_head(tmp_path / "m")
    wanted = soban.load(folder, dtype="f32").logits(IDS)
    to_folder(open_source(folder), tmp_path / "n", "f32", tokenizer=None)
    assert np.array_equal(soban.load(tmp_path / "n", dtype="f32").logits(IDS), wanted)
    to_llama2c(open_source(folder), tmp_path / "m.bin", "v1", tokenizer=None, tokenizer_out=None)
    checkpoint = open_checkpoint(tmp_path / "m.bin")
    assert not checkpoint.config["tie_word_embeddings"]
    checkpoint = fitted(architecture(checkpoint.config), checkpoint).checkpoint
    head = open_checkpoint(folder).tensors[HEAD]
    assert np.array_equal(checkpoint.tensors[HEAD].float32(), head.float32())


def test_leftovers_are_told_and_a_missing_size_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "m", CONFIGS["llama"])
    write(folder, STORED["leftovers"](weights(CONFIGS["llama"])))
    soban.load(folder)
    assert "3 tensors have no place" in caplog.text and "q_proj.bias" in caplog.text
    report = inspect_model(folder)
    assert [finding.code for finding in report["findings"]] == ["tensors-extra"] and report["run"] is not None
    configure(folder, {k: v for k, v in CONFIGS["llama"].items() if k not in ("vocab_size", "hidden_size")})
    with pytest.raises(soban.UserError, match="vocab_size, hidden_size missing"):
        soban.load(folder)


def test_a_stale_word_about_quantised_weights_is_told_and_an_unknown_method_is_refused(tmp_path: Path) -> None:
    config = changed(CONFIGS["llama"], quantization_config={"quant_method": "hqq", "bits": 4})
    folder = folder_of(tmp_path / "m", config)
    plain = ours(folder)
    assert plain.logits is not None
    assert [finding.code for finding in inspect_model(folder)["findings"]] == ["quantisation-stale"]
    tensors = weights(config)
    packed = {"model.layers.0.mlp.down_proj.qweight": np.ones((6, 32), np.int32)}
    write(
        folder,
        {name: value for name, value in tensors.items() if name != "model.layers.0.mlp.down_proj.weight"} | packed,
    )
    assert "quantised by hqq" in ours(folder).refusal
    report = inspect_model(folder)
    assert [finding.code for finding in report["findings"]] == ["not-runnable"] and report["run"] is None
    with pytest.raises(soban.UserError, match="quantised by hqq"):
        open_source(folder)


def test_both_ways_of_telling_positions_are_a_finding(tmp_path: Path) -> None:
    config = changed(
        CONFIGS["gemma2"], rope_scaling={"type": "linear", "factor": 4.0}, rope_parameters={"rope_type": "default"}
    )
    folder = folder_of(tmp_path / "m", config)
    assert "rope-twice" in [finding.code for finding in inspect_model(folder)["findings"]]


def test_numbers_are_compared_to_the_last(tmp_path: Path) -> None:
    values = np.arange(600_000, dtype=np.float32).reshape(1200, 500)
    late = values.copy()
    late[-1, -1] += 1
    write(tmp_path, {"a": values, "b": values.copy(), "c": late, "d": values[:1100], "e": values.astype(np.float64)})
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    tensors = open_checkpoint(tmp_path).tensors
    assert [same_numbers(tensors["a"], tensors[name]) for name in "abcde"] == [True, True, False, False, True]
