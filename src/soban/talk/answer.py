"""Answers that may call tools and think: what the model is given for one, and its parts as they are written."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.engine.sampling import Sampling
from soban.engine.sequence import Event
from soban.messages import heard_by
from soban.talk.generation import Figures, Generation
from soban.talk.notes import Notes
from soban.talk.parts import Part, Parts, ToolCall
from soban.talk.prompt import Prompt
from soban.talk.speaker import Speaker
from soban.talk.window import Window
from soban.text.chat.calls import SWITCHES, CallForm, Thinking, checked_tools, read_calls, read_thinking, with_calls
from soban.text.chat.form import ChatForm
from soban.text.chat.template import ChatTemplate, Message
from soban.text.grammar.calls import after_thoughts, of_answer
from soban.text.grammar.grammar import Grammar, Grammars
from soban.text.stream.decode import ByteStream, StreamDecoder
from soban.text.tokenizers.tokenizer import Tokenizer

CHOICES = ("auto", "none", "required")


@dataclass(frozen=True)
class Answer:
    """What a model said, thought, and wants to have called; `finish_reason` is "tool_calls" where it wants something.

    Else it is as in `Figures.finished`: "end", "length", "stop", "context". str() gives the text.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    finish_reason: str = ""

    def __str__(self) -> str:
        return self.text

    def message(self) -> dict[str, Any]:
        """The answer as the conversation's next message; thoughts go with calls, whose template may want them."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.tool_calls
        ]
        message = {"role": "assistant", "content": self.text, **({"tool_calls": calls} if calls else {})}
        return {**message, "reasoning_content": self.reasoning} if calls and self.reasoning else message


@dataclass(frozen=True)
class Plan:
    """How an answer is asked for and read: the template with its tools, the messages, and the form of what follows."""

    template: ChatTemplate
    messages: Sequence[Message]
    form: CallForm | None = None
    thinking: Thinking | None = None
    grammar: Grammar | None = None
    marks: dict[int, str] = field(default_factory=dict)  # tokens that are parts of it and no text, and how they read

    def parts(self) -> Parts:
        """What reads one answer."""
        return Parts(self.form, self.thinking)

    def prompt(self, plain: Prompt, grammars: Grammars) -> Prompt:
        """The prompt for an answer of that form, with its marks in the text."""
        tokenizer = grammars.tokenizer
        if self.grammar is None:
            return replace(plain, decoder=lambda: Marked(tokenizer, tokenizer.stream(), self.marks))
        return replace(
            plain, form=plain.form if self.form else ChatForm(plain.form.ends),
            constraint=grammars.factory(self.grammar),
            decoder=lambda: Marked(tokenizer, ByteStream(tokenizer.token_bytes), self.marks),
        )  # fmt: skip


class Marked:
    """A decoder that writes out the tokens that mark the parts of an answer."""

    def __init__(self, tokenizer: Tokenizer, inner: StreamDecoder, marks: dict[int, str]) -> None:
        self.inner = inner
        self.marks = {token: text for token, text in marks.items() if not tokenizer.token_bytes(token)}

    def feed(self, token_id: int) -> str:
        return self.inner.feed(token_id) + self.marks.get(token_id, "")

    def finish(self) -> str:
        return self.inner.finish()


def plan(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    form: ChatForm,
    messages: Sequence[Message],
    *,
    tools: object = None,
    tool_choice: object = None,
    parallel_tool_calls: bool = True,
    thinking: bool | None = None,
    text_grammar: Grammar | None = None,
) -> Plan:
    """What is to be done for an answer. `form` is the template's.

    `tool_choice`: "auto" (None), "none", "required", or OpenAI's object that names a function. `thinking` is given to
    templates that can be told to think or not. `text_grammar` is the form of an answer that calls nothing. Raises
    UserError for tools and choices that cannot be.
    """
    functions = checked_tools(tools) if tools is not None else []
    allowed, required = _choice(tool_choice, functions)
    values: dict[str, Any] = {} if thinking is None else dict.fromkeys(SWITCHES, thinking)
    calls = read_calls(tokenizer, template, form) if functions or _speak_of_calls(messages) else None
    if calls:
        messages = with_calls(messages, calls, functions)
        if functions and not calls.own:
            values["tools"] = functions
    template = template.with_values(**values)
    thoughts = read_thinking(template, {**tokenizer.special_tokens, **template.tokens})
    grammar = text_grammar
    if grammar and thoughts:
        grammar = after_thoughts(tokenizer, thoughts, grammar)
    if calls and functions:
        grammar = of_answer(
            tokenizer, calls, allowed, thoughts, required=required,
            parallel=parallel_tool_calls and not isinstance(tool_choice, dict), text_grammar=text_grammar,
        )  # fmt: skip
    texts = [thoughts.begin, thoughts.end] if thoughts else []
    texts += [calls.begin, calls.middle, calls.between or "", calls.end] if calls else []
    marks = {span.token_id: text[span.start : span.end] for text in texts for span in tokenizer.find_markup(text)}
    return Plan(template, messages, calls if functions else None, thoughts, grammar, marks)


def _speak_of_calls(messages: Sequence[Message]) -> bool:
    return any(message.get("tool_calls") or message.get("role") == "tool" for message in messages)


def _choice(choice: object, tools: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The tools that may be called, and whether one has to be."""
    if choice is None or (isinstance(choice, str) and choice in CHOICES):
        if choice == "required" and not tools:
            raise UserError("tool_choice is required, and there are no tools", hint="give some tools")
        return ([] if choice == "none" else tools), choice == "required"
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    matches = [tool for tool in tools if tool["function"]["name"] == name]
    if not matches:
        raise UserError(
            "tool_choice={value} is none of {choices}, nor a tool's name", value=choice, choices=", ".join(CHOICES),
            hint='give one of them, or {{"type": "function", "function": {{"name": "..."}}}}',
        )  # fmt: skip
    return matches, True


