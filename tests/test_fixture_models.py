"""Two trained models of other people: the text, ids and logits that run.c and transformers give, on every backend."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.cli.llama2c import start

STEPS = 256


def cases(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]
    return found


def test_stories260k_writes_and_feeds_what_run_c_does(fixtures: Path, backend: str) -> None:
    folder = fixtures / "models" / "stories260K"
    model = soban.load(folder / "stories260K.bin", tokenizer=folder / "tok512.bin")
    for case in cases(folder):
        generation = start(
            model, case["prompt"], system=None, raw=False, echo=None, steps=STEPS, sampling={"temperature": 0}
        )  # fmt: skip
        assert "".join(piece for _, piece in generation) == case["text"]
        fed = case["input_token_ids_fed"]
        assert [*generation.sequences[0].tokens] == [*fed, case["next_after_last"]]
        got = model.logits(fed)
        for row, name in ((0, "logits_first_pos_top5"), (-1, "logits_last_pos_top5")):
            for token, score in case[name]:
                # float32 sums of 64 to 172 products in another order, five layers deep
                assert abs(got[row, token] - score) < 1e-4


def test_tinystories_656k_writes_and_scores_what_transformers_does(fixtures: Path, backend: str) -> None:
    folder = fixtures / "models" / "TinyStories-656K"
    model = soban.load(folder, dtype="f32")
    for case in cases(folder):
        assert model.tokenize(case["prompt"]) == case["prompt_ids"]
        generation = model.start(case["prompt"], max_new_tokens=256, do_sample=False)
        assert "".join(piece for _, piece in generation) == case["text256"]
        written = [*generation.sequences[0].tokens[len(case["prompt_ids"]) :]]
        ended = [2] if generation.figures.finished == "end" else []
        assert written + ended == case["greedy256_new_ids"]
        got = model.logits(case["prompt_ids"])[-1]
        np.testing.assert_allclose(got[:8], case["last_logits_first8"], rtol=1e-4, atol=1e-4)
        assert abs(float(got.sum(dtype=np.float64)) - case["last_logits_sum"]) < 1e-5 * np.abs(got).sum()


@pytest.mark.parametrize("dtype", ["bf16", "q8", "q4"])
def test_rounded_weights_stay_near_the_exact_ones(
    fixtures: Path, dtype: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path))
    folder = fixtures / "models" / "TinyStories-656K"
    text = (fixtures / "text" / "tinystories_sample.txt").read_text(encoding="utf-8")[:1200]

    def loss(dtype: str) -> float:
        model = soban.load(folder, dtype=dtype)
        ids = model.tokenize(text)
        scores = model.logits(ids)[:-1].astype(np.float64)
        chosen = scores[np.arange(len(ids) - 1), ids[1:]]
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - chosen))

    # Nats a token beyond float32: what rounding costs so small a model, with room for half as much again.
    assert abs(loss(dtype) - loss("f32")) < {"bf16": 0.003, "q8": 0.01, "q4": 0.15}[dtype]
