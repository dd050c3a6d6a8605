"""/v1/messages, streamed or whole, and the counting of tokens."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from soban.model import Model
from soban.serve import answers
from soban.serve.anthropic.requests import CountRequest, MessagesRequest, options_of, turns_of, ways_of
from soban.serve.errors import ApiError
from soban.serve.pool import Pool
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.serve.settings import Limits
from soban.talk.answer import Answer, Answering
from soban.talk.generation import Generation
from soban.talk.parts import Part

REASONS = {
    "end": "end_turn", "stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens",
    "context": "model_context_window_exceeded",
}  # fmt: skip
NAMES = ("messages", "thinking")
BLOCKS = {"text": "text", "reasoning": "thinking", "call": "tool_use"}  # which a part begins, or goes on with


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()
    limits = pool.settings.limits

    @routes.post("/v1/messages")
    async def messages(body: MessagesRequest, request: Request) -> Response:
        served = await pool.get(body.model)
        record = record_of(request)
        record.model = served.name
        job = await served.start(lambda model: begin(model, body, limits, **options_of(body, limits)))
        head = {
            "id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": served.name,
            "stop_sequence": None,
        }  # fmt: skip

        def leave() -> None:
            record.note(job.generation.figures)
            served.leave(job)

        if body.stream:
            return Stream(events(job, head), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(job, head), leave))

    @routes.post("/v1/messages/count_tokens")
    async def count(body: CountRequest) -> dict[str, int]:
        served = await pool.get(body.model)
        answering = await served.prepare(lambda model: begin(model, body, limits, max_new_tokens=1))
        return {"input_tokens": answering.figures.prompt_tokens}

    return routes


def begin(model: Model, body: CountRequest, limits: Limits, **options: Any) -> Answering:
    """The answer, not begun. Raises UserError and ApiError."""
    return answers.begin(model, turns_of(body), limits, names=NAMES, **ways_of(model, body), **options)


def usage(generation: Generation) -> dict[str, int]:
    """The tokens of a request; those that were found in the cache are counted apart."""
    figures = generation.figures
    return {
        "input_tokens": figures.prompt_tokens - figures.reused_tokens, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": figures.reused_tokens, "output_tokens": figures.new_tokens,
    }  # fmt: skip


def reason(job: Job) -> dict[str, Any]:
    """Why the answer ended, and the stop sequence that ended it."""
    if (matched := job.generation.stopped_by(0)) is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    return {"stop_reason": REASONS[job.answering.answers[0].finish_reason], "stop_sequence": None}


async def whole(job: Job, head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    (answer,) = await job.answers()
    return {**head, "content": content(answer), **reason(job), "usage": usage(job.generation)}


def content(answer: Answer) -> list[dict[str, Any]]:
    """An answer as blocks, in the order in which it was written."""
    thoughts = [{"type": "thinking", "thinking": answer.reasoning, "signature": ""}] if answer.reasoning else []
    texts = [{"type": "text", "text": answer.text, "citations": None}] if answer.text else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": answers.arguments_of(call)}
        for call in answer.tool_calls
    ]
    return [*thoughts, *texts, *calls]


def empty_block(part: Part) -> dict[str, Any]:
    """The block that a part begins, without what the part adds to it."""
    if part.kind == "call":
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": "", "citations": None}


def delta(part: Part) -> dict[str, Any]:
    """What a part adds to its block."""
    if part.kind == "arguments":
        return {"type": "input_json_delta", "partial_json": part.text}
    if part.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": part.text}
    return {"type": "text_delta", "text": part.text}


async def events(job: Job, head: Mapping[str, Any]) -> AsyncIterator[str]:
    """The answer as events, in the order that Anthropic's clients insist on."""

    def event_of(kind: str, **rest: Any) -> str:
        return event({"type": kind, **rest}, kind)

    index, block = -1, ""  # the one that is open
    try:
        start = {**head, "content": [], "stop_reason": None, "usage": usage(job.generation) | {"output_tokens": 0}}
        yield event_of("message_start", message=start)
        async for step in job:
            for part in step.parts:
                kind = BLOCKS.get(part.kind, block)
                if part.kind == "call" or kind != block:
                    if block:
                        yield event_of("content_block_stop", index=index)
                    index, block = index + 1, kind
                    yield event_of("content_block_start", index=index, content_block=empty_block(part))
                if part.text:
                    yield event_of("content_block_delta", index=index, delta=delta(part))
        if block:
            yield event_of("content_block_stop", index=index)
        yield event_of("message_delta", delta=reason(job), usage=usage(job.generation))
        yield event_of("message_stop")
    except ApiError as error:
        yield event(error.body("/v1/messages"), "error")
