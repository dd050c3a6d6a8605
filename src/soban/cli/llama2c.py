"""llama2.c's ways, which hold as soon as one of its short flags is used: what run.c samples, counts and prints."""

from collections.abc import Sequence
from typing import Any

from soban.base.errors import UserError
from soban.engine.limits import checked_on_full
from soban.model import Model
from soban.talk.generation import Generation
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
) -> Generation:
    """The generation that run.c would do: `steps` counts the prompt, an empty one begins the text.

    sampling: the options that were given, which `chosen` completes. As in run.c, steps below 1 or beyond the context
    are the whole context.
    """
    options = chosen(sampling)
    on_full = checked_on_full(on_full)
    model.check_size(prompt, on_full)
    ids = model.prompt_ids(prompt, system=system, raw=raw)
    begun = len(ids) - (ids[0] == model.tokenizer.bos_id)  # tokens of the text that are there already
    context = model.engine.context
    steps = min(steps, context) if steps > 0 else context
    if begun >= steps and "max_new_tokens" not in sampling:
        raise UserError(
            "-n {steps} counts the prompt, which has {count} tokens", steps=steps, count=begun, hint="give a greater -n"
        )
    options.setdefault("max_new_tokens", steps - begun)
    answer = model.answers(system=system, raw=raw)
    shown = not answer if echo is None else echo
    form = model.text_form(answer=answer, raw=raw)
    generation = Generation(
        model, ids, model.sampling(**options), on_full=on_full, echo=prompt if shown else "", answer=answer, form=form,
    )  # fmt: skip
    if model.loaded.llama2c:
        generation.echo = _print_as_run_c(generation, model.tokenizer, ids) if shown else ""
    return generation


def chosen(sampling: dict[str, Any]) -> dict[str, Any]:
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


def _print_as_run_c(generation: Generation, tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Makes the generation's texts what run.c prints, and gives the prompt as it prints that."""

    def printed(token: int) -> bytes:
        """run.c leaves out tokens that are one byte and neither printable ASCII nor white space (`safe_printf`)."""
        data = tokenizer.token_bytes(token)
        return b"" if len(data) == 1 and not 32 <= data[0] < 127 and data not in b"\t\n\v\f\r" else data

    for index in range(len(generation.decoders)):
        stream = ByteStream(printed, lead=1, restart=tokenizer.bos_id)
        echo = "".join(map(stream.feed, ids))
        generation.decoders[index] = stream
    return echo
