"""`soban compare`: models and adapters on the same questions, side by side, with figures."""

import dataclasses
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.cli.terminal.interrupt import cancelling
from soban.messages import translate
from soban.ops.native import Cancelled

if TYPE_CHECKING:
    from soban.measure.compare import Contestant, Example
    from soban.model import Model

INTERRUPTED = 130
ADAPTER = "adapter_config.json"
EXAMPLES = """\
  soban compare gemma2:2b abstracts --data test.jsonl             a model, and the same with the adapter in abstracts/
  soban compare gemma2:2b gemma2:2b+one gemma2:2b+two --data test.jsonl --limit 50
  soban compare gemma2:2b qwen3:0.6b --data test.csv --html answers.html
  soban compare --data test.jsonl --json                          the bundled model alone
"""


@dataclass(frozen=True)
class CompareOptions:
    """Give several models the same questions, and set their answers beside those that are wanted.

    A model is a name or a path; MODEL+FOLDER is one with an adapter, and a folder that holds nothing but an adapter is
    the first model with it. Perplexity and loss are of the wanted answers alone, so they compare models of one
    tokenizer; bits per byte compare any. ROUGE counts syllables of Hangul and words of other scripts.
    """

    words: tuple[str, ...] = dataclasses.field(default=(), metadata={"positional": True, "metavar": "[MODEL ...]"})
    data: str | None = dataclasses.field(
        default=None, metadata={"metavar": "FILE", "help": "questions and answers, in any form that soban data reads"}
    )
    field: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"metavar": "NAME", "help": "the fields of the question and, the last of them, the answer"}
    )
    limit: int | None = dataclasses.field(default=None, metadata={"help": "take N of the examples, drawn by --seed"})
    html: str | None = dataclasses.field(
        default=None, metadata={"metavar": "FILE", "help": "also write a page to judge the answers blind"}
    )
    max_new_tokens: int | None = dataclasses.field(
        default=None, metadata={"help": "of an answer (default: twice the longest that is wanted)"}
    )
    temperature: float = dataclasses.field(default=0.0, metadata={"short": "-t", "help": "above 0: draw the answers"})
    seed: int = dataclasses.field(
        default=0, metadata={"short": "-s", "help": "the same seed draws the same examples and answers"}
    )
    dtype: Literal["auto", "f32", "bf16", "gguf", "q8", "q4"] = dataclasses.field(
        default="auto", metadata={"help": "how weights are kept in memory"}
    )
    context: int | None = dataclasses.field(
        default=None, metadata={"help": "tokens that question and answer may have together"}
    )
    threads: int | None = dataclasses.field(
        default=None, metadata={"help": "threads that compute (default: one for each fast core)"}
    )
    force: bool = dataclasses.field(default=False, metadata={"help": "load even if memory seems too short"})
    json: bool = dataclasses.field(default=False, metadata={"help": "write JSON, with all answers"})


OPTIONS = CompareOptions


def call(options: CompareOptions) -> int:
    """Writes the table to stdout; 130 if Ctrl-C ended it."""
    from soban.cli.shared import use_threads
    from soban.measure.answers_page import answers_page
    from soban.measure.compare import compared, read_examples

    check(options)
    use_threads(options.threads)
    assert options.data is not None
    examples = read_examples(Path(options.data), options.field, options.limit, options.seed)
    stop = threading.Event()
    sampling: dict[str, Any] = {"seed": options.seed}
    if options.max_new_tokens is not None:
        sampling["max_new_tokens"] = options.max_new_tokens
    if options.temperature > 0:
        sampling |= {"do_sample": True, "temperature": options.temperature}
    contestants: list[Contestant] = []
    with console.Status(False) as status, cancelling(stop.set):
        try:
            for name, model in models(options, status):

                def progress(stage: str, share: float, name: str = name) -> None:
                    if stage == "losses":
                        status.show(translate("{model}: reading ... {percent:.0f} %", model=name, percent=100 * share))
                    else:
                        status.show(translate("{model}: writing ... {percent:.0f} %", model=name, percent=100 * share))

                contestants.append(
                    compared(name, model, examples.kept, progress=progress, stop=stop, **sampling)
                )  # fmt: skip
        except Cancelled:
            return INTERRUPTED
    rows = as_rows(contestants)
    if options.html is not None:
        title = translate("{models}: {count} answers", models=", ".join(one.name for one in contestants),
            count=len(examples.kept))  # fmt: skip
        _write(Path(options.html), answers_page(title, examples.kept, contestants, rows))
    if options.json:
        console.write(as_json(options, examples.kept, examples.faulty, contestants) + "\n")
    else:
        console.write(as_text(rows, examples.kept, examples.faulty, contestants))
    return 0


def check(options: CompareOptions) -> None:
    """Raises UserError for what can be seen to be wrong before anything is loaded."""
    if options.data is None:
        raise UserError("there are no questions to compare on", hint="name a file, as in --data test.jsonl")
    for flag in ("limit", "max_new_tokens"):
        value = getattr(options, flag)
        if value is not None and value < 1:
            raise UserError(
                "--{flag} {value} is too small", flag=flag.replace("_", "-"), value=value, hint="give at least 1"
            )
    if options.temperature < 0:
        raise UserError("--temperature {value}: below 0", value=options.temperature, hint="give 0 or more")
    if options.html is not None and not Path(options.html).absolute().parent.is_dir():
        raise UserError("{path}: there is no such folder", path=Path(options.html).parent, hint="make it first")


