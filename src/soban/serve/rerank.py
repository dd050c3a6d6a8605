"""/v1/rerank, as programs for Jina, Cohere and llama.cpp ask for it: documents, those that meet a query best first."""

import asyncio
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from soban.base.errors import UserError
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.serve.openai.requests import Body, Ignored, Refused
from soban.serve.pool import Pool, Served
from soban.serve.replies import record_of, unless_gone
from soban.talk.ranking import Score

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")  # Jina's and older Cohere's, Cohere's, llama.cpp's


class RerankRequest(Body):
    """Both APIs' fields; `raw_scores` is Text Embeddings Inference's, and `instruction` soban's own."""

    model: str | None = None
    query: str = Field(min_length=1)
    documents: list[str | dict[str, Any]] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    instruction: str | None = None
    raw_scores: bool = False
    priority: Ignored = None
    user: Ignored = None
    rank_fields: Refused = None
    max_chunks_per_doc: Refused = None
    max_tokens_per_doc: Refused = None


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    async def rerank(body: RerankRequest, request: Request) -> Response:
        documents = texts_of(body, pool.settings.limits.prompts)
        served = await pool.get(body.model)
        record = record_of(request)
        record.model = served.name
        deadline = time.monotonic() + pool.settings.limits.seconds
        work = scores_of(served, body, documents, deadline)
        scores = await unless_gone(request, work, lambda: None)
        best = sorted(range(len(scores)), key=lambda index: -scores[index].raw)[: body.top_n]
        results = [
            {"index": index, "relevance_score": scores[index].raw if body.raw_scores else scores[index].value}
            | ({} if body.return_documents is False else {"document": {"text": documents[index]}})
            for index in best
        ]
        tokens = record.prompt_tokens = sum(score.tokens for score in scores)
        return JSONResponse(
            {
                "id": f"rerank-{uuid.uuid4().hex}", "model": served.name, "results": results,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )  # fmt: skip

    for path in PATHS:
        routes.add_api_route(path, rerank, methods=["POST"])
    return routes


def texts_of(body: RerankRequest, most: int) -> list[str]:
    """The documents' texts. Raises ApiError, by the place, for what is none."""
    if len(body.documents) > most:
        raise ApiError(f"{len(body.documents)} documents, where {most} are possible", 400, "documents")
    texts = [document if isinstance(document, str) else document.get("text") for document in body.documents]
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise ApiError(f"documents[{number}] is no text", 400, f"documents[{number}]")
    return [str(text) for text in texts]


async def scores_of(served: Served, body: RerankRequest, documents: list[str], deadline: float) -> list[Score]:
    """The scores, as many documents at a time as take about as long as one: whoever leaves is noticed in between."""
    try:
        ranker = await asyncio.to_thread(lambda: served.model.ranker)
    except UserError as error:
        raise errors.of(error, "model") from error
    scores: list[Score] = []
    for first in range(0, len(documents), ranker.together):
        if time.monotonic() > deadline:
            raise ApiError("the request took longer than the server allows", 504, code="timeout")
        some = documents[first : first + ranker.together]
        try:
            scores += await asyncio.to_thread(ranker.scores, body.query, some, body.instruction)
        except UserError as error:
            raise errors.of(error, f"documents[{first}]" if len(some) == 1 else "documents") from error
    return scores
