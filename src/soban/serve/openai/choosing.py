"""From OpenAI's fields to the library's options."""

from collections.abc import Sequence
from typing import Any

from soban.serve.errors import ApiError
from soban.serve.openai.requests import Choosing
from soban.serve.settings import Limits

SAME = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "min_p", "repetition_penalty",
    "no_repeat_ngram_size", "min_new_tokens", "on_full",
)  # fmt: skip


def options_of(body: Choosing, max_tokens: int | None, limits: Limits) -> dict[str, Any]:
    """The options of `Model.start`. Raises ApiError for what is beyond the server's limits."""
    options = {name: getattr(body, name) for name in SAME if getattr(body, name) is not None}
    if max_tokens is not None:
        options["max_new_tokens"] = max_tokens
    if body.n is not None:
        if body.n > limits.texts:
            raise ApiError(f"n={body.n}: this server writes at most {limits.texts} texts at once", 400, "n")
        options["num_return_sequences"] = body.n
    if body.seed is not None:
        options["seed"] = body.seed % (1 << 64)  # OpenAI's may be negative
    if body.stop:
        options["stop"] = checked_stops([body.stop] if isinstance(body.stop, str) else body.stop, limits)
    if body.logit_bias:
        options["logit_bias"] = _biases(body.logit_bias, limits)
    return options


def checked_stops(stops: Sequence[str], limits: Limits) -> tuple[str, ...]:
    """Stop strings; ApiError for too many, or too long ones."""
    if len(stops) > limits.stops:
        raise ApiError(f"{len(stops)} stop strings, where {limits.stops} are possible", 400, "stop")
    if any(len(stop) > limits.stop_characters for stop in stops):
        raise ApiError(f"a stop string is longer than {limits.stop_characters} characters", 400, "stop")
    return tuple(stop for stop in stops if stop)


def _biases(biases: dict[str, float], limits: Limits) -> tuple[tuple[int, float], ...]:
    if len(biases) > limits.biases:
        raise ApiError(f"{len(biases)} biases, where {limits.biases} are possible", 400, "logit_bias")
    if wrong := next((token for token in biases if not token.isdecimal() or len(token) > 9), None):
        raise ApiError(f"logit_bias: '{wrong}' is no token id", 400, "logit_bias")
    return tuple((int(token), bias) for token, bias in biases.items())
