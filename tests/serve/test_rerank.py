"""/v1/rerank gives the library's scores in the forms that Jina's, Cohere's and llama.cpp's programs expect."""

from pathlib import Path
from typing import Any

import httpx
import pytest

import soban

from ..test_ranking import DOCUMENTS, QUERY, make_ranker
from .conftest import Running, Starter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fixtures: Path) -> Path:
    qwen = (fixtures / "chat_templates" / "Qwen-Qwen3-0.6B.jinja").read_text(encoding="utf-8")
    return make_ranker(tmp_path_factory.mktemp("models") / "ranker", qwen)


@pytest.fixture(scope="module")
def served(start: Starter, folder: Path, chat_model: Path) -> Running:
    return start(str(folder), str(chat_model))


def ask(served: Running, path: str = "/v1/rerank", **body: Any) -> httpx.Response:
    asked = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, **body}
    return httpx.post(served.url + path, json={k: v for k, v in asked.items() if v is not None}, timeout=60)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_the_best_come_first_with_the_librarys_scores(served: Running, folder: Path, path: str) -> None:
    expected = soban.load(folder).rank(QUERY, DOCUMENTS)
    found = ask(served, path).json()
    assert {one["index"]: one["relevance_score"] for one in found["results"]} == dict(enumerate(expected))
    scores = [one["relevance_score"] for one in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(one["document"]["text"] == DOCUMENTS[one["index"]] for one in found["results"])
    ranker = soban.load(folder).ranker
    assert found["usage"]["total_tokens"] == sum(len(ranker.prompt(QUERY, one, None)) for one in DOCUMENTS)


def test_as_many_as_are_wanted_without_their_texts_from_objects(served: Running) -> None:
    whole = ask(served).json()["results"]
    some = ask(served, top_n=2, return_documents=False, documents=[{"text": text} for text in DOCUMENTS]).json()[
        "results"
    ]
    assert [(one["index"], one["relevance_score"]) for one in some] == [
        (one["index"], one["relevance_score"]) for one in whole[:2]
    ]
    assert all("document" not in one for one in some)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"query": ""}, 400, "query"), ({"query": 3}, 400, "query"), ({"documents": []}, 400, "documents"),
        ({"documents": ["a", {"title": "b"}]}, 400, "documents[1]"), ({"documents": ["a", ""]}, 400, "documents[1]"),
        ({"documents": ["a"] * 1000}, 400, "1000 documents"), ({"top_n": 0}, 400, "top_n"),
        ({"max_tokens_per_doc": 5}, 400, "max_tokens_per_doc"), ({"documents": ["a", "가" * 999]}, 400, "1024"),
        ({"model": "nothing"}, 404, "nothing"), ({"model": "tiny"}, 400, "yes"), ({"wisdom": 1}, 400, "wisdom"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_ranked_is_told_by_its_field(
    served: Running, body: dict[str, Any], status: int, word: str
) -> None:
    answer = ask(served, **body)
    assert answer.status_code == status and word in answer.json()["error"]["message"]
