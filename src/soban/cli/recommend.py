"""`soban recommend`: at most three models that suit this PC and a purpose, with reasons, and why not the others."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.cli.terminal import console
from soban.cli.terminal.table import columns, weights
from soban.cli.terminal.wrapping import hanging, wrapped
from soban.hub import catalogue, languages
from soban.hub.catalogue import Entry
from soban.hub.recommend import Advice, Fit, Wish, recommend
from soban.messages import translate
from soban.models import FAMILIES

EXAMPLES = """\
  soban recommend
  soban recommend --ram 8 --task chat --lang ko --commercial
  soban recommend --task summary --context 8192 --json
"""
INDENT = 4
ENDLESS = 1 << 60  # bytes of memory
WAITING = 6  # names of models without an engine


@dataclass(frozen=True)
class RecommendOptions:
    """Name at most three models that suit a PC and a purpose, with the reasons, and what speaks against the others.

    It goes by what the catalogue knows: published figures and licences, each with its source (soban show MODEL tells
    them), and by how fast this PC reads its memory. Sizes and speeds are estimates; soban plan MODEL has exact ones.
    """

    ram: float | None = field(
        default=None, metadata={"metavar": "GB", "example": "8.5", "help": "memory of the PC (default: this one)"}
    )
    task: Literal["chat", "summary", "story", "write"] = field(
        default="chat", metadata={"help": "what it is for; write: go on with a text"}
    )
    lang: str | None = field(
        default=None, metadata={"metavar": "CODE", "help": "a language that it must know, as ko or korean"}
    )
    commercial: bool = field(default=False, metadata={"help": "only what may be used commercially"})
    context: int | None = field(
        default=None, metadata={"help": "tokens that question and answer must find room for (default: 4096, or fewer)"}
    )
    json: bool = field(default=False, metadata={"help": "write JSON"})


OPTIONS = RecommendOptions


def call(options: RecommendOptions) -> int:
    """Writes the advice to stdout."""
    wish = with_speed(wish_of(options))
    advice = recommend(catalogue.entries(), wish, FAMILIES, catalogue.benchmarks())
    console.write(as_json(advice, wish) if options.json else as_text(advice, wish))
    return 0


def wish_of(options: RecommendOptions) -> Wish:
    """The wish, checked. Raises UserError for what cannot be meant."""
    if options.ram is not None and not 0 < options.ram <= 1e5:
        raise UserError("--ram {value} is no amount of memory", value=options.ram, hint="give gigabytes, as in --ram 8")
    if options.context is not None and options.context < 1:
        raise UserError("--context {value} is too small", value=options.context, hint="give a number of tokens")
    language = None if options.lang is None else languages.code(options.lang) or options.lang.lower()
    if language is not None and not (len(language) == 2 and language.isascii() and language.isalpha()):
        raise UserError(
            "--lang {value} is no language's code", value=console.shortened(options.lang),
            hint="give two letters or its name, as in --lang ko",
        )  # fmt: skip
    memory = round(options.ram * 1e9) if options.ram is not None else _memory()
    wish = Wish(memory, options.task, language, options.commercial)
    return wish if options.context is None else dataclasses.replace(wish, context=options.context, insists=True)


def with_speed(wish: Wish) -> Wish:
    """The same, with what this PC reads in a second, on which it depends how fast a model writes."""
    from soban.measure.limits import bandwidth

    with console.Status(False) as status:
        status.show(translate("measuring the memory ..."))
        return dataclasses.replace(wish, bandwidth=bandwidth())


def _memory() -> int:
    from soban.base.machine import memory_bytes

    if not (memory := memory_bytes()):
        raise UserError("this system does not tell its memory", hint="give it, as in --ram 8")
    return memory


def as_text(advice: Advice, wish: Wish) -> str:
    """The models with their reasons, then what became of the others."""
    parts = [head(wish)]
    if not advice.fits:
        parts.append("\n".join(nothing(wish)))
    elif not advice.language_known:
        text = translate(
            "Nothing is published about how well those that would do know the language {language}: try them first.",
            language=wish.language,
        )
        parts.append("\n".join(wrapped(text, columns())))
    parts += [f"{number}. {_fit(fit, wish)}" for number, fit in enumerate(advice.fits, 1)]
    if advice.fits:
        remark = translate("soban plan MODEL tells exactly what it takes and how fast it is here.")
        parts.append("\n".join(wrapped(remark, columns())))
    if others := _others(advice):
        parts.append(others)
    return "\n\n".join(parts) + "\n"


def nothing(wish: Wish) -> list[str]:
    """That no model does all that is asked, how many would with one wish less, and where else to look."""
    lines = wrapped(translate("No model of the catalogue that soban runs does all that."), columns())
    for flag, less in weaker(wish):
        advice = recommend(catalogue.entries(), less, FAMILIES, catalogue.benchmarks())
        if count := len(advice.fits) + advice.against.get("behind", 0):
            lines += hanging("- ", translate("without {flag}: {count} would do", flag=flag, count=count), columns())
    remark = translate("On the hub there are more: soban search WORD. soban list shows what is on this PC already.")
    return [*lines, *wrapped(remark, columns())]


def weaker(wish: Wish) -> list[tuple[str, Wish]]:
    """The same wish with one limit less each time, and the flag that sets that limit."""
    replace = dataclasses.replace
    wishes = [
        (f"--ram {wish.memory / 1e9:g}", replace(wish, memory=ENDLESS)),
        (f"--lang {wish.language}", replace(wish, language=None)) if wish.language else None,
        ("--commercial", replace(wish, commercial=False)) if wish.commercial else None,
        (f"--context {wish.context}", replace(wish, context=Wish.context, insists=False)) if wish.insists else None,
        (f"--task {wish.task}", replace(wish, task=Wish.task)) if wish.task != Wish.task else None,
    ]
    return [one for one in wishes if one is not None]


def head(wish: Wish) -> str:
    """What was asked."""
    words = {
        "chat": translate("to talk with"), "summary": translate("to sum up texts"),
        "story": translate("to tell stories"), "write": translate("to go on with a text"),
    }  # fmt: skip
    parts = [words[wish.task], translate("memory {size:g} GB", size=round(wish.memory / 1e9, 1))]
    if wish.language:
        parts.append(translate("language {code}", code=wish.language))
    if wish.commercial:
        parts.append(translate("for commercial use"))
    return "\n".join(wrapped(" · ".join(parts), columns()))


def _fit(fit: Fit, wish: Wish) -> str:
    entry = fit.entry
    head = f"{entry.name}  {entry.title}"
    lines = [head] if len(head) + INDENT <= columns() else [entry.name, " " * INDENT + entry.title]
    reasons = [
        _memory_reason(fit, wish),
        *_speed_reason(fit, wish),
        *_language_reasons(entry, wish),
        _licence_reason(entry),
    ]
    if entry.tokenizer:
        host = entry.tokenizer.split("/")[2]
        reasons.append(translate("its tokenizer is not on the hub: it is fetched from {host} along with it", host=host))
    if entry.gated:
        reasons.append(translate("the hub asks you to agree to the terms first: soban login"))
    lines += [line for reason in reasons for line in hanging(" " * INDENT + "- ", reason, columns())]
    lines.append(" " * INDENT + f"soban run {entry.name}")
    return "\n".join(lines)


def _memory_reason(fit: Fit, wish: Wish) -> str:
    """How it fits, and what of that is not known."""
    amounts = {
        "size": weights(fit.entry.parameters), "form": fit.form, "needed": of_bytes(fit.bytes),
        "context": fit.context, "room": of_bytes(wish.room),
    }  # fmt: skip
    if fit.cache is None:
        reason = translate(
            "{size} weights as {form} take about {needed} of {room}, and the context on top: it is not known how much",
            **amounts,
        )
    else:
        reason = translate(
            "{size} weights as {form} take about {needed} of {room}, with {context} tokens of context", **amounts
        )
    return reason


def _speed_reason(fit: Fit, wish: Wish) -> list[str]:
    """How fast it would write here; where that is not measured, only that it is large."""
    slow = "" if fit.fluent else translate("slow: each token reads all of it")
    if wish.bandwidth is None:
        return [slow] if slow else []
    speed = f"{fit.speed:.1f}" if fit.speed < 9.95 else f"{fit.speed:.0f}"
    pace = translate("about {speed} tokens/s on this PC", speed=speed)
    return [f"{pace}; {slow}" if slow else pace]


def _language_reasons(entry: Entry, wish: Wish) -> list[str]:
    if wish.language is None:
        return []
    benchmarks = catalogue.benchmarks()
    scores = [
        f"{name} {value:g}/{benchmarks[name].most:g}" for name, value in entry.scores
        if benchmarks[name].language == wish.language
    ]  # fmt: skip
    if wish.language in entry.languages:
        reason = translate("its makers name {code} among its languages", code=wish.language)
    elif entry.languages:
        others = " ".join(entry.languages)
        reason = translate("its makers do not name {code}, but {others}", code=wish.language, others=others)
    else:
        reason = translate("it is not known which languages it was taught")
    return [reason + (f"; {translate('published scores')}: {', '.join(scores)}" if scores else "")]


def _licence_reason(entry: Entry) -> str:
    words = {
        "yes": translate("commercial use is allowed"), "no": translate("no commercial use"),
        "conditions": translate("commercial use under conditions: read them first"),
        None: translate("nobody has looked yet whether commercial use is allowed"),
    }  # fmt: skip
    licence = entry.weights_licence or translate("licence not known")
    return f"{licence}: {words[entry.commercial]}"


def _others(advice: Advice) -> str:
    """How many models each reason speaks against, and those that only lack an engine."""
    reasons = {
        "task": translate("are made for something else"),
        "commercial": translate("must not be used commercially"),
        "unknown licence": translate("have a licence that nobody has looked into for that"),
        "context": translate("hold fewer tokens of context"),
        "language": translate("are not known to know the language"),
        "unknown size": translate("have a size that is not known"),
        "memory": translate("are too large"),
        "form": translate("come in a form that soban does not read"),
        "behind": translate("would do too, but stand behind these"),
    }
    rows = [(f"{count}", reasons[reason]) for reason, count in advice.against.items()]
    if advice.waiting:
        why = translate("would do, but soban has no engine for them yet, or it is not known of which family they are:")
        rows.append((f"{len(advice.waiting)}", why))
    if not rows:
        return ""
    wide = max(len(count) for count, _ in rows)
    lines = [translate("The others:")]
    lines += [line for count, reason in rows for line in hanging(f"  {count:>{wide}}  ", reason, columns())]
    if advice.waiting:
        lines += hanging(" " * (INDENT + 2), _names(advice.waiting), columns())
    return "\n".join(lines)


def _names(entries: Sequence[Entry]) -> str:
    largest = sorted(entries, key=lambda entry: entry.parameters or 0, reverse=True)
    listing = ", ".join(entry.name for entry in largest[:WAITING])
    return listing + (", …" if len(entries) > WAITING else "")


def as_json(advice: Advice, wish: Wish) -> str:
    """All of it, for programs."""
    fits = [
        {
            "name": fit.entry.name, "repository": fit.entry.repository, "form": fit.form, "bytes": fit.bytes,
            "weight_bytes": fit.weights, "cache_bytes": fit.cache, "context": fit.context, "fluent": fit.fluent,
            "tokens_per_second": fit.speed,
            "parameters": fit.entry.parameters, "languages": fit.entry.languages,
            "licence": fit.entry.weights_licence, "commercial": fit.entry.commercial, "gated": fit.entry.gated,
            "scores": dict(fit.entry.scores),
        }
        for fit in advice.fits
    ]  # fmt: skip
    report = {
        "wish": dataclasses.asdict(wish) | {"room": wish.room}, "models": fits, "language_known": advice.language_known,
        "against": advice.against, "no_engine_yet": [entry.name for entry in advice.waiting],
    }  # fmt: skip
    return json.dumps(report, ensure_ascii=False, indent=1) + "\n"
