"""The templates that have names: their exact forms, their ends, and how they are found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.chat.form import read_form
from soban.text.chat.template import encode_chat, load_template
from soban.text.chat.templates import NAMED, find_template
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer

from .test_chat import turns

CHAT = turns("1+1?", "2", "2+2?")
BELOW = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
CURIOUS = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
# As published with Stanford Alpaca, FastChat (vicuna_v1.1), KoAlpaca v1.1, Llama 2 and ChatML.
WRITTEN = {
    "alpaca": f"{BELOW}\n\n### Instruction:\n1+1?\n\n### Response:2\n\n### Instruction:\n2+2?\n\n### Response:",
    "vicuna": f"{CURIOUS} USER: 1+1? ASSISTANT: 2</s>USER: 2+2? ASSISTANT:",
    "koalpaca": "### 질문: 1+1?\n\n### 답변: 2\n\n### 질문: 2+2?\n\n### 답변:",
    "llama2": "<s>[INST] 1+1? [/INST] 2 </s><s>[INST] 2+2? [/INST]",
    "chatml": "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "plain": "User: 1+1?\n\nAssistant: 2\n\nUser: 2+2?\n\nAssistant:",
}
WITH_SYSTEM = {
    "alpaca": "Be brief.\n\n### Instruction:\nhi\n\n### Response:",
    "vicuna": "Be brief. USER: hi ASSISTANT:",
    "koalpaca": "Be brief.\n\n### 질문: hi\n\n### 답변:",
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nhi [/INST]",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "plain": "Be brief.\n\nUser: hi\n\nAssistant:",
}


@pytest.fixture(scope="module")
def tokenizer(byte_level: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(byte_level(), {})


def written(tokenizer: Tokenizer, name: str, messages: list[dict[str, Any]]) -> str:
    return tokenizer.decode(encode_chat(tokenizer, find_template(name), messages, strict=True), skip_special=False)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_named_template_writes_its_form(tokenizer: Tokenizer, name: str) -> None:
    assert written(tokenizer, name, CHAT) == WRITTEN[name]
    assert written(tokenizer, name, turns("hi", system="Be brief.")) == WITH_SYSTEM[name]


def test_every_named_template_is_tried_here() -> None:
    assert NAMED.keys() == WRITTEN.keys()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_tokenizers_policy_says_whether_a_bos_stands_first(byte_level: Callable[..., Path], name: str) -> None:
    for policy in (True, False):
        tokenizer = load_tokenizer(byte_level(add_bos_token=policy), {})
        ids = encode_chat(tokenizer, find_template(name), CHAT)
        assert (ids[0] == tokenizer.bos_id) == (policy or name == "llama2")
        assert ids.count(tokenizer.bos_id) == (2 if name == "llama2" else int(policy))  # Llama 2: one for each turn


@pytest.mark.parametrize("name", WRITTEN)
def test_its_ends_are_tokens_where_the_tokenizer_has_them_and_texts_anyway(tokenizer: Tokenizer, name: str) -> None:
    form = read_form(tokenizer, find_template(name))
    ends = {tokenizer.decode([token], skip_special=False) for token in form.ends}
    assert ends == {"chatml": {"<|im_start|>", "<|im_end|>"}, "vicuna": {"</s>"}, "llama2": {"</s>"}}.get(name, set())
    following = WRITTEN[name].partition("2")[2]  # what comes after the answer
    assert any(stop in following for stop in (*form.stops, *form.heads))
    assert form.lead == (" " if name in ("koalpaca", "llama2", "plain", "vicuna") else "")
    assert form.takes_system


@pytest.mark.parametrize("name", WRITTEN)
def test_turns_that_do_not_alternate_are_mended(tokenizer: Tokenizer, name: str) -> None:
    twice = turns("a") + turns("b")
    mended = tokenizer.decode(encode_chat(tokenizer, find_template(name), twice), skip_special=False)
    if name != "chatml":  # which has no such rule
        assert mended == written(tokenizer, name, turns("a\n\nb"))
        with pytest.raises(UserError, match="alternate"):
            written(tokenizer, name, twice)


def test_a_template_may_be_a_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "내 양식.jinja"
    path.write_text("{% for m in messages %}[{{ m.content }}]\n# next: {% endfor %}", encoding="utf-8")
    template = find_template(path)
    assert tokenizer.decode(encode_chat(tokenizer, template, turns("가"))) == "[가]\n# next: "
    assert "]\n# next: [".strip() in read_form(tokenizer, template).stops
    path.write_bytes("{{ messages[0].content }} 끝".encode("cp949"))  # as an old editor saves it
    assert tokenizer.decode(encode_chat(tokenizer, find_template(path), turns("가"))) == "가 끝"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff", "not text in UTF-8.*; save it again as UTF-8"),
        (b" \n", "empty; write a Jinja template into it"),
        (b"x" * 900_000, "more than 800000 bytes.*; name a Jinja file, or"),
        (b"x" * 300_000, "300000 characters.*; choose another template, such as chatml"),
        (b"{% for %}", 'fails on this conversation: "Expected.*"; mend it, or choose another template, such as chatml'),
        (b"{{ raise_exception('no way') }}", 'fails on this conversation: "no way"; mend it, or'),
    ],
)
def test_an_error_in_ones_own_file_names_it_and_says_what_to_do(
    tokenizer: Tokenizer, tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "내 양식.jinja"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        encode_chat(tokenizer, find_template(path), turns("hi"))
    assert str(caught.value).startswith(f"{path}: ") and "model" not in str(caught.value).removeprefix(str(path))


def test_an_error_of_the_models_own_template_names_its_file(byte_level: Callable[..., Path]) -> None:
    folder = byte_level(chat_template="{{ raise_exception('no') }}")
    template = load_template(folder)
    assert template is not None
    with pytest.raises(UserError) as caught:
        encode_chat(load_tokenizer(folder, {}), template, turns("hi"))
    assert str(caught.value).startswith(f"{folder / 'tokenizer_config.json'}: the chat template fails")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name in (tmp_path, "x" * 5000, "a\0b", tmp_path / "none.jinja"):
        with pytest.raises(UserError, match="neither a chat template's name nor a Jinja file"):
            find_template(name)


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match="alpaca, chatml, koalpaca"):
        find_template("chat-ml")


def test_the_ends_of_the_families_templates_are_found(fixtures: Path, byte_level: Callable[..., Path]) -> None:
    ends = {
        "HuggingFaceTB-SmolLM3-3B": "<|im_end|>",
        "Qwen-Qwen2.5-7B-Instruct": "<|im_end|>",
        "Qwen-Qwen3-0.6B": "<|im_end|>",
        "google-gemma-2-2b-it": "<end_of_turn>",
        "google-gemma-4-31B-it": "<turn|>",
        "meta-llama-Llama-3.2-3B-Instruct": "<|eot_id|>",
        "microsoft-Phi-3.5-mini-instruct": "<|end|>",
    }
    for name, end in ends.items():
        source = (fixtures / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
        folder = byte_level(chat_template=source)
        tokenizer, template = load_tokenizer(folder, {}), load_template(folder)
        assert template is not None
        form = read_form(tokenizer, template)
        assert [tokenizer.decode([token], skip_special=False) for token in form.ends] == [end]
        assert form.takes_system == (name != "google-gemma-2-2b-it") and not form.stops


def test_a_template_that_fails_has_no_form(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "x.jinja"
    path.write_text("{{ raise_exception('no') }}", encoding="utf-8")
    form = read_form(tokenizer, find_template(path))
    assert not form.ends and not form.stops and not form.takes_system
