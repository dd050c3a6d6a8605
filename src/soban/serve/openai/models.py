"""/v1/models: what may be asked for."""

from typing import Any

from fastapi import APIRouter

from soban.serve.errors import ApiError
from soban.serve.pool import Pool


def router(pool: Pool) -> APIRouter:
    """The paths and their handlers."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(pool, name) for name in pool.names()]}

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in pool.names():
            raise ApiError(f"the model '{name}' is not served here", 404, "model", "model_not_found")
        return _model(pool, name)

    return routes


def _model(pool: Pool, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(pool.started), "owned_by": "soban"}
