"""Anthropic's API: /v1/messages, streamed or whole, and the counting of tokens."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from soban.model import Model
from soban.serve.conversation import text_of, turns_of
from soban.serve.errors import ApiError
from soban.serve.openai.chat import quiet
from soban.serve.openai.choosing import checked_stops
from soban.serve.openai.requests import Ignored, Refused
from soban.serve.pool import Pool
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.serve.settings import Limits
from soban.talk.generation import Generation

REASONS = {"end": "end_turn", "length": "max_tokens", "context": "model_context_window_exceeded"}


class CountRequest(BaseModel):
    """A conversation, of which the tokens are to be counted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    cache_control: Ignored = None


class MessagesRequest(CountRequest):
    """What /v1/messages takes; what soban cannot do is refused by name."""

    max_tokens: int = Field(ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    metadata: Ignored = None
    service_tier: Ignored = None
    inference_geo: Ignored = None
    container: Refused = None
    mcp_servers: Refused = None
    output_config: Refused = None
    context_management: Refused = None


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.post("/v1/messages")
    async def messages(asked: MessagesRequest, request: Request) -> Response:
        served = await pool.get(asked.model)
        record = record_of(request)
        record.model = served.name
        job = await served.start(lambda model: begin(model, asked, pool.settings.limits))
        head = {
            "id": f"msg_{uuid.uuid4().hex[:24]}", "type": "message", "role": "assistant", "model": served.name,
            "stop_sequence": None,
        }  # fmt: skip

        def leave() -> None:
            record.note(job.generation.figures)
            served.leave(job)

        if asked.stream:
            return Stream(events(job, head), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(job, head), leave))

    @routes.post("/v1/messages/count_tokens")
    async def count(asked: CountRequest) -> dict[str, int]:
        served = await pool.get(asked.model)
        job = await served.prepare(lambda model: model.start_chat(conversation(asked), show=quiet, max_new_tokens=1))
        return {"input_tokens": job.figures.prompt_tokens}

    return routes


def conversation(asked: CountRequest) -> list[dict[str, Any]]:
    """The turns, with the system text as the first of them."""
    if asked.tools:
        raise ApiError("tools: soban does not do this here yet", 400, "tools")
    if asked.thinking and asked.thinking.get("type") != "disabled":
        raise ApiError("thinking: soban does not do this here yet", 400, "thinking")
    turns = turns_of(asked.messages)
    if asked.system:
        turns.insert(0, {"role": "system", "content": text_of(asked.system, "system")})
    return turns


def begin(model: Model, asked: MessagesRequest, limits: Limits) -> Generation:
    """The generation that answers. Raises UserError and ApiError."""
    if len(asked.messages) > limits.messages:
        raise ApiError(f"{len(asked.messages)} messages, where {limits.messages} are possible", 400, "messages")
    options: dict[str, Any] = {"max_new_tokens": asked.max_tokens}
    options |= {name: v for name in ("temperature", "top_p", "top_k") if (v := getattr(asked, name)) is not None}
    if asked.stop_sequences:
        options["stop"] = checked_stops(asked.stop_sequences, limits)
    return model.start_chat(conversation(asked), show=quiet, **options)


def usage(generation: Generation) -> dict[str, int]:
    """The tokens of a request; those that were found in the cache are counted apart."""
    figures = generation.figures
    return {
        "input_tokens": figures.prompt_tokens - figures.reused_tokens, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": figures.reused_tokens, "output_tokens": figures.new_tokens,
    }  # fmt: skip


def reason(generation: Generation) -> dict[str, Any]:
    """Why the answer ended, and the stop sequence that ended it."""
    if (matched := generation.stopped_by(0)) is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    finish = generation.finish_reason(0)
    return {"stop_reason": "end_turn" if finish == "stop" else REASONS[finish], "stop_sequence": None}


async def whole(job: Job, head: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in one piece."""
    text = "".join([part.text async for part in job])
    content = [{"type": "text", "text": text, "citations": None}] if text else []
    return {**head, "content": content, **reason(job.generation), "usage": usage(job.generation)}


async def events(job: Job, head: Mapping[str, Any]) -> AsyncIterator[str]:
    """The answer as events, in the order that Anthropic's clients insist on."""

    def named(kind: str, **rest: Any) -> str:
        return event({"type": kind, **rest}, kind)

    try:
        begun = {**head, "content": [], "stop_reason": None, "usage": usage(job.generation) | {"output_tokens": 0}}
        yield named("message_start", message=begun)
        yield named("content_block_start", index=0, content_block={"type": "text", "text": "", "citations": None})
        async for part in job:
            if part.text:
                yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": part.text})
        yield named("content_block_stop", index=0)
        yield named("message_delta", delta=reason(job.generation), usage=usage(job.generation))
        yield named("message_stop")
    except ApiError as error:
        yield event(error.body("/v1/messages"), "error")
