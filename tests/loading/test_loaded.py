"""Loading: what is refused, in one line with a remedy, and the packed form that is made once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base import system
from soban.loading import loaded
from soban.measure.work import work_of
from soban.models import architecture
from soban.packing import assemble
from soban.resources import memory
from soban.weights import checksums
from soban.weights.opening import open_checkpoint

from ..tiny import CONFIG, make_model, resealed, write_weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "캐시 cache"))
    return tmp_path / "캐시 cache" / "packed"


def packed_weights(cache: Path) -> list[Path]:
    """The files there that hold weights, not a tokenizer."""
    return [path for path in cache.glob("*.safetensors") if "-tokenizer-" not in path.name]


def refusal(path: Path, **options: Any) -> str:
    """What loading says; it must be one line."""
    with pytest.raises(soban.UserError) as caught:
        soban.load(path, **options)
    assert "\n" not in str(caught.value) and "{" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": None}, "model_type None"),
        ({"model_type": ["x"]}, "model_type"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta"),
        ({"hidden_activation": "relu6"}, "hidden_activation=relu6"),
        ({"is_causal": False}, "is_causal=False"),
        ({"per_layer_config": [8]}, "per_layer_config=[8]"),
        ({"rope_scaling": {"rope_type": "mrope", "factor": 2.0}}, "mrope"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "factor"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1] * 7}}, "long_factor"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_theta": 1}, "rope_parameters"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}}, "8 of a head's 16"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"num_attention_heads": 3}, "3 attention heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"vocab_size": 300}, "embed_tokens"),
        ({"hidden_size": "wide"}, "hidden_size=wide"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
        ({"sliding_window": 0}, "sliding_window=0"),
        ({"rms_norm_eps": 0}, "rms_norm_eps=0"),
        ({"rope_theta": float("nan")}, "NaN"),
        ({"quantization_config": {"quant_method": "bitnet"}}, "bitnet"),
    ],
    ids=str,
)
def test_a_config_that_is_not_implemented_is_refused_by_name(tmp_path: Path, changes: dict, said: str) -> None:
    folder = make_model(tmp_path / "model")
    edit(folder, **changes)
    assert said in refusal(folder)


def test_an_unknown_key_is_a_warning_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_model(tmp_path / "model")
    edit(folder, shiny_new_key_of_tomorrow=1)
    soban.load(folder)
    assert "shiny_new_key_of_tomorrow" in caplog.text


@pytest.mark.parametrize("dtype", ["f32", "q8", "q4"])
def test_weights_that_are_not_numbers_are_refused_by_tensor(tmp_path: Path, cache: Path, dtype: str) -> None:
    folder = make_model(tmp_path / "model")
    bad = np.zeros((64, 128), np.float32)
    bad[40, 3] = np.nan
    write_weights(folder, CONFIG, model__layers__1__mlp__down_proj__weight=bad)
    assert "layers.1.mlp.down_proj" in refusal(folder, dtype=dtype)
    assert not packed_weights(cache)


def test_a_token_beyond_the_embedding_is_refused_only_in_a_text_that_has_it(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", vocab_size=200)  # bytes are the tokens from 6 on
    model = soban.load(folder)
    assert model.generate("hello", max_new_tokens=2, do_sample=False).startswith("hello")
    assert list(model.stream("a", max_new_tokens=1, do_sample=False))
    for call in (model.generate, model.tokenize, model.logits):
        with pytest.raises(soban.UserError, match=r"the text has token .* 200 rows"):
            call("안녕")


def test_a_template_with_a_token_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", chat=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for index, text in ((263, "<one>"), (264, "<more>")):
        tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": index, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    model = soban.load(folder)
    assert isinstance(model.generate("a", max_new_tokens=1), str)
    (folder / "more.jinja").write_text("{{ '<more>' }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(soban.UserError, match=r"'<more>'.* 264 rows"):
        model.chat([{"role": "user", "content": "a"}], template=folder / "more.jinja")


def test_a_begin_token_beyond_the_embedding_is_told_at_once(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", vocab_size=2)
    assert "'<bos>'" in refusal(folder)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refusal(folder)


def test_a_broken_tokenizer_is_noticed_before_the_weights_are_packed(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    refusal(folder, dtype="q8")
    assert not cache.exists()


def test_a_context_beyond_the_models_own_is_refused(tmp_path: Path) -> None:
    assert "128" in refusal(make_model(tmp_path / "model"), context=129)


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    assert "q4" in refusal(make_model(tmp_path / "model"), dtype="int4")


def test_the_caches_format_is_chosen_by_name_and_int8_changes_little(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    assert "int8" in refusal(folder, cache_dtype="q8")
    exact, usual = (soban.load(folder, cache_dtype=name).logits("시작") for name in ("f32", "auto"))
    np.testing.assert_array_equal(usual, exact)  # auto: f32 beside f32 weights
    rounded = soban.load(folder, cache_dtype="int8").logits("시작")
    difference = np.abs(rounded - exact).max()
    assert 0 < difference < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["bf16", "q8", "q4"])
def test_the_second_load_maps_what_the_first_packed(
    tmp_path: Path, cache: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "한글 모델")
    first = soban.load(folder, dtype=dtype).logits("시작")
    (packed,) = packed_weights(cache)
    assert packed.stat().st_size < (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(loaded, "pack", lambda *_: pytest.fail("packed again"))
    np.testing.assert_array_equal(soban.load(folder, dtype=dtype).logits("시작"), first)


def test_changed_weights_are_packed_anew(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model")
    first = soban.load(folder, dtype="q8").logits("a")
    write_weights(folder, CONFIG, seed=1)
    assert not np.array_equal(soban.load(folder, dtype="q8").logits("a"), first)


@pytest.mark.parametrize("lie", [["zz", 264, 64], ["q4", 264, 64], ["q8", 999, 64]], ids=str)
def test_a_packed_model_whose_list_lies_is_refused(tmp_path: Path, cache: Path, lie: list) -> None:
    folder = make_model(tmp_path / "model")
    soban.load(folder, dtype="q8")
    (packed,) = packed_weights(cache)
    data = packed.read_bytes()
    layout = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["soban.blocks"])
    true, false = (json.dumps(json.dumps(value))[1:-1] for value in (layout["model.embed_tokens.weight"], lie))
    changed = data.replace(true.encode(), false.encode().ljust(len(true.encode())), 1)
    assert changed != data and len(changed) == len(data)
    (folder / "model.safetensors").write_bytes(resealed(changed))
    assert "embed_tokens" in refusal(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_large_vocabulary_is_kept_in_two_halves(
    tmp_path: Path, cache: Path, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "model", tie_word_embeddings=tied)
    whole = soban.load(folder, dtype="q4").logits("abc")
    packed_weights(cache)[0].unlink()
    monkeypatch.setattr(assemble, "HALVED_ROWS", 264)
    halved = soban.load(folder, dtype="q4")
    head = halved.loaded.weights.head
    assert head.residual is not None and (head is halved.loaded.weights.embed) == tied
    np.testing.assert_allclose(halved.logits("abc"), whole, atol=1e-4)  # 264 rows are fewer than are always refined
    assert work_of(halved.loaded, 0).head_bits == 10 * 272 / 264  # 640 bytes for 16 x 64 in 4 bits; rows fill panels
    monkeypatch.setattr(loaded, "pack", lambda *_: pytest.fail("packed again"))
    np.testing.assert_array_equal(soban.load(folder, dtype="q4").logits("abc"), halved.logits("abc"))


@pytest.mark.parametrize("lie", [["q8", 264, 64], ["q4", 248, 64]], ids=str)
def test_halves_that_do_not_belong_together_are_refused(
    tmp_path: Path, cache: Path, lie: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "HALVED_ROWS", 264)
    folder = make_model(tmp_path / "model")
    soban.load(folder, dtype="q4")
    (packed,) = packed_weights(cache)
    data, name = packed.read_bytes(), "model.embed_tokens.weight.residual"
    true, false = (json.dumps(json.dumps({name: value}))[2:-2] for value in (["q4", 264, 64], lie))
    size = 8 + int.from_bytes(data[:8], "little")
    header = data[8:size].replace(true.encode(), false.encode(), 1)
    # the lie was told when the file was written, so the checksum is right
    header = checksums.HEADER.sub(lambda found: found[0].replace(found[1], b"00000000"), header)
    (folder / "model.safetensors").write_bytes(data[:8] + checksums.sealed(header) + data[size:])
    assert name in refusal(folder)


def test_right_models_with_odd_keys_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_model(tmp_path / "model")
    edit(folder, hidden_act="gelu", rope_interleaved=True, cache_implementation="hybrid", query_pre_attn_scalar=16)
    soban.load(folder)
    assert not caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": "hot"}, "temperature=hot"),
        ({"top_p": -0.5}, "top_p=-0.5"),
        ({"eos_token_id": [1, None]}, "eos_token_id=None"),
        ({"do_sample": "yes"}, "do_sample=yes"),
    ],
    ids=str,
)
def test_a_generation_config_that_cannot_be_is_named(tmp_path: Path, changes: dict, said: str) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(changes), encoding="utf-8")
    with pytest.raises(soban.UserError) as caught:
        soban.load(folder).generate("a", max_new_tokens=1)
    assert "generation_config.json" in str(caught.value) and said in str(caught.value)


def test_a_context_without_memory_for_its_cache_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", max_position_embeddings=2**31 - 1)
    assert "choose a shorter context" in refusal(folder, context=2**31 - 1)


def test_a_damaged_packed_file_is_made_again(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model")
    first = soban.load(folder, dtype="q8").logits("a")
    (packed,) = packed_weights(cache)
    whole = packed.read_bytes()
    for damaged in (whole[:1000], whole.replace(b"q8", b"zz", 1)):  # cut short, and a layout that lies
        packed.unlink()  # earlier loads still map it
        packed.write_bytes(damaged)
        np.testing.assert_array_equal(soban.load(folder, dtype="q8").logits("a"), first)


def test_two_processes_that_pack_at_once_make_one_file(tmp_path: Path, cache: Path) -> None:
    folder = make_model(tmp_path / "model", hidden_size=1024, intermediate_size=4096, head_dim=64)
    code = f"import soban; print(soban.load({str(folder)!r}, dtype='q4').logits('a').sum())"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert said[0] == said[1] and [run.returncode for run in runs] == [0, 0]
    assert len(packed_weights(cache)) == 1 and not list(cache.glob(".*.tmp"))


WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "head_dim": 64}  # 31 million weights: they are what counts


def takes(folder: Path, kind: str, **options: Any) -> memory.Needs:
    """What a kind of the model in a folder needs, by the arithmetic that the tests of `needs` judge."""
    checkpoint = open_checkpoint(folder)
    made = architecture(checkpoint.config)
    return memory.needs(made, checkpoint, kind, options.pop("context", made.config.max_position_embeddings), **options)


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: free)


def test_too_little_memory_is_said_before_loading_with_what_would_fit(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model(tmp_path / "model", **WIDE)
    leave(monkeypatch, takes(folder, "q8").total)
    said = refusal(folder, dtype="f32")
    assert "MB" in said and "--dtype q8, --dtype q4" in said and "bf16" not in said and not cache.exists()
    soban.load(folder, dtype="f32", force=True)
    leave(monkeypatch, takes(folder, "q4").own - (1 << 20))
    assert "--force" in refusal(folder, dtype="q4")


def test_auto_takes_the_most_exact_kind_that_fits(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "model", **WIDE)
    for kind in ("q8", "q4"):
        leave(monkeypatch, takes(folder, kind).total)
        assert soban.load(folder).loaded.dtype == kind


def test_weights_of_which_no_form_fits_are_used_from_the_disk_with_a_warning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(tmp_path / "model", **WIDE)
    expected = soban.load(folder, dtype="q4").logits("a")
    leave(monkeypatch, takes(folder, "q4").own + (1 << 20))
    np.testing.assert_array_equal(soban.load(folder, dtype="q4").logits("a"), expected)
    assert "come from the disk for every token" in caplog.text


def test_a_context_that_memory_has_no_room_for_is_shortened_unless_it_was_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_model(tmp_path / "model", max_position_embeddings=32768, head_dim=256)
    leave(monkeypatch, takes(folder, "q8", context=2048).total)
    assert soban.load(folder, dtype="q8").engine.context == 2048
    assert "room for a context of 2048 tokens" in caplog.text
    said = refusal(folder, dtype="q8", context=8192)
    assert "--context 2048" in said and "--cache-dtype int8" in said
    assert soban.load(folder, dtype="q8", context=8192, force=True).engine.context == 8192


def test_numpy_alone_refuses_a_large_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "model")
    monkeypatch.setenv("SOBAN_OPS", "reference")
    monkeypatch.setattr(loaded, "REFERENCE_LIMIT", 1000)
    assert "native library" in refusal(folder)


def test_every_end_token_of_every_file_ends_an_answer(tmp_path: Path) -> None:
    assert soban.load(make_model(tmp_path / "model")).ends == {1, 5}
