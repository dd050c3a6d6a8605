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
    async def create(asked: CreateRequest) -> Response:
        name = asked.model or asked.name
        if not name:
            raise ApiError("model is missing", 400, "model")
        check_free(pool)
        modelfile = modelfile_of(asked, pool)
        await kept(name, modelfile)
        if not asked.stream:
            return JSONResponse({"status": "success"})

        async def lines() -> AsyncIterator[str]:
            for status in ("writing manifest", "success"):
                yield as_json({"status": status}) + "\n"

        return Stream(lines(), lambda: None, NDJSON)

    @routes.post("/api/copy")
    async def copy(asked: CopyRequest) -> Response:
        check_free(pool)
        source = pool.spelled(asked.source)
        own = await asyncio.to_thread(custom.find, source)
        await kept(asked.destination, own.modelfile if own else Modelfile(source))
        return Response(status_code=200)

    return routes


def check_free(pool: Pool) -> None:
    """Raises ApiError where names make no sense."""
    if pool.settings.models:
        raise ApiError("a server that was started for certain models gets no others: use soban create", 403)


async def kept(name: str, modelfile: Modelfile) -> None:
    """Gives the model its name. Raises ApiError."""
    try:
        await asyncio.to_thread(custom.keep, name, modelfile)
    except UserError as error:
        raise errors.of(error, "model") from error


def modelfile_of(asked: CreateRequest, pool: Pool) -> Modelfile:
    """What is asked for as a Modelfile would say it. Raises ApiError that names the field."""
    if asked.template is not None and asked.template not in NAMED:
        raise ApiError(f"template: taken by its name, one of {', '.join(sorted(NAMED))}", 400, "template")
    messages = []
    for number, message in enumerate(asked.messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str) or not content:
            raise ApiError(f"messages[{number}] is no role and text", 400, f"messages[{number}]")
        messages.append((role, content))
    text = asked.license if isinstance(asked.license, str) else "\n\n".join(asked.license)
    return Modelfile(
        pool.spelled(asked.base), None, parameters_of(asked.parameters), asked.system, asked.template, tuple(messages),
        text,
    )  # fmt: skip


def parameters_of(given: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Ollama's parameters, each of its type. Raises ApiError."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        place = f"parameters.{key}"
        if key in HARDWARE:
            continue
        if key not in VALUES:
            raise ApiError(f"{place}: soban does not do this; there are {', '.join(VALUES)}", 400, place)
        if key == "stop":
            stops = [value] if isinstance(value, str) else value
            if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
                raise ApiError(f"{place} is no text, nor a list of texts", 400, place)
            found[key] = tuple(stops)
        elif isinstance(value, bool) or not isinstance(value, int | float) or value != VALUES[key](value):
            raise ApiError(f"{place} is no number of its kind", 400, place)
        else:
            found[key] = VALUES[key](value)
    return tuple(found.items())
