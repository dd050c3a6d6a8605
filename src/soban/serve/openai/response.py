"""A response of /v1/responses as it is written: its items, and the events that tell of them in their order."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

from soban.serve.errors import ApiError
from soban.talk.answer import Answering, Step
from soban.talk.parts import Part

KINDS = {"text": "message", "reasoning": "reasoning", "call": "function_call", "arguments": "function_call"}
TEXTS = {"message": ("output_text", "msg"), "reasoning": ("reasoning_text", "rs")}  # their parts, and how ids begin
Event = dict[str, Any]


class Response:
    """Steps in, events out; `body` is the response as far as it is written."""

    def __init__(self, body: dict[str, Any], answering: Answering) -> None:
        self.body, self.answering = body, answering
        self.output: list[dict[str, Any]] = body["output"]
        self.number = 0  # of the next event
        self.open = ""  # the kind of the last item, while it is being written
        self.reason = ""  # why the answer has ended

    def begin(self) -> Iterator[Event]:
        """What is told before anything is written."""
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._snapshot())

    def take(self, step: Step) -> Iterator[Event]:
        """What a step adds."""
        for part in step.parts:
            if part.kind == "end":
                yield from self._close("completed")
                continue
            if part.kind == "call" or KINDS[part.kind] != self.open:
                yield from self._close("completed")
                yield from self._begin(KINDS[part.kind], part)
            if part.text:
                yield from self._add(part.text)
        self.reason = step.finish_reason

    def end(self) -> Iterator[Event]:
        """What is told at the end. An answer without a word is a message without one."""
        incomplete = self.reason in ("length", "context")
        if not self.output:
            yield from self._begin("message", Part("text"))
        yield from self._close("incomplete" if incomplete else "completed")
        self.body |= {"status": "incomplete" if incomplete else "completed", "usage": usage(self.answering)}
        if incomplete:
            self.body["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.body["completed_at"] = int(time.time())
        yield self._event(f"response.{self.body['status']}", response=self.body)

    def fail(self, error: ApiError) -> Event:
        """What is told where it cannot go on."""
        self.body |= {"status": "failed", "error": {"code": "server_error", "message": error.message}}
        return self._event("response.failed", response=self.body)

    def _event(self, kind: str, **fields: Any) -> Event:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **fields}

    def _snapshot(self) -> dict[str, Any]:
        return {**self.body, "output": list(self.output)}

    @property
    def _place(self) -> dict[str, Any]:
        """Where in the response the last item is."""
        return {"item_id": self.output[-1]["id"], "output_index": len(self.output) - 1}

    def _begin(self, kind: str, part: Part) -> Iterator[Event]:
        self.open = kind
        item: dict[str, Any]
        if kind == "function_call":
            item = {"type": kind, "id": _id("fc"), "call_id": part.id, "name": part.name, "arguments": ""}
        else:
            more: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
            item = {"type": kind, "id": _id(TEXTS[kind][1]), **more, "content": []}
        item["status"] = "in_progress"
        self.output.append(item)
        outline = {**item, "content": []} if "content" in item else dict(item)
        yield self._event("response.output_item.added", output_index=len(self.output) - 1, item=outline)
        if kind != "function_call":
            item["content"] = [_text(kind, "")]
            place = {**self._place, "content_index": 0}
            yield self._event("response.content_part.added", **place, part=_text(kind, ""))

    def _add(self, text: str) -> Iterator[Event]:
        item = self.output[-1]
        if self.open == "function_call":
            item["arguments"] += text
            yield self._event("response.function_call_arguments.delta", **self._place, delta=text)
            return
        item["content"][0]["text"] += text
        yield self._event(f"response.{TEXTS[self.open][0]}.delta", **self._part_place, delta=text)

    @property
    def _part_place(self) -> dict[str, Any]:
        """Where the text of the last item is."""
        return {**self._place, "content_index": 0, **({"logprobs": []} if self.open == "message" else {})}

    def _close(self, status: str) -> Iterator[Event]:
        """Ends the item that is being written, if one is."""
        if not self.open:
            return
        item, kind = self.output[-1], self.open
        item["status"] = status
        if kind == "function_call":
            arguments = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **self._place, **arguments)
        else:
            text = item["content"][0]["text"]
            yield self._event(f"response.{TEXTS[kind][0]}.done", **self._part_place, text=text)
            place = {**self._place, "content_index": 0}
            yield self._event("response.content_part.done", **place, part=_text(kind, text))
        self.open = ""
        yield self._event("response.output_item.done", output_index=len(self.output) - 1, item=item)


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def _text(kind: str, text: str) -> dict[str, Any]:
    """The one part that a message or thoughts have."""
    part: dict[str, Any] = {"type": TEXTS[kind][0], "text": text}
    return part | ({"annotations": [], "logprobs": []} if kind == "message" else {})


def usage(answering: Answering) -> dict[str, Any]:
    """The tokens of a response, counted."""
    figures = answering.figures
    return {
        "input_tokens": figures.prompt_tokens,
        "input_tokens_details": {"cached_tokens": figures.reused_tokens, "cache_write_tokens": 0},
        "output_tokens": figures.new_tokens,
        "output_tokens_details": {"reasoning_tokens": answering.thought_tokens},
        "total_tokens": figures.prompt_tokens + figures.new_tokens,
    }
