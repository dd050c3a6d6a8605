"""A conversation with a model, turn by turn: said, answered again, edited, saved and loaded."""

import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.engine.limits import checked_on_full
from soban.engine.sampling import Sampling
from soban.messages import heard_by
from soban.ops.native import Cancelled
from soban.talk.generation import Figures, Generation
from soban.talk.notes import Notes, Show
from soban.talk.speaker import Speaker
from soban.talk.transcript import Transcript, read_transcript, write_transcript
from soban.talk.window import Question, Window
from soban.text.chat.template import Message
from soban.text.chat.templates import NAMED


class Reply:
    """The pieces of one answer, as they are written. `text` is what there is of it, `figures` what it took.

    When it has ended, or was stopped or cancelled, the text so far is the conversation's last message. Cancelling ends
    the pieces without an exception; `figures.finished` is "cancelled" then.
    """

    def __init__(
        self, dialogue: "Dialogue", messages: list[dict[str, Any]], window: Window, tries: int, notes: Notes
    ) -> None:
        self.dialogue, self.messages, self.window, self.tries = dialogue, messages, window, tries
        self.generation = dialogue._begun(
            Generation(
                dialogue.model, window.prompt, window.sampling, on_full=window.on_full, window=window, notes=notes
            )
        )
        self.text = ""
        self.finished = self.failed = False
        self._pieces = self._write()

    @property
    def figures(self) -> Figures:
        """What it took so far, in tokens and seconds; `reused_tokens` were in the cache already."""
        return self.generation.figures

    @property
    def notes(self) -> list[str]:
        """What is to be told about this turn, in the order in which it came up."""
        return self.generation.notes

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def __str__(self) -> str:
        """The whole answer, read now where it is not yet."""
        return self.read()

    def __repr__(self) -> str:
        state = self.figures.finished or ("ended" if self.finished else "not read to its end")
        return f"<soban Reply: {len(self.text)} characters, {state}>"

    def read(self) -> str:
        """The whole answer."""
        for _ in self._pieces:
            pass
        return self.text

    def stop(self) -> None:
        """Ends the answer here. One that has not begun leaves the conversation as it was."""
        self._pieces.close()

    def cancel(self) -> None:
        """As `stop`, but from any thread, and at once also in the middle of a long step."""
        self.generation.cancel()

    def _write(self) -> Generator[str, None, None]:
        pieces = iter(self.generation)
        try:
            for _, piece in pieces:
                self.text += piece
                yield piece
        except Cancelled:
            pass
        except UserError:
            self.failed = True
            raise
        finally:
            pieces.close()
            self.finished = True
            if not self.failed:
                self.dialogue._keep(self)


