"""How tokens are chosen: transformers' parameters, with their meaning, and what follows from them."""

import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from soban.base.errors import UserError

OPTIONAL = (
    "max_new_tokens", "max_length", "min_new_tokens", "seed", "prompt_lookup_num_tokens", "bad_words_ids",
)  # fmt: skip
WHOLE = (*OPTIONAL[:-1], "min_length", "top_k", "no_repeat_ngram_size", "num_return_sequences")
LISTS = ("suppress_tokens", "begin_suppress_tokens")  # of token ids
GREATEST = sys.float_info.max  # whole numbers may be greater than any float
SHAPING = ("temperature", "top_k", "top_p", "min_p")  # what has an effect only where tokens are drawn


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Names, meaning and order are those of transformers' generate(), some OpenAI's.

    A temperature of 0 means the likeliest token always: `do_sample` is then false, whatever was given.
    """

    max_new_tokens: int | None = None  # None: until the model ends, or its context is full
    max_length: int | None = None  # the same with the prompt's tokens; max_new_tokens goes before
    min_new_tokens: int | None = None  # as long as there are fewer, nothing that ends the text is chosen
    min_length: int = 0  # the same with the prompt's tokens; min_new_tokens goes before
    do_sample: bool = False  # False: always the likeliest token
    temperature: float = 1.0
    top_k: int = 50  # 0: no limit
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0  # OpenAI's: taken from the scores of tokens that the text has had, prompt not counted
    frequency_penalty: float = 0.0  # OpenAI's: the same, as often as the text has had them
    logit_bias: tuple[tuple[int, float], ...] = ()  # OpenAI's: token ids, and what is added to their scores
    no_repeat_ngram_size: int = 0  # no such number of tokens in a row comes twice, the prompt's included; 0: they may
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None  # tokens in a row that never come
    suppress_tokens: tuple[int, ...] = ()  # tokens that never come
    begin_suppress_tokens: tuple[int, ...] = ()  # tokens that are not the first new one
    num_return_sequences: int = 1
    seed: int | None = None  # None: another text each time
    stop: tuple[str, ...] = ()
    prompt_lookup_num_tokens: int | None = None  # tokens to try at once where the text repeats; None: as many as pay
    # which of these nobody asked for: the model's files say so
    usual: frozenset[str] = dataclasses.field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises UserError for a value of the wrong type or out of its range."""
        for field in dataclasses.fields(self):
            self._check_type(field.name, getattr(self, field.name))
        ranges = {
            "max_new_tokens": self.max_new_tokens is None or 1 <= self.max_new_tokens < 2**31,
            "max_length": self.max_length is None or self.max_length >= 1,
            "min_new_tokens": self.min_new_tokens is None or self.min_new_tokens >= 0,
            "min_length": self.min_length >= 0,
            "no_repeat_ngram_size": self.no_repeat_ngram_size >= 0,
            "bad_words_ids": all(word and min(word) >= 0 for word in self.bad_words_ids or ()),
            "temperature": 0 <= self.temperature <= GREATEST,
            "top_k": self.top_k >= 0,
            "top_p": 0 <= self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty <= GREATEST,
            "presence_penalty": -2 <= self.presence_penalty <= 2,
            "frequency_penalty": -2 <= self.frequency_penalty <= 2,
            "logit_bias": all(token >= 0 and -100 <= bias <= 100 for token, bias in self.logit_bias),
            "num_return_sequences": 1 <= self.num_return_sequences <= 256,
            "seed": self.seed is None or 0 <= self.seed < 2**64,
            "prompt_lookup_num_tokens": self.prompt_lookup_num_tokens is None or self.prompt_lookup_num_tokens >= 0,
        }
        allowed = {
            "max_new_tokens": ">= 1, < 2^31", "max_length": ">= 1", "min_new_tokens": ">= 0", "min_length": ">= 0",
            "no_repeat_ngram_size": ">= 0", "bad_words_ids": ">= 0", "temperature": ">= 0, < inf", "top_k": ">= 0",
            "top_p": ">= 0, <= 1",
            "min_p": ">= 0, <= 1", "repetition_penalty": "> 0, < inf", "presence_penalty": ">= -2, <= 2",
            "frequency_penalty": ">= -2, <= 2", "logit_bias": ">= -100, <= 100", "num_return_sequences": ">= 1, <= 256",
            "seed": ">= 0, < 2^64", "prompt_lookup_num_tokens": ">= 0",
        }  # fmt: skip
        for name in (name for name, valid in ranges.items() if not valid):
            raise UserError(
                "{name}={value} is out of range", name=name, value=_writable(getattr(self, name)),
                allowed=allowed[name], hint="it must be {allowed}",
            )  # fmt: skip
        if self.temperature == 0:
            object.__setattr__(self, "do_sample", False)
            object.__setattr__(self, "temperature", 0)  # not 0.0, for it is shown

    def _check_type(self, name: str, value: object) -> None:
        """Whole numbers, numbers, or true and false, as the defaults are; some of the whole numbers may be None."""
        if (value is None and name in OPTIONAL) or name == "usual":
            return
        if name in LISTS:
            valid = _are_ids(value)
        elif name == "bad_words_ids":
            valid = isinstance(value, tuple) and all(map(_are_ids, value))
        elif name == "logit_bias":
            valid = isinstance(value, tuple) and all(map(_is_bias, value))
        elif name == "stop":
            valid = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        else:
            kind = bool if name == "do_sample" else Integral if name in WHOLE else Real
            valid = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not valid:
            raise UserError(
                "{name}={value} is of the wrong type", name=name, value=value, hint="see help(soban.Sampling)"
            )  # fmt: skip

    def replace(self, **changes: object) -> "Sampling":
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def asked_for(self, **options: Any) -> "Sampling":
        """A copy with what somebody asks for, and with what follows from that.

        Whoever shapes the draw wants one, and a length goes before the other kind of length that is usual.
        """
        changes = dict(options)
        if any(name in options for name in SHAPING) and options.get("temperature") != 0:
            changes.setdefault("do_sample", True)
        if changes.get("do_sample") and self.temperature == 0:
            changes.setdefault("temperature", 1.0)
        for length, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if length in options:
                changes.setdefault(new, None)
        return self.replace(**changes, usual=self.usual - options.keys())

    def idle(self, names: Iterable[str]) -> list[str]:
        """Which of these options shape a draw that there is none of; not where a temperature of 0 is among them."""
        if self.do_sample or ("temperature" in names and self.temperature == 0):
            return []
        return [name for name in SHAPING if name in names]

    @property
    def wanted(self) -> int:
        """How many new tokens a context has to have room for."""
        return 1 if self.max_new_tokens is None or "max_new_tokens" in self.usual else self.max_new_tokens

    def limit(self, prompt: int) -> int | None:
        """How many new tokens there are at the most after a prompt of so many; None: as many as there is room for."""
        if self.max_new_tokens is not None or self.max_length is None:
            return self.max_new_tokens
        return self.max_length - prompt


def _are_ids(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, Integral) and not isinstance(item, bool) for item in value)


def _is_bias(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return _are_ids(value[:1]) and isinstance(value[1], Real) and not isinstance(value[1], bool)


def _writable(value: object) -> object:
    """A value as it may stand in a line: Python refuses to write out whole numbers of more than 4,300 digits."""
    from decimal import Decimal

    return f"{Decimal(value):.2e}" if isinstance(value, int) and abs(value) >= 2**64 else value
