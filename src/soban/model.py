"""A loaded model: text in, text out."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.engine.engine import Engine, Event, Request, Running
from soban.engine.sampling import Sampling
from soban.errors import UserError
from soban.loading import Loaded, load_files
from soban.ops import Cache, make_batch, make_cache, runner
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.text.chat import encode_chat
from soban.text.stop import StopStrings

CHUNK = 256  # tokens in one step at most: enough for the multipliers, few enough to be cancelled soon
SPARE = 2048  # tokens of earlier conversations that the cache has room for beside a whole context
LONGEST_TOKEN = 256  # characters; in the vocabularies that people use the longest has 128
OUTPUTS = 16  # tokens whose logits one step can give


@dataclass
class Figures:
    """What a generation took, in seconds and tokens; filled in as it goes."""

    prompt_tokens: int = 0
    reused_tokens: int = 0  # of the prompt, found in the cache
    new_tokens: int = 0
    characters: int = 0
    dropped_tokens: int = 0  # that a sliding context has forgotten
    drafted_tokens: int = 0  # looked up in the text so far and tried, and how many of them the model then chose
    accepted_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    finished: str = ""  # "end", "length", "stop", "context" or "cancelled"


class Generation:
    """The pieces of one or several texts as they are written: iterate over (which text, piece).

    Several generations of one model may be iterated in turn; they then share the engine's steps.
    """

    def __init__(self, model: "Model", prompt: list[int], sampling: Sampling, echo: str, answer: bool) -> None:
        """`echo` is written first; `answer`: the text stands by itself, so no space begins it, else it goes on."""
        self.model, self.echo = model, echo
        keep = 1 if prompt[:1] == [model.tokenizer.bos_id] else 0
        texts = range(sampling.num_return_sequences)
        self.stops = [StopStrings(sampling.stop) for _ in texts]
        self.decoders = [model.tokenizer.stream(after=() if answer else prompt) for _ in texts]
        self.sequences = model.engine.prepare(Request(prompt, sampling, model.ends, keep))
        self.figures = Figures(prompt_tokens=len(prompt))
        self.events: deque[Event] = deque()  # what the engine's steps brought and nobody has read yet
        self.writing = set(texts)
        self.begun = False

    def __iter__(self) -> Iterator[tuple[int, str]]:
        if self.begun:
            return  # read to its end, or given up: there is nothing more
        self.begun = True
        if self.echo:
            yield from ((s.index, self.echo) for s in self.sequences)
        model = self.model
        start, first = time.perf_counter(), None
        model.engine.queue(self.sequences)
        model.generations |= {s: self for s in self.sequences}
        try:
            while self.writing:
                if not self.events:
                    for event in model.engine.step():
                        model.generations[event.sequence].events.append(event)
                    now = time.perf_counter()
                    if first is None and self.events:
                        first = now
                        self.figures.prefill_seconds = first - start
                        self.figures.reused_tokens = self.sequences[0].reused
                    self.figures.decode_seconds = now - (first or now)
                while self.events:
                    event = self.events.popleft()
                    if piece := self._text(event):
                        self.figures.characters += len(piece)
                        yield event.sequence.index, piece
        finally:
            self._close()

    def _text(self, event: Event) -> str:
        """The text that an event adds; the sequence ends here if it completes a stop string."""
        index = event.sequence.index
        if index not in self.writing:
            return ""  # brought by a step after the stop string
        if event.error:
            raise event.error
        decoder, stops = self.decoders[index], self.stops[index]
        self.figures.new_tokens += event.token is not None
        text, stopped = stops.feed("" if event.token is None else decoder.feed(event.token))
        if event.finished and not stopped:
            rest, stopped = stops.feed(decoder.finish())
            text += rest + ("" if stopped else stops.finish())
        if stopped or event.finished:
            self.figures.finished = "stop" if stopped else event.finished or ""
            self.writing.discard(index)
            if event.sequence.finished is None:
                self.model.engine.cancel(event.sequence)
        if event.finished == "context":
            messages.warn(
                "the context of {context} tokens is full, so the text ends here; --on-full slide goes on by "
                "forgetting its beginning", context=self.model.engine.context,
            )  # fmt: skip
        return text

    def _close(self) -> None:
        self.figures.dropped_tokens = sum(s.dropped for s in self.sequences)
        self.figures.drafted_tokens = sum(s.drafted for s in self.sequences)
        self.figures.accepted_tokens = sum(s.accepted for s in self.sequences)
        if self.figures.dropped_tokens:
            messages.warn("{count} tokens were forgotten as the context slid", count=self.figures.dropped_tokens)
        for sequence in self.sequences:
            self.model.generations.pop(sequence, None)
            if sequence.finished is None:
                self.model.engine.cancel(sequence)
                self.figures.finished = "cancelled"


class Model:
    """A language model in memory. `soban.load()` makes one.

    A model with a chat template takes the prompt as its user's turn and gives the answer alone; a base model goes
    on with the prompt, and the text that it gives begins with it. A model belongs to one thread at a time.
    """

    def __init__(self, loaded: Loaded, context: int) -> None:
        self.loaded, self.config, self.tokenizer = loaded, loaded.architecture.config, loaded.tokenizer
        self.template = loaded.template
        program = loaded.architecture.record(loaded.weights)
        self.runner = runner(program, CHUNK, OUTPUTS)
        self.engine = Engine(self.runner, self._cache(context + min(context, SPARE)), context)
        self.ends = loaded.ends
        self.generations: dict[Running, Generation] = {}  # whose the running sequences are

    def _cache(self, tokens: int) -> Cache:
        c = self.config
        try:
            return make_cache(
                c.num_hidden_layers, -(-tokens // PAGE), c.kv_heads, c.head_size, self.loaded.cache_format
            )  # fmt: skip
        except MemoryError:
            raise UserError(
                "there is not enough memory for a cache of {tokens} tokens", tokens=tokens,
                hint="choose a shorter context (--context)",
            ) from None  # fmt: skip

    def sampling(self, **options: Any) -> Sampling:
        """The model's own defaults with the given changes; a temperature of 0 means the likeliest token always.

        Raises UserError for a name or value that is not one of `Sampling`'s.
        """
        known = {field.name for field in fields(Sampling)}
        if unknown := [name for name in options if name not in known]:
            raise UserError(
                "{name} is no option of generation", name=unknown[0], known=", ".join(sorted(known)),
                hint="choose among {known}",
            )  # fmt: skip
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(stop := given.get("stop"), str | list):
            given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        if given.get("temperature") == 0:
            given |= {"temperature": 1.0, "do_sample": False}
        shaping = [n for n in ("temperature", "top_k", "top_p", "min_p") if n in given]
        if shaping and options.get("temperature") != 0 and not given.setdefault("do_sample", True):
            messages.warn("do_sample is false, so {names} has no effect", names=", ".join(shaping))
        sampling = _sampling_defaults(self.loaded.generation_config).replace(**given)
        if sampling.num_return_sequences > 1 and not sampling.do_sample:
            messages.warn("without do_sample all {count} texts are the same", count=sampling.num_return_sequences)
        return sampling

    def start(
        self, prompt: str, *, system: str | None = None, raw: bool = False, echo: bool | None = None, **options: Any
    ) -> Generation:
        """Begin to generate; iterate over the result for the pieces, and read its `figures` afterwards."""
        sampling = self.sampling(**options)
        self.check_size(prompt, sampling)
        ids = self.prompt_ids(prompt, system=system, raw=raw)
        answer = self.template is not None and not raw
        shown = not answer if echo is None else echo
        return Generation(self, ids, sampling, prompt if shown else "", answer)

    def check_size(self, prompt: str, sampling: Sampling) -> None:
        """Raises UserError for what is no text, or too long whatever its words, before time is spent on reading it."""
        if not isinstance(prompt, str):
            raise UserError("the prompt is of type {kind}", kind=type(prompt).__name__, hint="give text")
        if sampling.on_full == "error" and len(prompt) > LONGEST_TOKEN * self.engine.context:
            raise UserError(
                "the prompt has {characters} characters, far more than a context of {context} tokens holds",
                characters=len(prompt), context=self.engine.context,
                hint="shorten it, or choose --on-full slide to forget its beginning",
            )  # fmt: skip

    def prompt_ids(self, prompt: str, *, system: str | None = None, raw: bool = False) -> list[int]:
        """The tokens that the model is given for a prompt: its chat template filled in, or the text as it is."""
        if not prompt and not system:
            raise UserError("the prompt is empty", hint="give some text")
        if self.template is None or raw:
            return self.tokenizer.encode(f"{system}\n\n{prompt}" if system else prompt)
        turns = [{"role": "system", "content": system}] if system else []
        return encode_chat(self.tokenizer, self.template, [*turns, {"role": "user", "content": prompt}])

    def generate(
        self, prompt: str, *, system: str | None = None, raw: bool = False, echo: bool | None = None, **options: Any
    ) -> str | list[str]:
        """The whole text; a list of them if num_return_sequences is above 1.

        `options` are the fields of `Sampling`: max_new_tokens, do_sample, temperature, top_k, top_p, min_p,
        repetition_penalty, num_return_sequences, seed, stop, on_full, prompt_lookup_num_tokens. `raw` passes the
        prompt without a chat template; `echo` says whether the text begins with the prompt. The same seed gives the
        same text.
        """
        generation = self.start(prompt, system=system, raw=raw, echo=echo, **options)
        texts = [""] * len(generation.sequences)
        for index, piece in generation:
            texts[index] += piece
        return texts[0] if len(texts) == 1 else texts

    def stream(
        self, prompt: str, *, system: str | None = None, raw: bool = False, echo: bool | None = None, **options: Any
    ) -> Iterator[str]:
        """The text in pieces, each as soon as it is certain; never part of a character. Takes what `generate` takes."""
        if options.get("num_return_sequences") not in (None, 1):
            raise UserError("several texts cannot share one stream", hint="use generate, or start for pieces of each")
        generation = self.start(prompt, system=system, raw=raw, echo=echo, **options)
        return (piece for _, piece in generation)

    def tokenize(self, text: str, *, bos: bool | None = None) -> list[int]:
        """Token ids; `bos` None: with a beginning-of-text token if the model's tokenizer adds one."""
        return self.tokenizer.encode(text, bos=bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special ones left out."""
        self._check_ids(ids)
        return self.tokenizer.decode(list(ids))

    def logits(self, text: str | Sequence[int]) -> Floats:
        """(T, vocabulary): the scores of what follows each token of the text, or of the given ids."""
        ids = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        self._check_ids(ids)
        if not 0 < len(ids) <= self.engine.context:
            raise UserError(
                "{count} tokens, where 1 to {context} are possible",
                count=len(ids), context=self.engine.context, hint="shorten the text",
            )  # fmt: skip
        cache = self._cache(len(ids))
        rows = []
        for start in range(0, len(ids), OUTPUTS):
            piece = ids[start : start + OUTPUTS]
            batch = make_batch([piece], [start], [range(cache.pages)], range(len(piece)))
            rows.append(self.runner.run(batch, cache).copy())
        return np.concatenate(rows)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if wrong := [i for i in ids if not 0 <= i < self.config.vocab_size]:
            raise UserError(
                "token id {id} is not in the vocabulary of {size}",
                id=wrong[0], size=self.config.vocab_size, hint="give ids that tokenize() made",
            )  # fmt: skip


def _sampling_defaults(generation_config: Mapping[str, Any]) -> Sampling:
    """What generation_config.json says about sampling; a value that cannot be is an error naming the key."""
    names = (
        "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "prompt_lookup_num_tokens",
    )  # fmt: skip
    given = {name: generation_config[name] for name in names if generation_config.get(name) is not None}
    if given.get("temperature") == 0:  # some files mean by it what transformers calls do_sample=False
        given |= {"temperature": 1.0, "do_sample": False}
    if given.get("top_k") == -1:  # vLLM's way to say that there is no limit
        given["top_k"] = 0
    try:
        return Sampling(**given)
    except UserError as error:
        raise UserError(
            "generation_config.json: {problem}", problem=error, hint="correct it in the model's folder"
        ) from None  # fmt: skip


def load(
    name_or_path: str | Path | None = None,
    *,
    dtype: str = "auto",
    context: int | None = None,
    tokenizer: str | Path | None = None,
    force: bool = False,
    cache_dtype: str = "auto",
    progress: Callable[[float], None] = lambda share: None,
) -> Model:
    """A model, ready to write.

    `name_or_path`: a Hugging Face folder, a llama2.c .bin, or None for the bundled story model. `dtype`: "f32"
    (weights as stored), "bf16", "q8", "q4", or "auto". `context`: tokens that a conversation may have, at most the
    model's own limit. `tokenizer`: a tokenizer.bin for a .bin that has none beside it. `force`: load even if
    memory seems too short. `cache_dtype`: how the keys and values of past tokens are kept: "f32", "f16", "int8" (half
    the memory of f16, and quicker in long contexts), or "auto" (f32 beside f32 weights, else f16). `progress` is
    called with the share that is done, 0 to 1, while weights are packed, which happens once for each model and dtype.
    Raises UserError with one line that says what is wrong and what to do.
    """
    loaded = load_files(
        name_or_path, dtype=dtype, tokenizer=tokenizer, force=force, cache_dtype=cache_dtype, progress=progress
    )
    return Model(loaded, loaded.context(context))
