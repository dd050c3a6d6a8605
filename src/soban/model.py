"""A loaded model: text in, text out."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soban import messages
from soban.base.border import crossing
from soban.base.errors import UserError
from soban.base.system import MOST_THREADS
from soban.engine.defaults import sampling_defaults, unfollowed, with_tuples
from soban.engine.engine import Engine
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.engine.sharing import SharedEngine
from soban.loading.loaded import Loaded, load_files
from soban.messages import heard_by
from soban.ops import Cache, make_batch, make_cache, runner
from soban.ops.adapters import Adapter
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.packing.packed_file import called
from soban.resources.memory import CHUNK, OUTPUTS, SPARE, USUAL_OUTPUTS
from soban.resources.pressure import Watch
from soban.talk import answer
from soban.talk.answer import Answer, Answering
from soban.talk.generation import Generation
from soban.talk.notes import Notes, Show
from soban.talk.prompt import Prompt
from soban.talk.window import Question, Window
from soban.text.chat.contents import text_of
from soban.text.chat.form import ChatForm, read_form
from soban.text.chat.template import ChatTemplate, Message, encode_chat
from soban.text.chat.templates import find_template
from soban.text.grammar.grammar import FORMS, Grammar, Grammars, wanted

if TYPE_CHECKING:
    from soban.talk.embedding import Embedder

MOST_SCORES = 1 << 24  # that `logits` computes at once: 64 MB
LONGEST_TOKEN = 256  # characters; in the vocabularies that people use the longest has 128


class Model:
    """A language model in memory. `soban.load()` makes one.

    A model with a chat template takes the prompt as its user's turn and gives the answer alone; a base model goes
    on with the prompt, and the text that it gives begins with it. So does one that was taught both, if its
    generation_config.json says "continue_prompt": true.

    Any number of threads may use a model at the same time: each call gives what it would give alone. Calls that
    overlap share the engine's steps. A stream, and a Dialogue, belong to one thread at a time.
    """

    def __init__(self, loaded: Loaded, context: int, threads: int | None = None) -> None:
        self.loaded, self.config, self.tokenizer = loaded, loaded.architecture.config, loaded.tokenizer
        self.template = loaded.template
        self.program = loaded.architecture.record(loaded.weights, context)
        self.runner = runner(self.program, CHUNK, OUTPUTS, threads, USUAL_OUTPUTS)
        self.threads = threads
        self.engine = Engine(self.runner, self._cache(context + min(context, SPARE)), context, self.config.row)
        self.shared = SharedEngine(self.engine)
        self.ends = loaded.ends
        self.templates: dict[str, ChatTemplate] = {}  # that conversations have asked for
        self.forms: dict[ChatTemplate, ChatForm] = {}
        self.grammars = Grammars(self.tokenizer)
        self.watch = Watch()
        self._embedder: Embedder | None = None
        self._embedding = threading.Lock()
        self.adapter: Adapter | None = None
        self.adapter_path: Path | None = None

    def __repr__(self) -> str:
        name = called(self.loaded.path)
        adapter = f" with {self.adapter_path.name!r}" if self.adapter_path else ""
        return f"<soban.Model: {name!r} as {self.loaded.dtype}{adapter}, {self.engine.context} tokens of context>"

    def adapted(self, folder: str | Path | None) -> "Model":
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
                model.adapter = fitted_adapter(open_adapter(model.adapter_path), self.loaded.architecture)
        return model

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

    def sampling(self, **options: Any) -> Sampling:
        """The model's own defaults with the given changes.

        Raises UserError for a name or value that is not one of `Sampling`'s.
        """
        known = {field.name for field in fields(Sampling) if field.name != "usual"}
        if unknown := [name for name in options if name not in known]:
            raise UserError(
                "{name} is no option of generation", name=unknown[0],
                known=", ".join(sorted({*known, "on_full", *(FORMS if unknown[0] not in FORMS else ())})),
                hint="choose among {known}",
            )  # fmt: skip
        changes = with_tuples({name: value for name, value in options.items() if value is not None})
        if isinstance(stop := changes.get("stop"), str):
            changes["stop"] = (stop,)
        self._check_stops(changes.get("stop", ()))
        sampling = sampling_defaults(self.loaded.generation_config).asked_for(**changes)
        self._check_ids([token for token, _ in sampling.logit_bias])
        if names := sampling.idle(changes):
            messages.warn("do_sample is false, so {names} has no effect", names=", ".join(names))
        if names := unfollowed(self.loaded.generation_config, sampling.do_sample):
            messages.warn(
                "generation_config.json sets {names}, which soban does not follow: transformers would write another "
                "text", names=", ".join(names),
            )  # fmt: skip
        if sampling.num_return_sequences > 1 and not sampling.do_sample:
            messages.warn("without do_sample all {count} texts are the same", count=sampling.num_return_sequences)
        return sampling

    def _check_stops(self, stops: Sequence[object]) -> None:
        """A note for each text that looks like a token that ends an answer and is none."""
        path = self.loaded.path
        if not stops or not path.is_dir():
            return
        from soban.text.lint import check_stop

        for stop in stops:
            if isinstance(stop, str) and (finding := check_stop(stop, self.tokenizer, path, {})):
                messages.warn("{problem}; {remedy}", problem=finding.problem, remedy=finding.remedy)

    def start(
        self,
        prompt: str | Sequence[int],
        *,
        system: str | None = None,
        raw: bool = False,
        echo: bool | None = None,
        on_full: str | None = None,
        show: Show | None = None,
        logprobs: int | None = None,
        **options: Any,
    ) -> Generation:
        """Begin to generate; iterate over the result for the pieces, and read its `figures` afterwards.

        A prompt of token ids is passed as it is. What is to be told about this text is in its `notes`; each is given to
        `show` as it comes up (None: the log). `logprobs`: for each token its log-probability, and those of so many
        of the likeliest, are in its `scored`.
        """
        notes = Notes(show)
        with heard_by(notes.hear):
            grammar, options = _form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
            echo = False if grammar and echo is None else echo
            given = self.prompt(prompt, system=system, raw=raw, echo=echo, on_full=on_full)
            given = given.under(grammar, self.grammars)
        return Generation(self, given, sampling, on_full=on_full, notes=notes, logprobs=logprobs)

    def prompt(
        self,
        text: str | Sequence[int],
        *,
        system: str | None = None,
        raw: bool = False,
        echo: bool | None = None,
        on_full: str = "error",
    ) -> Prompt:
        """What the model is given for a text, and how what it writes is to be read; as in `generate`."""
        if on_full == "summarise":
            raise UserError("on_full=summarise is for conversations", hint="use chat, or on_full=slide")
        if isinstance(text, Sequence) and not isinstance(text, str):
            self._check_ids(text)
            return Prompt(list(text), ChatForm(), False)
        self.check_size(text, on_full)
        if system is None and not raw and self.answers(system=None, raw=False):
            system = self.loaded.system
        ids, answer = self.prompt_ids(text, system=system, raw=raw), self.answers(system=system, raw=raw)
        shown = not answer if echo is None else echo
        return Prompt(ids, self.text_form(answer=answer, raw=raw), answer, text if shown else None)

    def answers(self, *, system: str | None, raw: bool) -> bool:
        """Whether a prompt is a user's turn, and not a text to go on with; beside a system text it always is."""
        return self.template is not None and not raw and (system is not None or not self.loaded.continues)

    def check_size(self, prompt: str, on_full: str) -> None:
        """Raises UserError for what is no text, or too long whatever its words, before time is spent on reading it."""
        if not isinstance(prompt, str):
            raise UserError("the prompt is of type {kind}", kind=type(prompt).__name__, hint="give text")
        if on_full == "error" and self._too_long(prompt):
            raise UserError(
                "the prompt has {characters} characters, far more than a context of {context} tokens holds",
                characters=len(prompt), context=self.engine.context,
                hint="shorten it, or choose on_full slide to forget its beginning",
            )  # fmt: skip

    def _too_long(self, text: str) -> bool:
        return len(text) > LONGEST_TOKEN * self.engine.context

    def prompt_ids(self, prompt: str, *, system: str | None = None, raw: bool = False) -> list[int]:
        """The tokens that the model is given for a prompt: its chat template filled in, or the text as it is.

        An empty one begins a text, where the model is not asked for an answer and has a token for beginnings.
        """
        answers = self.answers(system=system, raw=raw)
        if not prompt and not system:
            if answers or self.tokenizer.bos_id is None:
                raise UserError("the prompt is empty", hint="give some text")
            return [self.tokenizer.bos_id]
        if self.template is None or not answers:
            # a template may have been written out by hand
            return self.tokenizer.encode(f"{system}\n\n{prompt}" if system else prompt, special=True)
        turns = [{"role": "system", "content": system}] if system else []
        return encode_chat(self.tokenizer, self.template, [*turns, {"role": "user", "content": prompt}])

    def generate(
        self,
        prompt: str,
        *,
        system: str | None = None,
        raw: bool = False,
        echo: bool | None = None,
        on_full: str | None = None,
        **options: Any,
    ) -> str | list[str]:
        """The whole text; a list of them if num_return_sequences is above 1.

        `options` are the fields of `Sampling`: max_new_tokens, max_length, min_new_tokens, min_length, do_sample,
        temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias (also as
        {token id: bias}), no_repeat_ngram_size, bad_words_ids, suppress_tokens, begin_suppress_tokens,
        num_return_sequences, seed, stop, prompt_lookup_num_tokens; and one of these, if the text is to have a form
        (docs/structured.md): `schema` (of JSON: an object, its text, or a pydantic class), `regex`, `choices` (texts),
        `grammar` (Lark). `raw` passes the prompt without a chat template; tokens that are written out in it are read as
        tokens, as in a base model's prompt. `echo` says whether the text begins with the prompt (with a form: only if
        True). `on_full` says what happens past the context length:
        "error" (which None means), or "slide" to forget the oldest tokens. The same seed gives the same text, with any
        number of threads and whatever runs beside. Another instruction set rounds sums otherwise: there a text may go
        another way, most easily in q8 and q4, where a last digit can move an activation by one of its steps.
        """
        return self.start(prompt, system=system, raw=raw, echo=echo, on_full=on_full, **options).read()

    def stream(
        self,
        prompt: str,
        *,
        system: str | None = None,
        raw: bool = False,
        echo: bool | None = None,
        on_full: str | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """The text in pieces, each as soon as it is certain; never part of a character. Takes what `generate` takes."""
        _check_single(options)
        generation = self.start(prompt, system=system, raw=raw, echo=echo, on_full=on_full, **options)
        return (piece for _, piece in generation)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        template: str | Path | None = None,
        strict: bool = False,
        on_full: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> str | list[str] | Answer | list[Answer]:
        """The answer to a conversation; a list of them if num_return_sequences is above 1.

        `messages`: {"role": "system" | "user" | "assistant", "content": text} each; a content may also be a list of
        {"type": "text", "text": text}. `template`: how they are written for the model: its own way (None), alpaca,
        chatml, koalpaca, llama2, plain, vicuna, or a Jinja file. What the template refuses is mended with a
        note; with `strict` it is a UserError. `on_full` "slide" forgets the oldest turns where the context is full, and
        "summarise" lets the model sum them up. `options` are those of `generate`. With `tools` the answer is an
        `Answer`, and there are the options of `start_answer`.
        """
        if tools is not None:
            return self.start_answer(
                messages, tools=tools, template=template, strict=strict, on_full=on_full, **options
            ).read()  # fmt: skip
        return self.start_chat(messages, template=template, strict=strict, on_full=on_full, **options).read()

    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        template: str | Path | None = None,
        strict: bool = False,
        on_full: str | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """The answer in pieces, each as soon as it is certain; never part of a character. Takes what `chat` takes."""
        _check_single(options)
        return (
            piece
            for _, piece in self.start_chat(messages, template=template, strict=strict, on_full=on_full, **options)
        )

    def start_chat(
        self,
        messages: Sequence[Message],
        *,
        template: str | Path | None = None,
        strict: bool = False,
        on_full: str | None = None,
        show: Show | None = None,
        logprobs: int | None = None,
        **options: Any,
    ) -> Generation:
        """Begin to answer; iterate over the result for the pieces, and read its `figures` and `notes` as in `start`."""
        notes = Notes(show)
        with heard_by(notes.hear):
            grammar, options = _form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
            form = self.chat_template(template)
            self.check_messages(messages, on_full)
            if (system := self.loaded.system) and not any(message.get("role") == "system" for message in messages):
                messages = [{"role": "system", "content": system}, *messages]
            window = Window(self, form, messages, sampling, on_full, strict=strict).fit(self._summary)
            given = window.prompt.under(grammar, self.grammars)
        return Generation(self, given, sampling, on_full=on_full, window=window, notes=notes, logprobs=logprobs)

    def start_answer(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        thinking: bool | None = None,
        template: str | Path | None = None,
        strict: bool = False,
        on_full: str | None = None,
        show: Show | None = None,
        **options: Any,
    ) -> Answering:
        """Begin an answer that may call tools and think; iterate over the result for its parts, or `read` it.

        `tools` and `tool_choice` are OpenAI's (docs/structured.md). `thinking` tells a template that can be told to
        think or not. The rest is as in `chat`; what has a form may be thought about before.
        """
        notes = Notes(show)
        with heard_by(notes.hear):
            grammar, options = _form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
        return answer.begin(
            self, messages, sampling, template=template, strict=strict, on_full=on_full, notes=notes, wanted=grammar,
            tools=tools, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls, thinking=thinking,
        )  # fmt: skip

    def _summary(self, question: Question) -> str:
        return str(Generation(self, question.prompt, question.sampling).read())

    def chat_template(self, name: str | Path | None = None) -> ChatTemplate:
        """The template of that name or in that file, or the model's own. UserError where there is none."""
        if name is not None and not isinstance(name, str | Path):
            raise UserError(
                "the template is of type {kind}", kind=type(name).__name__,
                hint="give a name, such as chatml, or a Jinja file",
            )  # fmt: skip
        if name is None and self.template is not None:
            return self.template
        if name is None:
            messages.warn(
                "the model has no chat template, so it is given the conversation in a plain form; another template can "
                "be chosen by its name, such as chatml"
            )
        key = str(name or "plain")
        if key not in self.templates:
            self.templates[key] = find_template(key)
        return self.templates[key]

    def text_form(self, *, answer: bool, raw: bool) -> ChatForm:
        """How what follows a prompt ends: as an answer of the model's template, or as a text without its marks.

        Whoever writes the template by hand (`raw`) is shown all that the model writes.
        """
        if self.template is None or raw:
            return ChatForm()
        form = self.chat_form(self.template)
        return form if answer else form.for_text()

    def chat_form(self, template: ChatTemplate) -> ChatForm:
        """How a template begins and ends an answer."""
        if template.base not in self.forms:
            self.forms[template.base] = read_form(self.tokenizer, template.base)
        return self.forms[template.base]

    def check_messages(self, messages: Sequence[Message], on_full: str) -> None:
        """Raises UserError for what is no conversation, or too long whatever its words."""
        if not messages or not isinstance(messages, Sequence) or not all(isinstance(m, Mapping) for m in messages):
            raise UserError(
                "a conversation is a list of messages", hint='give [{{"role": "user", "content": "Hello"}}], say'
            )
        for message in messages if on_full == "error" else messages[-1:]:
            if isinstance(message.get("content"), str | list) and self._too_long(text := text_of(message)):
                raise UserError(
                    "the message has {characters} characters, far more than a context of {context} tokens holds",
                    characters=len(text), context=self.engine.context, hint="shorten it",
                )  # fmt: skip

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
        cache, rotation = self._cache(len(ids)), self.config.row(len(ids))
        step = max(1, min(len(ids), CHUNK, MOST_SCORES // self.config.vocab_size))
        # with memory of its own, which is given back afterwards
        computed = runner(self.program, step, step, self.threads)
        adapters, chosen = ((self.adapter,), (0,)) if self.adapter else ((), ())
        for start in range(0, len(ids), step):
            piece = list(ids[start : start + step])
            batch = make_batch([piece], [start], [range(cache.pages)], range(len(piece)), rotation, adapters, chosen)
            yield computed.run(batch, cache)

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

    def _check_ids(self, ids: Sequence[int]) -> None:
        if wrong := [i for i in ids if not 0 <= i < self.config.vocab_size]:
            raise UserError(
                "token id {id} is not in the vocabulary of {size}",
                id=wrong[0], size=self.config.vocab_size, hint="give ids that tokenize() made",
            )  # fmt: skip


def _form(options: dict[str, Any]) -> tuple[Grammar | None, dict[str, Any]]:
    """The form of text that is asked for among the options, and the others."""
    forms = {name: options[name] for name in FORMS if name in options}
    return wanted(**forms), {name: value for name, value in options.items() if name not in FORMS}


def _check_single(options: Mapping[str, Any]) -> None:
    if options.get("num_return_sequences") not in (None, 1):
        raise UserError(
            "several texts cannot share one stream", hint="use generate or chat, or start for pieces of each"
        )


def load(
    name_or_path: str | Path | None = None,
    *,
    dtype: str = "auto",
    context: int | None = None,
    tokenizer: str | Path | None = None,
    force: bool = False,
    cache_dtype: str = "auto",
    threads: int | None = None,
    adapter: str | Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Model:
    """A model, ready to write.

    `name_or_path`: a Hugging Face folder, a llama2.c .bin, or None for the bundled story model. `dtype`: "f32"
    (weights as stored), "bf16", "gguf" (the blocks of a GGUF file as they are), "q8", "q4", or "auto". `context`:
    tokens that a conversation may have, at most the model's own limit. `tokenizer`: a tokenizer.bin for a .bin that has
    none beside it. `force`: load even if memory seems too short. `cache_dtype`: how the keys and values of past tokens
    are kept: "f32", "bf16", "int8" (half the memory of bf16, and quicker in long contexts), or "auto" (f32 beside f32
    weights, else bf16). `threads`: how many compute; None: SOBAN_THREADS, or one for each fast core. `adapter`: a
    folder with a LoRA adapter that peft wrote, see `Model.adapted`. `progress` is called with the share that is done,
    0 to 1, while weights are packed, which happens once for each model and dtype.
    Raises UserError with one line that says what is wrong and what to do.
    """
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise UserError(
            "threads={value}: out of range", value=threads, most=MOST_THREADS, hint="give a number from 1 to {most}"
        )
    with crossing(name_or_path):
        loaded = load_files(
            name_or_path, dtype=dtype, tokenizer=tokenizer, force=force, cache_dtype=cache_dtype, context=context,
            progress=progress,
        )  # fmt: skip
        model = Model(loaded, loaded.context(context), threads)
    return model if adapter is None else model.adapted(adapter)
