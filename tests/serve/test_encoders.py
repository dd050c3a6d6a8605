"""A server with encoders: vectors and scores by the APIs of others, and one line for what they cannot do."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import soban

from ..sentences import TEXTS, sentence_model
from ..test_cross_encoder import QUERY, ranker
from .conftest import Running, Starter

LONG = "cat " * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = {"prompts": {"query": "query: "}}
    return sentence_model(tmp_path_factory.mktemp("models") / "m", {"pooling_mode": "cls"}, about=about)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranker(tmp_path_factory.mktemp("models") / "judge", "xlm-roberta")


@pytest.fixture(scope="module")
def served(start: Starter, folder: Path, judge: Path) -> Running:
    return start(str(folder), str(judge))


def post(served: Running, path: str, **body: Any) -> httpx.Response:
    return httpx.post(served.url + path, json={"model": "m", **body}, timeout=60)


def test_openai_and_ollama_get_the_librarys_vectors(served: Running, folder: Path) -> None:
    wanted = soban.load(folder).embed_all(TEXTS)
    found = post(served, "/v1/embeddings", input=TEXTS).json()
    np.testing.assert_allclose([one["embedding"] for one in found["data"]], wanted, atol=1e-6)
    tokens = sum(len(soban.load(folder).tokenize(text)) for text in TEXTS)
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    found = post(served, "/api/embed", input=TEXTS).json()
    np.testing.assert_allclose(found["embeddings"], wanted, atol=1e-6)
    assert found["prompt_eval_count"] == tokens
    named = post(served, "/v1/embeddings", input="cat", prompt_name="query").json()
    written = post(served, "/api/embed", input="query: cat").json()
    np.testing.assert_allclose(named["data"][0]["embedding"], written["embeddings"][0], atol=1e-6)


def test_a_long_text_is_refused_by_openais_words_and_cut_by_ollamas_unless_told_not_to(served: Running) -> None:
    refused = post(served, "/v1/embeddings", input=["a", LONG])
    assert refused.status_code == 400 and "102 tokens, where 1 to 64" in refused.json()["error"]["message"]
    cut = post(served, "/api/embed", input=LONG).json()["embeddings"]
    np.testing.assert_allclose(cut, post(served, "/api/embed", input="cat " * 62).json()["embeddings"], atol=1e-6)
    assert post(served, "/api/embed", input=LONG, truncate=False).status_code == 400


def test_a_vector_is_cut_to_the_numbers_that_are_asked_for(served: Running, folder: Path) -> None:
    whole = soban.load(folder).embed("cat")
    short = post(served, "/v1/embeddings", input="cat", dimensions=8).json()["data"][0]["embedding"]
    np.testing.assert_allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert "the model has 32" in post(served, "/v1/embeddings", input="cat", dimensions=33).json()["error"]["message"]
    assert "no prompt x" in post(served, "/v1/embeddings", input="cat", prompt_name="x").json()["error"]["message"]


def test_documents_are_ranked_by_the_librarys_scores_raw_ones_too(served: Running, judge: Path) -> None:
    for raw in (False, True):
        wanted = soban.load(judge).rank(QUERY, TEXTS, raw=raw)
        found = post(served, "/v1/rerank", model="judge", query=QUERY, documents=TEXTS, raw_scores=raw).json()
        scores = {one["index"]: one["relevance_score"] for one in found["results"]}
        assert scores == pytest.approx(dict(enumerate(wanted)), abs=1e-6)
        assert [one["relevance_score"] for one in found["results"]] == sorted(scores.values(), reverse=True)
    refused = post(served, "/v1/rerank", query=QUERY, documents=TEXTS)
    assert refused.status_code == 400 and "m gives a text 0 scores" in refused.json()["error"]["message"]
    refused = post(served, "/v1/rerank", model="judge", query=QUERY, documents=["a", LONG])
    assert refused.status_code == 400 and "111 tokens with its query" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a"}), ("/v1/responses", {"input": "a"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}]}), ("/api/generate", {"prompt": "a"}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_who_wants_it_to_write_is_told_in_one_line(served: Running, path: str, body: dict[str, Any]) -> None:
    refused = post(served, path, **body)
    assert refused.status_code == 400 and "m is an encoder" in refused.text and "\\n" not in refused.text


def test_what_it_is_and_can_do_is_shown(served: Running) -> None:
    post(served, "/api/embed", input="cat")
    assert httpx.post(served.url + "/api/show", json={"model": "m"}).json()["capabilities"] == ["embedding"]
    (model, *_) = httpx.get(served.url + "/api/ps").json()["models"]
    assert model["context_length"] == 64
    (listed,) = [one for one in httpx.get(served.url + "/api/tags").json()["models"] if one["name"] == "m"]
    assert listed["capabilities"] == ["embedding"]
    assert httpx.get(served.url + "/metrics").status_code == 200
