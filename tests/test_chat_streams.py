"""Whatever a model writes in a chat: the pieces join to the whole, no character is split, nothing follows a stop."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import soban
from soban.talk.generation import Generation

from .tiny import SPECIAL, make_model

WORDS = ["한글", "각", "👍🏽", "👩‍👩‍👧‍👦", "e\u0301", "\n", "\n\n", " ", "a", "b", ":", "<|im_end|>"]
WORDS += ["User:", "USER", "###", "###  질문:", "### 질문:", "[INST]"]
TEMPLATES = [None, "alpaca", "chatml", "koalpaca", "llama2", "plain", "vicuna"]
END = SPECIAL.index("<end_of_turn>")
TOLD = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """Each byte is a token: no cut of a text into tokens is finer."""
    return soban.load(make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=1024))


def scripted(model: soban.Model, tokens: list[int], template: str | None, stop: list[str]) -> Generation:
    """A chat in which the model chooses these tokens, then the end of its turn."""
    generation = model.start_chat(TOLD, template=template, stop=stop)
    script = iter([*tokens, END])
    generation.sequences[0].sampler.choose = lambda logits: next(script)  # type: ignore[method-assign]
    return generation


def cut(text: str, stops: Sequence[str], heads: Sequence[str]) -> str:
    """The text before what is complete first, the longest of several; a head takes two line ends before it along."""
    for end in range(1, len(text) + 1):
        found = [len(stop) for stop in stops if text[:end].endswith(stop)]
        for head in heads:
            before = text[: end - len(head)]
            if text[:end].endswith(head) and (not before or before.endswith("\n")):
                found.append(len(head) + min(2, len(before) - len(before.rstrip("\n"))))
        if found:
            return text[: end - max(found)]
    return text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=12),
    template=st.sampled_from(TEMPLATES),
    stop=st.lists(st.sampled_from(["ab", "각", "👍🏽", "글👍", "\n\n\n", "a\n", "한글각"]), max_size=2, unique=True),
)
def test_the_pieces_are_the_text_up_to_the_first_stop(
    chat: soban.Model, words: list[str], template: str | None, stop: list[str]
) -> None:
    text = "".join(words)
    tokens = [token for token in chat.tokenizer.encode(text, bos=False) if token != END]
    form = chat.chat_form(chat.chat_template(template))
    generation = scripted(chat, tokens, template, stop)
    pieces = [piece for _, piece in generation]
    whole = text.lstrip(form.lead) if form.lead else text
    expected = cut(whole, [*stop, *form.stops], form.heads)
    assert "".join(pieces) == (expected.rstrip(form.tail) if expected == whole and form.tail else expected)
    assert all(pieces) and not any("\ufffd" in piece for piece in pieces)
    assert generation.figures.finished == ("stop" if expected != whole else "end")
    assert not chat.engine.busy and not any(chat.engine.blocks.users)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=st.lists(st.integers(6, 261), max_size=60))
def test_bytes_that_are_no_text_join_to_what_decoding_gives(chat: soban.Model, tokens: list[int]) -> None:
    pieces = [piece for _, piece in scripted(chat, tokens, None, [])]
    assert "".join(pieces) == chat.detokenize(tokens)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS), max_size=12), count=st.integers(0, 9))
def test_a_reply_that_is_stopped_keeps_exactly_what_was_shown(chat: soban.Model, words: list[str], count: int) -> None:
    dialogue = soban.Dialogue(chat)
    reply = dialogue.say("hi")
    script = iter([*chat.tokenizer.encode("".join(words), bos=False), END])
    reply.generation.sequences[0].sampler.choose = lambda logits: next(script)  # type: ignore[method-assign]
    shown = [piece for _, piece in zip(range(count), reply, strict=False)]
    reply.stop()
    if shown or reply.finished:
        assert dialogue.messages[-1]["content"].startswith("".join(shown))
        assert dialogue.messages[-1]["content"] == reply.text
    again = dialogue.say("more")
    again.stop()
    assert not chat.engine.busy
