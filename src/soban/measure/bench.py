"""`soban bench`: how fast this PC runs a model, and which share of its own limits that is."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.base.machine import this_machine
from soban.base.version import VERSION
from soban.measure.limits import Limits, better, measure_limits
from soban.measure.probe import ATTENTION, PRODUCTS, REST, Probe
from soban.measure.work import Work, work_of
from soban.messages import translate
from soban.model import Model, load
from soban.ops import native
from soban.ops.run import use_native

SHORT = 32  # tokens of context of the first figure of decoding
READ, WRITTEN = 64, 128  # tokens of the answer whose time is told
PROMPT = "Once upon a time there was a small table"
PREFILL_SECONDS, DECODE_SECONDS = 25.0, 9.0  # what a measurement may take
MOST_REPEATS = 5
FROM_MEMORY = 1 << 28  # bytes of a model of which no cache holds much


@dataclass(frozen=True)
class BenchOptions:
    """Measure this PC with a model: time without loading, tokens per second, share of the PC's own limits.

    MODEL is what `soban run` takes; without one, the bundled story model. --compare joins results that were kept with
    --format json into one table, in place of measuring.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL]"})
    dtype: Literal["auto", "f32", "bf16", "gguf", "q8", "q4"] = field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    cache_dtype: Literal["auto", "f32", "bf16", "int8"] = field(
        default="auto",
        metadata={"help": "how past tokens are kept; int8: half the memory of bf16, quicker in long contexts"},
    )
    threads: int | None = field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    prompt_tokens: int = field(default=512, metadata={"help": "tokens of the prompt that is read"})
    new_tokens: int = field(default=48, metadata={"help": "tokens that are written, at the most"})
    context: int = field(default=4000, metadata={"help": "tokens of context of the second figure of decoding"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    force: bool = field(default=False, metadata={"help": "load even if memory seems too short"})
    format: Literal["text", "markdown", "csv", "json"] | None = field(
        default=None, metadata={"help": "how to write it (default: as --out's ending says, else text)"}
    )
    out: str | None = field(default=None, metadata={"metavar": "FILE", "help": "write into a file"})
    compare: tuple[str, ...] = field(
        default=(), metadata={"metavar": "FILE", "help": "join results in JSON; more files may follow"}
    )


def bench(options: BenchOptions, tell: Callable[[str], None], entered: Callable[[Model], Any]) -> dict[str, Any]:
    """The figures of one model on this PC, as plain data. Raises UserError, and Cancelled if the model's flag is set.

    `tell` hears what is being done; `entered(model)` gives a context manager for the time that the model computes.
    """
    check(options)
    if options.threads is not None:
        os.environ["SOBAN_THREADS"] = str(system.checked_threads(str(options.threads)))
    tell(translate("measuring the memory and the multipliers ..."))
    limits = measure_limits() if use_native() else None
    model, load_seconds = timed_load(options, tell)
    with entered(model):
        tell(translate("writing a text ..."))
        figures = written_text(model, options)
        work, speeds = measure(model, options, tell)
    if limits:  # what else a PC does changes by the second: the better of before and after is nearer to the truth
        tell(translate("measuring the memory and the multipliers ..."))
        limits = better(limits, measure_limits())
    add_shares(speeds, work, limits, model.loaded.dtype)
    memory = system.memory_use()
    return {
        "soban": VERSION, "when": time.strftime("%Y-%m-%d"), "pc": asdict(this_machine()),
        "threads": system.threads(), "isa": native.chosen_isa() if limits else "numpy",
        "limits": {"bandwidth": limits.bandwidth, "multiply_adds": limits.products} if limits else None,
        "model": model.loaded.path.name, "dtype": model.loaded.dtype,
        "cache": model.loaded.cache_format, "load_seconds": load_seconds,
        "first_token_seconds": load_seconds + figures["prefill_seconds"],
        "characters_per_second": figures["characters_per_second"], **speeds,
        "memory": asdict(memory) if memory else None,
    }  # fmt: skip


def check(options: BenchOptions) -> None:
    """Raises UserError for values out of range, before anything is measured."""
    if len(options.words) > 1:
        raise UserError(
            "{count} models, where one is meant; the second is {name}", count=len(options.words),
            name=options.words[1], hint="call soban bench for each, with --format json, and --compare the results",
        )  # fmt: skip
    for name in ("prompt_tokens", "new_tokens", "context"):
        if not 1 <= (value := getattr(options, name)) <= 1_000_000:
            raise UserError(
                "--{flag} {value} is no number of tokens", flag=name.replace("_", "-"), value=value,
                hint="give a number above 0",
            )  # fmt: skip


def timed_load(options: BenchOptions, tell: Callable[[str], None]) -> tuple[Model, float]:
    """The model, and the seconds of a load that has nothing to pack."""
    shares = []

    def progress(share: float) -> None:
        shares.append(share)
        tell(translate("packing the weights ... {percent:.0f} %", percent=100 * share))

    tell(translate("loading the model ..."))
    name = options.words[0] if options.words else None
    while True:
        before, start = len(shares), time.perf_counter()
        model = load(
            name, dtype=options.dtype, cache_dtype=options.cache_dtype, tokenizer=options.tokenizer,
            force=options.force, progress=progress,
        )  # fmt: skip
        if len(shares) == before:
            return model, time.perf_counter() - start


def written_text(model: Model, options: BenchOptions) -> dict[str, Any]:
    """A text by the public way, greedy: what a user waits for the first token, and characters a second from there."""
    room = model.engine.context - len(model.prompt_ids(PROMPT, raw=True))
    count = min(options.new_tokens, room)
    if count < 1:
        return {"prefill_seconds": 0.0, "characters_per_second": None}
    generation = model.start(
        PROMPT, raw=True, echo=False, do_sample=False, max_new_tokens=count,
        prompt_lookup_num_tokens=0,  # else a text that goes in circles would flatter the PC
    )  # fmt: skip
    for _ in generation:
        pass
    figures = generation.figures
    rate = figures.characters / figures.decode_seconds if figures.decode_seconds > 0 else None
    return {"prefill_seconds": figures.prefill_seconds, "characters_per_second": rate}


def measure(model: Model, options: BenchOptions, tell: Callable[[str], None]) -> tuple[Work, dict[str, Any]]:
    """What a token costs; prefill and decoding, and what follows from them."""
    most = model.engine.context
    prompt, new = min(options.prompt_tokens, most), min(options.new_tokens, max(1, most // 2))
    contexts = sorted({min(SHORT, most - new), min(options.context, most - new)})
    probe = Probe(model, max(prompt, contexts[-1] + new))
    work = work_of(model.loaded, probe.position_bytes)
    tell(translate("reading a prompt ..."))
    prompt, seconds_each = timed_prefill(probe, prompt)
    reading: dict[str, Any] = rates([prompt / seconds for seconds in seconds_each]) | {"parts": shares(probe.parts)}
    decode: list[dict[str, Any]] = []
    writing: list[dict[str, Any]] = []
    for context in contexts:
        tell(translate("writing after {tokens} tokens ...", tokens=context))
        steps = probe.decode(context, new, seconds=DECODE_SECONDS)
        writing.append(rates([1 / step for step in steps]) | {"parts": shares(probe.parts)})
        decode.append({"context": context, **writing[-1]})
    return work, {
        **sizes(work), "prefill": {"tokens": prompt, **reading}, "decode": decode,
        "answer_seconds": READ / reading["median"] + WRITTEN / writing[0]["median"],
    }  # fmt: skip


def add_shares(figures: dict[str, Any], work: Work, limits: Limits | None, dtype: str) -> None:
    """Tells each rate its share of the limit: None for floats, which the int8 peak does not bound, and small models."""
    prefill = figures["prefill"]
    peak = limits.multiply_adds(native.chosen_isa()) if limits and dtype in ("gguf", "q8", "q4") else None
    work_rate = work.multiply_adds(prefill["tokens"]) / prefill["tokens"] * prefill["median"]
    prefill["share"] = work_rate / peak if peak else None
    for decode in figures["decode"]:
        read = work.bytes_per_token(decode["context"])
        decode["share"] = read * decode["median"] / limits.bandwidth if limits and read >= FROM_MEMORY else None


def timed_prefill(probe: Probe, tokens: int) -> tuple[int, list[float]]:
    """How many tokens fit into the time that there is, and the seconds of each repetition."""
    probe.prefill(min(tokens, 16))  # touches the weights
    first = min(tokens, 64)
    expected = probe.prefill(first) / first
    tokens = max(first, min(tokens, int(PREFILL_SECONDS / expected)))
    seconds = [probe.prefill(tokens)]
    repeats = min(MOST_REPEATS, int(PREFILL_SECONDS / seconds[0]))
    return tokens, seconds + [probe.prefill(tokens) for _ in range(repeats - 1)]


def rates(values: list[float]) -> dict[str, float]:
    """Median, and the quartiles as spread (with few values the least and the greatest)."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return {
        "median": statistics.median(ordered), "low": ordered[quarter], "high": ordered[-1 - quarter],
        "times": len(ordered),
    }  # fmt: skip


def shares(parts: Mapping[str, int]) -> dict[str, float] | None:
    """Of what each part of a step took, its share; None where nothing was counted."""
    total = sum(parts.values())
    return {name: parts[name] / total for name in (PRODUCTS, ATTENTION, REST)} if total else None


def sizes(work: Work) -> dict[str, Any]:
    return {
        "weights": work.body_weights + work.head_weights, "weight_bytes": work.body_bytes + work.head_bytes,
        "body_bits": work.body_bits, "head_bits": work.head_bits,
    }  # fmt: skip
