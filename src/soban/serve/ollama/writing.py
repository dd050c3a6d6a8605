"""/api/generate and /api/chat: one answer, whole or in lines of JSON as it is written."""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from soban.model import Model
from soban.serve.answers import arguments_of, begin, check_thinking, quiet
from soban.serve.conversation import turns_of
from soban.serve.errors import ApiError
from soban.serve.ollama.requests import ChatRequest, GenerateRequest, Tuning, WritingRequest
from soban.serve.openai import tools
from soban.serve.openai.choosing import checked_stops
from soban.serve.openai.logprobs import chat_content
from soban.serve.pool import Pool, Served
from soban.serve.pump import Job
from soban.serve.replies import Stream, as_json, record_of, unless_gone
from soban.serve.settings import Limits
from soban.talk.answer import Answering
from soban.talk.parts import ToolCall

NDJSON = "application/x-ndjson"
SAME = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "repeat_penalty": "repetition_penalty", "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}  # fmt: skip
REASONS = {"end": "stop", "stop": "stop", "length": "length", "context": "length"}
Shape = Callable[[str, str, Sequence[ToolCall]], dict[str, Any]]  # of a text, thoughts and calls
SECONDS = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|)")


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.post("/api/generate")
    async def generate(body: GenerateRequest, request: Request) -> Response:
        if body.images:
            raise ApiError("images: soban reads text alone", 400, "images")
        if not body.prompt and not body.context:
            return await load_or_unload(pool, body, {"response": ""})
        return await respond(pool, body, request, lambda model: begin_text(model, body, pool), shape_of_generate)

    @routes.post("/api/chat")
    async def chat(body: ChatRequest, request: Request) -> Response:
        if not body.messages:
            return await load_or_unload(pool, body, {"message": {"role": "assistant", "content": ""}})
        return await respond(pool, body, request, lambda model: begin_chat(model, body, pool), shape_of_chat)

    return routes


def shape_of_generate(text: str, thoughts: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    return {"response": text, **({"thinking": thoughts} if thoughts else {})}


def shape_of_chat(text: str, thoughts: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **({"thinking": thoughts} if thoughts else {})}
    return {"message": message | ({"tool_calls": list(map(shape_of_call, calls))} if calls else {})}


def shape_of_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments_of(call)}}


async def load_or_unload(pool: Pool, body: WritingRequest, empty: Mapping[str, Any]) -> Response:
    """A model that is only to be loaded, or unloaded: a question without words."""
    lasting = keep_alive(body.keep_alive)
    if lasting == 0:
        await pool.unload(body.model)
        reason = "unload"
    else:
        served = await pool.get(body.model)
        served.stay(lasting)
        reason = "load"
    return JSONResponse({"model": body.model, "created_at": now(), **empty, "done": True, "done_reason": reason})


async def respond(
    pool: Pool, body: WritingRequest, request: Request, make: Callable[[Model], Answering], shape: Shape
) -> Response:  # fmt: skip
    """What the model writes, each piece put into its place by `shape`."""
    start = time.perf_counter_ns()
    served = await pool.get(body.model)
    took = time.perf_counter_ns() - start
    record = record_of(request)
    record.model = served.name
    check_context(served.model, body.options)
    job = await served.start(make)
    writing = Writing(body, served, job, shape, start, took)
    lasting = keep_alive(body.keep_alive)

    def leave() -> None:
        record.note(job.generation.figures)
        served.leave(job)
        served.stay(lasting)

    if body.stream:
        return Stream(writing.lines(), leave, NDJSON)
    return JSONResponse(await unless_gone(request, writing.whole(), leave))


@dataclass
class Writing:
    """One answer on its way; `start` and `loading` in nanoseconds."""

    body: WritingRequest
    served: Served
    job: Job
    shape: Shape
    start: int
    loading: int

    async def whole(self) -> dict[str, Any]:
        """In one piece."""
        (answer,) = await self.job.answers()
        content = self.shape(answer.text, answer.reasoning, answer.tool_calls)
        return {"model": self.body.model, "created_at": now(), **content, **self._scores(0)[0], **self.end()}

    async def lines(self) -> AsyncIterator[str]:
        """Line by line; a call in one line, when it is complete."""
        scored, call = 0, None
        try:
            async for step in self.job:
                scores, scored = self._scores(scored)
                shapes: list[tuple[str, str, Sequence[ToolCall]]] = []
                for part in step.parts:
                    if part.kind == "text":
                        shapes.append((part.text, "", ()))
                    elif part.kind == "reasoning":
                        shapes.append(("", part.text, ()))
                    elif part.kind == "call":
                        call = ToolCall(part.id, part.name, "")
                    elif part.kind == "arguments" and call:
                        call = replace(call, arguments=call.arguments + part.text)
                    elif call:
                        shapes.append(("", "", [call]))
                        call = None
                if step.finish_reason and call:  # a stop string has cut it off
                    shapes.append(("", "", [call]))
                for shape in shapes or ([("", "", ())] if scores else []):
                    yield self._line(**self.shape(*shape), **scores, done=False)
                    scores = {}
            yield self._line(**self.shape("", "", ()), **self.end())
        except ApiError as error:
            yield as_json(error.body("/api/")) + "\n"

    def _line(self, **fields: Any) -> str:
        return as_json({"model": self.body.model, "created_at": now(), **fields}) + "\n"

    def _scores(self, count: int) -> tuple[dict[str, Any], int]:
        """The log-probabilities of the tokens after the first `count`, and how many are known then."""
        new = self.job.generation.scored[0][count:]
        return ({"logprobs": chat_content(self.served.model, new)} if new else {}), count + len(new)

    def end(self) -> dict[str, Any]:
        """What the last line has besides: why it ended, tokens, and nanoseconds."""
        generation, figures = self.job.generation, self.job.generation.figures
        return {
            "done": True, "done_reason": REASONS[generation.finish_reason(0)],
            "total_duration": time.perf_counter_ns() - self.start, "load_duration": self.loading,
            "prompt_eval_count": figures.prompt_tokens, "prompt_eval_duration": int(figures.prefill_seconds * 1e9),
            "eval_count": figures.new_tokens, "eval_duration": int(figures.decode_seconds * 1e9),
        }  # fmt: skip


