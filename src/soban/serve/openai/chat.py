"""/v1/chat/completions: a conversation in, its next turn out."""

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from soban.model import Model
from soban.serve.conversation import turns_of
from soban.serve.errors import ApiError
from soban.serve.openai.choosing import options_of
from soban.serve.openai.logprobs import chat_content
from soban.serve.openai.requests import ChatRequest
from soban.serve.pool import Pool, Served
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.talk.generation import Generation

FINISH = {"end": "stop", "stop": "stop", "length": "length", "context": "length"}


def router(pool: Pool) -> APIRouter:
    """The path and its handler."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        served = await pool.get(asked.model)
        record = record_of(request)
        record.model = served.name
        job = await served.start(lambda model: begin(model, asked, pool))
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name,
            "system_fingerprint": fingerprint(served),
        }  # fmt: skip

        def leave() -> None:
            record.note(job.generation.figures)
            served.leave(job)

        if asked.stream:
            return Stream(chunks(served, job, asked, head), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(served, job, head), leave))

    return routes


def begin(model: Model, asked: ChatRequest, pool: Pool) -> Generation:
    """The generation that answers. Raises UserError and ApiError."""
    limits = pool.settings.limits
    if len(asked.messages) > limits.messages:
        raise ApiError(f"{len(asked.messages)} messages, where {limits.messages} are possible", 400, "messages")
    most = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    options = options_of(asked, most, limits)
    if asked.top_logprobs and not asked.logprobs:
        raise ApiError("top_logprobs needs logprobs to be true", 400, "top_logprobs")
    if asked.tools or asked.tool_choice not in (None, "none", "auto"):
        raise ApiError("tools: soban does not do this here yet", 400, "tools")
    if asked.logprobs:
        options["logprobs"] = asked.top_logprobs or 0
    if asked.response_format:
        options |= _form(asked.response_format)
    messages = turns_of([message.model_dump(exclude_none=True) for message in asked.messages])
    return model.start_chat(messages, show=quiet, **options)


def _form(given: dict[str, Any]) -> dict[str, Any]:
    """The option for a response_format. Raises ApiError for one that is none."""
    match given:
        case {"type": "text"}:
            return {}
        case {"type": "json_object"}:
            return {"schema": {"type": "object"}}
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return {"schema": schema}
    raise ApiError(
        "response_format: text, json_object, or json_schema with a json_schema.schema", 400, "response_format"
    )


def quiet(note: str) -> None:
    """Notes of a request are nothing for the server's log."""


def fingerprint(served: Served) -> str:
    return f"soban-{served.model.loaded.dtype}"


def usage(generation: Generation) -> dict[str, Any]:
    """The tokens of a request, counted."""
    figures = generation.figures
    return {
        "prompt_tokens": figures.prompt_tokens, "completion_tokens": figures.new_tokens,
        "total_tokens": figures.prompt_tokens + figures.new_tokens,
        "prompt_tokens_details": {"cached_tokens": figures.reused_tokens},
    }  # fmt: skip


async def whole(served: Served, job: Job, head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    generation = job.generation
    texts = [""] * len(generation.sequences)
    reasons = list(texts)
    async for part in job:
        texts[part.index] += part.text
        reasons[part.index] = part.finish or reasons[part.index]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _logprobs(served.model, generation, index),
            "finish_reason": FINISH[reasons[index]],
        }
        for index, text in enumerate(texts)
    ]
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage(generation)}


def _logprobs(model: Model, generation: Generation, index: int) -> dict[str, Any] | None:
    if generation.sequences[index].request.logprobs is None:
        return None
    return {"content": chat_content(model, generation.scored[index]), "refusal": None}


async def chunks(served: Served, job: Job, asked: ChatRequest, head: Mapping[str, Any]) -> AsyncIterator[str]:
    """The answer as events, each with what a step has added."""
    generation, usual = job.generation, {**head, "object": "chat.completion.chunk"}
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    scored = [0] * len(generation.sequences)

    def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
        return event({**usual, "choices": choices, **({"usage": None} if with_usage else {}), **more})

    def choice(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    try:
        for index in range(len(scored)):
            yield chunk([choice(index, {"role": "assistant", "content": "", "refusal": None})])
        async for part in job:
            logprobs = None
            if asked.logprobs and len(new := generation.scored[part.index]) > scored[part.index]:
                content = chat_content(served.model, new[scored[part.index] :])
                scored[part.index] += len(content)
                logprobs = {"content": content, "refusal": None}
            if part.text or logprobs:
                yield chunk([choice(part.index, {"content": part.text}, None, logprobs)])
            if part.finish:
                yield chunk([choice(part.index, {}, FINISH[part.finish])])
        if with_usage:
            yield event({**usual, "choices": [], "usage": usage(generation)})
        yield event("[DONE]")
    except ApiError as error:
        yield event(error.body("/v1/chat/completions"))
