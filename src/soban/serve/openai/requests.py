"""What OpenAI's API takes, field by field; what soban cannot do is refused by name."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def _refuse(value: Any) -> Any:
    if value not in (None, False, [], {}, "auto", "default", "none"):
        raise PydanticCustomError("refused", "soban does not do this")
    return value


Refused = Annotated[Any, AfterValidator(_refuse)]
Ignored = Any  # changes nothing of the answer: who asks, how OpenAI bills it


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Body(BaseModel):
    """Strict: a number is no string, and a field that nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _can_be_told(cls, data: Any) -> Any:
        """Refuses what JSON can spell and no answer could repeat: half a character, and numbers that are none."""
        for name, value in data.items() if isinstance(data, dict) else ():
            try:
                json.dumps([name, value], ensure_ascii=False, allow_nan=False).encode()
            except UnicodeEncodeError:
                field = ascii(name)[1:-1]
                raise PydanticCustomError(
                    "half", "{field} holds half a character (a lone surrogate)", {"field": field}
                ) from None
            except (ValueError, RecursionError):
                raise PydanticCustomError(
                    "number", "{field} holds NaN or Infinity, or is nested too deeply", {"field": ascii(name)[1:-1]}
                ) from None
        return data


class StreamForm(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # we add none


class Choosing(Body):
    """How tokens are chosen: OpenAI's names, and ours besides."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = Field(None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    stream: bool | None = None
    stream_options: StreamForm | None = None
    user: Ignored = None
    # soban's own, with the meaning that they have in the library
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    min_new_tokens: int | None = None
    on_full: Literal["error", "slide", "summarise"] | None = None


class Message(BaseModel):
    """One turn; what belongs to no role is refused where the conversation is read."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(Choosing):
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    modalities: list[Literal["text"]] | None = None
    audio: Refused = None
    prediction: Refused = None
    web_search_options: Refused = None
    functions: Refused = None  # tools have taken their place
    function_call: Refused = None
    verbosity: Refused = None
    reasoning_effort: Effort | None = None


class Reasoning(Body):
    """The thoughts themselves are in the answer; nobody sums them up."""

    effort: Effort | None = None
    summary: Refused = None
    generate_summary: Refused = None
    mode: Refused = None
    context: Refused = None


class TextForm(Body):
    format: dict[str, Any] | None = None
    verbosity: Literal["medium"] | None = None  # which is what nobody asks for


class ResponsesRequest(Body):
    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextForm | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    stream_options: StreamForm | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None  # thoughts are open here, and come back so
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Ignored = None
    prompt_cache_options: Ignored = None
    service_tier: Ignored = None
    max_tool_calls: Ignored = None  # of tools that run at OpenAI
    top_logprobs: Literal[0] | None = None
    background: Refused = None
    conversation: Refused = None
    prompt: Refused = None
    context_management: Refused = None
    moderation: Refused = None
    # soban's own, as above
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    min_new_tokens: int | None = None


class CompletionRequest(Choosing):
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(None, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=1)
    suffix: Refused = None


class EmbeddingRequest(Body):
    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    prompt_name: str | None = None  # as Text Embeddings Inference has it
    user: Ignored = None
