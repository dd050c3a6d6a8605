"""Conversations as training data: the ids that transformers and the chat give, and what cannot be learnt from."""

import json
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.learn.data import shards
from soban.learn.data.chats import Conversation, fault, messages, parts, plain, text_of
from soban.learn.data.cleaning import Cleaning
from soban.learn.data.fields import choose
from soban.learn.data.prepare import Preparation, prepare
from soban.learn.data.reading import Reading
from soban.text.chat.template import encode_chat, load_template
from soban.text.tokenizers.tokenizer import load_tokenizer

Turns = list[dict[str, str]]


def said(*words: str, system: str | None = None) -> Turns:
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(words)]


def talk(number: int) -> Turns:
    """Conversations that all differ, every third with a system message, every other in Korean."""
    if number % 2:
        words = (f"{number}번 여우는 어디에 갔어?", f"여우는 강가로 갔어요. {number}번 다리를 건넜어요.")
        return said(*words, "고마워!", "천만에요.", system="너는 이야기꾼이야." if number % 3 == 0 else None)
    words = (f"Where did fox {number} go?", f"Fox {number} went to the river and crossed bridge {number}.")
    return said(*words, system="You are a storyteller." if number % 3 == 0 else None)


def story(number: int) -> str:
    return f"Fox {number} found a shell by the river.\n여우 {number}마리가 조개를 찾았어요."


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    return path


def data_of(tmp_path: Path, *records: list[Any], template: str | None = "llama2", **more: Any) -> tuple[Path, Any]:
    """The folder of data made of files of such records, and the report."""
    source = tmp_path / "text"
    source.mkdir()
    for number, some in enumerate(records):
        write(source / f"{number}.jsonl", some)
    usual: dict[str, Any] = {"cleaning": Cleaning(similarity=2), "validation": 0.0, "vocab_size": 400}
    wanted = Preparation(
        (str(source),), tmp_path / "data", Reading(conversations=template is not None), template=template,
        **(usual | more),
    )  # fmt: skip
    return tmp_path / "data", prepare(wanted).report


def ids_of(folder: Path) -> list[list[int]]:
    return [ids.tolist() for ids in shards.Shards(folder, "train").documents]


def test_conversations_have_the_ids_of_transformers_and_of_the_chat(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    talks = [talk(number) for number in range(60)]
    folder, _ = data_of(tmp_path, [{"messages": one} for one in talks])
    theirs = AutoTokenizer.from_pretrained(folder)
    ours, template = load_tokenizer(folder, {}), load_template(folder)
    assert template is not None
    for turns, ids in zip(talks, ids_of(folder), strict=True):
        assert ids == theirs.apply_chat_template(turns, return_dict=False)
        assert ids == encode_chat(ours, template, turns, add_generation_prompt=False)
        assert ids[0] == ours.bos_id != ids[1] and (ids[-1],) == ours.eos_ids != (ids[-2],)
        prompt = encode_chat(ours, template, turns[:-1])
        assert ids[: len(prompt)] == prompt  # so that what the chat asks with is what was learnt
    assert ours.decode(ids_of(folder)[1], skip_special=False) == (
        "<s> [INST] 1번 여우는 어디에 갔어? [/INST] 여우는 강가로 갔어요. 1번 다리를 건넜어요. </s>"
        "<s> [INST] 고마워! [/INST] 천만에요. </s>"
    )


@pytest.mark.parametrize("template", ["chatml", "vicuna", "plain", "koalpaca", "alpaca"])
def test_every_template_begins_with_one_bos_and_ends_with_one_eos(tmp_path: Path, template: str) -> None:
    from transformers import AutoTokenizer

    talks = [talk(number) for number in range(40)]
    folder, _ = data_of(tmp_path, [{"messages": one} for one in talks], template=template)
    theirs = AutoTokenizer.from_pretrained(folder)
    for turns, ids in zip(talks, ids_of(folder), strict=True):
        written = theirs.apply_chat_template(turns, return_dict=False)
        assert ids in (written, [*written, theirs.eos_token_id])
        assert (ids[0], ids[-1]) == (theirs.bos_token_id, theirs.eos_token_id)
        assert ids[1] != theirs.bos_token_id and ids[-2] != theirs.eos_token_id


def test_a_jinja_file_that_has_no_place_for_a_system_message_gets_it_in_the_first_question(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.role[0] + ': ' + m.content + '\\n' }}{% endfor %}"
    )
    folder, _ = data_of(tmp_path, [{"messages": talk(number)} for number in range(40)], template=str(path))
    assert load_tokenizer(folder, {}).decode(ids_of(folder)[0]) == (
        "u: You are a storyteller.\n\nWhere did fox 0 go?\na: Fox 0 went to the river and crossed bridge 0.\n"
    )


