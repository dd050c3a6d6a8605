"""/v1/completions: texts that the model goes on with, as they are; and how likely it holds the ones that are given."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from soban.base.errors import UserError
from soban.engine.logprobs import Logprobs
from soban.model import Model
from soban.serve import errors
from soban.serve.answers import quiet
from soban.serve.errors import ApiError
from soban.serve.openai.chat import FINISH, fingerprint
from soban.serve.openai.choosing import options_of
from soban.serve.openai.logprobs import completion, of_prompt
from soban.serve.openai.requests import CompletionRequest
from soban.serve.pool import Pool, Served
from soban.serve.pump import Job
from soban.serve.replies import Stream, event, record_of, unless_gone
from soban.talk.answer import Answering

USUAL_TOKENS = 16  # OpenAI's
Prompt = str | list[int]
Scores = list[tuple[int, Logprobs | None]]


@dataclass
class Texts:
    """One prompt, the job that goes on with it (None: nothing is to follow), and what is known of the prompt itself."""

    prompt: Prompt
    echo: str
    job: Job | None
    scores: Scores


def router(pool: Pool) -> APIRouter:
    """The path and its handler."""
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        served = await pool.get(body.model)
        record = record_of(request)
        record.model = served.name
        check(body)
        prompts = prompts_of(body.prompt, pool.settings.limits.prompts)
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()),
            "model": served.name, "system_fingerprint": fingerprint(served),
        }  # fmt: skip
        all_texts: list[Texts] = []

        def leave() -> None:
            for texts in all_texts:
                if texts.job is not None:
                    record.note(texts.job.generation.figures)
                    served.leave(texts.job)

        try:
            for prompt in prompts:
                all_texts.append(await begin(served, prompt, body, pool))
        except BaseException:
            leave()
            raise
        if body.stream:
            return Stream(chunks(served, all_texts, body, head), leave, "text/event-stream")
        return JSONResponse(await unless_gone(request, whole(served, all_texts, body, head), leave))

    return routes


def check(body: CompletionRequest) -> None:
    """Raises ApiError for what cannot be had together."""
    if body.best_of not in (None, body.n or 1):
        raise ApiError(
            f"best_of={body.best_of} without n={body.best_of}: soban gives all that it writes", 400, "best_of"
        )
    if body.max_tokens == 0 and not body.echo:
        raise ApiError("max_tokens=0 is for echo, which tells how likely the prompt is", 400, "max_tokens")
    if body.on_full == "summarise":
        raise ApiError("on_full=summarise is for conversations", 400, "on_full")


def prompts_of(prompt: str | list[str] | list[int] | list[list[int]], most: int) -> list[Prompt]:
    """The prompts one by one."""
    if isinstance(prompt, str):
        return [prompt]
    if prompt and all(isinstance(one, int) for one in prompt):
        return [prompt]  # type: ignore[list-item]
    if not prompt:
        raise ApiError("prompt is an empty list", 400, "prompt")
    if len(prompt) > most:
        raise ApiError(f"{len(prompt)} prompts, where {most} are possible", 400, "prompt")
    return prompt  # type: ignore[return-value]


async def begin(served: Served, prompt: Prompt, body: CompletionRequest, pool: Pool) -> Texts:
    """The prompt, on its way."""
    most = USUAL_TOKENS if body.max_tokens is None else body.max_tokens
    options = options_of(body, most or None, pool.settings.limits)
    if body.logprobs is not None:
        options["logprobs"] = body.logprobs
    job = None
    if most:
        job = await served.start(
            lambda model: Answering(model.start(prompt, raw=True, echo=False, show=quiet, **options))
        )
    try:
        echo, scores = await asyncio.to_thread(_echo_of, served.model, prompt, body)
    except UserError as error:
        raise errors.of(error, "prompt") from error
    return Texts(prompt, echo, job, scores)


def _echo_of(model: Model, prompt: Prompt, body: CompletionRequest) -> tuple[str, Scores]:
    if not body.echo:
        return "", []
    if isinstance(prompt, str):
        text, ids = prompt, model.prompt_ids(prompt, raw=True)
    else:
        text, ids = model.tokenizer.decode(prompt, skip_special=False), prompt
    return text, of_prompt(model, ids, body.logprobs) if body.logprobs is not None else []


async def whole(
    served: Served, all_texts: list[Texts], body: CompletionRequest, head: dict[str, Any]
) -> dict[str, Any]:
    """The answer in one piece: the texts of the first prompt, then those of the second."""
    choices: list[dict[str, Any]] = []
    for texts in all_texts:
        outputs, reasons = [texts.echo] * (body.n or 1), ["length"] * (body.n or 1)
        if texts.job is not None:
            for index, answer in enumerate(await texts.job.answers()):
                outputs[index] += answer.text
                reasons[index] = answer.finish_reason
        for index, text in enumerate(outputs):
            logprobs = None
            if body.logprobs is not None:
                own = texts.job.generation.scored[index] if texts.job else []
                logprobs = completion(served.model, [*texts.scores, *own], 0, body.logprobs)
            choices.append(
                {"index": len(choices), "text": text, "logprobs": logprobs, "finish_reason": FINISH[reasons[index]]}
            )
    return {**head, "choices": choices, "usage": usage(all_texts, served.model)}


def usage(all_texts: list[Texts], model: Model) -> dict[str, int]:
    """The tokens of all prompts and texts together."""
    prompt = sum(t.job.generation.figures.prompt_tokens if t.job else max(len(t.scores), 1) for t in all_texts)
    new = sum(t.job.generation.figures.new_tokens for t in all_texts if t.job)
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


async def chunks(
    served: Served, all_texts: list[Texts], body: CompletionRequest, head: dict[str, Any]
) -> AsyncIterator[str]:
    """The answer as events; of several prompts as they come."""
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def forward(number: int, job: Job) -> None:
        try:
            async for step in job:
                queue.put_nowait((number, step))
            queue.put_nowait((number, None))
        except ApiError as error:
            queue.put_nowait((number, error))

    def chunk(index: int, text: str, reason: str | None, logprobs: Any) -> str:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return event({**head, "choices": [choice]})

    many, offsets = body.n or 1, {}
    tasks = [asyncio.ensure_future(forward(n, t.job)) for n, t in enumerate(all_texts) if t.job]
    try:
        for number, texts in enumerate(all_texts):
            for index in range(number * many, (number + 1) * many):
                offsets[index] = len(texts.echo)
                if texts.echo or texts.job is None:
                    top = body.logprobs or 0
                    logprobs = completion(served.model, texts.scores, 0, top) if texts.scores else None
                    yield chunk(index, texts.echo, None if texts.job else "length", logprobs)
        left, counts = len(tasks), dict.fromkeys(offsets, 0)
        while left:
            number, step = await queue.get()
            if isinstance(step, ApiError):
                raise step
            if step is None:
                left -= 1
                continue
            index, job, logprobs = number * many + step.index, all_texts[number].job, None
            if body.logprobs is not None and job is not None:
                new = job.generation.scored[step.index][counts[index] :]
                logprobs = completion(served.model, new, offsets[index], body.logprobs)
                counts[index] += len(new)
            offsets[index] += len(step.text)
            if step.text or step.finish_reason or logprobs:
                yield chunk(index, step.text, FINISH.get(step.finish_reason), logprobs)
        if body.stream_options is not None and body.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": usage(all_texts, served.model)})
        yield event("[DONE]")
    except ApiError as error:
        yield event(error.body("/v1/completions"))
    finally:
        for task in tasks:
            task.cancel()
