"""Samples: what the model that is being trained makes of an opening, so that one sees it learn."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soban.text.tokenizers.library import library_errors, open_library
from soban.text.tokenizers.settings import read_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from soban.learn.training.computing import Computer

NEW_TOKENS = 50
TEMPERATURE = 0.8
OPENINGS = ("Once upon a time, there was a", "옛날 옛적에")
KNOWN = 0.7  # share of pieces that are more than a byte


class Sampler:
    """Goes on with some openings, each time with the same random numbers, which are no others' business."""

    def __init__(self, computer: "Computer", data: Path, context: int, prompts: Sequence[str] = ()) -> None:
        """`data`: the folder whose tokenizer is used; `prompts`: in place of the usual ones."""
        from soban.learn.data.shards import read_manifest

        about = read_manifest(data)["tokenizer"]
        self.computer, self.context = computer, context
        self.bos_id, self.eos_id = about["bos_token_id"], about["eos_token_id"]
        self.path = data / "tokenizer.json"
        self.tokenizer, _ = open_library(self.path, read_bytes(self.path))
        with library_errors(self.path):
            self.prompts = tuple(prompts) or usual(self.tokenizer)

    def __call__(self) -> list[str]:
        """A text for each prompt, which it begins with."""
        return list(self.computer.workers.map(self._text, self.prompts))

    def _text(self, prompt: str) -> str:
        import torch

        rng = np.random.default_rng(0)
        ids = [] if self.bos_id is None else [self.bos_id]
        with library_errors(self.path):
            ids += self.tokenizer.encode(prompt, add_special_tokens=False).ids
        new = min(NEW_TOKENS, self.context // 2)
        ids = ids[: self.context - new]
        most = len(ids) + new
        with torch.no_grad():
            while len(ids) < most:
                logits = self._logits(ids)
                if not np.isfinite(logits).all():  # of which the next step will tell
                    break
                token = draw(logits, rng)
                if token == self.eos_id:
                    break
                ids.append(token)
        with library_errors(self.path):
            text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        return text.replace("\ufffd", "")  # bytes that make no character: at the end, or while it has learnt little

    def _logits(self, ids: Sequence[int]) -> Any:
        """(vocabulary,) for what comes after the ids; without a cache, which so few tokens do not need."""
        import torch

        from soban.learn.training import network

        model = self.computer.model
        inputs = torch.tensor([ids], device=self.computer.device)
        last = network.states(model, inputs, torch.zeros_like(inputs))[0, -1]
        logits = (last @ network.head(model).T).float().cpu().numpy().astype(np.float64)
        cap = network.logit_cap(model)
        return logits if cap is None else np.tanh(logits / cap) * cap


def draw(logits: Any, rng: np.random.Generator) -> int:
    """A token, at the temperature of samples."""
    weights = np.exp((logits - logits.max()) / TEMPERATURE)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def usual(tokenizer: "Tokenizer") -> tuple[str, ...]:
    """The openings in languages that the tokenizer knows: it takes no more of them apart than it must."""
    openings = tuple(text for text in OPENINGS if knows(tokenizer, text))
    return openings or OPENINGS[:1]


def knows(tokenizer: "Tokenizer", text: str) -> bool:
    """Whether it has pieces for most of the text, and not only bytes."""
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    return sum(token.startswith("<0x") for token in tokens) < (1 - KNOWN) * len(tokens)