def begin(
    speaker: Speaker,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    template: str | Path | None,
    strict: bool,
    on_full: str,
    notes: Notes,
    text_grammar: Grammar | None,
    logprobs: int | None,
    **ways: Any,
) -> "Answering":
    """Begins an answer; `ways` are `plan`'s."""
    with heard_by(notes.hear):
        own = speaker.chat_template(template)
        scheme = plan(speaker.tokenizer, own, speaker.chat_form(own), messages, text_grammar=text_grammar, **ways)
        window = Window(speaker, scheme.template, scheme.messages, sampling, on_full, strict=strict).fit(
            lambda question: str(Generation(speaker, question.prompt, question.sampling).read())
        )
        prompt = scheme.prompt(window.prompt, speaker.grammars)
    generation = Generation(speaker, prompt, sampling, on_full=on_full, window=window, notes=notes, logprobs=logprobs)
    return Answering(generation, scheme.parts)


@dataclass(slots=True)
class Step:
    """What a step adds to one of the answers; `finish_reason` says why it has ended, if it has."""

    index: int
    parts: list[Part]
    finish_reason: str

    @property
    def text(self) -> str:
        """What it adds to the text."""
        return "".join(part.text for part in self.parts if part.kind == "text")


class Answering:
    """The parts of one or several answers as they are written: iterate over (which answer, part).

    Whoever runs the engine's steps does not iterate, but calls `begin` and `take`, as with a `Generation`.
    """

    def __init__(self, generation: Generation, parts: Callable[[], Parts] = Parts) -> None:
        """`parts` makes what reads an answer; by itself all of it is text."""
        self.generation = generation
        self._records = [Record(parts()) for _ in generation.sequences]
        self.thought_tokens = 0  # of those that `take` was given

    @property
    def answers(self) -> list[Answer]:
        """The answers as far as they are written."""
        return [record.answer() for record in self._records]

    @property
    def figures(self) -> Figures:
        """What it took so far."""
        return self.generation.figures

    @property
    def notes(self) -> list[str]:
        """What is to be told about it."""
        return self.generation.notes

    def cancel(self) -> None:
        """Ends it from any thread, as `Generation.cancel`."""
        self.generation.cancel()

    def begin(self) -> list[Step]:
        """Queues the request; what its texts begin with."""
        return [self._step(*piece) for piece in self.generation.begin()]

    def take(self, event: Event) -> list[Step]:
        """What an event adds to the answers; raises the error that it carries."""
        own = event.token is not None and event.sequence in self.generation.streams  # and no summary's
        reader = self._records[event.sequence.index].reader
        before = reader.within_thoughts
        steps = [self._step(*piece) for piece in self.generation.take(event)]
        self.thought_tokens += own and (before or reader.within_thoughts)
        return steps

    def __iter__(self) -> Generator[tuple[int, Part], None, None]:
        for index, piece in self.generation:
            yield from ((index, part) for part in self._step(index, piece).parts)
        for index in range(len(self._records)):  # whose last piece was empty
            yield from ((index, part) for part in self._step(index, "").parts)

    def _step(self, index: int, piece: str) -> Step:
        record, reason = self._records[index], self.generation.finish_reason(index)
        parts = record.reader.feed(piece) if piece else []
        if reason and not record.finish_reason:
            parts += record.reader.finish()
            record.finish_reason = "tool_calls" if record.reader.calls and reason == "end" else reason
        for part in parts:
            record.note(part)
        return Step(index, parts, record.finish_reason)

    def read(self) -> Answer | list[Answer]:
        """The whole answer; a list of them if there are several."""
        for _ in self:
            pass
        return self.answers[0] if len(self.answers) == 1 else self.answers


@dataclass
class Record:
    """What has come of one answer."""

    reader: Parts
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)  # id, name, pieces of the arguments
    finish_reason: str = ""

    def note(self, part: Part) -> None:
        """Adds a part."""
        if part.kind == "text":
            self.text.append(part.text)
        elif part.kind == "reasoning":
            self.reasoning.append(part.text)
        elif part.kind == "call":
            self.calls.append((part.id, part.name, []))
        elif part.kind == "arguments":
            self.calls[-1][2].append(part.text)

    def answer(self) -> Answer:
        """All of it."""
        calls = tuple(ToolCall(id, name, "".join(pieces)) for id, name, pieces in self.calls)
        return Answer("".join(self.text), calls, "".join(self.reasoning), self.finish_reason)
