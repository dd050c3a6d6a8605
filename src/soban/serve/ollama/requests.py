"""What Ollama's API takes, field by field; what soban cannot do is refused by name."""

from typing import Any, Literal

from pydantic import Field

from soban.serve.openai.requests import Body, Ignored, Refused


class Tuning(Body):
    """How tokens are chosen. What concerns a GPU or the loading of a model changes nothing of the answer."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    stop: list[str] | str | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    num_ctx: int | None = None
    num_keep: Ignored = None
    num_batch: Ignored = None
    num_gpu: Ignored = None
    main_gpu: Ignored = None
    num_thread: Ignored = None
    use_mmap: Ignored = None
    use_mlock: Ignored = None
    numa: Ignored = None
    low_vram: Ignored = None
    f16_kv: Ignored = None
    vocab_only: Ignored = None
    mirostat: Refused = None
    typical_p: Refused = None
    tfs_z: Refused = None
    draft_num_predict: Ignored = None


class WritingRequest(Body):
    """What generate and chat share."""

    model: str
    stream: bool = True
    format: str | dict[str, Any] | None = None
    options: Tuning = Tuning()
    keep_alive: str | float | int | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    truncate: bool | None = None
    shift: bool | None = None


class GenerateRequest(WritingRequest):
    prompt: str = ""
    system: str | None = None
    template: Refused = None
    context: list[int] | None = None
    raw: bool = False
    suffix: Refused = None
    images: list[Any] | None = None


class ChatRequest(WritingRequest):
    messages: list[dict[str, Any]] = Field(default_factory=list)
    tools: list[dict[str, Any]] | None = None


class NameRequest(Body):
    """A model by its name; older programs say name."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    stream: bool = True
    insecure: Ignored = None
    system: Ignored = None
    options: Ignored = None
    template: Ignored = None


class EmbedRequest(Body):
    model: str
    input: str | list[str] = Field(default_factory=list)
    prompt: str | None = None
    truncate: bool | None = None
    dimensions: int | None = Field(None, ge=1)
    prompt_name: str | None = None
    options: Tuning = Tuning()
    keep_alive: str | float | int | None = None
