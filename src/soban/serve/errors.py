"""What is answered instead of an answer: one record, written in the words of each API."""

from dataclasses import dataclass, field
from typing import Any

from soban.base.errors import UserError

# OpenAI's and Anthropic's names for a kind of error, by its HTTP status
OPENAI_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "invalid_request_error",
    429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "timeout_error",
}  # fmt: skip
ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 500: "api_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


@dataclass(eq=False)
class ApiError(Exception):
    """A request that is not answered. `param`: the field that is to blame; `code`: a word for programs."""

    message: str
    status: int = 400
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None  # seconds
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def body(self, path: str) -> dict[str, Any]:
        """The answer's JSON in the words of the API to which the path belongs."""
        if path.startswith("/api/"):
            return {"error": self.message}
        if path.startswith("/v1/messages"):
            kind = ANTHROPIC_TYPES.get(self.status, "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        kind = OPENAI_TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def all_headers(self) -> dict[str, str]:
        return self.headers | ({} if self.retry_after is None else {"Retry-After": str(self.retry_after)})


def of(error: UserError, param: str | None = None) -> ApiError:
    """A mistake that soban itself found in what was asked."""
    return ApiError(str(error), 400, param, "invalid_value")