def begin_text(model: Model, body: GenerateRequest, pool: Pool) -> Answering:
    """The text that follows a prompt, not begun. Raises UserError and ApiError."""
    limits = pool.settings.limits
    options, think = options_of(body, limits), thinking_of(body)
    answer = not body.raw and not body.context and model.answers(system=body.system, raw=False)
    if think and not answer:
        raise ApiError("think is for questions: neither raw text nor a context can be thought about", 400, "think")
    if answer and model.thinking:
        turns = [{"role": "system", "content": body.system}] if body.system is not None else []
        turns.append({"role": "user", "content": body.prompt})
        return begin(model, turns, limits, thinking=think, names=("prompt", "think"), **options)
    check_thinking(model, think, "think")
    prompt: str | list[int] = body.prompt
    if body.context:
        prompt = [*body.context, *model.prompt_ids(body.prompt, system=body.system, raw=body.raw)]
        return Answering(model.start(prompt, echo=False, show=quiet, **options))
    return Answering(model.start(prompt, system=body.system, raw=body.raw, echo=False, show=quiet, **options))


def begin_chat(model: Model, body: ChatRequest, pool: Pool) -> Answering:
    """The answer to a conversation, not begun. Raises UserError and ApiError."""
    limits = pool.settings.limits
    for number in (n for n, message in enumerate(body.messages) if message.get("images")):
        raise ApiError(f"messages[{number}].images: soban reads text alone", 400, "messages")
    options = options_of(body, limits)
    if body.tools:
        functions = [{"type": "function", **{k: v for k, v in tool.items() if v is not None}} for tool in body.tools]
        options |= tools.options_of(functions, None, None, flat=False)
    names = ("messages", "think")
    return begin(model, turns_of(body.messages), limits, thinking=thinking_of(body), names=names, **options)


def thinking_of(body: WritingRequest) -> bool | None:
    """Whether to think; templates know yes and no, so any level means yes."""
    return None if body.think is None else body.think is not False


def options_of(body: WritingRequest, limits: Limits) -> dict[str, Any]:
    """The options of `Model.start`."""
    tuning = body.options
    options = {ours: v for theirs, ours in SAME.items() if (v := getattr(tuning, theirs)) is not None}
    if tuning.num_predict is not None and tuning.num_predict > 0:
        options["max_new_tokens"] = tuning.num_predict
    if tuning.seed is not None:
        options["seed"] = tuning.seed % (1 << 64)
    if tuning.stop:
        options["stop"] = checked_stops([tuning.stop] if isinstance(tuning.stop, str) else tuning.stop, limits)
    if tuning.repeat_penalty not in (None, 1) and tuning.repeat_last_n not in (None, -1):
        raise ApiError("options.repeat_last_n: soban's repeat_penalty looks at the whole text; give -1", 400)
    if body.logprobs:
        options["logprobs"] = body.top_logprobs or 0
    if body.format not in (None, ""):
        options["schema"] = {"type": "object"} if body.format == "json" else body.format
        if isinstance(options["schema"], str):
            raise ApiError(f"format '{body.format}': json, or a JSON schema", 400, "format")
    options["on_full"] = "error" if body.truncate is False or body.shift is False else "slide"
    return options


def check_context(model: Model, options: Tuning) -> None:
    """Raises ApiError where more context is wanted than the model was loaded with."""
    if options.num_ctx is not None and options.num_ctx > model.context:
        raise ApiError(
            f"num_ctx={options.num_ctx}: the model is loaded with a context of {model.context} tokens; start "
            "the server with a greater --context, where the model allows it", 400, "options.num_ctx",
        )  # fmt: skip


def keep_alive(value: str | float | int | None) -> float | None:
    """Seconds: as in 300, "5m", "24h", -1 (for ever); None where nothing was said."""
    if value is None:
        return None
    match = SECONDS.fullmatch(str(value).strip())
    if match is None:
        raise ApiError(f"keep_alive '{value}': write 300, 5m or 24h", 400, "keep_alive")
    return float(match[1]) * {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]]


def now() -> str:
    """The time as Ollama writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
