"""The application: every API on one pool of models."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from soban.base.errors import UserError
from soban.base.version import VERSION
from soban.serve import embeddings, errors, plain, rerank
from soban.serve.anthropic import messages
from soban.serve.errors import ApiError
from soban.serve.guard import Guard, Record
from soban.serve.keys import digest
from soban.serve.metrics import Metrics
from soban.serve.ollama import creating, writing
from soban.serve.ollama import models as ollama_models
from soban.serve.openai import chat, completions, models, responses
from soban.serve.pool import Pool
from soban.serve.settings import Limits, Settings

ROUTERS: tuple[Callable[[Pool], Any], ...] = (
    chat.router, responses.router, completions.router, models.router, messages.router, ollama_models.router,
    creating.router, writing.router, embeddings.router, rerank.router,
)  # fmt: skip


def application(settings: Settings, log: Callable[[Record], None] = lambda record: None) -> FastAPI:
    """The application for the settings; `log` is given a record of each request."""
    pool = Pool(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(pool.sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await pool.close()

    app = FastAPI(title="soban", version=VERSION, lifespan=lifespan)
    app.state.pool = pool
    metrics = Metrics()
    for router in ROUTERS:
        app.include_router(router(pool))
    app.include_router(plain.router(pool, metrics))
    _answer_errors(app)

    def note(record: Record) -> None:
        metrics.note(record)
        log(record)

    app.add_middleware(Guard, settings=settings, log=note)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Whatever goes wrong is told in the form of the API that was asked."""

    def answer(request: Request, error: ApiError) -> Response:
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        return JSONResponse(error.body(path), error.status, error.all_headers)

    @app.exception_handler(ApiError)
    async def api(request: Request, error: ApiError) -> Response:
        return answer(request, error)

    @app.exception_handler(UserError)
    async def user(request: Request, error: UserError) -> Response:
        return answer(request, errors.of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, _invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        path, allowed = request.url.path, dict(error.headers or {})
        message = f"{request.method} {path}: {str(error.detail).lower()}"
        return answer(request, ApiError(message, error.status_code, headers=allowed))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return answer(request, ApiError(f"a fault of soban's own: {type(error).__name__}", 500))


def _invalid(mistakes: Sequence[Any]) -> ApiError:
    """The first mistake, by the name of its field; of a union's branches the message that comes nearest."""
    first = mistakes[0]
    where = [part for part in first["loc"] if part != "body"]
    name = ""
    for part in where:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part.replace("_", "").isalnum() and not part[:1].isupper() and part not in ("str", "int", "float"):
            name += f".{part}" if name else part
    if first["type"] == "json_invalid":
        return ApiError(f"the body is no JSON: {first['ctx']['error']}", 400, None, "invalid_json")
    if first["type"] == "extra_forbidden":
        return ApiError(f"{name}: there is no such field", 400, name, "unknown_parameter")
    if first["type"] == "missing":
        return ApiError(f"{name or 'a body'} is missing", 400, name or None, "missing_required_parameter")
    problem = first["msg"].removeprefix("Value error, ")
    return ApiError(f"{name}: {problem}" if name else problem, 400, name or None, "invalid_value")


def app(
    models: Sequence[str] = (),
    *,
    keys: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    origins: Sequence[str] = (),
    keep_alive: float = 300,
    limits: Limits | None = None,
    **load: Any,
) -> FastAPI:
    """An ASGI application that answers OpenAI's, Ollama's and Anthropic's programs; alone, or mounted in another one.

    `models`: names, folders, or base+adapter, the first of which is loaded when it is first asked for; none: whatever
    is on this PC. `keys`: what a request has to bring as Authorization: Bearer (none: nothing). `hosts`: by which
    names it may be called (None: any, as the application around it says). `load`: dtype, context, threads ... as in
    `soban.load`. Raises UserError for names that nothing is known of.
    """
    settings = Settings(
        tuple(models), {"users": None} | load, keep_alive, {digest(key): f"key-{n}" for n, key in enumerate(keys, 1)},
        None if hosts is None else tuple(hosts), tuple(origins), limits or Limits(),
    )  # fmt: skip
    return application(settings)
