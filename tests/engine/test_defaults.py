"""generation_config.json: each key that transformers reads is followed as it does, or told by name."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

import soban
from soban import messages
from soban.engine.defaults import unfollowed
from soban.measure.inspect import inspect_model

from ..tiny import make_model

PROMPT = "abcabcab"
NEW = 16
SEED = 3
LENGTHS = ("max_length", "max_new_tokens")
# For each attribute of GenerationConfig values that are not its default; `None` stands for null.
VALUES: dict[str, list[Any]] = {
    "max_length": [5, 9, 12, 25],
    "max_new_tokens": [1, 7],
    "min_length": [0, 14, 30],
    "min_new_tokens": [0, 5, 16],
    "no_repeat_ngram_size": [0, 1, 2, 3, 9],
    "bad_words_ids": [[[151]], [[151, 151]], [[154, 226, 45], [127]], [[1]], [[5], [224]]],
    "suppress_tokens": [[], [151], [151, 224, 127, 1, 5]],
    "begin_suppress_tokens": [[151], [224, 127]],
    "repetition_penalty": [1.0, 1.3, 0.5],
    "prompt_lookup_num_tokens": [3],
    "stop_strings": ["'", ["th", "'"]],
    "top_p": [0.0, 0.5],
    "early_stopping": [True, "never"],
    "max_time": [0.000001],
    "do_sample": [False],
    "num_beams": [1, 3],
    "use_mtp": [True],
    "use_cache": [True, False],
    "cache_implementation": ["static", "dynamic", "offloaded", "quantized"],
    "cache_config": [{}],
    "max_cache_len": [64],
    "temperature": [0.5],
    "top_k": [5],
    "min_p": [0.3],
    "top_h": [0.4],
    "typical_p": [1.0, 0.2],
    "epsilon_cutoff": [0.0, 0.1],
    "eta_cutoff": [0.1],
    "encoder_repetition_penalty": [1.0, 3.0],
    "length_penalty": [1.0, 2.0],
    "renormalize_logits": [True],
    "forced_bos_token_id": [110],
    "forced_eos_token_id": [1],
    "remove_invalid_values": [True],
    "exponential_decay_length_penalty": [[2, 5.0]],
    "sequence_bias": [[[[151], -50.0]]],
    "token_healing": [False],
    "guidance_scale": [1.0, 1.5],
    "watermarking_config": [{"bias": 9.0}],
    "num_return_sequences": [1, 2],
    "output_attentions": [False],
    "output_hidden_states": [False],
    "output_scores": [False],
    "output_logits": [False],
    "return_dict_in_generate": [False],
    "pad_token_id": [0],
    "bos_token_id": [2],
    "eos_token_id": [1, [1, 5, 151]],
    "encoder_no_repeat_ngram_size": [0, 1],
    "decoder_start_token_id": [3],
    "is_assistant": [False],
    "num_assistant_tokens": [5],
    "num_assistant_tokens_schedule": ["constant"],
    "assistant_confidence_threshold": [0.3],
    "max_matching_ngram_size": [3],
    "assistant_early_exit": [1],
    "assistant_lookbehind": [3],
    "target_lookbehind": [3],
    "assistant_ensemble_weight": [0.5],
    "speculation_type": ["x"],
    "compile_config": [{}],
    "disable_compile": [True],
    "continuous_batching_config": [{}],
    "low_memory": [True],
    "penalty_alpha": [0, 0.6],
    "dola_layers": ["low"],
    "diversity_penalty": [0.5],
    "num_beam_groups": [1, 2],
    "constraints": [["x"]],
    "force_words_ids": [[[224]]],
    "prefill_chunk_size": [4],
    "transformers_version": ["4.0"],
}
WRONG: list[Any] = ["3", True, {}, [[]], -7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama whose likeliest tokens are far from equal, and repeat themselves after a while."""
    return make_model(
        tmp_path_factory.mktemp("models") / "llama", seed=SEED, model_type="llama", head_dim=16, sliding_window=None
    )


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def ours(folder: Path) -> soban.Model:
    return soban.load(folder, dtype="f32")


