"""Rotary frequencies against transformers' own functions, and texts that grow beyond the length a model learnt from."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request, Sequence
from soban.models.rope import Rotation, rope_parameters

from .official import CONFIGS, IDS, changed, difference, folder_of, ours, theirs

ROTARY = ("llama", "gemma2", "phi3", "qwen3", "gpt_neox")  # with every run; the others among the slow tests

transformers = pytest.importorskip("transformers")
SHORT, LONG = [1 + i / 50 for i in range(32)], [1 + i / 3 for i in range(32)]
KINDS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 1.5},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
    {"rope_type": "yarn", "factor": 32.0, "beta_fast": 16, "beta_slow": 2.5, "truncate": False},
    {"rope_type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.4},
    {"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.8},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 4096},
    {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "factor": 32.0},
    {"rope_type": "proportional", "partial_rotary_factor": 0.25, "factor": 2.0},
]
LENGTHS = (1, 4096, 4097, 8191, 8192, 8193, 9000, 32768)
PARAMETERS = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 3.0}


@pytest.mark.parametrize("parameters", KINDS, ids=lambda kind: " ".join(map(str, kind.values()))[:40])
def test_frequencies_and_scale_are_those_of_transformers_at_every_length(parameters: dict[str, Any]) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    raw = {"rope_theta": 50000.0, "rope_scaling": parameters}
    rotation = Rotation(64, 8192, rope_parameters(raw, 8192))
    config = transformers.LlamaConfig(head_dim=64, max_position_embeddings=8192, **copy.deepcopy(raw))
    init = ROPE_INIT_FUNCTIONS.get(parameters["rope_type"]) or (
        lambda config, device, seq_len: transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
            config
        ).compute_default_rope_parameters(config)
    )
    for length in LENGTHS:
        wanted, scale = init(config, None, seq_len=length)
        # a power in float32 is off by a few units in its last place, and so is each product after it
        np.testing.assert_allclose(rotation.frequencies(length), wanted.numpy(), rtol=8 * 2**-23, atol=0)
        assert abs(rotation.scale - scale) <= 1e-12 * scale


def test_a_table_has_the_frequencies_of_every_length_in_the_row_that_is_named() -> None:
    for parameters in KINDS:
        rotation = Rotation(64, 8192, rope_parameters({"rope_theta": 5e4, "rope_scaling": parameters}, 8192))
        table = rotation.table(9000)
        for length in (length for length in LENGTHS if length <= 9000):
            np.testing.assert_array_equal(table[rotation.row(length)], rotation.frequencies(length))


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (name, kind) if name in ROTARY else pytest.param(name, kind, marks=pytest.mark.slow)
        for name, config in CONFIGS.items() if "rope_theta" in config
        for kind in ("dynamic", "longrope", "yarn")
        if name != "phi3" or kind == "longrope"  # transformers' Phi 3 knows no other
    ],
)  # fmt: skip
def test_prompts_on_both_sides_of_the_original_length_have_transformers_logits(
    tmp_path: Path, family: str, kind: str
) -> None:
    parameters: dict[str, Any] = {"rope_type": kind, "factor": 3.0, "original_max_position_embeddings": 16}
    if kind == "longrope":
        raw = CONFIGS[family]
        size = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
        pairs = int(size * raw.get("partial_rotary_factor", 1.0)) // 2
        parameters |= {"short_factor": SHORT[:pairs], "long_factor": LONG[:pairs]}
    most = 16 if kind == "dynamic" else 48  # dynamic stretches what max_position_embeddings says
    config = changed(CONFIGS[family], rope_scaling=parameters, max_position_embeddings=most)
    folder = folder_of(tmp_path / family, config)
    model = soban.load(folder, dtype="f32")
    for length in (2, 15, 16, 17, 24):
        verdict = theirs(folder, IDS[:length])
        assert difference(verdict, ours(folder, IDS[:length])) == ""
        # one model for all lengths, which has read longer and shorter ones before
        assert verdict.logits is not None
        far = np.abs(model.logits(IDS[:length]) - verdict.logits).max()
        assert far <= 1e-5 + 8 * verdict.error, length


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_numpy_turns_by_the_texts_length_as_the_native_library_does(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing(kind)))
    fast = [soban.load(folder, dtype="f32").logits(IDS[:length]) for length in (12, 16, 17, 24)]
    monkeypatch.setenv("SOBAN_OPS", "reference")
    for length, wanted in zip((12, 16, 17, 24), fast, strict=True):
        np.testing.assert_allclose(soban.load(folder, dtype="f32").logits(IDS[:length]), wanted, atol=1e-4)


def test_the_longest_text_is_what_the_stretching_is_for() -> None:
    for parameters, most in (
        ({"rope_type": "default"}, 64), ({"rope_type": "linear", "factor": 4.0}, 256),
        ({"rope_type": "dynamic", "factor": 2.5}, 160), ({"rope_type": "yarn", "factor": 4.0}, 256),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "longrope", "short_factor": [1], "long_factor": [2], "factor": 4.0}, 64),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, 64),
    ):  # fmt: skip
        assert Rotation(16, 64, rope_parameters({"rope_scaling": parameters}, 64)).limit == most, parameters


def growing(kind: str, original: int = 16) -> dict[str, Any]:
    if kind == "dynamic":
        return {"max_position_embeddings": original, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
    parameters = {"rope_type": "longrope", "short_factor": SHORT[:8], "long_factor": LONG[:8],
                  "original_max_position_embeddings": original}  # fmt: skip
    return {"max_position_embeddings": 4 * original, "rope_scaling": parameters}


def test_with_longrope_every_token_that_is_written_is_that_of_one_pass_over_the_text(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing("longrope")))
    model = soban.load(folder, dtype="f32")
    written = greedy(model, IDS[:8], 24)
    for n, token in enumerate(written):
        ids = [*IDS[:8], *written[:n]]
        assert token == int(model.logits(ids)[-1].argmax()), len(ids)


def test_with_dynamic_a_text_is_computed_anew_when_it_is_an_eighth_longer(tmp_path: Path) -> None:
    rotation = Rotation(16, 128, PARAMETERS)
    rows, row = [], rotation.row(100)
    for length in range(100, 300):
        row = rotation.row(length, row)
        rows.append(row)
        assert row <= max(0, length - 128) <= row + (128 + row) // 8
    assert rows[:29] == [0] * 29 and rows[29] == 1 and set(rows) == {0, 1, 17, 35, 55, 77, 102, 130, 162}
    # the tokens up to there are those of one pass over a text of the row's length
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing("dynamic")))
    model = soban.load(folder, dtype="f32")
    written = greedy(model, IDS[:14], 4)
    for n in range(4):  # 14, 15, 16 and 17 tokens: the last is the first beyond the original length
        assert written[n] == int(model.logits([*IDS[:14], *written[:n]])[-1].argmax())


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_neighbours_of_another_length_do_not_change_a_token(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing(kind)))
    prompts = [IDS[:3], IDS[:14], IDS[:20], IDS[4:24], IDS[:14]]
    alone = [greedy(soban.load(folder, dtype="f32"), ids, 12) for ids in prompts]
    assert together(soban.load(folder, dtype="f32"), prompts, 12) == alone
    model = soban.load(folder, dtype="f32")
    assert [greedy(model, ids, 12) for ids in prompts] == alone


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_what_the_cache_kept_of_a_text_of_another_length_is_not_used(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing(kind, original=40)))
    text = IDS * 3
    model = soban.load(folder, dtype="f32")
    for length in (37, 64, 37, 68, 40, 64):  # whole pages of their beginnings are equal
        first = model.engine.add(request(text[:length], 2))[0]
        written = finished(model, [first])[0]
        assert written[0] == int(model.logits(text[:length])[-1].argmax()), length
    assert first.reused == 32  # by a text of the same length it is


def test_what_is_looked_up_in_the_prompt_changes_nothing_where_the_text_grows_beyond(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", changed(CONFIGS["llama"], **growing("longrope")))
    ids = IDS[:5] * 3 + IDS[:3]
    tried = [greedy(soban.load(folder, dtype="f32"), ids[:n], 16, lookup=4) for n in (13, 15)]
    assert tried == [greedy(soban.load(folder, dtype="f32"), ids[:n], 16) for n in (13, 15)]


def greedy(model: soban.Model, ids: list[int], count: int, lookup: int = 0) -> list[int]:
    return together(model, [ids], count, lookup)[0]


def together(model: soban.Model, prompts: list[list[int]], count: int, lookup: int = 0) -> list[list[int]]:
    """The likeliest tokens after each prompt, all in the engine at once."""
    return finished(model, [model.engine.add(request(ids, count, lookup))[0] for ids in prompts])


def request(ids: list[int], count: int, lookup: int = 0) -> Request:
    return Request(ids, Sampling(do_sample=False, max_new_tokens=count, prompt_lookup_num_tokens=lookup))


def finished(model: soban.Model, sequences: list[Sequence]) -> list[list[int]]:
    texts: dict[int, list[int]] = {id(sequence): [] for sequence in sequences}
    while model.engine.busy:
        for event in model.engine.step():
            if event.token is not None:
                texts[id(event.sequence)].append(event.token)
    return list(texts.values())
