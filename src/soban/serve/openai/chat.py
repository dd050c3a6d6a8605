"""/v1/chat/completions: a conversation in, its next turn out."""

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from soban.model import Model
from soban.serve.answers import begin as begin_answer
from soban.serve.conversation import turns_of
from soban.serve.errors import ApiError
from soban.serve.openai import choosing, tools
from soban.serve.openai.logprobs import chat_content
from soban.serve.openai.requests import ChatRequest
from soban.serve.pool import Pool, Served
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.talk.answer import Answer, Answering
from soban.talk.generation import Generation
from soban.talk.parts import Part

FINISH = {"end": "stop", "stop": "stop", "length": "length", "context": "length", "tool_calls": "tool_calls"}


def router(pool: Pool) -> APIRouter:
    """The path and its handler."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        served = await pool.get(body.model)
        record = record_of(request)
        record.model = served.name
        job = await served.start(lambda model: begin(model, body, pool))
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name,
            "system_fingerprint": fingerprint(served),
        }  # fmt: skip

        def leave() -> None:
            record.note(job.generation.figures)
            served.leave(job)

        if body.stream:
            return Stream(chunks(served, job, body, head), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(served, job, body, head), leave))

    return routes


def begin(model: Model, body: ChatRequest, pool: Pool) -> Answering:
    """The answer, not begun. Raises UserError and ApiError."""
    limits = pool.settings.limits
    most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    options = choosing.options_of(body, most, limits)
    if body.top_logprobs and not body.logprobs:
        raise ApiError("top_logprobs needs logprobs to be true", 400, "top_logprobs")
    if body.logprobs:
        options["logprobs"] = body.top_logprobs or 0
    if body.response_format:
        options |= _form(body.response_format)
    options |= tools.options_of(body.tools, body.tool_choice, body.parallel_tool_calls, flat=False)
    messages = turns_of([message.model_dump(exclude_none=True) for message in body.messages])
    return begin_answer(
        model, messages, limits, thinking=thinking_of(body.reasoning_effort), names=("messages", "reasoning_effort"),
        **options,
    )  # fmt: skip


def thinking_of(effort: str | None) -> bool | None:
    """Whether to think; templates know yes and no, and no more than that."""
    return None if effort is None else effort != "none"


def _form(form: dict[str, Any]) -> dict[str, Any]:
    """The option for a response_format. Raises ApiError for one that is none."""
    match form:
        case {"type": "text"}:
            return {}
        case {"type": "json_object"}:
            return {"schema": {"type": "object"}}
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            return {"schema": schema}
    raise ApiError(
        "response_format: text, json_object, or json_schema with a json_schema.schema", 400, "response_format"
    )


def fingerprint(served: Served) -> str:
    return f"soban-{served.model.loaded.dtype}"


def usage(answering: Answering) -> dict[str, Any]:
    """The tokens of a request, counted."""
    figures = answering.figures
    return {
        "prompt_tokens": figures.prompt_tokens, "completion_tokens": figures.new_tokens,
        "total_tokens": figures.prompt_tokens + figures.new_tokens,
        "prompt_tokens_details": {"cached_tokens": figures.reused_tokens},
        "completion_tokens_details": {"reasoning_tokens": answering.thought_tokens},
    }  # fmt: skip


async def whole(served: Served, job: Job, body: ChatRequest, head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    choices = [
        {
            "index": index, "message": message(answer, body),
            "logprobs": _logprobs(served.model, job.generation, index), "finish_reason": FINISH[answer.finish_reason],
        }
        for index, answer in enumerate(await job.answers())
    ]  # fmt: skip
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage(job.answering)}


def message(answer: Answer, body: ChatRequest) -> dict[str, Any]:
    """An answer as a turn."""
    turn = {"role": "assistant", "content": answer.text or empty(body), "refusal": None}
    turn |= {"tool_calls": answer.message()["tool_calls"]} if answer.tool_calls else {}
    return turn | ({"reasoning_content": answer.reasoning} if answer.reasoning else {})


def empty(body: ChatRequest) -> str | None:
    """The content of a turn without text: none where there may be calls instead."""
    return None if body.tools else ""


def delta(part: Part) -> dict[str, Any] | None:
    """A part of an answer as what it adds to a turn."""
    if part.kind == "text":
        return {"content": part.text}
    if part.kind == "reasoning":
        return {"reasoning_content": part.text}
    if part.kind == "call":
        call = {"index": part.call, "id": part.id, "type": "function"}
        return {"tool_calls": [{**call, "function": {"name": part.name, "arguments": ""}}]}
    if part.kind == "arguments":
        return {"tool_calls": [{"index": part.call, "function": {"arguments": part.text}}]}
    return None


def _logprobs(model: Model, generation: Generation, index: int) -> dict[str, Any] | None:
    if generation.sequences[index].request.logprobs is None:
        return None
    return {"content": chat_content(model, generation.scored[index]), "refusal": None}


async def chunks(served: Served, job: Job, body: ChatRequest, head: Mapping[str, Any]) -> AsyncIterator[str]:
    """The answer as events, each with what a step has added."""
    generation, usual = job.generation, {**head, "object": "chat.completion.chunk"}
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    scored = [0] * len(generation.sequences)

    def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
        return event({**usual, "choices": choices, **({"usage": None} if with_usage else {}), **more})

    def choice(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    try:
        for index in range(len(scored)):
            yield chunk([choice(index, {"role": "assistant", "content": empty(body), "refusal": None})])
        async for step in job:
            logprobs = None
            if body.logprobs and len(new := generation.scored[step.index]) > scored[step.index]:
                content = chat_content(served.model, new[scored[step.index] :])
                scored[step.index] += len(content)
                logprobs = {"content": content, "refusal": None}
            deltas = [added for part in step.parts if (added := delta(part))]
            for added in deltas or ([{}] if logprobs else []):
                yield chunk([choice(step.index, added, None, logprobs)])
                logprobs = None
            if step.finish_reason:
                yield chunk([choice(step.index, {}, FINISH[step.finish_reason])])
        if with_usage:
            yield event({**usual, "choices": [], "usage": usage(job.answering)})
        yield event("[DONE]")
    except ApiError as error:
        yield event(error.body("/v1/chat/completions"))
