"""The keys of one architecture, read with their types checked; what nobody has asked for is known by name."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.weights.checkpoint import Tensor
from soban.weights.gguf.header import Value

MOST_LAYERS = 10_000
# Keys that change nothing in what a model computes, with or without a certain value.
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,), "expert_used_count": (0,), "attention.causal": (True,), "logit_scale": (0.0, 1.0),
    "attention.clamp_kqv": (0.0,), "use_parallel_residual": (False,), "rope.scaling.yarn_log_multiplier": (0.0,),
}  # fmt: skip


class Keys:
    """What stands behind `llama.` or another architecture's name, and the shapes of the file's tensors."""

    def __init__(self, path: Path, architecture: str, keys: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> None:
        self.path, self.architecture, self.tensors = path, architecture, tensors
        begin = architecture + "."
        self._values = {key.removeprefix(begin): value for key, value in keys.items() if key.startswith(begin)}
        self._asked: set[str] = set()

    def has(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        """The value, or None."""
        self._asked.add(key)
        return self._values.get(key)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number above 0; of a list, one for each layer, the number that all layers have."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if type(value) is not int or not 0 < value < 2**31:
            raise self.refused(key, value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above 0, as float32 spells it shortest."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise self.refused(key, value)
        return float(str(np.float32(value)))

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refused(key, value)
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that has to be there."""
        if name not in self.tensors:
            raise UserError("{path}: there is no tensor {name}", path=self.path, name=name, hint="fetch it again")
        return self.tensors[name].shape

    def vector(self, name: str) -> list[float] | None:
        """The numbers of a small tensor, or None where there is none."""
        if name not in self.tensors:
            return None
        values = self.tensors[name].float32().reshape(-1)
        if len(values) > 1 << 12:
            raise self.refused(name, self.tensors[name].shape)
        return [float(str(value)) for value in values]

    def refused(self, key: str, value: object) -> UserError:
        """The error for a value that is none, or means something that is not implemented."""
        if value is None:
            return UserError(
                "{path}: the key {key} is missing", path=self.path, key=f"{self.architecture}.{key}",
                hint="fetch it again",
            )  # fmt: skip
        return UserError(
            "{path}: {key}={value} is not implemented or not valid", path=self.path, key=f"{self.architecture}.{key}",
            value=quoted(value), hint="use a model without it, or an engine that has it",
        )  # fmt: skip

    def check_all_known(self) -> None:
        """Raises UserError for the first key that nobody has asked for, and that may change what is computed."""
        for key, value in self._values.items():
            if key in self._asked or key in HARMLESS:
                continue
            if not any(type(value) is type(good) and value == good for good in NEUTRAL.get(key, ())):
                raise self.refused(key, value)
