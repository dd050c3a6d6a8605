"""The lint: each mistake is found in a folder that is otherwise sound, and a sound folder has no warnings."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import Finding
from soban.text.chat.probe import probed
from soban.text.chat.template import ChatTemplate, load_template
from soban.text.lint import Material, lint, lint_stop, nearest
from soban.text.tokenizers.entries import Entries, read_entries

from .. import tiny
from . import kinds

CONFIG = {"eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
GENERATION = {"eos_token_id": [1, 5], "bos_token_id": 2}
SETTINGS = {
    "add_bos_token": True, "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
    "chat_template": tiny.TEMPLATE,
}  # fmt: skip
ROWS = 263  # of the embedding: as many as the tokenizer has entries
# The tokens that the templates of the fixtures write, and which of them begin a text and end a turn.
FAMILIES: dict[str, tuple[str | None, list[str], set[str]]] = {
    "google-gemma-2-2b-it": ("<bos>", ["<start_of_turn>", "<end_of_turn>"], {"<end_of_turn>"}),
    "Qwen-Qwen2.5-7B-Instruct": (None, ["<|im_start|>", "<|im_end|>"], {"<|im_end|>"}),
    "meta-llama-Llama-3.2-3B-Instruct": (
        "<|begin_of_text|>", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], {"<|eot_id|>"},
    ),
    "microsoft-Phi-3.5-mini-instruct": (None, ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], {"<|end|>"}),
}  # fmt: skip


def material(
    folder: Path,
    *,
    config: Any = None,
    generation: Any = None,
    rows: int | None = ROWS,
    name: str = "",
    **settings: Any,
) -> Material:
    """A folder's files as the lint wants them; `settings` go into tokenizer_config.json, None takes one out."""
    made = {key: value for key, value in (SETTINGS | settings).items() if value is not None}
    (folder / "tokenizer.json").write_text(json.dumps(tiny.tokenizer()), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(made), encoding="utf-8")
    config = CONFIG if config is None else config
    entries, template = read_entries(folder, config), load_template(folder)
    assert entries is not None
    shown = None if template is None else probed(entries, template, "tokenizer_config.json")
    return Material(config, GENERATION if generation is None else generation, entries, shown, rows, name)


def codes(findings: Iterable[Finding], level: str = "warning") -> list[str]:
    return [finding.code for finding in findings if finding.level == level]


def test_a_sound_folder_has_no_warnings_and_notes_what_is_peculiar(tmp_path: Path) -> None:
    found = lint(material(tmp_path))
    assert codes(found) == [] and codes(found, "note") == ["bos-twice", "system-refused"]