def models(options: CompareOptions, status: console.Status) -> Iterator[tuple[str, "Model"]]:
    """Each model by its name, one in memory at a time; those of one base are loaded once."""
    from soban.cli.shared import files_of
    from soban.model import load

    loaded: Model | None = None
    before: object = ()
    # all are found first: nobody waits for a table to learn that its last model is missing
    found = [(name, None if base is None else files_of(base), adapter) for name, base, adapter in parted(options.words)]
    for name, base, adapter in found:
        if loaded is None or base != before:
            loaded = None  # its memory is free before the next one is loaded
            status.show(translate("loading the model ..."))
            loaded = load(
                base, dtype=options.dtype, context=options.context, users=None,
                force=options.force,
                progress=lambda share: status.show(
                    translate("packing the weights ... {percent:.0f} %", percent=100 * share)
                ),
            )  # fmt: skip
            before = base
        yield name, loaded if adapter is None else loaded.adapted(adapter)


def parted(words: Sequence[str]) -> list[tuple[str, str | None, str | None]]:
    """Of each word its name in the table, its model (None: the bundled one) and its adapter.

    Raises UserError for the same twice.
    """
    from soban.loading.custom import BUNDLED

    found: list[tuple[str, str | None, str | None]] = []
    first: str | None = None
    for number, word in enumerate(words):
        base, plus, adapter = word.partition("+") if not Path(word).exists() else (word, "", "")
        if number and not plus and (Path(word) / ADAPTER).is_file() and not (Path(word) / "config.json").is_file():
            base, adapter = first or BUNDLED, word
        model = None if base in ("", BUNDLED) and not Path(base or " ").exists() else base
        first = model if number == 0 else first
        found.append((word, model, adapter or None))
    found = found or [(BUNDLED, None, None)]
    if len({row[1:] for row in found}) < len(found):
        raise UserError(
            "the same model twice: {models}", models=" ".join(words), hint="name different models or adapters"
        )
    return found


def as_rows(contestants: Sequence["Contestant"]) -> list[list[str]]:
    """The table: heads, and a row for each model."""
    heads = [
        translate("model"), translate("perplexity"), translate("bits/byte"), translate("the same"), "chrF", "ROUGE-L",
        translate("length"),
    ]  # fmt: skip
    measures = ["exact", "chrf", "rouge_l"]
    if all(one.score("rouge_m") is not None for one in contestants):
        heads.insert(6, translate("by morphemes"))
        measures.append("rouge_m")
    rows = [[*heads, translate("tokens/s")]]
    for one in contestants:
        scores = [one.score(measure) for measure in measures]
        rows.append([
            one.name, f"{one.perplexity.mean:.2f}", f"{one.bits_per_byte:.3f}",
            *(f"{100 * score.mean:.1f} %" for score in scores if score is not None), f"{one.characters:.0f}",
            f"{one.rate:.0f}",
        ])  # fmt: skip
    return rows


def as_text(
    rows: list[list[str]], examples: Sequence["Example"], faulty: int, contestants: Sequence["Contestant"]
) -> str:
    """The table, how sure it is, and what was left out."""
    from soban.cli.terminal.table import table

    lines = [table(rows, right=range(1, len(rows[0])), giving=0).rstrip("\n"), ""]
    wanted = sum(len(example.wanted) for example in examples) / len(examples)
    lines.append(
        translate(
            "{count} examples; the answers that are wanted have {length:.0f} characters",
            count=len(examples),
            length=wanted,
        )
    )
    first, *others = contestants
    for other in others:
        gain = _paired(first, other)
        lines.append(
            translate(
                "{model} against {first}: chrF {gain:+.1f} ± {error:.1f}",
                model=other.name,
                first=first.name,
                gain=100 * gain.mean,
                error=100 * gain.error,
            )
        )
    for one in contestants:
        if one.cut:
            lines.append(translate("{model}: {count} answers did not come to their end", model=one.name, count=one.cut))
    if faulty:
        lines.append(translate("{count} records are no questions with answers, and were left out", count=faulty))
    return "\n".join(lines) + "\n"


def _paired(first: "Contestant", other: "Contestant") -> Any:
    """By how much the chrF of one is above that of the other, example by example."""
    import numpy as np

    from soban.measure.evaluate import mean

    pairs = zip(first.answers, other.answers, strict=True)
    return mean(np.array([b.scores["chrf"] - a.scores["chrf"] for a, b in pairs]))


def as_json(
    options: CompareOptions, examples: Sequence["Example"], faulty: int, contestants: Sequence["Contestant"]
) -> str:
    """All figures and all answers."""

    from soban.measure.compare import MEASURES

    models: list[dict[str, Any]] = []
    for one in contestants:
        scores = {name: score for name in MEASURES if (score := one.score(name)) is not None}
        models.append({
            "model": one.name, "loss": dataclasses.asdict(one.loss), "perplexity": dataclasses.asdict(one.perplexity),
            "bits_per_byte": one.bits_per_byte, "characters": one.characters, "unfinished": one.cut,
            "tokens_per_second": one.rate, **{name: dataclasses.asdict(score) for name, score in scores.items()},
            "answers": [dataclasses.asdict(answer) for answer in one.answers],
        })  # fmt: skip
    told = {
        "data": options.data, "examples": [{"messages": one.messages, "wanted": one.wanted} for one in examples],
        "left_out": faulty, "models": models,
    }  # fmt: skip
    return json.dumps(told, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    """The file, whole or not at all. Raises UserError where it cannot be written."""
    import os

    from soban.base.border import reason
    from soban.base.leftovers import temporary

    new = temporary(path)
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UserError(
            "{path}: cannot be written ({reason})", path=path, reason=reason(error), hint="choose another place"
        ) from error
