"""Which models there are, and what each is: /api/tags, ps, show, version; pull and delete."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from soban.base.errors import UserError
from soban.base.files import read_json
from soban.base.version import VERSION
from soban.hub import names, store
from soban.loading import custom
from soban.model import Model
from soban.models import is_encoder
from soban.serve import errors, facts
from soban.serve.errors import ApiError
from soban.serve.ollama.requests import NameRequest
from soban.serve.ollama.writing import NDJSON
from soban.serve.pool import Base, Pool
from soban.serve.replies import Stream, as_json

FOLLOWED = "0.13.0"  # the version of Ollama whose API this is; programs ask for at least one or another
FOREVER = "9999-12-31T23:59:59Z"


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def root() -> Response:
        return PlainTextResponse("Ollama is running\n(this is soban, which speaks Ollama's API)\n")

    @routes.api_route("/api/version", methods=["GET", "HEAD"])
    async def version() -> dict[str, str]:
        return {"version": FOLLOWED, "soban": VERSION}

    @routes.api_route("/api/tags", methods=["GET", "HEAD"])
    async def tags() -> dict[str, Any]:
        return {"models": await asyncio.to_thread(listed, pool)}

    @routes.get("/api/ps")
    async def running() -> dict[str, Any]:
        return {"models": [in_memory(base) for base in pool.bases.values()]}

    @routes.post("/api/show")
    async def show(body: NameRequest) -> dict[str, Any]:
        name = name_of(body)
        return description_of((await pool.get(name)).model, await asyncio.to_thread(custom.find, name))

    @routes.post("/api/pull")
    async def pull(body: NameRequest) -> Response:
        repository = repository_of(name_of(body))
        fetched = progress(repository)
        if body.stream:
            return Stream(fetched, lambda: None, NDJSON)
        last = ""
        async for line in fetched:
            last = line
        return Response(last, media_type="application/json")

    @routes.delete("/api/delete")
    async def delete(body: NameRequest) -> Response:
        name = name_of(body)
        if pool.settings.models:
            raise ApiError("models are not deleted by a server that was started for certain ones: use soban rm", 403)
        if (own := await asyncio.to_thread(custom.find, name)) is not None:
            custom.remove(own)
            return Response(status_code=200)
        await pool.unload(name)
        folders = [folder for folder in store.models() if name in (store.name_of(folder), folder.id)]
        if not folders:
            raise ApiError(f"model '{name}' not found", 404)
        for folder in folders:
            await asyncio.to_thread(store.remove, folder)
        return Response(status_code=200)

    @routes.post("/api/push")
    async def push() -> Response:
        raise ApiError("soban does not push to Ollama's registry; soban publish is for models of your own", 501)

    return routes


def name_of(body: NameRequest) -> str:
    """The name, in whichever field it stands."""
    name = body.model or body.name
    if not name:
        raise ApiError("model is missing", 400, "model")
    return name


def listed(pool: Pool) -> list[dict[str, Any]]:
    """Every model that may be asked for, as far as can be told without loading it."""
    here = {store.name_of(folder): folder for folder in store.models() if folder.complete}
    models = []
    for name in pool.names():
        base = pool.in_memory(name)
        folder = here.get(name)
        last_use = folder.used if folder else base.loaded if base else 0.0
        details = details_of(base.model) if base else unknown_details()
        size = facts.weights_of(base.model) if base else folder.bytes if folder else 0
        models.append(
            {
                "name": name, "model": name, "modified_at": moment(last_use), "size": size, "digest": digest(name),
                "details": details, "capabilities": capabilities(base.model if base else folder),
            }
        )  # fmt: skip
    return models


def in_memory(base: Base) -> dict[str, Any]:
    """A model that is in memory, with what it takes there."""
    model, expires = base.model, base.expires
    left = None if expires is None else expires - time.monotonic()
    return {
        "name": base.name, "model": base.name, "size": facts.weights_of(model), "size_vram": 0,
        "digest": digest(base.name), "details": details_of(model), "context_length": model.context,
        "expires_at": FOREVER if left is None else moment(time.time() + left), "requests": base.pump.count,
    }  # fmt: skip


def description_of(model: Model, own: custom.CustomModel | None) -> dict[str, Any]:
    """What /api/show tells of a model; `own`: if it is one that somebody has given a name."""
    modelfile = own.modelfile if own else None
    parameters = modelfile.parameter_lines() if modelfile else []
    config, family, count = model.config, facts.family(model), facts.parameters(model)
    return {
        "license": modelfile.license if modelfile else "", "modelfile": modelfile.text() if modelfile else "",
        "parameters": "\n".join(parameters), "system": model.loaded.system or "",
        "modified_at": moment(own.changed if own else 0.0),
        "template": model.template.source if model.template else "",
        "details": details_of(model),
        "capabilities": capabilities(model),
        "model_info": {
            "general.architecture": family, "general.parameter_count": count,
            f"{family}.context_length": model.context, f"{family}.embedding_length": config.hidden_size,
            f"{family}.block_count": config.num_hidden_layers,
            f"{family}.attention.head_count": config.num_attention_heads,
            f"{family}.attention.head_count_kv": config.kv_heads, f"{family}.vocab_size": config.vocab_size,
        },
    }  # fmt: skip


def capabilities(model: Model | store.Held | None) -> list[str]:
    """What programs may ask of a model, in Ollama's words; of one that is not in memory, as far as config.json says."""
    if not isinstance(model, Model):
        return ["embedding"] if model is not None and is_encoder(_config(model.folder)) else ["completion", "tools"]
    if not model.writes:
        return ["embedding"]
    return ["completion", "tools", *(["thinking"] if model.thinking else [])]


