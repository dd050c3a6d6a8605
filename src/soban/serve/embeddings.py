"""Texts as vectors, for OpenAI's and Ollama's programs."""

import asyncio
import base64
import time
from typing import Any

from fastapi import APIRouter, Request

from soban.base.errors import UserError
from soban.loading.pooling import unit
from soban.model import Model
from soban.ops.formats import Floats
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.serve.ollama.requests import EmbedRequest
from soban.serve.openai.requests import EmbeddingRequest
from soban.serve.pool import Pool
from soban.serve.replies import record_of

Input = str | list[int]


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    async def vectors_of(
        name: str | None, inputs: list[Input], body: EmbeddingRequest | EmbedRequest, truncate: bool, request: Request
    ) -> Any:
        if len(inputs) > pool.settings.limits.prompts:
            raise ApiError(f"{len(inputs)} texts, where {pool.settings.limits.prompts} are possible", 400, "input")
        served = await pool.get(name)
        record = record_of(request)
        record.model = served.name
        try:
            vectors, tokens = await asyncio.to_thread(
                embed_texts, served.model, inputs, body.dimensions, truncate, body.prompt_name
            )
        except UserError as error:
            raise errors.of(error, "input") from error
        record.prompt_tokens = tokens
        return served.name, vectors, tokens

    @routes.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, request: Request) -> dict[str, Any]:
        name, vectors, tokens = await vectors_of(body.model, inputs_of(body.input), body, False, request)
        coded = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding", "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if coded else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]  # fmt: skip
        return {
            "object": "list", "data": data, "model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    @routes.post("/api/embed")
    async def embed(body: EmbedRequest, request: Request) -> dict[str, Any]:
        start = time.perf_counter_ns()
        inputs: list[Input] = [body.input] if isinstance(body.input, str) else list(body.input)
        truncate = body.truncate is not False
        _, vectors, tokens = await vectors_of(body.model, inputs, body, truncate, request)
        return {
            "model": body.model, "embeddings": [vector.tolist() for vector in vectors],
            "total_duration": time.perf_counter_ns() - start, "load_duration": 0, "prompt_eval_count": tokens,
        }  # fmt: skip

    @routes.post("/api/embeddings")
    async def older(body: EmbedRequest, request: Request) -> dict[str, Any]:
        _, vectors, _ = await vectors_of(body.model, [body.prompt or ""], body, True, request)
        return {"embedding": vectors[0].tolist()}

    return routes


def inputs_of(value: str | list[str] | list[int] | list[list[int]]) -> list[Input]:
    """The texts one by one. Raises ApiError for an empty one."""
    if isinstance(value, str):
        inputs: list[Input] = [value]
    elif value and all(isinstance(one, int) for one in value):
        inputs = [value]  # type: ignore[list-item]
    else:
        inputs = list(value)  # type: ignore[arg-type]
    if not inputs or not all(inputs):
        raise ApiError("input is empty, or has an empty text in it", 400, "input")
    return inputs


def embed_texts(
    model: Model, inputs: list[Input], dimensions: int | None, truncate: bool, prompt: str | None = None
) -> tuple[list[Floats], int]:
    """A vector for each text, and the tokens of all; `truncate`: texts that are too long lose their ends."""
    how = model.pooling
    if dimensions is not None and dimensions > (width := how.width(model.config.hidden_size)):
        raise ApiError(f"dimensions={dimensions}: the model has {width}", 400, "dimensions")
    ids, skip = model.embedding_ids(inputs, how, prompt, truncate)
    vectors = [unit(vector[:dimensions]) for vector in model.vectors(ids, how, skip)]
    return vectors, sum(map(len, ids))
