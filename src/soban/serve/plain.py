"""What llama.cpp's server has besides: health, figures, tokens and templates."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from soban.base.errors import UserError
from soban.serve import errors
from soban.serve.conversation import turns_of
from soban.serve.errors import ApiError
from soban.serve.metrics import Metrics
from soban.serve.openai.logprobs import token_text
from soban.serve.openai.requests import Body, Message
from soban.serve.pool import Pool
from soban.serve.replies import record_of


class TokenizeRequest(Body):
    model: str | None = None
    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(Body):
    model: str | None = None
    tokens: list[int]


class TemplateRequest(Body):
    model: str | None = None
    messages: list[Message]


def router(pool: Pool, metrics: Metrics) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> Response:
        if pool.loading is not None:
            body = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
            return JSONResponse(body, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ok"})

    @routes.get("/livez")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    routes.add_api_route("/readyz", health, methods=["GET"])

    @routes.get("/metrics")
    async def figures() -> Response:
        return PlainTextResponse(metrics.text(pool), media_type="text/plain; version=0.0.4; charset=utf-8")

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeRequest, request: Request) -> dict[str, Any]:
        model = (await pool.get(body.model)).model
        ids = model.tokenize(body.content, bos=None if body.add_special else False, special=body.parse_special)
        record_of(request).prompt_tokens = len(ids)
        return {"tokens": [{"id": one, "piece": token_text(model, one)} for one in ids] if body.with_pieces else ids}

    @routes.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        return {"content": (await pool.get(body.model)).model.detokenize(body.tokens)}

    @routes.post("/apply-template")
    async def apply_template(body: TemplateRequest) -> dict[str, Any]:
        model = (await pool.get(body.model)).model
        turns = turns_of([message.model_dump(exclude_none=True) for message in body.messages])
        if model.template is None:
            raise ApiError("the model has no chat template", 400, "model")
        try:
            names: dict[str, Any] = {**model.tokenizer.special_tokens, **model.template.tokens}
            return {"prompt": model.template.render(turns, **names)}
        except UserError as error:
            raise errors.of(error, "messages") from error

    return routes
