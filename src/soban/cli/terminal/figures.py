"""One line about time and memory, for stderr."""

from typing import TYPE_CHECKING

from soban.base import system
from soban.messages import translate

if TYPE_CHECKING:
    from soban.talk.generation import Figures


class Peak:
    """The greatest memory use that was seen; None where the system does not tell."""

    def __init__(self) -> None:
        self.use = system.memory_use()

    def note(self) -> None:
        now = system.memory_use()
        if now and self.use:
            self.use = system.MemoryUse(max(now.anonymous, self.use.anonymous), max(now.mapped, self.use.mapped))


def run_line(load_seconds: float, figures: "Figures", texts: int, memory: Peak) -> str:
    """Load, prompt and text apart, then memory: what is the process's own, and pages of files mapped into it."""
    parts = [
        translate("load {seconds:.2f} s", seconds=load_seconds),
        translate(
            "prompt {tokens} tokens in {seconds:.2f} s ({rate:.0f}/s)", tokens=figures.prompt_tokens,
            seconds=figures.prefill_seconds, rate=_prefill_rate(figures),
        ),
        *_text_parts(figures, texts),
    ]  # fmt: skip
    if memory.use:
        own, mapped = memory.use.anonymous / 1e6, memory.use.mapped / 1e6
        parts.append(translate("memory {own:.0f} MB + {mapped:.0f} MB mapped files", own=own, mapped=mapped))
    return " · ".join(parts)


def turn_line(figures: "Figures") -> str:
    """A turn of a conversation: how much of its prompt was new, and how fast the answer came."""
    prompt = translate(
        "prompt {new} new + {reused} known tokens in {seconds:.2f} s ({rate:.0f}/s)",
        new=figures.prompt_tokens - figures.reused_tokens, reused=figures.reused_tokens,
        seconds=figures.prefill_seconds, rate=_prefill_rate(figures),
    )  # fmt: skip
    return " · ".join([prompt, *_text_parts(figures, 1)])


def _text_parts(figures: "Figures", texts: int) -> list[str]:
    decoded = max(0, figures.new_tokens - texts)  # each text's first token comes out of the prompt's step
    parts = [
        translate(
            "{tokens} tokens in {seconds:.2f} s ({rate:.0f}/s, {characters:.0f} characters/s)",
            tokens=figures.new_tokens, seconds=figures.decode_seconds, rate=_rate(decoded, figures.decode_seconds),
            characters=_rate(figures.characters, figures.prefill_seconds + figures.decode_seconds),
        )
    ]  # fmt: skip
    if figures.drafted_tokens:
        parts.append(
            translate(
                "{accepted} of {drafted} looked-up tokens were right", accepted=figures.accepted_tokens,
                drafted=figures.drafted_tokens,
            )
        )  # fmt: skip
    return parts


def _prefill_rate(figures: "Figures") -> float:
    return _rate(figures.prompt_tokens - figures.reused_tokens, figures.prefill_seconds)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
