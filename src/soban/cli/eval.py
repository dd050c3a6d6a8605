"""`soban eval`: how well a model predicts a text, and what its number format costs."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.interrupt import cancelling
from soban.messages import translate
from soban.ops.native import Cancelled

if TYPE_CHECKING:
    from soban.loading.loaded import Loaded
    from soban.measure.evaluate import Evaluation, Mean
    from soban.ops.adapters import Adapter

INTERRUPTED = 130
USUAL_CONTEXT = 2048  # tokens: more costs time and memory and tells little more
EXAMPLES = """\
  soban eval --perplexity story.txt                                 the bundled model
  soban eval path/to/model --perplexity text.txt --dtype q8
  soban eval path/to/model --perplexity text.txt --dtype q4 --kl f32
  soban eval my-tuned-model --perplexity text.txt --kl path/to/original --json
"""


@dataclass(frozen=True)
class EvalOptions:
    """Measure how well a model predicts a text. Lower is better.

    Perplexity is given for each token, so it compares models of one tokenizer; bits per byte compare any. With --kl
    the model's predictions are set against a reference: `f32` (or another dtype) is the same model in that dtype, a
    path is another model with the same vocabulary. <|endoftext|> parts documents.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL]"})
    perplexity: str | None = field(
        default=None, metadata={"metavar": "TEXT", "help": "a text file, in UTF-8, UTF-16 or cp949"}
    )
    kl: str | None = field(
        default=None, metadata={"metavar": "REFERENCE", "help": "also how far the predictions are from REFERENCE's"}
    )
    dtype: Literal["auto", "f32", "bf16", "gguf", "q8", "q4"] = field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    cache_dtype: Literal["auto", "f32", "bf16", "int8"] = field(
        default="auto",
        metadata={"help": "how past tokens are kept; int8: half the memory of bf16, quicker in long contexts"},
    )
    context: int | None = field(
        default=None, metadata={"help": "tokens that are read together (default: the model's context, 2048 at most)"}
    )
    stride: int | None = field(
        default=None, metadata={"help": "tokens from one window to the next (default: half the context)"}
    )
    tokens: int | None = field(default=None, metadata={"help": "stop after about N tokens"})
    tokenizer: str | None = field(
        default=None, metadata={"short": "-z", "metavar": "FILE", "help": "tokenizer.bin of a .bin model"}
    )
    threads: int | None = field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    force: bool = field(default=False, metadata={"help": "load even if memory seems too short"})
    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = EvalOptions


def call(options: EvalOptions) -> int:
    """Writes the figures to stdout; 130 if Ctrl-C ended it."""
    from soban.measure.evaluate import Scorer, evaluate, split_windows

    name = check(options)
    assert options.perplexity is not None
    text = read(Path(options.perplexity))
    with console.Status(False) as status:
        status.show(translate("loading the model ..."))
        loaded, adapter = load(name, options.dtype, options, status, options.cache_dtype)
        limit = loaded.architecture.config.longest
        context = loaded.context(options.context or min(limit, USUAL_CONTEXT))
        stride = checked_stride(options.stride, context)
        documents = split_windows(loaded.tokenizer, text, context, stride, options.tokens)
        if not documents.windows:
            raise UserError("{path}: too short to measure with", path=options.perplexity, hint="take a longer text")
        reference = None
        if options.kl is not None:
            other, its_adapter = load_reference(name, options, status)
            check_vocabularies(loaded, other, text)
            reference = Scorer(other, other.context(context), its_adapter)
        model = Scorer(loaded, context, adapter)
        with cancelling(lambda: model.runner.cancel.fill(1)):
            try:
                evaluation = evaluate(
                    model, reference, documents,
                    lambda share: status.show(translate("measuring ... {percent:.0f} %", percent=100 * share)),
                )  # fmt: skip
            except Cancelled:
                return INTERRUPTED
    console.write(
        (as_json(evaluation, options, loaded.dtype) if options.json else as_table(evaluation, options.kl)) + "\n"
    )
    return 0


def check(options: EvalOptions) -> str | None:
    """The model's name. Raises UserError for what can be seen to be wrong before anything is loaded."""
    if len(options.words) > 1:
        raise UserError(
            "{count} words, where one model is meant; this is too much: {word}", count=len(options.words),
            word=console.shortened(options.words[1]), hint="name the text with --perplexity",
        )  # fmt: skip
    if options.perplexity is None:
        raise UserError("there is no text to measure with", hint="name a file, as in soban eval --perplexity story.txt")
    for flag in ("context", "stride", "tokens"):
        value = getattr(options, flag)
        if value is not None and value < 2:
            raise UserError("--{flag} {value} is too small", flag=flag, value=value, hint="give at least 2")
    if options.threads is not None:
        os.environ["SOBAN_THREADS"] = str(system.checked_threads(str(options.threads)))
    return options.words[0] if options.words else None