def _config(folder: Path) -> dict[str, Any]:
    """The model's config.json; empty where there is none that can be read."""
    try:
        return read_json(folder / "config.json")
    except (UserError, OSError):
        return {}


def details_of(model: Model) -> dict[str, Any]:
    """Family, size and form of the weights."""
    family = facts.family(model)
    return {
        "parent_model": "", "format": "soban", "family": family, "families": [family],
        "parameter_size": facts.short_count(facts.parameters(model)),
        "quantization_level": model.loaded.dtype.upper(),
    }  # fmt: skip


def unknown_details() -> dict[str, Any]:
    return {
        "parent_model": "", "format": "safetensors", "family": "", "families": [], "parameter_size": "",
        "quantization_level": "",
    }  # fmt: skip


def digest(name: str) -> str:
    """Something that stands for the model, as programs expect it."""
    return hashlib.sha256(name.encode()).hexdigest()


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def repository_of(name: str) -> names.Repository:
    """The repository of a name. Raises ApiError."""
    try:
        repository = names.find(name.removesuffix(":latest"))
    except UserError as error:
        raise errors.of(error, "model") from error
    if repository is None:
        raise ApiError(f"model '{name}': nothing is known of that name", 404, "model")
    return repository


async def progress(repository: names.Repository) -> AsyncIterator[str]:
    """Lines about a download, as it goes."""
    from soban.hub import download

    loop, queue = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()

    def tell(state: Any) -> None:
        status = {"status": "downloading", "total": state.total, "completed": state.done}
        loop.call_soon_threadsafe(queue.put_nowait, status)

    def fetch() -> None:
        try:
            download.pull(repository, tell)
            loop.call_soon_threadsafe(queue.put_nowait, {"status": "success"})
        except UserError as error:
            loop.call_soon_threadsafe(queue.put_nowait, {"error": str(error)})
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)

    yield as_json({"status": "pulling manifest"}) + "\n"
    task = asyncio.ensure_future(asyncio.to_thread(fetch))
    while (line := await queue.get()) is not None:
        yield as_json(line) + "\n"
    await task