def test_what_is_typed_like_a_special_token_stays_text(tmp_path: Path) -> None:
    turns = said("What is </s> in <s>HTML</s>?", "It strikes <s>words</s> out.")
    folder, _ = data_of(tmp_path, [{"messages": turns}, *({"messages": talk(number)} for number in range(40))])
    ids = ids_of(folder)[0]
    tokenizer, template = load_tokenizer(folder, {}), load_template(folder)
    assert template is not None and tokenizer.bos_id is not None
    assert ids == encode_chat(tokenizer, template, turns, add_generation_prompt=False)
    assert ids.count(tokenizer.bos_id) == 1 and ids.count(tokenizer.eos_ids[0]) == 1
    assert "What is </s> in <s>HTML</s>?" in tokenizer.decode(ids)


def test_stories_beside_conversations_are_encoded_as_without_a_template(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    stories, talks = [story(number) for number in range(50)], [talk(number) for number in range(50)]
    folder, _ = data_of(tmp_path, [{"text": one} for one in stories], [{"messages": one} for one in talks])
    documents = ids_of(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert documents[:50] == [[*tokenizer.encode(one).ids, 2] for one in stories]
    assert all("[INST]" in tokenizer.decode(ids) for ids in documents[50:])


def test_without_a_template_a_conversation_is_its_lines(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder, _ = data_of(tmp_path, [{"messages": talk(number)} for number in range(50)], template=None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(ids_of(folder)[2]) == "\n".join(one["content"] for one in talk(2))
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())


def test_a_given_tokenizer_is_taught_the_template_too(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    records = [{"messages": talk(number)} for number in range(40)]
    first, _ = data_of(tmp_path / "one", records, template=None)
    second, _ = data_of(tmp_path / "two", records, tokenizer=first, template="vicuna")
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    assert "USER: Where" in load_tokenizer(second, {}).decode(ids_of(second)[2])
    assert load_template(first) is None and load_template(second) is not None


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"messages": said("Hi", "Hello")}, (("user", "Hi"), ("assistant", "Hello"))),
        (
            {"conversations": [{"from": "human", "value": "안녕"}, {"from": "gpt", "value": "반가워요"}]},
            (("human", "안녕"), ("gpt", "반가워요")),
        ),
        ({"messages": [{"role": "User", "content": [{"type": "text", "text": "Hi"}]}]}, (("user", "Hi"),)),
        (
            {"instruction": "Add.", "input": "1 and 2", "output": "3"},
            (("user", "Add.\n1 and 2"), ("assistant", "3")),
        ),
        ({"instruction": "Sing.", "input": "", "output": "La"}, (("user", "Sing."), ("assistant", "La"))),
        (
            {"system": "Be brief.", "prompt": "Why?", "completion": "So."},
            (("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")),
        ),
        ({"question": "어디?", "answer": "숲"}, (("user", "어디?"), ("assistant", "숲"))),
        ({"질문": "어디?", "답변": "숲"}, (("user", "어디?"), ("assistant", "숲"))),
        ({"dialog": ["Hi", "Hello", "Bye"]}, (("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"))),
        ({"text": "Once upon a time."}, None),
        ({"text": ["Once upon a time.", "There was a fox."]}, None),
        ({"본문": ["옛날 옛적에", "여우가 살았어요."]}, None),
        ({"text": said("Hi", "Hello")}, (("user", "Hi"), ("assistant", "Hello"))),
        (
            {"System": "Be brief.", "Prompt": "Why?", "Completion": "So."},
            (("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")),
        ),
        ({"prompt": "Why?", "chosen": said("Why?", "So.")}, (("user", "Why?"), ("assistant", "So."))),
        ({"prompt": said("Why?"), "chosen": said("", "So.")[1:]}, (("user", "Why?"), ("assistant", "So."))),
        (
            {"system": "Be brief.", "prompt": said("Why?"), "chosen": said("Why?", "So.")},
            (("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")),
        ),
    ],
)
def test_records_of_usual_kinds_become_turns(record: Any, turns: Any) -> None:
    conversation = choose([record], (), "a.jsonl").conversation(record)
    assert conversation == (None if turns is None else Conversation(turns))


def test_the_question_in_a_list_of_messages_is_not_told_twice() -> None:
    record = {"prompt": "Why?", "chosen": said("Why?", "So."), "rejected": said("Why?", "No.")}
    assert choose([record], (), "a.jsonl").text(record) == "Why?\nSo."
    assert choose([record], ("chosen",), "a.jsonl").text(record) == "Why?\nSo."


