"""A forecast of a training as a line and as a table, with what it rests on."""

from collections.abc import Iterator, Sequence

from soban.base import system
from soban.base.units import of_bytes, of_seconds
from soban.learn.training import sizes
from soban.learn.training.events import Foreseen
from soban.learn.training.forecast import Forecast, Speed
from soban.messages import padded, translate, width


def in_a_line(one: Foreseen) -> str:
    """The most important of it; no loss where the first weights are a model's, of which no curve is known."""
    if one.bits is None:
        return translate("about {time}", time=of_time(one.seconds))
    return translate(
        "about {time}; then probably {low:.2f} to {high:.2f} bits per byte held out", time=of_time(one.seconds),
        low=one.bits[0], high=one.bits[1],
    )  # fmt: skip


def in_a_table(forecasts: Sequence[Forecast]) -> Iterator[str]:
    """Lines: a table with a training in each row, the first of which is the one that was asked for."""
    rows = [
        [
            translate("preset"), translate("weights"), translate("tokens"), translate("passes"), translate("time"),
            translate("bits per byte"), translate("RAM"), translate("disk"),
        ]
    ]  # fmt: skip
    for one in forecasts:
        parameters = sizes.parameters(one.settings)
        tokens = one.settings.steps * one.settings.step_tokens
        rows.append(
            [
                one.name or translate("as given"), f"{parameters / 1e6:.2f} M", amount(tokens), f"{one.passes:.1f}",
                of_time(one.seconds), _bits(one), of_bytes(one.memory), of_bytes(one.disk),
            ]
        )  # fmt: skip
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, range(len(row)), strict=True)
        yield "  ".join(padded(cell, size, place > 0) for cell, size, place in cells).rstrip()


def _bits(one: Forecast) -> str:
    if one.bits is None:
        return "-"
    return translate("{low:.2f} to {high:.2f}", low=one.bits[0], high=one.bits[1])


def amount(count: float) -> str:
    """A number of tokens, short."""
    return f"{count / 1e6:.1f} M" if count >= 999_500 else f"{count / 1e3:.0f} k"


def footnotes(one: Forecast, speed: Speed) -> Iterator[str]:
    """What the first row of the table rests on."""
    settings = one.settings
    yield translate(
        "{steps} steps of {tokens} tokens, {rate:.0f} tokens/s in a probe just now; {dtype} on {device}",
        steps=settings.steps, tokens=settings.step_tokens, rate=settings.step_tokens / speed.step_seconds(settings),
        dtype=settings.dtype, device=settings.device,
    )  # fmt: skip
    if (free := system.available_memory()) is not None:
        yield translate("memory free now: {free}", free=of_bytes(free))
    yield translate("bits per byte: of text held out, by a curve through other trainings")


def of_time(seconds: float) -> str:
    """Days and hours, too, where it is so much."""
    days, hours = divmod(round(seconds / 3600), 24)
    if days:
        return translate("{days} d {hours} h", days=days, hours=hours)
    return of_seconds(seconds)
