"""`soban tune`: teach a model a task of one's own."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.cli.shared import files_of
from soban.cli.terminal import console
from soban.cli.train import watched
from soban.learn.training.arguments import flag_of
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.tuning.methods import METHODS
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.tuning.sets import Sets

EXAMPLES = """\
  soban tune gemma2:2b --data pairs.jsonl --out abstracts --forecast
  soban tune gemma2:2b --data pairs.jsonl --out abstracts
  soban tune gemma2:2b --data pairs.jsonl --out abstracts --resume
  soban run gemma2:2b --adapter abstracts "..."
"""


# How what the engine does not run beside a model is tried
WHOLE = 'soban run {path} "..."'


@dataclass(frozen=True)
class TuneOptions(TuneArguments):
    """Teach a model a task by examples of one's own, on this PC.

    OUT becomes an adapter as peft has it: `soban run MODEL --adapter OUT` writes with it, the model's own weights stay
    as they are. Ctrl-C saves a checkpoint, and --resume goes on from it to the same adapter, bit for bit.
    """

    words: tuple[str, ...] = field(default=(), metadata={"positional": True, "metavar": "[MODEL]"})
    forecast: bool = field(
        default=False, metadata={"help": "only tell what it would take: memory, time", "after": "method"}
    )
    show: int = field(
        default=0,
        metadata={"help": "only show the first N examples as tokens, what is learnt in ⟦ ⟧", "after": "method"},
    )
    priority: Literal["low", "normal"] = field(
        default="low", metadata={"help": "low: other programs get the processor first", "after": "pause_on"}
    )
    spelled: frozenset[str] = field(default=frozenset(), metadata={"spelled": True})  # the flags that were given


OPTIONS = TuneOptions


def call(options: TuneOptions) -> int:
    """Tunes, and leaves the adapter in the folder; the exit code."""
    if options.priority == "low":
        system.give_way()
    arguments = arguments_of(options)
    if options.show:
        return _show(replace(options, model=arguments.get("model")))
    return _forecast(arguments) if options.forecast else _tune(arguments, options)


def arguments_of(options: TuneOptions) -> dict[str, Any]:
    """What `soban.learn.tune` is to be called with: what was given. A model that is not here is fetched."""
    if len(options.words) > 1:
        raise UserError(
            "{count} words, where one model is meant; this is too much: {word}", count=len(options.words),
            word=console.shortened(options.words[1]), hint="name the examples with --data",
        )  # fmt: skip
    if options.words:
        files_of(options.words[0])
    options = replace(options, model=options.words[0] if options.words else None)
    fields = TuneArguments.__dataclass_fields__
    return {
        name: getattr(options, name)
        for name in fields
        if flag_of(name) in options.spelled or getattr(options, name) != fields[name].default
    }


def _tune(arguments: dict[str, Any], options: TuneOptions) -> int:
    from soban import learn
    from soban.cli.terminal.training import Display

    model = f"{arguments['model']} " if "model" in arguments else ""
    runs = METHODS[options.method].runs and not options.dora
    merging = f"soban merge {model or 'soban '}{{path}} --out FOLDER"
    attempt = f'soban run {model}--adapter {{path}} "..."' if runs else WHOLE if options.method == "full" else merging
    return watched(learn.tune, arguments, Display(Path(arguments["out"]), attempt=attempt))


def _forecast(arguments: dict[str, Any]) -> int:
    from soban import learn
    from soban.cli.terminal.outlook import of_time

    outlook = learn.tune_forecast(**arguments)
    one, settings = outlook.forecast, outlook.forecast.settings
    lines = [*examples_in_lines(outlook.sets), *outlook.changes]
    lines += [
        translate(
            "{steps} steps of {tokens} tokens; {dtype} on a base of {base}: about {time}", steps=settings.steps,
            tokens=settings.step_tokens, dtype=settings.dtype, base=settings.base, time=of_time(one.seconds),
        ),
        translate(
            "memory: {own}, and {weights} of the model's file; disk: {disk}", own=of_bytes(one.own),
            weights=of_bytes(one.memory - one.own), disk=of_bytes(one.disk),
        ),
    ]  # fmt: skip
    if (free := system.available_memory()) is not None:
        lines.append(translate("memory free now: {free}", free=of_bytes(free)))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def examples_in_lines(sets: "Sets") -> list[str]:
    """How many examples there are, and why others were left out."""
    reasons = {
        "too long": translate("too long"), "duplicate": translate("there already"), "empty": translate("without words"),
        "unanswered": translate("without an answer"), "silent": translate("without words"),
        "roles": translate("said by nobody that is known"), "order": translate("out of turn"),
        "broken": translate("damaged"), "template": translate("refused by the chat template"),
    }  # fmt: skip
    first = translate(
        "{count} examples of {tokens} tokens, {learnt} of them learnt; {held_out} held out", count=len(sets.train),
        tokens=sum(len(one.ids) for one in sets.train), learnt=sum(one.learns for one in sets.train),
        held_out=len(sets.held_out),
    )  # fmt: skip
    return [
        first,
        *(
            translate("left out, {reason}: {count}", reason=reasons[name], count=count)
            for name, count in sets.left_out.items()
        ),
    ]


def _show(options: TuneOptions) -> int:
    """The first examples as tokens, and what is learnt of them."""
    from soban.learn.tuning import resolve
    from soban.learn.tuning.examples import shown

    if options.show < 0:
        raise UserError(
            "--{name} {value} is too small", name="show", value=options.show, least=0, hint="at least {least}"
        )
    subject = resolve.subject(options)
    sets = subject.examples(options)
    texts = [shown(one, subject.tokenizer) for one in sets.train[: options.show]]
    sys.stdout.write("\n\n".join([*texts, "\n".join(examples_in_lines(sets))]) + "\n")
    return 0