@pytest.mark.parametrize("names", [("질문?", "답?"), ("system?", "a")])
def test_a_question_mark_may_be_part_of_a_fields_name(names: tuple[str, str]) -> None:
    record = dict(zip(names, ("어디?", "숲"), strict=True))
    fields = choose([record], names, "a.jsonl")
    assert (fields.text(record), str(fields)) == ("어디?\n숲", " + ".join(names))
    assert fields.conversation(record) == Conversation((("user", "어디?"), ("assistant", "숲")))
    assert fields.text({names[0]: "", names[1]: "숲"}) == ""


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ((("user", "a"), ("assistant", "b")), None),
        ((("user", "a"), ("assistant", "b"), ("user", "c")), None),
        ((("system", "s"), ("human", "a"), ("gpt", "b")), None),
        ((("user", "a"), ("tool", "b")), "roles"),
        ((("", "a"), ("assistant", "b")), "roles"),
        ((("assistant", "a"), ("user", "b"), ("assistant", "c")), "order"),
        ((("user", "a"), ("user", "b"), ("assistant", "c")), "order"),
        ((("user", "a"), ("assistant", "b"), ("system", "c")), "order"),
        ((("user", "a"),), "unanswered"),
        ((("system", "a"),), "unanswered"),
        ((), "unanswered"),
        ((("user", "a"), ("assistant", "")), "silent"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_by_its_reason(turns: Any, why: str | None) -> None:
    document = Conversation(turns)
    assert fault(document, parts(document)) == why


def test_conversations_that_cannot_be_used_are_counted_and_left_out(tmp_path: Path) -> None:
    bad: list[Any] = [
        said("Hi"), said("Hi", ""), [{"role": "tool", "content": "x"}], [{"role": "assistant", "content": "Hello!"}],
        [{"content": "nobody"}], [None, 3], [], [{"role": 7, "content": "x"}], [{"role": "user"}], {"role": "user"},
    ]  # fmt: skip
    _, report = data_of(tmp_path, [{"messages": talk(number)} for number in range(50)] + [{"messages": b} for b in bad])
    assert report["left_out"] == {"unanswered": 1, "silent": 1, "roles": 3, "order": 1}
    assert report["files"][0]["empty"] == 4 and report["kept"] == 50


def test_duplicates_and_personal_data_are_found_in_turns(tmp_path: Path) -> None:
    talks = [talk(number) for number in range(50)]
    secret = said("My address is lily@example.com", "I will write to lily@example.com")
    folder, report = data_of(tmp_path, [{"messages": one} for one in [*talks, talks[3], secret]])
    assert report["left_out"] == {"duplicates": 1}
    assert report["personal"]["email"] == 2
    text = load_tokenizer(folder, {}).decode(ids_of(folder)[-1])
    assert text.endswith("[INST] My address is [email] [/INST] I will write to [email] ")


def test_near_duplicates_are_found_by_the_words_of_all_turns(tmp_path: Path) -> None:
    talks = [talk(number) for number in range(1, 30, 2)]
    long = "여우는 아침마다 강가로 가서 조개를 주웠어요. 오래된 다리를 건너면 친구의 집이 나왔어요."
    twins = [said("이야기 해 줘.", long), said("이야기 해 줘!", long + " 끝.")]
    _, report = data_of(
        tmp_path, [{"messages": one} for one in [*talks, *twins]], cleaning=Cleaning(near="keep"), vocab_size=None
    )
    assert report["near_duplicates_kept"] >= 1 and "near-duplicates" not in report["left_out"]
    (tmp_path / "dropped").mkdir()
    _, report = data_of(
        tmp_path / "dropped", [{"messages": one} for one in [*twins, talk(1)]], cleaning=Cleaning(), vocab_size=None
    )
    assert report["left_out"] == {"near-duplicates": 1}


def test_data_of_another_template_has_another_hash_though_the_tokenizer_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    records = [{"messages": talk(number)} for number in range(40)]
    tokenizer, _ = data_of(tmp_path / "first", records, template=None)
    hashes = set()
    for template in ("llama2", "vicuna", None):
        (tmp_path / str(template)).mkdir()
        hashes.add(data_of(tmp_path / str(template), records, template=template, tokenizer=tokenizer)[1]["data_hash"])
    assert len(hashes) == 3


def test_control_characters_of_a_text_make_no_turns(tmp_path: Path) -> None:
    turns = said("Hi \x03there", "Hello\x02 you")
    document = Conversation(tuple((one["role"], one["content"]) for one in turns))
    words = ["Hi there", "Hello you"]
    assert (
        messages(text_of(document, words)) == said(*words) and plain(text_of(document, words)) == "Hi there\nHello you"
    )
    records: list[Any] = [{"messages": turns}, *({"messages": talk(number)} for number in range(40))]
    folder, _ = data_of(tmp_path, records, [{"text": "\x02One\x03 story."}])
    decoded = [load_tokenizer(folder, {}).decode(ids) for ids in ids_of(folder)]
    assert decoded[0] == "[INST] Hi there [/INST] Hello you " and decoded[-1] == "One story."


def test_a_template_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": talk(1)}])
    with pytest.raises(UserError, match="neither a chat template's name"):
        prepare(Preparation((str(path),), tmp_path / "out", Reading(conversations=True), template="lama2"))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_another_template_makes_the_data_again_where_that_is_insisted_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": talk(number)} for number in range(60)])

    def again(template: str, force: bool = False) -> bool:
        wanted = Preparation(
            (str(path),), tmp_path / "out", Reading(conversations=True), Cleaning(similarity=2), vocab_size=400,
            template=template, force=force,
        )  # fmt: skip
        return prepare(wanted).new

    assert [again("llama2"), again("llama2")] == [True, False]
    with pytest.raises(UserError, match="--force replaces them"):
        again("vicuna")
    assert again("vicuna", force=True)
