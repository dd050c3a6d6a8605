"""A conversation to the answer: the model as people use it."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban import messages
from soban.base.errors import UserError
from soban.engine.limits import checked_on_full
from soban.loading.loaded import Loaded
from soban.loading.model_files import open_model
from soban.loading.modelfile import Modelfile
from soban.messages import heard_by
from soban.model.generating import Writer, check_single, split_form
from soban.packing.packed_file import model_name
from soban.talk import answer
from soban.talk.answer import Answer, Answering
from soban.talk.generation import Generation
from soban.talk.notes import Notes, Show
from soban.talk.window import Question, Window
from soban.text.chat.calls import Thinking, can_be_told, read_thinking
from soban.text.chat.contents import text_of
from soban.text.chat.template import ChatTemplate, Message
from soban.text.chat.templates import find_template
from soban.text.tokenizers.library import pair_of

if TYPE_CHECKING:
    from soban.talk.ranking import Scoring


class Model(Writer):
    """A language model in memory. `soban.load()` makes one.

    A model with a chat template takes the prompt as its user's turn and gives the answer alone; a base model goes
    on with the prompt, and the text that it gives begins with it. So does one that was taught both, if its
    generation_config.json says "continue_prompt": true.

    Any number of threads may use a model at the same time: each call gives what it would give alone. Calls that
    overlap share the engine's steps. A stream, and a Dialogue, belong to one thread at a time.
    """

    def __init__(self, loaded: Loaded, context: int, threads: int | None = None, users: int = 1) -> None:
        super().__init__(loaded, context, threads, users)
        self.templates: dict[str, ChatTemplate] = {}  # that conversations have asked for

    def customised(self, modelfile: Modelfile) -> "Model":
        """The model with the settings, the system text and the adapter of a Modelfile; it shares all else."""
        model = self.adapted(modelfile.adapter)
        model.loaded = model.loaded.customised(modelfile)
        return model

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
        check_single(options)
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
            grammar, options = split_form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
            form = self.chat_template(template)
            self.check_messages(messages, on_full)
            window = Window(self, form, self._with_own(messages), sampling, on_full, strict=strict).fit(self._summary)
            prompt = window.prompt.under(grammar, self.grammars)
        return Generation(self, prompt, sampling, on_full=on_full, window=window, notes=notes, logprobs=logprobs)

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
        logprobs: int | None = None,
        **options: Any,
    ) -> Answering:
        """Begin an answer that may call tools and think; iterate over the result for its parts, or `read` it.

        `tools` and `tool_choice` are OpenAI's (docs/structured.md). `thinking` tells a template that can be told to
        think or not. The rest is as in `chat`; what has a form may be thought about before.
        """
        notes = Notes(show)
        with heard_by(notes.hear):
            grammar, options = split_form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
            self.check_messages(messages, on_full)
        return answer.begin(
            self, self._with_own(messages), sampling, template=template, strict=strict, on_full=on_full, notes=notes,
            text_grammar=grammar, logprobs=logprobs, tools=tools, tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls, thinking=thinking,
        )  # fmt: skip

    def _with_own(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages after what belongs to the model: its first turns, and its system text where they have none."""
        own: list[Message] = list(self.loaded.turns)
        has_system = any(message.get("role") == "system" for message in (*own, *messages))
        if self.loaded.system and not has_system:
            own.insert(0, {"role": "system", "content": self.loaded.system})
        leading = [message for message in messages[:1] if own and message.get("role") == "system"]
        return [*leading, *own, *messages[len(leading) :]] if own else messages

    def rank(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None, raw: bool = False
    ) -> list[float]:
        """How well documents meet a query, each 0 to 1; with `raw`, without bounds.

        An encoder with a head (bge-reranker and others) gives its score. Another model is asked, in the words of its
        own chat template, the question of Qwen3-Reranker, and what counts is how likely it says yes and not no:
        `instruction` is what documents are wanted for (None: to answer a search). Models that were taught to judge so
        do it better than others. Raises UserError for a model that can do neither, and for documents that are too long.
        """
        scores = self.ranker.scores(query, documents, instruction)
        return [score.raw if raw else score.value for score in scores]

    @functools.cached_property
    def ranker(self) -> "Scoring":
        """What scores documents. Raises UserError for a model that cannot."""
        from soban.talk.ranking import CrossEncoder, Ranker  # imported where it is met: a start waits for all that is

        if self.writes:
            return Ranker(self.tokenizer, self.template, self.context, self._following)
        if self.config.labels != 1:
            raise UserError(
                "{name} gives a text {labels} scores, and ranking takes one", name=model_name(self.loaded.path),
                labels=self.config.labels, hint="use a model that was taught to, such as BAAI/bge-reranker-v2-m3",
            )  # fmt: skip
        pair = pair_of(open_model(self.loaded.path).entries().parts.get("post_processor"))
        return CrossEncoder(self.tokenizer, pair, self.config.type_vocab_size, self.context, self._first_rows)

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

    @property
    def thinking(self) -> Thinking | None:
        """The marks between which the model's own template lets it think; None: it knows none."""
        template = self.template
        return read_thinking(template, {**self.tokenizer.special_tokens, **template.tokens}) if template else None

    @property
    def thinks_as_told(self) -> bool:
        """Whether its template asks if the model is to think."""
        return self.template is not None and can_be_told(self.template)

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
                    characters=len(text), context=self.context, hint="shorten it",
                )  # fmt: skip

    def _summary(self, question: Question) -> str:
        return str(Generation(self, question.prompt, question.sampling).read())
