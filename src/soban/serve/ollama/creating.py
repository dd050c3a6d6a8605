"""/api/create and /api/copy: names for models with a system text and settings."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from soban.base.errors import UserError
from soban.loading import custom
from soban.loading.modelfile import HARDWARE, ROLES, VALUES, Modelfile
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.serve.ollama.writing import NDJSON
from soban.serve.openai.requests import Refused
from soban.serve.pool import Pool
from soban.serve.replies import Stream, as_json
from soban.text.chat.templates import NAMED


class CreateRequest(BaseModel):
    """A model with a name of its own. No file is named in it: `from` is a model that is served."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    name: str | None = None
    base: str = Field(alias="from")
    system: str | None = None
    template: str | None = None
    parameters: dict[str, Any] = {}
    messages: list[dict[str, Any]] = []
    license: str | list[str] = ""
    stream: bool = True
    modelfile: Refused = None
    adapters: Refused = None
    files: Refused = None
    quantize: Refused = None


class CopyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source: str
    destination: str


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.post("/api/create")
    async def create(body: CreateRequest) -> Response:
        name = body.model or body.name
        if not name:
            raise ApiError("model is missing", 400, "model")
        check_free(pool)
        modelfile = modelfile_of(body, pool)
        await give_name(name, modelfile)
        if not body.stream:
            return JSONResponse({"status": "success"})

        async def lines() -> AsyncIterator[str]:
            for status in ("writing manifest", "success"):
                yield as_json({"status": status}) + "\n"

        return Stream(lines(), lambda: None, NDJSON)

    @routes.post("/api/copy")
    async def copy(body: CopyRequest) -> Response:
        check_free(pool)
        source = pool.spelled(body.source)
        own = await asyncio.to_thread(custom.find, source)
        await give_name(body.destination, own.modelfile if own else Modelfile(source))
        return Response(status_code=200)

    return routes


def check_free(pool: Pool) -> None:
    """Raises ApiError where names make no sense."""
    if pool.settings.models:
        raise ApiError("a server that was started for certain models gets no others: use soban create", 403)


async def give_name(name: str, modelfile: Modelfile) -> None:
    """Gives the model its name. Raises ApiError."""
    try:
        await asyncio.to_thread(custom.keep, name, modelfile)
    except UserError as error:
        raise errors.of(error, "model") from error


def modelfile_of(body: CreateRequest, pool: Pool) -> Modelfile:
    """What is asked for as a Modelfile would say it. Raises ApiError that names the field."""
    if body.template is not None and body.template not in NAMED:
        raise ApiError(f"template: taken by its name, one of {', '.join(sorted(NAMED))}", 400, "template")
    messages = []
    for number, message in enumerate(body.messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str) or not content:
            raise ApiError(f"messages[{number}] is no role and text", 400, f"messages[{number}]")
        messages.append((role, content))
    text = body.license if isinstance(body.license, str) else "\n\n".join(body.license)
    return Modelfile(
        pool.spelled(body.base), None, parameters_of(body.parameters), body.system, body.template, tuple(messages),
        text,
    )  # fmt: skip


def parameters_of(fields: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Ollama's parameters, each of its type. Raises ApiError."""
    parameters: dict[str, Any] = {}
    for key, value in fields.items():
        place = f"parameters.{key}"
        if key in HARDWARE:
            continue
        if key not in VALUES:
            raise ApiError(f"{place}: soban does not do this; there are {', '.join(VALUES)}", 400, place)
        if key == "stop":
            stops = [value] if isinstance(value, str) else value
            if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
                raise ApiError(f"{place} is no text, nor a list of texts", 400, place)
            parameters[key] = tuple(stops)
        elif isinstance(value, bool) or not isinstance(value, int | float) or value != VALUES[key](value):
            raise ApiError(f"{place} is no number of its kind", 400, place)
        else:
            parameters[key] = VALUES[key](value)
    return tuple(parameters.items())