@pytest.mark.parametrize(
    ("changes", "code", "value", "said"),
    [
        ({"eos_token": "<|end_of_turn|>"}, "terminator-unknown", "<|end_of_turn|>", "<end_of_turn> is one"),
        ({"generation": {"stop_strings": ["END", "<|end_of_turn|>"]}}, "terminator-unknown", "<|end_of_turn|>",
         "<end_of_turn> is one"),
        ({"generation": {"stop_strings": "<|im_end|>"}}, "terminator-unknown", "<|im_end|>", "really ends with"),
        ({"pad_token": "<padding>"}, "token-unknown", "<padding>", "pad_token <padding> is no entry"),
        ({"additional_special_tokens": ["<bos>", "<tool>"]}, "token-unknown", "<tool>", "first <tool>"),
        ({"added_tokens_decoder": {"6": {"content": "<bos>"}}}, "token-moved", 6, "tokenizer.json has it at 2"),
        ({"added_tokens_decoder": {"9": {"content": "<new>"}}}, "token-moved", 9, "has it at -"),
        ({"bos_token": None, "config": {"eos_token_id": 1}, "generation": {}}, "bos-unknown", True, "no BOS token"),
        ({"generation": {"eos_token_id": [1, 5, 999]}}, "id-outside", 999, "263 entries"),
        ({"generation": {"eos_token_id": [1, 5, -1]}}, "id-outside", -1, "263 entries"),
        ({"config": {"eos_token_id": 3}}, "eos-differs", 3, "eos_token_id is 3 (<unk>)"),
        ({"generation": {"eos_token_id": 5}, "config": {}}, "eos-differs", 1, "generation_config.json says 5"),
        ({"config": {"bos_token_id": 3, "eos_token_id": 1}, "generation": {"eos_token_id": [1, 5]}}, "bos-differs", 2,
         "bos_token is 2 (<bos>)"),
        ({"generation": {"eos_token_id": 1}}, "end-of-turn-missing", 5, "<end_of_turn> (5)"),
        ({"generation": {}, "config": {}, "eos_token": None}, "eos-missing", None, "no file names a token"),
        ({"rows": 262}, "vocabulary-larger", 263, "only 262"),
        ({"chat_template": None, "name": "gemma-2-2b-it"}, "template-missing", None, "no chat template"),
        ({"chat_template": "{{ nonsense( }}"}, "template-fails", None, "fails on this conversation"),
        ({"chat_template": "{{ bos_token }}" + tiny.TEMPLATE}, "bos-twice", "<bos>", "2 times"),
        ({"chat_template": "<bos>" + tiny.TEMPLATE}, "bos-twice", "<bos>", "2 times"),
        ({"chat_template": tiny.TEMPLATE.replace("{{ bos_token }}", "")}, "bos-never", "<bos>", "writes no <bos>"),
        ({"chat_template": tiny.TEMPLATE.replace("<end_of_turn>", "<|end_of_turn|>")}, "template-mark-unknown",
         "<|end_of_turn|>", "<end_of_turn> is one"),
        ({"generation": {"eos_token_id": [1, 5], "do_sample": False, "temperature": 0.7}}, "sampling-ignored", False,
         "temperature=0.7"),
        ({"generation": {"eos_token_id": [1, 5], "top_p": 0.9}}, "sampling-ignored", False, "top_p=0.9"),
        ({"generation": {"eos_token_id": [1, 5], "do_sample": True, "temperature": 0}}, "temperature-zero", 0,
         "opposites"),
    ],
)  # fmt: skip
def test_each_mistake_is_found(tmp_path: Path, changes: dict[str, Any], code: str, value: Any, said: str) -> None:
    found = [finding for finding in lint(material(tmp_path, **changes)) if finding.code == code]
    assert len(found) == 1 and found[0].level == "warning"
    assert found[0].value == value and said in f"{found[0].problem}; {found[0].remedy}" and found[0].remedy
    assert found[0].file.endswith((".json", ".jinja"))


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": {"eos_token_id": [1, 5], "do_sample": True, "temperature": 0.7, "top_p": 0.9}},
        {"generation": {"eos_token_id": [1, 5], "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}},
        {"generation": {"eos_token_id": [1, 5], "temperature": 0}},
        {"generation": {"eos_token_id": [1, 5], "stop_strings": ["</answer>", "END", "<end_of_turn>", "\nUser:"]}},
        {"config": {"eos_token_id": 1, "pad_token_id": -1}},
        {"chat_template": None, "name": "gemma-2-2b"},
        {"rows": 320},
        {"chat_template": tiny.TEMPLATE + "</answer><b>"},
    ],
)
def test_what_is_right_or_a_matter_of_taste_is_no_warning(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert codes(lint(material(tmp_path, **changes))) == []


def test_notes_tell_what_is_usual_or_mended(tmp_path: Path) -> None:
    silent = "{{ bos_token }}{% for m in messages if m.role != 'system' %}<start_of_turn>{{ m.content }}<end_of_turn>\n"
    found = lint(material(tmp_path, chat_template=silent + "{% endfor %}", add_bos_token=False))
    assert codes(found, "note") == ["policy-differs", "system-dropped"]
    found = lint(material(tmp_path, pad_token="<eos>", config={"eos_token_id": 1}))
    assert "pad-is-eos" in codes(found, "note") and codes(found) == []
    plain = tiny.TEMPLATE.replace("'<start_of_turn>'", "'<|user|>'")
    found = lint(material(tmp_path, chat_template=plain))
    assert "template-mark-unknown" in codes(found, "note") and codes(found) == []
    found = lint(material(tmp_path, rows=ROWS + 2000))
    assert "vocabulary-smaller" in codes(found, "note") and codes(found) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_templates_of_real_families_pass_and_lose_their_end_of_turn_noticed(
    fixtures: Path, byte_level: Callable[..., Path], family: str
) -> None:
    import tokenizers

    bos, marks, ends = FAMILIES[family]
    folder = byte_level(bos_token=bos, eos_token="</s>", add_bos_token=bos is not None)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_special_tokens([*marks, *([bos] if bos else [])])
    library.save(str(folder / "tokenizer.json"))
    template = ChatTemplate((fixtures / "chat_templates" / f"{family}.jinja").read_text(encoding="utf-8"), {})
    entries = read_entries(folder, {})
    assert entries is not None
    shown = probed(entries, template, "chat_template.jinja")
    assert shown.kind.split()[0].lower() in ("gemma", "chatml", "llama", "phi") and {"user", "assistant"} <= set(
        shown.roles
    )
    assert ("system" in shown.roles) == ("gemma" not in family)
    eos = library.token_to_id("</s>")
    whole = [eos, *(library.token_to_id(end) for end in ends)]
    assert codes(lint(Material({}, {"eos_token_id": whole}, entries, shown))) == []
    found = lint(Material({}, {"eos_token_id": eos}, entries, shown))
    assert codes(found) == ["end-of-turn-missing"] and found[0].value in whole[1:]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    made = material(tmp_path_factory.mktemp("entries")).entries
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("stop", "near"),
    [
        ("<|end_of_turn|>", "<end_of_turn>"), ("</end_of_turn>", "<end_of_turn>"), ("<END_OF_TURN>", "<end_of_turn>"),
        ("<|endofturn|>", "<end_of_turn>"), ("<start_of_turn|>", "<start_of_turn>"), (" <|eos|>\n", "<eos>"),
        ("[EOS]", "<eos>"), ("<end_of_trun>", "<end_of_turn>"),
    ],
)  # fmt: skip
def test_a_stop_text_that_looks_like_a_token_and_is_none_has_a_near_match(
    entries: Entries, stop: str, near: str
) -> None:
    found = lint_stop(stop, entries)
    assert found is not None and found.remedy == f"{near} is one" and found.value == stop.strip()


