"""Text to tokens, and these to what the model makes of them: scores of what follows, and vectors."""

import copy
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from soban.base.border import crossing
from soban.base.errors import UserError
from soban.engine.engine import Engine
from soban.engine.sharing import SharedEngine
from soban.loading.loaded import Loaded
from soban.loading.pooling import Pooling, read_pooling
from soban.ops import Cache, Runner, make_batch, make_cache, runner
from soban.ops.adapters import Adapter
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.ops.recorder import Program
from soban.packing.packed_file import model_name
from soban.resources.memory import CHUNK, OUTPUTS, SPARE, USUAL_OUTPUTS, state_slots
from soban.resources.pressure import Watch

if TYPE_CHECKING:
    from soban.talk.embedding import Batches

MOST_SCORES = 1 << 24  # that `logits` computes at once: 64 MB

Own = TypeVar("Own", bound="Scorer")


class Writing(NamedTuple):
    """What a model that writes has besides its weights."""

    program: Program
    runner: Runner
    engine: Engine
    shared: SharedEngine


class Scorer:
    """A model in memory: weights, engine and cache, which it shares with what `adapted` gives."""

    def __init__(self, loaded: Loaded, context: int, threads: int | None = None, users: int = 1) -> None:
        self.loaded, self.config, self.tokenizer = loaded, loaded.architecture.config, loaded.tokenizer
        self.context, self.threads = context, threads
        self._writing: Writing | None = None
        if not loaded.architecture.encoder:
            program = loaded.architecture.record(loaded.weights, context)
            computed = runner(program, CHUNK, OUTPUTS, threads, USUAL_OUTPUTS)
            slots = state_slots(loaded.architecture, users)
            cache = self._cache(users * context + min(context, SPARE), slots)
            engine = Engine(computed, cache, context, self.config.row)
            self._writing = Writing(program, computed, engine, SharedEngine(engine))
        self.ends = loaded.ends
        self.watch = Watch()
        self._batches: Batches | None = None  # that give hidden states, and the scores of a head
        self._scored: Batches | None = None
        self._embedding = threading.Lock()
        self.adapter: Adapter | None = None
        self.adapter_path: Path | None = None
        self.salt = ""

    def __repr__(self) -> str:
        kind, name = type(self).__name__, model_name(self.loaded.path)
        adapter = f" with {self.adapter_path.name!r}" if self.adapter_path else ""
        return f"<soban.{kind}: {name!r} as {self.loaded.dtype}{adapter}, {self.context} tokens of context>"

    @property
    def writes(self) -> bool:
        """Whether the model writes text; an encoder makes vectors of texts, or scores, and nothing else."""
        return self._writing is not None

    @property
    def _written(self) -> "Writing":
        self.loaded.check_writes()
        assert self._writing is not None
        return self._writing

    @property
    def program(self) -> Program:
        return self._written.program

    @property
    def runner(self) -> Runner:
        return self._written.runner

    @property
    def engine(self) -> Engine:
        """What runs the steps in which texts are written. Raises UserError for an encoder."""
        return self._written.engine

    @property
    def shared(self) -> SharedEngine:
        return self._written.shared

    @functools.cached_property
    def pooling(self) -> Pooling:
        """How a text's hidden states become its vector, as the model's files say. UserError for what is not known."""
        return self.loaded.pooling or read_pooling(self.loaded.path)

    def adapted(self: Own, folder: str | Path | None) -> Own:
        """The model with the LoRA adapter that peft wrote into a folder; None: without any.

        What is returned shares weights, cache and engine with this one: both may be used at the same time, and take
        part in the same steps. Raises UserError for an adapter that is damaged, more than LoRA, or another model's.
        """
        model = copy.copy(self)
        model.adapter = model.adapter_path = None
        model.loaded = self.loaded.plain or self.loaded
        if folder is not None:
            from soban.packing.adapters import fitted_adapter  # imported where they are met: a start waits for them
            from soban.weights.adapter import open_adapter

            with crossing(folder):
                model.adapter_path = Path(folder)
                model.adapter = fitted_adapter(
                    open_adapter(model.adapter_path), self.loaded.architecture, self.loaded.moved
                )
                model.loaded = model.loaded.answering(model.adapter_path)
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
        if not 0 < len(ids) <= self.context:
            raise UserError(
                "{count} tokens, where 1 to {context} are possible",
                count=len(ids), context=self.context, hint="shorten the text",
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

    def embed(
        self,
        text: str | Sequence[int],
        *,
        pooling: str | None = None,
        prompt: str | None = None,
        normalize: bool = True,
        truncate: bool = False,
    ) -> Floats:
        """(width,): a text, or token ids, as a vector; see `embed_all`."""
        return self.embed_all([text], pooling=pooling, prompt=prompt, normalize=normalize, truncate=truncate)[0]

    def embed_all(
        self,
        texts: Sequence[str | Sequence[int]],
        *,
        pooling: str | None = None,
        prompt: str | None = None,
        normalize: bool = True,
        truncate: bool = False,
    ) -> Floats:
        """(n, width): texts, or token ids, as vectors of length 1; texts compare by the product of their vectors.

        Models that were made for this do it better than those that were made to write. What sentence-transformers left
        beside a model says how (`pooling`); without that it is the mean of what the model makes of each token.
        `pooling`: another way: mean, cls, last, max, weightedmean or mean_sqrt_len_tokens. `prompt`: the name of a
        prompt among the model's files, which is put before each text. `normalize` False leaves the vectors as long as
        the model's files have them. `truncate`: texts that are too long lose their ends; else they are a UserError.
        """
        from soban.talk.embedding import pooled  # imported where it is met: a start waits for all that is imported

        how = pooled(self.pooling, pooling)
        ids, skip = self.embedding_ids(texts, how, prompt, truncate)
        return self.vectors(ids, how, skip, normalize)

    def embedding_ids(
        self, texts: Sequence[str | Sequence[int]], how: Pooling, prompt: str | None = None, truncate: bool = False
    ) -> tuple[list[list[int]], int]:
        """The tokens that are read of each text, and how many of each are a prompt's that does not count."""
        before = how.prompt(prompt)
        ids = [self._read_ids(text, before, truncate) for text in texts]
        for one in ids:
            self._check_ids(one)
        # alone, a prompt has what begins and ends every text
        counts = before and not how.include_prompt
        return ids, len(self.tokenizer.encode(before)) - self._suffix() if counts else 0

    def vectors(self, ids: Sequence[Sequence[int]], how: Pooling, skip: int = 0, normalize: bool = True) -> Floats:
        """(n, width): the vectors of what `embedding_ids` gave."""
        from soban.talk.embedding import Batches, vectors

        arch = self.loaded.architecture
        with self._embedding:
            if self._batches is None:
                program = arch.record(self.loaded.weights, self.context, hidden=True)
                self._batches = Batches(program, arch, self.context, self._cache, self.threads)
            return vectors(self._batches, ids, how, prompt=skip, normalize=normalize, adapter=self.adapter)

    def _first_rows(self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> list[Floats]:
        """What an encoder's head makes of texts, with the types of their tokens: of each the row of its first token."""
        from soban.talk.embedding import Batches

        arch = self.loaded.architecture
        with self._embedding:
            if self._scored is None:
                program = arch.record(self.loaded.weights, self.context)
                self._scored = Batches(program, arch, self.context, self._cache, self.threads, first=True)
            rows = {number: row[0].copy() for number, row in self._scored.results(ids, types, self.adapter)}
        return [rows[number] for number in range(len(ids))]

    def _read_ids(self, text: str | Sequence[int], prompt: str, truncate: bool) -> list[int]:
        """Of a text behind a prompt; one that is cut keeps what ends every text."""
        if not isinstance(text, str):
            return list(text)[: self.context if truncate else None]
        whole = prompt + text
        ids = self.tokenizer.encode(whole.lower() if self.pooling.lower_case else whole)
        if not truncate or len(ids) <= self.context:
            return ids
        end = self._suffix()
        return ids[: self.context - end] + ids[len(ids) - end :]

    def _suffix(self) -> int:
        """How many tokens the tokenizer puts behind every text."""
        one, other = (self.tokenizer.encode(text)[::-1] for text in ("a", "b"))
        return next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)

    def _cache(self, tokens: int, slots: int = 1) -> Cache:
        c = self.config
        try:
            layers = c.geometries
            return make_cache(-(-tokens // PAGE), layers, self.loaded.cache_format, slots)
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