def expected(theirs: Any, ours: soban.Model, config: dict[str, Any]) -> list[int] | None:
    """The ids that transformers writes, without the end; None where it refuses."""
    config = {"eos_token_id": [1, 5], "pad_token_id": 0, "bos_token_id": 2, **config}
    ids = ours.tokenizer.encode(PROMPT)
    length = {} if any(config.get(name) is not None for name in LENGTHS) else {"max_new_tokens": NEW}
    try:
        theirs.generation_config = GenerationConfig(**config)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(ours.loaded.path) if config.get("stop_strings") else None
        with torch.no_grad():
            got = theirs.generate(torch.tensor([ids]), tokenizer=tokenizer, **length)
    except Exception:
        return None
    got = got if isinstance(got, torch.Tensor) else got.sequences
    new = got[0, len(ids) :].tolist()
    ends = config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]]
    return next((new[:n] for n, token in enumerate(new) if token in ends), new)


def written(ours: soban.Model, config: dict[str, Any]) -> list[int] | str:
    """The ids that soban writes with these defaults, or its refusal."""
    ours.loaded.generation_config.clear()
    ours.loaded.generation_config.update({"eos_token_id": [1, 5], **config})
    messages._once.cache_clear()
    length = {} if any(config.get(name) is not None for name in LENGTHS) else {"max_new_tokens": NEW}
    try:
        ours.ends = ours.loaded.ends
        generation = ours.start(PROMPT, **length)
        generation.read()
    except soban.UserError as error:
        return str(error)
    sequence = generation.sequences[0]
    return sequence.tokens[len(sequence.tokens) - sequence.produced :]


@pytest.fixture(autouse=True)
def quiet() -> None:
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")


def test_the_table_has_every_attribute_of_transformers_generation_config() -> None:
    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert known == set(VALUES)


def test_every_key_gives_the_ids_of_transformers_or_is_told_by_name(
    theirs: Any, ours: soban.Model, caplog: pytest.LogCaptureFixture
) -> None:
    plain = written(ours, {})
    assert len(plain) == NEW and plain == expected(theirs, ours, {})
    for name in VALUES:
        assert written(ours, {name: None}) == plain
    assert not differences(theirs, ours, caplog, {name: values[:2] for name, values in VALUES.items()})
    assert "typical_p" not in unfollowed({"typical_p": 0.2}, sampled=False)  # where nothing is drawn it does nothing
    assert unfollowed({"typical_p": 0.2, "num_beams": 4, "length_penalty": 2.0}, sampled=True) == [
        "length_penalty", "num_beams", "typical_p",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_value_gives_the_ids_of_transformers_or_the_key_is_told_by_name(
    theirs: Any, ours: soban.Model, caplog: pytest.LogCaptureFixture
) -> None:
    assert not differences(theirs, ours, caplog, {name: [*values, *WRONG] for name, values in VALUES.items()})


def differences(
    theirs: Any, ours: soban.Model, caplog: pytest.LogCaptureFixture, values: dict[str, list[Any]]
) -> list[Any]:
    """Keys and values with which soban writes something else than transformers and does not say so."""
    found = []
    plain = written(ours, {})
    for name, value in ((name, value) for name, some in values.items() for value in some):
        if (name, value) in (("do_sample", True), ("use_cache", {})):
            continue  # another text each time; half a cache, by which transformers writes something else
        caplog.clear()
        got = written(ours, {name: value})
        if name in caplog.text or (isinstance(got, str) and name in got):
            continue  # told; transformers is not asked
        if got != (wanted := expected(theirs, ours, {name: value})) and (wanted is not None or got != plain):
            found.append((name, value, got, wanted))
    return found


def test_what_is_not_followed_is_a_finding_of_show(folder: Path) -> None:
    path = folder / "generation_config.json"
    usual = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(usual) | {"num_beams": 4, "max_new_tokens": 3}), encoding="utf-8")
    report = inspect_model(folder)
    path.write_text(usual, encoding="utf-8")
    (found,) = [finding for finding in report["findings"] if finding.code == "generation-unfollowed"]
    assert "num_beams is 4" in found.problem and report["run"]["sampling"]["max_new_tokens"] == 3


def test_a_length_that_the_file_names_gives_way_to_a_short_context_and_to_what_is_asked_for(
    folder: Path, ours: soban.Model
) -> None:
    ours.loaded.generation_config.clear()
    ours.loaded.generation_config.update({"eos_token_id": [1], "max_new_tokens": 5000, "min_new_tokens": 3})
    generation = ours.start(PROMPT)
    generation.read()
    assert generation.figures.finished == "context"
    assert ours.sampling(max_length=20).limit(9) == 11 and ours.sampling(max_new_tokens=4).limit(9) == 4
    with pytest.raises(soban.UserError, match="max_length=9 counts them"):
        ours.generate(PROMPT, max_length=9)
    with pytest.raises(soban.UserError, match="up to 5000 are to follow"):
        ours.generate(PROMPT, max_new_tokens=5000)
