"""A prompt to the text that goes on with it or answers it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from soban import messages
from soban.base.errors import UserError
from soban.engine.defaults import sampling_defaults, unfollowed, with_tuples
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.loading.loaded import Loaded
from soban.messages import heard_by
from soban.model.scoring import Scorer
from soban.talk.generation import Generation
from soban.talk.notes import Notes, Show
from soban.talk.prompt import Prompt
from soban.text.chat.form import ChatForm, read_form
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.grammar.grammar import FORMS, Grammar, Grammars, grammar_of

LONGEST_TOKEN = 256  # characters; in the vocabularies that people use the longest has 128


class Writer(Scorer):
    """A model that writes: a text for each prompt."""

    def __init__(self, loaded: Loaded, context: int, threads: int | None = None, users: int = 1) -> None:
        super().__init__(loaded, context, threads, users)
        self.forms: dict[ChatTemplate, ChatForm] = {}
        self.grammars = Grammars(self.tokenizer)

    @property
    def template(self) -> ChatTemplate | None:
        """How the model was taught to converse, or what is chosen in its place; None: it was not."""
        return self.loaded.template

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
        check_single(options)
        generation = self.start(prompt, system=system, raw=raw, echo=echo, on_full=on_full, **options)
        return (piece for _, piece in generation)

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
            grammar, options = split_form(options)
            sampling, on_full = self.sampling(**options), checked_on_full(on_full)
            echo = False if grammar and echo is None else echo
            beginning = self.prompt(prompt, system=system, raw=raw, echo=echo, on_full=on_full)
            beginning = beginning.under(grammar, self.grammars)
        return Generation(self, beginning, sampling, on_full=on_full, notes=notes, logprobs=logprobs)

    def sampling(self, **options: Any) -> Sampling:
        """The model's own defaults with the given changes.

        Raises UserError for a name or value that is not one of `Sampling`'s.
        """
        names = {field.name for field in fields(Sampling) if field.name != "usual"}
        if unknown := [name for name in options if name not in names]:
            raise UserError(
                "{name} is no option of generation", name=unknown[0],
                known=", ".join(sorted({*names, "on_full", *(FORMS if unknown[0] not in FORMS else ())})),
                hint="choose among {known}",
            )  # fmt: skip
        changes = with_tuples({name: value for name, value in options.items() if value is not None})
        if isinstance(stop := changes.get("stop"), str):
            changes["stop"] = (stop,)
        self._check_stops(changes.get("stop", ()))
        sampling = sampling_defaults(self.loaded.generation_config).asked_for(**changes)
        self._check_ids([token for token, _ in sampling.logit_bias])
        if idle := sampling.idle(changes):
            messages.warn("do_sample is false, so {names} has no effect", names=", ".join(idle))
        if others := unfollowed(self.loaded.generation_config, sampling.do_sample):
            messages.warn(
                "generation_config.json sets {names}, which soban does not follow: transformers would write another "
                "text", names=", ".join(others),
            )  # fmt: skip
        if sampling.num_return_sequences > 1 and not sampling.do_sample:
            messages.warn("without do_sample all {count} texts are the same", count=sampling.num_return_sequences)
        return sampling

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
        echoes = not answer if echo is None else echo
        return Prompt(ids, self.text_form(answer=answer, raw=raw), answer, text if echoes else None)

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
        turns = [*turns, *self.loaded.turns, {"role": "user", "content": prompt}]
        return encode_chat(self.tokenizer, self.template, turns)

    def answers(self, *, system: str | None, raw: bool) -> bool:
        """Whether a prompt is a user's turn, and not a text to go on with; beside a system text it always is."""
        return self.template is not None and not raw and (system is not None or not self.loaded.continues)

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

    def check_size(self, prompt: str, on_full: str) -> None:
        """Raises UserError for what is no text, or too long whatever its words, before time is spent on reading it."""
        if not isinstance(prompt, str):
            raise UserError("the prompt is of type {kind}", kind=type(prompt).__name__, hint="give text")
        if on_full == "error" and self._too_long(prompt):
            raise UserError(
                "the prompt has {characters} characters, far more than a context of {context} tokens holds",
                characters=len(prompt), context=self.context,
                hint="shorten it, or choose on_full slide to forget its beginning",
            )  # fmt: skip

    def _too_long(self, text: str) -> bool:
        return len(text) > LONGEST_TOKEN * self.context

    def _check_stops(self, stops: Sequence[object]) -> None:
        """A note for each text that looks like a token that ends an answer and is none."""
        path = self.loaded.path
        if not stops or not path.is_dir():
            return
        from soban.text.lint import check_stop

        for stop in stops:
            if isinstance(stop, str) and (finding := check_stop(stop, self.tokenizer, path, {})):
                messages.warn("{problem}; {remedy}", problem=finding.problem, remedy=finding.remedy)


def split_form(options: dict[str, Any]) -> tuple[Grammar | None, dict[str, Any]]:
    """The form of text that is asked for among the options, and the others."""
    forms = {name: options[name] for name in FORMS if name in options}
    return grammar_of(**forms), {name: value for name, value in options.items() if name not in FORMS}


def check_single(options: Mapping[str, Any]) -> None:
    if options.get("num_return_sequences") not in (None, 1):
        raise UserError(
            "several texts cannot share one stream", hint="use generate or chat, or start for pieces of each"
        )
