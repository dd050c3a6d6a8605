"""What a template's form keeps out of answers: its own marks, the heads of its turns, its blanks."""

from pathlib import Path

import pytest

import soban
from soban.talk.prompt import Prompt
from soban.text.chat.form import ChatForm
from soban.text.chat.template import ChatTemplate
from soban.text.chat.templates import NAMED

from ..test_chat_streams import END, TOLD
from ..tiny import make_model

# The words with which each template parts the turns, read off its source by eye.
MARKS = {
    "llama2": ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    "chatml": ["<|im_start|>", "<|im_end|>"],
    "HuggingFaceTB-SmolLM3-3B": ["<|im_start|>", "<|im_end|>"],
    "Qwen-Qwen2.5-7B-Instruct": ["<|im_start|>", "<|im_end|>"],
    "Qwen-Qwen3-0.6B": ["<|im_start|>", "<|im_end|>"],
    "google-gemma-2-2b-it": [],  # the tiny model has its tokens
    "google-gemma-4-31B-it": ["<|turn>", "<turn|>"],
    "meta-llama-Llama-3.2-3B-Instruct": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "microsoft-Phi-3.5-mini-instruct": ["<|user|>", "<|assistant|>", "<|end|>"],
}
HEADS = {
    "alpaca": ["### Instruction:", "### Response:"],
    "koalpaca": ["### 질문:", "### 답변:"],
    "plain": ["User:", "Assistant:"],
    "vicuna": ["USER:", "ASSISTANT:"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return soban.load(make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=1024))


def forms(model: soban.Model, fixtures: Path) -> dict[str, ChatForm]:
    found = {name: model.chat_form(model.chat_template(name)) for name in NAMED}
    for path in sorted((fixtures / "chat_templates").glob("*.jinja")):
        found[path.stem] = model.chat_form(ChatTemplate(path.read_text(encoding="utf-8"), {}, origin=path))
    return found


def shown(model: soban.Model, form: ChatForm, text: str) -> str:
    """What is shown of an answer in which the model writes this text."""
    window = soban.Dialogue(model, template="plain").say(TOLD[0]["content"]).window
    generation = soban.talk.generation.Generation(model, Prompt(window.ids, form), window.sampling)
    script = iter([*model.tokenizer.encode(text, bos=False), END])
    generation.sequences[0].sampler.choose = lambda logits: next(script)  # type: ignore[method-assign]
    return str(generation.read())


def test_no_mark_of_a_template_is_ever_shown(model: soban.Model, fixtures: Path) -> None:
    found = forms(model, fixtures)
    assert found.keys() == MARKS.keys() | HEADS.keys()
    for name, marks in MARKS.items():
        for mark in marks:
            for text in (f"Hello {mark} more", f"Hello\n\n{mark}", f"Hello{mark}{mark}"):
                assert shown(model, found[name], text).rstrip() == "Hello", (name, mark)


def test_the_head_of_a_turn_ends_an_answer_at_the_beginning_of_a_line_alone(model: soban.Model, fixtures: Path) -> None:
    found = forms(model, fixtures)
    for name, heads in HEADS.items():
        for head in heads:
            assert shown(model, found[name], f"Hello\n{head} more") == "Hello"
            assert shown(model, found[name], f"{head} more") == ""
            inside = f"A word{head} or (({head} as it were"
            assert shown(model, found[name], inside) == inside, (name, head)


def test_words_and_tags_of_ordinary_answers_are_shown(model: soban.Model, fixtures: Path) -> None:
    text = "<b>x</b> [1] [note] a < b > c <think> </think> <tool_call> List<T> <html> [SYSTEM] User: Question: <<<>>>"
    for name, form in forms(model, fixtures).items():
        assert shown(model, form, text) == text, name


def test_blanks_before_the_end_that_the_template_writes_are_no_part_of_the_answer(model: soban.Model) -> None:
    form = model.chat_form(model.chat_template("llama2"))
    assert form.tail == " " and shown(model, form, " An answer ") == "An answer"
    assert shown(model, form, "one \n two  ") == "one \n two"
    talk = soban.Dialogue(model, template="llama2")
    reply = talk.say("hi")
    answer = model.tokenizer.encode(" An answer ", bos=False)
    script = iter([*answer, model.tokenizer.eos_ids[0]])
    reply.generation.sequences[0].sampler.choose = lambda logits: next(script)  # type: ignore[method-assign]
    assert "".join(reply) == reply.text == talk.messages[-1]["content"] == "An answer"
    known = [*reply.window.ids, *answer]
    assert talk.say("more").window.ids[: len(known)] == known  # the answer's own tokens, its blanks among them
