"""llama2.c's ways, which hold as soon as one of its short flags is used: what run.c samples, counts and prints."""

from dataclasses import replace
from typing import Any

from soban.base.errors import UserError
from soban.engine.limits import checked_on_full
from soban.model import Model
from soban.talk.generation import Generation
from soban.talk.prompt import Prompt
from soban.text.grammar.grammar import Grammar
from soban.text.stream.decode import ByteStream
from soban.text.tokenizers.tokenizer import Tokenizer

SHORT_FLAGS = frozenset(("-t", "-p", "-s", "-n", "-i", "-z", "-m", "-y", "--steps"))
SAMPLING = {"temperature": 1.0, "top_p": 0.9, "top_k": 0}


def start(
    model: Model,
    prompt: str,
    *,
    system: str | None,
    raw: bool,
    echo: bool | None,
    steps: int,
    sampling: dict[str, Any],
    on_full: str | None = None,
    form: Grammar | None = None,
) -> Generation:
    """The generation that run.c would do: `steps` counts the prompt, an empty one begins the text.

    sampling: the options that were given, which `run_c_options` completes. As in run.c, steps below 1 or beyond the
    context are the whole context.
    """
    options, on_full = model.sampling(**run_c_options(sampling)), checked_on_full(on_full)
    echo = False if form and echo is None else echo
    beginning = model.prompt(prompt, system=system, raw=raw, echo=echo, on_full=on_full)
    begun = len(beginning.ids) - (beginning.ids[0] == model.tokenizer.bos_id)  # tokens that are there already
    context = model.engine.context
    steps = min(steps, context) if steps > 0 else context
    if begun >= steps and "max_new_tokens" not in sampling:
        raise UserError(
            "-n {steps} counts the prompt, which has {count} tokens", steps=steps, count=begun, hint="give a greater -n"
        )
    if "max_new_tokens" not in sampling:
        options = options.asked_for(max_new_tokens=steps - begun)
    if form:
        beginning = beginning.under(form, model.grammars)
    elif model.loaded.llama2c:
        beginning = _printed_as_run_c(beginning, model.tokenizer)
    return Generation(model, beginning, options, on_full=on_full)


def run_c_options(sampling: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as run.c takes them, and its defaults for the rest.

    A temperature below 0 is 0, a top_p outside of 0 to 1 is 0.9, and one of 0 leaves nothing out. A seed of 0 is
    another text each time; one below becomes a number of 64 bits without a sign.
    """
    options = {**(SAMPLING if sampling.get("do_sample", True) else {}), **sampling}
    if (temperature := options.get("temperature")) is not None:
        options["temperature"] = 0 if temperature < 0 else temperature
    if (top_p := options.get("top_p")) is not None and (top_p <= 0 or top_p > 1):  # no number stays, and is refused
        options["top_p"] = 1.0 if top_p == 0 else SAMPLING["top_p"]
    if "seed" in options:
        options["seed"] = options["seed"] % 2**64 or None
    return options


def _printed_as_run_c(prompt: Prompt, tokenizer: Tokenizer) -> Prompt:
    """The prompt with run.c's way to print: it, and the text after it."""

    def printed(token: int) -> bytes:
        """run.c leaves out tokens that are one byte and neither printable ASCII nor white space (`safe_printf`)."""
        data = tokenizer.token_bytes(token)
        return b"" if len(data) == 1 and not 32 <= data[0] < 127 and data not in b"\t\n\v\f\r" else data

    def stream() -> tuple[ByteStream, str]:
        decoder = ByteStream(printed, lead=1, restart=tokenizer.bos_id)
        return decoder, "".join(map(decoder.feed, prompt.ids))

    return replace(prompt, echo=None if prompt.echo is None else stream()[1], decoder=lambda: stream()[0])
