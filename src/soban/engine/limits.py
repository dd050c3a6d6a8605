"""What a context holds: which requests fit into it, and what may be done where it is full."""

from soban.base.errors import UserError
from soban.engine.sequence import Request
from soban.ops.batch import PAGE

# What whoever wants a text can choose for a full context: an end, or to forget the oldest tokens; of a conversation the
# oldest turns, for which "summarise" puts the model's own summary.
ON_FULL = ("error", "slide", "summarise")

MOST_LOGPROBS = 1024  # tokens that an event tells of; OpenAI's servers tell of 20


def checked_on_full(value: object) -> str:
    """The choice, "error" for None. Raises UserError for what is none of ON_FULL."""
    if value is None:
        return "error"
    if not isinstance(value, str):
        raise UserError(
            "{name}={value} is of the wrong type", name="on_full", value=value, hint="see help(soban.Sampling)"
        )  # fmt: skip
    if value not in ON_FULL:
        raise UserError(
            "{name}={value} is out of range", name="on_full", value=value, allowed=" | ".join(ON_FULL),
            hint="it must be {allowed}",
        )  # fmt: skip
    return value


def check_request(request: Request, context: int, blocks: int) -> None:
    """Raises UserError for an empty prompt, one that leaves no room in the context, and a cache that is too small."""
    if not request.prompt:
        raise UserError("the prompt is empty", hint="give some text")
    count = 1 if request.on_full == "wait" else request.sampling.wanted
    # The last token to be produced is never fed, so it needs no place.
    if request.on_full != "slide" and len(request.prompt) + count > context + 1:
        raise UserError(
            "the prompt has {prompt} tokens and up to {wanted} are to follow, but the context holds {context}",
            prompt=len(request.prompt), wanted=count, context=context,
            hint="shorten it, lower max_new_tokens, or choose on_full slide to forget the oldest tokens",
        )  # fmt: skip
    if request.limit is not None and request.limit < 1:
        raise UserError(
            "the prompt has {prompt} tokens, and max_length={length} counts them", prompt=len(request.prompt),
            length=request.sampling.max_length, hint="give a greater max_length, or max_new_tokens",
        )  # fmt: skip
    if request.logprobs is not None and not 0 <= request.logprobs <= MOST_LOGPROBS:
        raise UserError(
            "{name}={value} is out of range", name="logprobs", value=request.logprobs,
            allowed=f">= 0, <= {MOST_LOGPROBS}", hint="it must be {allowed}",
        )  # fmt: skip
    if -(-context // PAGE) > blocks:
        raise UserError(
            "the cache holds {pages} pages, a context of {context} tokens needs more",
            pages=blocks, context=context, hint="choose a shorter context",
        )  # fmt: skip
