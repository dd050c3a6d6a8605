"""Texts as vectors, for OpenAI's and Ollama's programs."""

import asyncio
import base64
import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from soban.base.errors import UserError
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

    async def vectors(
        name: str | None, inputs: list[Input], dimensions: int | None, cut: bool, request: Request
    ) -> Any:
        if len(inputs) > pool.settings.limits.prompts:
            raise ApiError(f"{len(inputs)} texts, where {pool.settings.limits.prompts} are possible", 400, "input")
        served = await pool.get(name)
        record = record_of(request)
        record.model = served.name
        try:
            found, tokens = await asyncio.to_thread(embedded, served.model, inputs, dimensions, cut)
        except UserError as error:
            raise errors.of(error, "input") from error
        record.prompt_tokens = tokens
        return served.name, found, tokens

    @routes.post("/v1/embeddings")
    async def embeddings(asked: EmbeddingRequest, request: Request) -> dict[str, Any]:
        name, found, tokens = await vectors(asked.model, inputs_of(asked.input), asked.dimensions, False, request)
        coded = asked.encoding_format == "base64"
        data = [
            {
                "object": "embedding", "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if coded else vector.tolist(),
            }
            for index, vector in enumerate(found)
        ]  # fmt: skip
        return {
            "object": "list", "data": data, "model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    @routes.post("/api/embed")
    async def embed(asked: EmbedRequest, request: Request) -> dict[str, Any]:
        start = time.perf_counter_ns()
        inputs: list[Input] = [asked.input] if isinstance(asked.input, str) else list(asked.input)
        cut = asked.truncate is not False
        _, found, tokens = await vectors(asked.model, inputs, asked.dimensions, cut, request)
        return {
            "model": asked.model, "embeddings": [vector.tolist() for vector in found],
            "total_duration": time.perf_counter_ns() - start, "load_duration": 0, "prompt_eval_count": tokens,
        }  # fmt: skip

    @routes.post("/api/embeddings")
    async def older(asked: EmbedRequest, request: Request) -> dict[str, Any]:
        _, found, _ = await vectors(asked.model, [asked.prompt or ""], None, True, request)
        return {"embedding": found[0].tolist()}

    return routes


def inputs_of(given: str | list[str] | list[int] | list[list[int]]) -> list[Input]:
    """The texts one by one. Raises ApiError for an empty one."""
    if isinstance(given, str):
        inputs: list[Input] = [given]
    elif given and all(isinstance(one, int) for one in given):
        inputs = [given]  # type: ignore[list-item]
    else:
        inputs = list(given)  # type: ignore[arg-type]
    if not inputs or not all(inputs):
        raise ApiError("input is empty, or has an empty text in it", 400, "input")
    return inputs


def embedded(model: Model, inputs: list[Input], dimensions: int | None, cut: bool) -> tuple[list[Floats], int]:
    """A vector for each text, and the tokens of all; `cut`: texts that are too long lose their ends."""
    if dimensions is not None and dimensions > model.config.hidden_size:
        raise ApiError(f"dimensions={dimensions}: the model has {model.config.hidden_size}", 400, "dimensions")
    found, tokens = [], 0
    for one in inputs:
        ids = model.tokenize(one) if isinstance(one, str) else one
        ids = ids[: model.engine.context] if cut else ids
        vector = model.embed(ids)[:dimensions]
        found.append(vector / np.float32(np.linalg.norm(vector) or 1.0))
        tokens += len(ids)
    return found, tokens
