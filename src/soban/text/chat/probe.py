"""A chat template tried on small conversations: what it writes, which roles it takes, what it refuses."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soban.base.errors import UserError
from soban.text.chat.form import ChatForm, read_form
from soban.text.chat.template import ChatTemplate
from soban.text.tokenizers.entries import Entries

ROLES = ("system", "user", "assistant", "tool")
MARK = "\U0010f004"  # in a private plane, so that no template means anything by it
TOOLS = re.compile(r"\{[%{][^}]*\btools\b")
# By what a template writes around a turn.
KINDS = {
    "<start_of_turn>": "Gemma", "<|im_start|>": "ChatML", "<|start_header_id|>": "Llama 3", "[|user|]": "EXAONE",
    "<|turn>": "Gemma 4", "<|user|>": "Phi", "[INST]": "Llama 2, Mistral", "### Instruction:": "Alpaca",
    "USER:": "Vicuna", "### 질문:": "KoAlpaca",
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What a template shows of itself."""

    file: str
    conversation: str = ""  # a user's turn, an answer and the beginning of the next, as it writes them
    form: ChatForm = field(default_factory=ChatForm)
    roles: tuple[str, ...] = ()
    tools: bool = False
    refusal: UserError | None = None  # of the plainest conversation
    system_refusal: UserError | None = None

    @property
    def kind(self) -> str:
        """The family of templates that it looks like; "" where it is like none that is known."""
        return next((name for mark, name in KINDS.items() if mark in self.conversation), "")


def probed(entries: Entries, template: ChatTemplate, file: str = "") -> Shown:
    """What a template shows; it is a stranger's program, and has the time of one rendering for all of this."""
    from soban.text.chat.limits import MAX_SECONDS

    until = time.thread_time() + MAX_SECONDS
    names: dict[str, Any] = {**entries.special_tokens, **template.tokens}

    def rendered(*turns: Mapping[str, str], prompt: bool = False) -> str:
        return template.render(turns, add_generation_prompt=prompt, until=until, **names)

    user, answer = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}
    try:
        begun = rendered(user, prompt=True)
    except UserError as refusal:
        return Shown(file, refusal=refusal)
    trials = {
        "system": ({"role": "system", "content": MARK}, user),
        "user": ({"role": "user", "content": MARK},),
        "assistant": (user, {"role": "assistant", "content": MARK}),
        "tool": (user, answer, {"role": "tool", "content": MARK}),
    }
    roles, refusals = [], {}
    for role in ROLES:
        try:
            if MARK in rendered(*trials[role]):
                roles.append(role)
        except UserError as refusal:
            refusals[role] = refusal
    try:
        conversation = rendered(user, answer, user, prompt=True)
    except UserError:
        conversation = begun
    return Shown(
        file, conversation, read_form(entries, template), tuple(roles), bool(TOOLS.search(template.source)),
        system_refusal=refusals.get("system"),
    )  # fmt: skip
