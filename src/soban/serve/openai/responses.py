"""/v1/responses: an answer in items, whole or as events; and conversations that go on from one."""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse
from starlette.responses import Response as HttpResponse

from soban.model import Model
from soban.serve import answers, guard
from soban.serve.errors import ApiError
from soban.serve.openai import tools
from soban.serve.openai.chat import thinking_of
from soban.serve.openai.conversations import Conversations, Item
from soban.serve.openai.items import turns_of_items
from soban.serve.openai.items import whole as whole_item
from soban.serve.openai.requests import ResponsesRequest
from soban.serve.openai.response import Response
from soban.serve.pool import Pool, Served
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.serve.settings import Limits
from soban.talk.answer import Answering

PATH = "/v1/responses"
SAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens")


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()
    limits = pool.settings.limits
    conversations = Conversations(limits.responses, limits.response_bytes)

    @routes.post(PATH)
    async def create(body: ResponsesRequest, request: Request) -> HttpResponse:
        owner = guard.owner.get()
        items = items_of(body, conversations, owner)
        served = await pool.get(body.model)
        record = record_of(request)
        record.model = served.name
        job = await served.start(lambda model: begin(model, body, items, limits))
        response = Response(new_response(served, job, body), job.answering)

        def leave() -> None:
            record.note(job.generation.figures)
            served.leave(job)

        def keep() -> None:
            if body.store is not False:
                conversations.keep(owner, response.body, [*items, *response.output])

        if body.stream:
            return Stream(events(job, response, keep), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(job, response, keep), leave))

    @routes.get(PATH + "/{id}")
    async def retrieve(id: str) -> dict[str, Any]:
        return conversations.find(guard.owner.get(), id).read()[0]

    @routes.get(PATH + "/{id}/input_items")
    async def input_items(
        id: str, limit: int = Query(20, ge=1, le=100), order: Literal["asc", "desc"] = "desc", after: str | None = None
    ) -> dict[str, Any]:
        response, items = conversations.find(guard.owner.get(), id).read()
        return page(items[: len(items) - len(response["output"])], limit, order, after)

    @routes.delete(PATH + "/{id}")
    async def delete(id: str) -> dict[str, Any]:
        conversations.forget(guard.owner.get(), id)
        return {"id": id, "object": "response", "deleted": True}

    return routes


def items_of(body: ResponsesRequest, conversations: Conversations, owner: str) -> list[Item]:
    """The conversation until now: what went before the response that this one follows, and what is new."""
    new = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    if not new:
        raise ApiError("input is an empty list", 400, "input")
    resolved = conversations.resolved(owner, new)
    turns_of_items(resolved)  # whatever is wrong with them is told by their own places
    resolved = [whole_item(item) for item in resolved]
    if body.previous_response_id is None:
        return resolved
    _, before = conversations.find(owner, body.previous_response_id, "previous_response_id").read()
    return [*before, *resolved]


def page(items: Sequence[Item], limit: int, order: str, after: str | None) -> dict[str, Any]:
    """Some of the items, as OpenAI lists them: those behind the one with the id `after`. Raises ApiError."""
    items = list(items) if order == "asc" else list(reversed(items))
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise ApiError(f"after '{after}' is none of this response's items", 404, "after", "item_not_found")
    first = 0 if after is None else ids.index(after) + 1
    data = items[first : first + limit]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": "", "last_id": ""}
    return {"object": "list", "data": data, **ends, "has_more": first + limit < len(items)}


def begin(model: Model, body: ResponsesRequest, items: Sequence[Item], limits: Limits) -> Answering:
    """The answer, not begun. Raises UserError and ApiError."""
    options = {name: v for name in SAME if (v := getattr(body, name)) is not None}
    if body.max_output_tokens is not None:
        options["max_new_tokens"] = body.max_output_tokens
    if body.seed is not None:
        options["seed"] = body.seed % (1 << 64)
    if body.text and body.text.format:
        options |= form_of(body.text.format)
    options |= tools.options_of(body.tools, body.tool_choice, body.parallel_tool_calls, flat=True)
    turns = turns_of_items(items)
    if body.instructions:
        turns.insert(0, {"role": "system", "content": body.instructions})
    effort = body.reasoning.effort if body.reasoning else None
    return answers.begin(
        model, turns, limits, thinking=thinking_of(effort), names=("input", "reasoning.effort"),
        on_full="slide" if body.truncation == "auto" else "error", **options,
    )  # fmt: skip


def form_of(form: dict[str, Any]) -> dict[str, Any]:
    """The option for a text.format. Raises ApiError for one that is none."""
    match form:
        case {"type": "text"}:
            return {}
        case {"type": "json_object"}:
            return {"schema": {"type": "object"}}
        case {"type": "json_schema", "schema": dict() as schema}:
            return {"schema": schema}
    raise ApiError("text.format: text, json_object, or json_schema with a schema", 400, "text.format")


def new_response(served: Served, job: Job, body: ResponsesRequest) -> dict[str, Any]:
    """The response before anything is written: what was asked, as it was understood."""
    sampling = job.generation.sequences[0].request.sampling
    functions = [
        {"strict": True, "description": None, "parameters": None, **{k: v for k, v in tool.items() if v is not None}}
        for tool in body.tools or []
    ]
    return {
        "id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "background": False, "completed_at": None, "error": None, "incomplete_details": None,
        "instructions": body.instructions, "max_output_tokens": body.max_output_tokens, "model": served.name,
        "output": [], "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id, "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "safety_identifier": body.safety_identifier, "service_tier": "default", "store": body.store is not False,
        "temperature": sampling.temperature if sampling.do_sample else 0.0,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto", "tools": functions, "top_logprobs": 0, "top_p": sampling.top_p,
        "truncation": body.truncation or "disabled", "metadata": body.metadata or {},
    }  # fmt: skip


async def events_of(job: Job, response: Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a response."""
    for one in response.begin():
        yield one
    async for step in job:
        for one in response.take(step):
            yield one
    for one in response.end():
        yield one


async def whole(job: Job, response: Response, keep: Callable[[], None]) -> dict[str, Any]:
    """The response, when it is written."""
    async for _ in events_of(job, response):
        pass
    keep()
    return response.body


async def events(job: Job, response: Response, keep: Callable[[], None]) -> AsyncIterator[str]:
    """The response as events."""
    try:
        async for one in events_of(job, response):
            if one["type"] in ("response.completed", "response.incomplete"):
                keep()  # before whoever asks may go on from it
            yield event(one, one["type"])
    except ApiError as error:
        failed = response.fail(error)
        yield event(failed, failed["type"])
