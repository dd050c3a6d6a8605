"""How far a head's pairs turn from position to position: rotary frequencies, and the ways of stretching them.

What config.json says of it is brought into one form and read as transformers does, whose results are the standard here:
`modeling_rope_utils.py` of 5.23. Sources: Su et al. 2021 (2104.09864); YaRN: Peng et al. 2023 (2309.00071); LongRoPE:
Ding et al. 2024 (2402.13753); llama3: Llama 3.1's model card; linear and dynamic: kaiokendev, bloc97 and emozilla 2023.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.ops.formats import Floats

THETA = 10000.0  # where no key gives another
FILLED = ("llama3", "yarn", "longrope")  # kinds to which transformers adds original_max_position_embeddings
LARGEST = 1e30
GROWTH = 8  # dynamic: a text that is longer by an eighth is computed anew


def rope_parameters(raw: Mapping[str, Any], context: int, layer_types: Iterable[str] = ()) -> dict[str, Any]:
    """config.json's keys about positions as one object, in the order of precedence that transformers has.

    `context`: max_position_embeddings. `layer_types`: names under which an object may give each type its own.
    """
    scaling, parameters = raw.get("rope_scaling"), raw.get("rope_parameters")
    if scaling and not isinstance(scaling, dict):
        raise invalid("rope_scaling", scaling)
    if parameters is not None and not isinstance(parameters, dict):
        raise invalid("rope_parameters", parameters)
    own = dict(scaling or parameters or {})
    for name in layer_types:  # beside parameters for all of them those of one type are never read
        if name in own and not {"rope_type", "rope_theta"} <= own.keys():
            raise UserError(
                "config.json: rope_parameters of their own for {name} are not implemented", name=name,
                hint="use a model without it, or an engine that has it",
            )  # fmt: skip
    own.setdefault("rope_theta", raw.get("rope_theta", THETA))
    if raw.get("partial_rotary_factor") is not None:
        own.setdefault("partial_rotary_factor", raw["partial_rotary_factor"])
    filled = layer_parameters(own, own["rope_theta"], context)
    if filled["rope_type"] in FILLED and "original_max_position_embeddings" in raw:
        filled["original_max_position_embeddings"] = raw["original_max_position_embeddings"]  # as Phi 3 has it: first
    return filled


def layer_parameters(own: Mapping[str, Any], theta: Any, context: int) -> dict[str, Any]:
    """An object about positions with what transformers adds to it where it is silent."""
    filled = {"rope_theta": theta, "rope_type": own.get("type", "default"), **own}
    if filled["rope_type"] in FILLED:
        filled.setdefault("original_max_position_embeddings", context)
    return filled


@dataclass(frozen=True)
class Rotation:
    """The rotary positions of a model's heads.

    `size`: of a head. `context`: max_position_embeddings. `parameters`: as `rope_parameters` gives them. `partial`:
    whether only a share of a head may turn, its first numbers; `even`: these are to be pairs without a number left.
    """

    size: int
    context: int
    parameters: Mapping[str, Any]
    partial: bool = False
    even: bool = False

    def check(self) -> None:
        """Raises UserError for parameters with which nothing can be computed, or not all pairs are turned."""
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise UserError(
                "config.json: rope_scaling of type {kind} is not implemented; this reads {known}",
                kind=quoted(self.kind), known=", ".join(KINDS), hint="use another model",
            )  # fmt: skip
        if self.kind == "yarn" and "factor" not in self.parameters:
            self.number("factor")  # null, but not nothing, means that the lengths tell it
        turned = self.table(0).shape[1]
        if turned > self.size // 2 or (turned < self.size // 2 and not self.partial):
            raise UserError(
                "config.json: rope_parameters turn {turned} of a head's {size} numbers, and this turns all",
                turned=2 * turned, size=self.size, hint="use a model without it",
            )  # fmt: skip
        if self.even and self.dimensions % 2:
            raise invalid("partial_rotary_factor", self.parameters.get("partial_rotary_factor"))
        if not 0 <= self.scale < LARGEST:
            raise invalid("attention_factor", self.scale)

    @property
    def kind(self) -> Any:
        return self.parameters["rope_type"]

    @property
    def varies(self) -> bool:
        """Whether the frequencies go by the text's length."""
        return self.kind in ("longrope", "dynamic")

    @property
    def theta(self) -> float:
        return self.number("rope_theta")

    @property
    def dimensions(self) -> int:
        """Of how many numbers of a head the exponents are counted; the default kind reads a share only if it may."""
        if self.partial:
            return int(self.size * self.number("partial_rotary_factor"))
        return self.size if self.kind == "default" else int(self.size * self.number("partial_rotary_factor", 1.0))

    @property
    def limit(self) -> int:
        """The longest text that the model is meant for; where a kind stretches the context, that of the stretched."""
        if self.kind in ("linear", "dynamic"):
            return max(self.context, int(self.context * self.number("factor")))
        if self.kind == "yarn":
            return max(self.context, int(self._original * self.factor))
        return self.context

    @property
    def factor(self) -> float:
        """By how much the context is stretched; where nothing says so, by what the two lengths tell."""
        own = self.parameters.get("factor")
        return self.context / self._original if own is None else self.number("factor")

    @property
    def scale(self) -> float:
        """What cosines and sines are multiplied by: attention is sharper over a longer text."""
        if self.kind not in ("yarn", "longrope"):
            return 1.0
        if self.parameters.get("attention_factor") is not None:
            return self.number("attention_factor", least=0.0)
        return self._computed(self._yarn_scale if self.kind == "yarn" else self._longrope_scale)

    def frequencies(self, length: int) -> Floats:
        """(size / 2,) radians a position, in a text of `length` tokens that is computed in one pass.

        Raises UserError for values with which nothing can be computed.
        """
        radians = self._computed(lambda: KINDS[self.kind](self, length))
        if not np.isfinite(radians).all():
            raise self._impossible()
        return np.asarray(radians, np.float32)

    def table(self, longest: int) -> Floats:
        """(K, size / 2): the frequencies of texts of up to so many tokens, in the rows that `row` names."""
        if self.kind == "longrope":
            return np.stack([self.frequencies(1), self.frequencies(math.floor(self._original) + 1)])
        lengths = range(self.context, max(self.context, longest) + 1) if self.kind == "dynamic" else [1]
        return np.stack([self.frequencies(length) for length in lengths])

    def row(self, length: int, before: int | None = None) -> int:
        """Which row of the table holds for a text of `length` tokens; `before`: the one it had while it was shorter.

        Where the row changes, all of the text has to be computed anew. A prompt has the row of its own length. With
        longrope a text changes once, when it grows beyond the original length. With dynamic every token beyond it
        would; the row then stays until the text is an eighth longer.
        """
        if self.kind == "longrope":
            return int(length > self._original)
        if self.kind != "dynamic":
            return 0
        row = max(0, length - self.context)
        if before and before <= row < before + (self.context + before) // GROWTH:
            return before
        return row

    def number(self, key: str, default: float | None = None, least: float | None = None) -> float:
        """A parameter's value, above 0 or at least `least`. Raises UserError for what is no such number."""
        value = self.parameters.get(key, default)
        good = type(value) in (int, float) and value < LARGEST and (value > 0 if least is None else value >= least)
        if not good:  # bool is no number here
            raise UserError(
                "config.json: rope_scaling or rope_parameters needs {key} as a number above 0, not {value}",
                key=key, value=quoted(value), hint="fetch config.json again",
            )  # fmt: skip
        return float(value)

    @property
    def _original(self) -> float:
        return self.number("original_max_position_embeddings")

    def _plain(self, theta: float | None = None) -> Floats:
        """Without any stretching."""
        exponents = np.arange(0, self.dimensions, 2) / self.dimensions
        return (1.0 / (self.theta if theta is None else theta) ** exponents).astype(np.float32)

    def _linear(self, length: int) -> Floats:
        return self._plain() / np.float32(self.number("factor"))

    def _proportional(self, length: int) -> Floats:
        """The quickest pairs as usual, as many as the share says; the others stand still."""
        share, factor = self.number("partial_rotary_factor", 1.0), self.number("factor", 1.0)
        turning = np.arange(self.size // 2) < int(share * self.size // 2)
        exponents = np.arange(0, self.size, 2) / self.size
        return np.where(turning, 1.0 / self.theta**exponents / factor, 0).astype(np.float32)

    def _dynamic(self, length: int) -> Floats:
        """A larger theta for a longer text, so that its slowest pair turns as far as in a text of the context."""
        factor, size = self.number("factor"), self.dimensions
        stretch = factor * max(length, self.context) / self.context - (factor - 1)
        return self._plain(self.theta * math.pow(stretch, size / (size - 2)))

    def _llama3(self, length: int) -> Floats:
        """Slow pairs are divided by the factor, fast ones stay, those between are blended."""
        factor, low, high = (self.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        plain = self._plain()
        turns = self._original * plain.astype(np.float64) / (2 * np.pi)
        stays = np.where(turns < low, 0, np.where(turns > high, 1, (turns - low) / (high - low)))
        return ((1 - stays) * plain / factor + stays * plain).astype(np.float32)

    def _yarn(self, length: int) -> Floats:
        """Pairs that turn often in the original context stay, those that turn seldom are divided, a ramp between."""
        plain = self._plain()
        fast, slow = (
            self._pair_of(self.number(key) if self.parameters.get(key) else default)
            for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
        )
        if self.parameters.get("truncate", True):
            fast, slow = math.floor(fast), math.ceil(slow)
        first, last = max(fast, 0), min(slow, self.dimensions - 1)
        width = last - first or 0.001
        pairs = np.arange(self.dimensions // 2, dtype=np.float32)
        ramp = np.clip((pairs - np.float32(first)) / np.float32(width), 0, 1)
        return plain / np.float32(self.factor) * ramp + plain * (1 - ramp)

    def _pair_of(self, turns: float) -> float:
        """The pair, counted with fractions, that turns so often in the original context."""
        return self.dimensions * math.log(self._original / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

    def _yarn_scale(self) -> float:
        def temper(weight: float) -> float:
            return 0.1 * weight * math.log(self.factor) + 1 if self.factor > 1 else 1.0

        if self.parameters.get("mscale") and self.parameters.get("mscale_all_dim"):
            return temper(self.number("mscale")) / temper(self.number("mscale_all_dim"))
        return temper(1.0)

    def _longrope(self, length: int) -> Floats:
        key = "long_factor" if length > self._original else "short_factor"
        factors = self.parameters.get(key)
        if not isinstance(factors, list) or not all(type(f) in (int, float) and 0 < f < LARGEST for f in factors):
            raise invalid(key, factors)
        plain = self._plain()
        if len(factors) not in (1, len(plain)):
            raise UserError(
                "config.json: {key} has {count} entries for the {pairs} pairs of a head",
                key=key, count=len(factors), pairs=len(plain), hint="fetch config.json again",
            )  # fmt: skip
        return (plain / np.array(factors)).astype(np.float32)

    def _longrope_scale(self) -> float:
        return math.sqrt(1 + math.log(self.factor) / math.log(self._original)) if self.factor > 1 else 1.0

    def _computed(self, compute: Callable[[], Any]) -> Any:
        try:
            with np.errstate(all="ignore"):
                return compute()
        except (ArithmeticError, ValueError):  # a theta or a length of 1, say, whose logarithm divides
            raise self._impossible() from None

    def _impossible(self) -> UserError:
        values = ", ".join(f"{key}={quoted(value)}" for key, value in self.parameters.items())
        return UserError(
            "config.json: with these rope_parameters no rotary positions can be computed: {parameters}",
            parameters=values, hint="fetch config.json again",
        )  # fmt: skip


KINDS: dict[str, Callable[[Rotation, int], Floats]] = {
    "default": lambda rotation, length: rotation._plain(),
    "linear": Rotation._linear,
    "dynamic": Rotation._dynamic,
    "yarn": Rotation._yarn,
    "longrope": Rotation._longrope,
    "llama3": Rotation._llama3,
    "proportional": Rotation._proportional,
}


def invalid(key: str, value: object) -> UserError:
    """What is said of a value with which there are no rotary positions."""
    return UserError(
        "config.json: {key}={value} is not implemented or not valid", key=key, value=quoted(value),
        hint="fetch config.json again",
    )  # fmt: skip