def read(path: Path) -> str:
    """The text of a file of any encoding that people here use."""
    from soban.base.border import reason
    from soban.text.encodings import decode

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            "{path}: cannot be read ({reason})", path=path, reason=reason(error), hint="check the spelling"
        ) from error
    if not data.strip():
        raise UserError("{path}: the file is empty", path=path, hint="take a longer text")
    return decode(data, path)


def load(
    name: str | None, dtype: str, options: EvalOptions, status: console.Status, cache_dtype: str = "auto"
) -> "tuple[Loaded, Adapter | None]":
    """The model, and the adapter that belongs to one of one's own."""
    from soban.loading import custom
    from soban.loading.loaded import load_files
    from soban.packing.adapters import fitted_adapter
    from soban.weights.adapter import open_adapter

    loaded = load_files(
        None if name is None else custom.base_of(name), dtype=dtype, cache_dtype=cache_dtype,
        tokenizer=options.tokenizer, force=options.force,
        progress=lambda share: status.show(translate("packing the weights ... {percent:.0f} %", percent=100 * share)),
    )  # fmt: skip
    loaded.check_writes()
    folder = None if name is None else custom.adapter_of(name)
    return loaded, None if folder is None else fitted_adapter(
        open_adapter(Path(folder)), loaded.architecture, loaded.moved
    )


def load_reference(name: str | None, options: EvalOptions, status: console.Status) -> "tuple[Loaded, Adapter | None]":
    """The model itself in the dtype that --kl names, or the model at that path as it is stored."""
    from soban.loading.loaded import DTYPE_CHOICES

    assert options.kl is not None
    if options.kl in DTYPE_CHOICES:
        return load(name, options.kl, options, status)
    if not os.path.exists(options.kl):
        raise UserError(
            "--kl {reference}: neither a dtype nor a file or folder", reference=console.shortened(options.kl),
            known=", ".join(DTYPE_CHOICES), hint="give a model, or one of {known}",
        )  # fmt: skip
    return load(options.kl, "f32", options, status)


def check_vocabularies(model: "Loaded", reference: "Loaded", text: str) -> None:
    """Raises UserError where two models do not read the text as the same tokens."""
    sizes = [loaded.architecture.config.vocab_size for loaded in (model, reference)]
    sample = text[:10000]
    if sizes[0] != sizes[1] or model.tokenizer.encode(sample) != reference.tokenizer.encode(sample):
        raise UserError(
            "--kl {reference}: its vocabulary is another ({theirs} entries, the model's has {ours})",
            reference=reference.path, theirs=sizes[1], ours=sizes[0], hint="compare models of one tokenizer",
        )  # fmt: skip


def checked_stride(stride: int | None, context: int) -> int:
    if stride is None:
        return context // 2
    if stride >= context:
        raise UserError(
            "--stride {stride}: a window has {context} tokens, of which the first need some to follow",
            stride=stride, context=context, most=context - 1, hint="give at most {most}",
        )  # fmt: skip
    return stride


def as_json(evaluation: "Evaluation", options: EvalOptions, dtype: str) -> str:
    """All figures and what they belong to."""
    figures: dict[str, Any] = {
        "model": options.words[0] if options.words else None, "dtype": dtype, "text": options.perplexity,
        "reference": options.kl, "tokens": evaluation.tokens, "bytes": evaluation.bytes,
        "perplexity": dataclasses.asdict(evaluation.perplexity), "bits_per_byte": evaluation.bits_per_byte,
        "loss": dataclasses.asdict(evaluation.loss),
    }  # fmt: skip
    if evaluation.reference is not None:
        above = {"perplexity_above": dataclasses.asdict(evaluation.reference.perplexity_above)}
        figures["against_reference"] = dataclasses.asdict(evaluation.reference) | above
    return json.dumps(figures, ensure_ascii=False)


def as_table(evaluation: "Evaluation", reference: str | None) -> str:
    """A line for each figure, with its standard error."""
    lines = [
        (translate("perplexity"), _with_error(evaluation.perplexity, 4)),
        (translate("bits per byte"), f"{evaluation.bits_per_byte:.4f}"),
        (translate("tokens"), translate("{tokens} of {bytes} bytes", tokens=evaluation.tokens, bytes=evaluation.bytes)),
    ]
    if (other := evaluation.reference) is not None:
        lines += [
            (translate("reference"), str(reference)),
            (translate("perplexity above it"), _with_error(other.perplexity_above, 3, 100) + " %"),
            (translate("KL divergence"), _with_error(other.divergence, 6)),
            (translate("KL, 99 of 100 below"), f"{other.divergence_99:.6f}"),
            (translate("same first choice"), _with_error(other.agreement, 2, 100) + " %"),
        ]
    width = max(map(columns, (label for label, _ in lines))) + 2
    return "\n".join(label + " " * (width - columns(label)) + value for label, value in lines)


def _with_error(value: "Mean", digits: int, factor: int = 1) -> str:
    return f"{factor * value.mean:.{digits}f} ± {factor * value.error:.{digits}f}"


def columns(text: str) -> int:
    """A Hangul syllable is two columns wide."""
    return sum(2 if "가" <= character <= "힣" else 1 for character in text)