class Dialogue:
    """A conversation. `messages` are all that was said, a system message first if there is one.

    `dropped` of its oldest turns are no longer given to the model, because its context was full; `summary`, if there
    is one, stands for them. `options`, which may change between turns, are those of `Model.generate`.
    """

    def __init__(
        self,
        model: Speaker,
        *,
        system: str | None = None,
        template: str | Path | None = None,
        strict: bool = False,
        on_full: str = "error",
        show: Show | None = None,
        turns: Sequence[Message] = (),
        **options: Any,
    ) -> None:
        """`show` is given what is to be told about a turn, as it comes up; None: the log.

        `turns`: messages that the conversation begins with, and each new one after `clear`, too. Raises UserError for
        options and templates that do not exist, and for what is no model.
        """
        if not isinstance(model, Speaker):
            raise UserError(
                "the model is of type {kind}", kind=type(model).__name__, hint="give what soban.load() returns"
            )
        self.model, self.template, self.strict, self.show = model, template, strict, show
        self.options: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        self.dropped, self.summary = 0, ""
        self._cached: list[int] = []  # the tokens that the model has computed last
        self._tries = 0  # answers to the last user turn before this one
        self._open: Reply | None = None
        self._writing: Generation | None = None  # a summary, or an answer
        self._cancelled = False  # the turn that is being prepared
        self.change(on_full=on_full, **options)
        model.chat_template(template)
        self._first = [dict(turn) for turn in turns]
        if not system and self._first and self._first[0]["role"] == "system":
            system = self._first.pop(0)["content"]
        self.system = system
        self.messages += self._first

    def __repr__(self) -> str:
        return f"<soban.Dialogue: {len(self.messages)} messages, {self.dropped} turns forgotten, with {self.model!r}>"

    @property
    def system(self) -> str | None:
        """What the model is told beforehand."""
        if self.messages and self.messages[0]["role"] == "system":
            return str(self.messages[0]["content"])
        return None

    @system.setter
    def system(self, text: str | None) -> None:
        if text is not None and not isinstance(text, str):
            raise UserError("the system text is of type {kind}", kind=type(text).__name__, hint="give text")
        turns = self._settled()[self.system is not None :]
        self.messages = [*([{"role": "system", "content": text}] if text else []), *turns]

    def change(self, **options: Any) -> None:
        """Changes options for the turns to come; UserError, and nothing changed, where one is wrong."""
        options = {**self.options, **options}
        self._choices(options)
        self.options = options

    def say(self, text: str) -> Reply:
        """The model's answer to this.

        Raises UserError where it does not fit, and Cancelled where a summary that has to be written first is
        cancelled; the conversation then is as it was.
        """
        return self._reply([*self._settled(), {"role": "user", "content": text}], 0)

    def cancel(self) -> None:
        """Ends what is being written, from any thread and at once.

        An answer ends where it is; a turn for which a summary has to be written first raises Cancelled.
        """
        self._cancelled = True
        if writing := self._writing:
            writing.cancel()

    def retry(self) -> Reply:
        """Another answer to what the user said last."""
        return self._reply(self._up_to_last_user(), self._tries + 1)

    def edit(self, text: str) -> Reply:
        """The answer to this instead of what the user said last."""
        return self._reply([*self._up_to_last_user()[:-1], {"role": "user", "content": text}], 0)

    def clear(self) -> None:
        """Forgets all that was said but the system message and the turns that every conversation begins with."""
        self.messages = [*self._settled()[: self.system is not None], *self._first]
        self.dropped, self.summary, self._tries = 0, "", 0

    @property
    def context(self) -> int:
        """How many tokens the model can see at once."""
        return self.model.shared.engine.context

    @property
    def used(self) -> int:
        """How many of them the conversation takes; more than there are where the next turn has to make room."""
        if len(self.messages) == (self.system is not None):  # templates may refuse a system text alone
            return len(self.model.tokenizer.encode(self.system, bos=False)) if self.system else 0
        return self._window(self.messages, Sampling(), "error").size()

    def save(self, path: str | Path) -> None:
        """Writes the conversation and its settings to a JSON file; UserError where it cannot."""
        place = _path(path)
        template = None if self.template is None else str(self.template)
        if template and template not in NAMED:
            template = os.path.abspath(template)  # whoever loads it may be in another folder
        write_transcript(place, Transcript(self._settled(), self.dropped, self.summary, template, self.options))

    def load(self, path: str | Path) -> None:
        """Goes on with a saved conversation and its settings; UserError, and all as it was, where it is none."""
        transcript = read_transcript(_path(path))
        self._choices(transcript.options)
        self.model.chat_template(transcript.template)
        self._settled()
        self.messages, self.options, self.template = transcript.messages, transcript.options, transcript.template
        self.dropped, self.summary, self._tries = transcript.dropped, transcript.summary, 0

    def _choices(self, options: dict[str, Any], tries: int = 0) -> tuple[Sampling, str]:
        """How tokens are chosen, and what happens where the context is full."""
        others = {name: value for name, value in options.items() if name != "on_full"}
        sampling, on_full = self.model.sampling(**others), checked_on_full(options.get("on_full"))
        if sampling.num_return_sequences > 1:
            raise UserError("a conversation has one answer to each turn", hint="leave out num_return_sequences")
        if tries and sampling.seed is not None:
            sampling = sampling.replace(seed=(sampling.seed + tries) % 2**64)
        return sampling, on_full

    def _settled(self) -> list[dict[str, Any]]:
        """The messages, after an answer that was still being written has been stopped."""
        if self._open:
            self._open.stop()
            self._open = None
        return self.messages

    def _up_to_last_user(self) -> list[dict[str, Any]]:
        messages = self._settled()
        count = max((n for n, message in enumerate(messages, 1) if message["role"] == "user"), default=0)
        if not count:
            raise UserError("nothing has been said yet", hint="say something first")
        return messages[:count]

    def _reply(self, messages: list[dict[str, Any]], tries: int) -> Reply:
        text = messages[-1]["content"]
        if not isinstance(text, str):
            raise UserError("the message is of type {kind}", kind=type(text).__name__, hint="give text")
        if not text.strip():
            raise UserError("the message is empty", hint="give some text")
        self._cancelled, notes = False, Notes(self.show)
        with heard_by(notes.hear):
            sampling, on_full = self._choices(self.options, tries)
            self.model.check_messages(messages, on_full)
            window = self._window(messages, sampling, on_full).fit(self._summary)
        self._open = Reply(self, messages, window, tries, notes)
        return self._open

    def _window(self, messages: list[dict[str, Any]], sampling: Sampling, on_full: str) -> Window:
        template = self.model.chat_template(self.template)
        return Window(
            self.model, template, messages, sampling, on_full, strict=self.strict, dropped=self.dropped,
            summary=self.summary, cached=self._cached,
        )  # fmt: skip

    def _summary(self, question: Question) -> str:
        return str(self._begun(Generation(self.model, question.prompt, question.sampling)).read())

    def _begun(self, generation: Generation) -> Generation:
        """A generation that `cancel` ends from here on, or at once."""
        self._writing = generation
        if self._cancelled:
            generation.cancel()
        return generation

    def _keep(self, reply: Reply) -> None:
        """An answer, or as much of it as there is, becomes part of the conversation."""
        self.messages = [*reply.messages, {"role": "assistant", "content": reply.text}]
        self.dropped, self.summary, self._tries = reply.window.dropped, reply.window.summary, reply.tries
        self._cached = list(reply.generation.sequences[0].tokens)
        if self._open is reply:
            self._open = None


def _path(path: object) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise UserError("the path is of type {kind}", kind=type(path).__name__, hint="give a text or a Path")
    return Path(path)
