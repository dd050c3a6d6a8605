"""Texts as vectors: judged by transformers and the formulas of pooling, and by sentence-transformers where it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError

from .sentences import TEXTS, encoder, put, sentence_model

CLOSE = 1e-5
PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}


def states_of(folder: Path, text: str) -> Any:
    """transformers' hidden states of a text (T, hidden), in float64."""
    import torch
    import transformers

    words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    network = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        return network(torch.tensor([words(text)["input_ids"]])).last_hidden_state[0].numpy()


FORMULAS: dict[str, Callable[[Any], Any]] = {
    "cls": lambda x: x[0],
    "max": lambda x: x.max(axis=0),
    "mean": lambda x: x.mean(axis=0),
    "mean_sqrt_len_tokens": lambda x: x.sum(axis=0) / len(x) ** 0.5,
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    "lasttoken": lambda x: x[-1],
}


@pytest.mark.parametrize("mode", FORMULAS)
def test_states_are_pooled_as_the_files_say(tmp_path: Path, mode: str) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode": mode}, normalize=False)
    model = soban.load(folder, dtype="f32")
    vectors = model.embed_all(TEXTS, normalize=False)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, FORMULAS[mode](states_of(folder, text)), atol=CLOSE)
        np.testing.assert_array_equal(model.embed(text, normalize=False), vector)  # alone and beside others
    of_length_1 = model.embed_all(TEXTS)
    np.testing.assert_allclose(of_length_1, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-6)
    others = [name for name in FORMULAS if name != mode]
    assert all(
        np.abs(model.embed(TEXTS[0], pooling=name, normalize=False) - vectors[0]).max() > 1e-3 for name in others
    )


OLDER = {f"pooling_mode_{name}": False for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
FILES: dict[str, dict[str, Any]] = {
    "mean, by older flags": {"pooling": {**OLDER, "pooling_mode_mean_tokens": True}},
    "cls": {"pooling": {**OLDER, "pooling_mode_cls_token": True}},
    "several in a row": {"pooling": {**OLDER, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}},
    "last": {"pooling": {"pooling_mode": "lasttoken"}, "kind": "xlm-roberta"},
    "not of length 1": {"pooling": {"pooling_mode": "mean"}, "normalize": False},
    "a layer with tanh": {"pooling": {"pooling_mode": "mean"}, "dense": "torch.nn.modules.activation.Tanh"},
    "a layer alone": {"pooling": {"pooling_mode": "cls"}, "dense": "torch.nn.modules.linear.Identity"},
    "a prompt": {"pooling": {"pooling_mode": "mean"}, "about": {**PROMPTS, "default_prompt_name": "passage"}},
    "a prompt that does not count": {
        "pooling": {"pooling_mode": "weightedmean", "include_prompt": False}, "about": PROMPTS,
    },
    "few tokens": {"pooling": {"pooling_mode": "mean"}, "longest": 8},
}  # fmt: skip


@pytest.mark.parametrize("files", FILES)
def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, files: str) -> None:
    judge = pytest.importorskip("sentence_transformers")
    folder = sentence_model(tmp_path / "m", **FILES[files])
    model = soban.load(folder, dtype="f32")
    official = judge.SentenceTransformer(str(folder), device="cpu")
    names = [None, "query"] if official.prompts.get("query") else [None]
    for name in names:
        wanted = official.encode(TEXTS, prompt_name=name)
        got = model.embed_all(TEXTS, prompt=name, normalize=False, truncate=True)
        np.testing.assert_allclose(got, wanted, atol=CLOSE)


def test_a_text_of_an_encoder_is_too_long_beyond_what_its_files_say_and_is_cut_when_asked(tmp_path: Path) -> None:
    folder = sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, longest=8)
    model = soban.load(folder, dtype="f32")
    assert model.context == 8
    with pytest.raises(UserError, match="42 tokens, where 1 to 8 are possible"):
        model.embed_all(TEXTS)
    ids = model.tokenize(TEXTS[3])
    np.testing.assert_array_equal(model.embed(TEXTS[3], truncate=True), model.embed([*ids[:7], ids[-1]]))
    assert soban.load(folder, context=64).context == 64


