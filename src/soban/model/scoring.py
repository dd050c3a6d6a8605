"""Text to tokens, and these to what the model makes of them: scores of what follows, and vectors."""

import copy
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from soban.base.border import crossing
from soban.base.errors import UserError
from soban.engine.engine import Engine
from soban.engine.sharing import SharedEngine
from soban.loading.loaded import Loaded
from soban.ops import Cache, make_batch, make_cache, runner
from soban.ops.adapters import Adapter
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.packing.packed_file import model_name
from soban.resources.memory import CHUNK, OUTPUTS, SPARE, USUAL_OUTPUTS
from soban.resources.pressure import Watch

if TYPE_CHECKING:
    from soban.talk.embedding import Embedder

MOST_SCORES = 1 << 24  # that `logits` computes at once: 64 MB

Own = TypeVar("Own", bound="Scorer")


class Scorer:
    """A model in memory: weights, engine and cache, which it shares with what `adapted` gives."""

    def __init__(self, loaded: Loaded, context: int, threads: int | None = None, users: int = 1) -> None:
        self.loaded, self.config, self.tokenizer = loaded, loaded.architecture.config, loaded.tokenizer
        self.program = loaded.architecture.record(loaded.weights, context)
        self.runner = runner(self.program, CHUNK, OUTPUTS, threads, USUAL_OUTPUTS)
        self.threads = threads
        self.engine = Engine(self.runner, self._cache(users * context + min(context, SPARE)), context, self.config.row)
        self.shared = SharedEngine(self.engine)
        self.ends = loaded.ends
        self.watch = Watch()
        self._embedder: Embedder | None = None
        self._embedding = threading.Lock()
        self.adapter: Adapter | None = None
        self.adapter_path: Path | None = None
        self.salt = ""

    def __repr__(self) -> str:
        kind, name = type(self).__name__, model_name(self.loaded.path)
        adapter = f" with {self.adapter_path.name!r}" if self.adapter_path else ""
        return f"<soban.{kind}: {name!r} as {self.loaded.dtype}{adapter}, {self.engine.context} tokens of context>"

    def adapted(self: Own, folder: str | Path | None) -> Own:
        """The model with the LoRA adapter that peft wrote into a folder; None: without any.

        What is returned shares weights, cache and engine with this one: both may be used at the same time, and take
        part in the same steps. Raises UserError for an adapter that is damaged, more than LoRA, or another model's.
        """
        model = copy.copy(self)
        model.adapter = model.adapter_path = None
        if folder is not None:
            from soban.packing.adapters import fitted_adapter  # imported where they are met: a start waits for them
            from soban.weights.adapter import open_adapter

            with crossing(folder):
                model.adapter_path = Path(folder)
                model.adapter = fitted_adapter(
                    open_adapter(model.adapter_path), self.loaded.architecture, self.loaded.moved
                )
        return model

    def salted(self: Own, salt: str) -> Own:
        """The model, whose texts reuse nothing in the cache that a text of another salt has left there.

        How soon an answer begins then tells nobody what others have asked. What is returned shares all else.
        """
        if salt == self.salt:
            return self
        model = copy.copy(self)
        model.salt = salt
        return model

    def tokenize(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """Token ids; `bos` None: with a beginning-of-text token if the model's tokenizer adds one, and never two.

        `special`: whether tokens that are written out, such as `<end_of_turn>`, are read as tokens or are plain text.
        """
        return self.tokenizer.encode(text, bos=bos, special=special)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special ones left out."""
        self._check_ids(ids)
        return self.tokenizer.decode(list(ids))

    def logits(self, text: str | Sequence[int]) -> Floats:
        """(T, vocabulary): the scores of what follows each token of the text, or of the given ids."""
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        scores, start = np.empty((len(ids), self.config.vocab_size), np.float32), 0
        for rows in self.logit_rows(ids):
            scores[start : start + len(rows)] = rows
            start += len(rows)
        return scores

    def logit_rows(self, ids: Sequence[int]) -> Iterator[Floats]:
        """The rows of `logits`, some at a time: each array holds until the next is asked for."""
        self._check_ids(ids)
        if not 0 < len(ids) <= self.engine.context:
            raise UserError(
                "{count} tokens, where 1 to {context} are possible",
                count=len(ids), context=self.engine.context, hint="shorten the text",
            )  # fmt: skip
        step = max(1, min(len(ids), CHUNK, MOST_SCORES // self.config.vocab_size))
        return self._computed(ids, step, last=False)

    def _computed(self, ids: Sequence[int], step: int, *, last: bool) -> Iterator[Floats]:
        """The rows of so many tokens at a time; or of each time's last token alone."""
        cache, rotation = self._cache(len(ids)), self.config.row(len(ids))
        # with memory of its own, which is given back afterwards
        computed = runner(self.program, step, 1 if last else step, self.threads)
        adapters, choices = ((self.adapter,), (0,)) if self.adapter else ((), ())
        for start in range(0, len(ids), step):
            piece = list(ids[start : start + step])
            outputs = [len(piece) - 1] if last else range(len(piece))
            batch = make_batch([piece], [start], [range(cache.pages)], outputs, rotation, adapters, choices)
            yield computed.run(batch, cache)

    def _following(self, ids: Sequence[int]) -> Floats:
        """(vocabulary,): the scores of what follows all of the ids."""
        with self._embedding:
            *_, row = self._computed(ids, min(len(ids), CHUNK), last=True)
        return row[-1]

    def embed(self, text: str | Sequence[int], *, pooling: str = "mean") -> Floats:
        """(hidden,): a text, or token ids, as a vector of length 1; texts compare by the product of their vectors.

        `pooling`: "mean" of what the model makes of each token, or the "last" token's. Models that were made for this
        do it better than those that were made to write.
        """
        from soban.talk.embedding import Embedder  # imported where it is met: a start waits for all that is imported

        if pooling not in ("mean", "last"):
            raise UserError("pooling={value}: there are mean and last", value=pooling, hint="choose one of them")
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        self._check_ids(ids)
        with self._embedding:
            if self._embedder is None:
                self._embedder = Embedder(
                    self.loaded.architecture, self.loaded.weights, self.engine.context, self._cache, self.threads
                )
            return self._embedder.embed(ids, "last" if pooling == "last" else "mean", self.adapter)

    def _cache(self, tokens: int) -> Cache:
        c = self.config
        try:
            layers = c.geometries
            return make_cache(-(-tokens // PAGE), layers, self.loaded.cache_format)
        except MemoryError:
            raise UserError(
                "there is not enough memory for a cache of {tokens} tokens", tokens=tokens,
                hint="choose a shorter context",
            ) from None  # fmt: skip

    def _check_ids(self, ids: Sequence[int]) -> None:
        if wrong := [i for i in ids if not 0 <= i < self.config.vocab_size]:
            raise UserError(
                "token id {id} is not in the vocabulary of {size}",
                id=wrong[0], size=self.config.vocab_size, hint="give ids that tokenize() made",
            )  # fmt: skip