@pytest.mark.parametrize(
    "stop", ["<end_of_turn>", "<eos>", "\n\n", "END", "</answer>", "<b>", "[INST]", "User:", "", "<>"]
)
def test_a_stop_text_that_is_a_token_or_just_a_text_is_left_in_peace(entries: Entries, stop: str) -> None:
    assert lint_stop(stop, entries) is None


def test_a_token_of_another_family_is_told_without_a_near_match(entries: Entries) -> None:
    found = lint_stop("<|im_end|>", entries)
    assert found is not None and "<|im_end|> is no token" in found.problem and nearest("<|im_end|>", entries) is None


def test_the_findings_are_korean_where_the_user_is(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lint_stop("<|end_of_turn|>", entries)
    monkeypatch.setenv("SOBAN_LANG", "ko")
    assert found is not None and any("가" <= letter <= "힣" for letter in found.problem)


def test_a_bos_that_only_one_of_the_files_asks_for_is_told(tmp_path: Path) -> None:
    assert "policy-differs" not in codes(lint(material(tmp_path)), "note")
    for changes in ({"add_bos_token": False}, {"add_eos_token": True}):
        (found,) = [finding for finding in lint(material(tmp_path, **changes)) if finding.code == "policy-differs"]
        assert found.value in changes.values() and "transformers 5" in found.remedy


def test_what_becomes_of_unknown_characters_is_told_where_it_is_not_kept(tmp_path: Path) -> None:
    """The classes are those that transformers 5.23 makes anew: LlamaTokenizer knows no unknown token there."""
    dice = random.Random(2)
    dropping, keeping, spelling = kinds.bpe(dice, unk=None), kinds.bpe(dice), kinds.bpe(dice, bytes="all")
    spelling["byte_fallback"] = True
    llama, gemma = {"tokenizer_class": "LlamaTokenizerFast"}, {"tokenizer_class": "GemmaTokenizer"}
    cases: list[tuple[dict[str, Any], dict[str, str], list[str]]] = [
        (keeping, {}, []), (keeping, llama, ["class-differs"]), (keeping, gemma, []), (spelling, llama, []),
        (dropping, {}, ["unknown-lost"]), (dropping, llama, ["unknown-lost"]), (kinds.unigram(dice), {}, []),
        (kinds.unigram(dice), gemma, ["class-differs"]), (kinds.unigram(dice, unk=None), {}, ["unknown-lost"]),
        (kinds.wordpiece(), {}, []), (kinds.wordpiece("[GONE]"), {}, ["unknown-lost"]),
    ]  # fmt: skip
    for model, settings, expected in cases:
        kinds.write(tmp_path, kinds.state(model, "<s>", "</s>"), **settings)
        entries = read_entries(tmp_path, {})
        assert entries is not None
        found = lint(Material({"eos_token_id": 2}, {}, entries))
        assert [f.code for f in found if f.code in ("class-differs", "unknown-lost")] == expected, (
            model["type"],
            settings,
        )
    kinds.write(tmp_path, kinds.state(dropping, "<s>", "</s>", pre_tokenizer={"type": "ByteLevel"}))
    entries = read_entries(tmp_path, {})
    assert "unknown-lost" not in codes(lint(Material({"eos_token_id": 2}, {}, entries)), "note")