def test_prompts_go_by_name_and_others_are_refused(tmp_path: Path) -> None:
    model = soban.load(sentence_model(tmp_path / "m", {"pooling_mode": "mean"}, about=PROMPTS), dtype="f32")
    np.testing.assert_array_equal(model.embed("cat", prompt="query"), model.embed("query: cat"))
    assert np.abs(model.embed("cat", prompt="query") - model.embed("cat")).max() > 1e-3
    with pytest.raises(UserError, match="no prompt nonsense; choose among these: query, passage"):
        model.embed("cat", prompt="nonsense")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("modules.json", {"a": 1}), "no list of modules"),
        (("modules.json", [{"path": "", "type": "sentence_transformers.models.CLIPModel"}]), "CLIPModel.* is not impl"),
        (("modules.json", [{"path": "../x", "type": "sentence_transformers.models.Pooling"}]), "path=.*not impl"),
        (("1_Pooling/config.json", {"pooling_mode": "median"}), "pooling_mode=.*median.* is not implemented"),
        (("2_Dense/config.json", {"activation_function": "my.Own", "in_features": 32, "out_features": 12}), "my.Own"),
        (("2_Dense/config.json", {"in_features": 31, "out_features": 12}), "no layer of 12 x 31"),
        (("2_Dense/config.json", {"in_features": 32, "out_features": 12, "use_residual": True}), "use_residual=True"),
    ],
    ids=str,
)  # fmt: skip
def test_files_that_say_what_is_not_known_are_refused(tmp_path: Path, change: tuple[str, Any], message: str) -> None:
    folder = sentence_model(tmp_path / "m", dense="torch.nn.modules.linear.Identity")
    put(folder / change[0], change[1])
    with pytest.raises(UserError, match=message):
        soban.load(folder)


def test_an_encoder_without_such_files_gives_the_mean(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "m", "xlm-roberta")
    mean = FORMULAS["mean"](states_of(folder, TEXTS[0]))
    np.testing.assert_allclose(soban.load(folder, dtype="f32").embed(TEXTS[0], normalize=False), mean, atol=CLOSE)


def test_a_model_that_writes_takes_its_pooling_from_such_files_too(tmp_path: Path) -> None:
    from .tiny import make_model

    make_model(tmp_path / "m")
    plain = soban.load(tmp_path / "m")
    put(tmp_path / "m" / "modules.json", [{"path": "", "type": "Transformer"}, {"path": "1", "type": "x.Pooling"}])
    put(tmp_path / "m" / "1" / "config.json", {"pooling_mode_lasttoken": True})
    np.testing.assert_array_equal(soban.load(tmp_path / "m").embed("abc"), plain.embed("abc", pooling="last"))


def test_texts_of_many_lengths_beside_each_other_give_what_each_gives_alone(tmp_path: Path) -> None:
    """Of a model that writes, some are longer than what is read at once."""
    from .tiny import make_model

    make_model(tmp_path / "m", max_position_embeddings=1024, sliding_window=1024)
    for model in (soban.load(tmp_path / "m"), soban.load(encoder(tmp_path / "e", max_position_embeddings=2048))):
        dice = np.random.default_rng(2)
        texts = [[int(i) for i in dice.integers(6, 80, n)] for n in (300, 3, 100, 1, 257, 90, 700, 256)]
        together = model.embed_all(texts)
        for text, vector in zip(texts, together, strict=True):
            np.testing.assert_array_equal(model.embed(text), vector)


@pytest.mark.parametrize("call", ["generate", "stream", "chat", "logits"])
def test_an_encoder_says_in_one_line_that_it_writes_nothing(tmp_path: Path, call: str) -> None:
    model = soban.load(encoder(tmp_path / "m"))
    assert not model.writes and "encoder" not in repr(model)
    with pytest.raises(UserError, match="m is an encoder: it makes vectors and scores of texts, and writes none"):
        list(getattr(model, call)([{"role": "user", "content": "a"}] if call == "chat" else "cat"))
