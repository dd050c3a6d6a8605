"""Conversations turn by turn: what is remembered, computed once, forgotten, saved, and left as it was."""

import json
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soban
from soban import messages as notices
from soban.loading.loaded import BUNDLED
from soban.ops.batch import PAGE
from soban.ops.native import Cancelled
from soban.talk import window
from soban.talk.dialogue import Reply
from soban.talk.generation import Generation
from soban.talk.prompt import Prompt
from soban.talk.window import Question, Window
from soban.text.chat.template import encode_chat

from ..tiny import make_model, write_ascii_weights

GREEDY = {"temperature": 0, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """A Gemma 2 whose window is 16 tokens and whose context is 512; it writes letters."""
    folder = make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=512)
    write_ascii_weights(folder)
    return soban.load(folder)


@pytest.fixture(scope="module")
def story() -> soban.Model:
    return soban.load()


@pytest.fixture(autouse=True)
def said_anew() -> None:
    notices._once.cache_clear()


def spoken(dialogue: soban.Dialogue, *texts: str) -> list[Reply]:
    replies = []
    for text in texts:
        replies.append(dialogue.say(text))
        replies[-1].read()
    return replies


def unasked(question: Question) -> str:
    raise AssertionError("no summary is needed")


def roles(dialogue: soban.Dialogue) -> str:
    return "".join(message["role"][0] for message in dialogue.messages)


def test_an_answer_is_the_last_message_when_it_has_ended(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, system="짧게", **GREEDY)
    reply = dialogue.say("안녕")
    assert roles(dialogue) == "s" and not reply.finished
    pieces = list(reply)
    assert reply.finished and reply.text == "".join(pieces) and len(pieces) > 1
    assert dialogue.messages == [
        {"role": "system", "content": "짧게"},
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": reply.text},
    ]
    assert reply.figures.finished in ("end", "length") and reply.figures.characters == len(reply.text)


def test_a_dialogue_says_what_chat_says(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    replies = spoken(dialogue, "one", "two", "three")
    for n, reply in enumerate(replies):
        told = dialogue.messages[: 2 * n + 1]
        assert chat.chat(told, **GREEDY) == reply.text
        assert "".join(chat.stream_chat(told, **GREEDY)) == reply.text
        assert chat.start_chat(told, **GREEDY).read() == reply.text


def test_later_turns_compute_only_what_is_new_also_past_the_window(chat: soban.Model) -> None:
    fresh = soban.load(chat.loaded.path)
    dialogue = soban.Dialogue(chat, system="s", **GREEDY)
    known: list[int] = []
    for n in range(8):
        reply = dialogue.say(f"turn {n}")
        reply.read()
        assert reply.window.ids[: len(known)] == known
        # the last token of an answer is never fed, and pages are found when they are full
        assert reply.figures.reused_tokens >= (len(known) - 1) // PAGE * PAGE
        known = list(reply.generation.sequences[0].tokens)
        alone = Generation(fresh, reply.window.prompt, reply.window.sampling)
        assert alone.read() == reply.text
        fresh = soban.load(chat.loaded.path) if n == 3 else fresh
    assert len(known) > 8 * 16


def letters(text: str) -> list[int]:
    """The text in tokens of the bundled model, one for each letter or byte of it."""
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(BUNDLED / "tokenizer.json")).get_vocab()
    made: list[int] = []
    for letter in text.replace(" ", "▁"):
        made += [known[letter]] if letter in known else [known[f"<0x{byte:02X}>"] for byte in letter.encode()]
    return made


def test_an_answer_keeps_the_tokens_that_the_model_wrote(story: soban.Model) -> None:
    dialogue = soban.Dialogue(story, template="alpaca")
    reply = dialogue.say("Hi")
    text = "Once upon a time there was a cat. 옛날에 고양이가 있었어요."
    odd = letters(text)
    assert odd != story.tokenizer.encode(text, bos=False)
    script = iter([*odd, *story.ends])
    reply.generation.sequences[0].sampler.choose = lambda logits: next(script)  # type: ignore[method-assign]
    assert reply.read() == text
    following = dialogue.say("And then?")
    known = [*reply.window.ids, *odd]
    assert following.window.ids[: len(known)] == known
    following.read()
    assert following.figures.reused_tokens == (len(known) - 1) // PAGE * PAGE
    # messages alone have the tokenizer's ids, whatever was computed before
    assert story.start_chat(dialogue.messages[:3], template="alpaca").sequences[0].tokens[: len(known)] != known


def test_an_answer_ends_with_what_the_template_puts_after_one(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", chat=True)
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}', encoding="utf-8")  # as base models have it
    model = soban.load(folder)
    assert model.ends == {1}
    for start in (model.start_chat([{"role": "user", "content": "hi"}]), model.start("hi")):
        script = iter([*model.tokenize("ab", bos=False), 5, *model.tokenize("more", bos=False)])
        start.sequences[0].sampler.choose = lambda logits, script=script: next(script)  # type: ignore[misc]
        assert start.read() == "ab" and start.figures.finished == "end"


def test_after_retry_and_edit_what_came_before_is_still_in_the_cache(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, max_new_tokens=12, temperature=1.0, seed=4)
    first = spoken(dialogue, "one", "two", "three " * 10)[-1]
    count = len(dialogue.messages)
    again = dialogue.retry()
    again.read()
    assert again.window.ids == first.window.ids and len(dialogue.messages) == count
    assert again.figures.reused_tokens == (len(first.window.ids) - 1) // PAGE * PAGE
    assert again.text != first.text  # another seed
    third = dialogue.retry()
    assert third.read() not in (first.text, again.text)
    edited = dialogue.edit("four")
    edited.read()
    assert dialogue.messages[-2]["content"] == "four" and len(dialogue.messages) == count
    shared = next(
        n for n, pair in enumerate(zip(edited.window.ids, first.window.ids, strict=False)) if len({*pair}) > 1
    )
    assert edited.figures.reused_tokens >= (shared - 1) // PAGE * PAGE > 0
    assert dialogue.retry().read() != edited.text


def test_retrying_without_sampling_gives_the_same_answer(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    [reply] = spoken(dialogue, "one")
    assert dialogue.retry().read() == reply.text


def test_a_stopped_answer_stays_as_far_as_it_got(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    reply = dialogue.say("one")
    for _ in reply:
        break
    reply.stop()
    assert reply.finished and dialogue.messages[-1] == {"role": "assistant", "content": reply.text} and reply.text
    assert reply.figures.finished == "cancelled" and not chat.engine.busy
    never = dialogue.say("two")
    never.stop()
    assert roles(dialogue) == "ua"
    half = dialogue.say("two")
    next(iter(half))
    spoken(dialogue, "three")  # which stops what was still being written
    assert [m["content"] for m in dialogue.messages if m["role"] == "user"] == ["one", "two", "three"]
    assert dialogue.messages[3]["content"] == half.text


def test_a_cancelled_answer_stays_as_far_as_it_got(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    reply = dialogue.say("one")
    for _ in reply:
        chat.runner.cancel[0] = 1
    chat.runner.cancel[0] = 0
    assert reply.figures.finished == "cancelled"
    assert dialogue.messages[-1] == {"role": "assistant", "content": reply.text}
    assert spoken(dialogue, "two")[0].figures.finished != "cancelled"


def test_a_turn_that_fails_leaves_all_as_it_was(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, system="s", **GREEDY)
    with pytest.raises(soban.UserError, match="nothing has been said"):
        dialogue.retry()
    spoken(dialogue, "one")
    before = json.dumps([dialogue.messages, dialogue.used, dialogue.options])
    for wrong in ("", " \n", "x" * 600, "x" * 10**6, "\ud800", 5):
        for turn in (dialogue.say, dialogue.edit):
            with pytest.raises(soban.UserError) as caught:
                turn(wrong)  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
    for options in ({"temprature": 1}, {"top_p": 2}, {"num_return_sequences": 2}, {"on_full": "x"}):
        with pytest.raises(soban.UserError):
            dialogue.change(**options)
    assert json.dumps([dialogue.messages, dialogue.used, dialogue.options]) == before
    assert spoken(dialogue, "two")[0].text


def test_a_fault_in_the_middle_of_an_answer_leaves_all_as_it_was(
    chat: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    spoken(dialogue, "one")
    reply = dialogue.say("two")
    pieces = iter(reply)
    next(pieces)

    def broken(logits: Any) -> int:
        raise soban.UserError("the model's output is not a number")

    monkeypatch.setattr(reply.generation.sequences[0].sampler, "choose", broken)
    with pytest.raises(soban.UserError, match="not a number"):
        list(pieces)
    assert roles(dialogue) == "ua" and not chat.engine.busy


def test_the_system_text_can_be_set_and_taken_away(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    assert dialogue.system is None and dialogue.used == 0
    spoken(dialogue, "one")
    dialogue.system = "s"
    assert roles(dialogue) == "sua" and dialogue.system == "s"
    dialogue.system = "t"
    assert roles(dialogue) == "sua"
    dialogue.clear()
    assert dialogue.messages == [{"role": "system", "content": "t"}]
    dialogue.strict = True  # the template takes no system text: to be told when something is said, not before
    assert dialogue.used > 0
    with pytest.raises(soban.UserError, match="no system role"):
        dialogue.say("one")
    dialogue.system = None
    assert dialogue.messages == []


@pytest.mark.parametrize("system", [None, "s"])
def test_a_cleared_conversation_begins_with_the_turns_of_a_new_one(chat: soban.Model, system: str | None) -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    dialogue = soban.Dialogue(chat, system=system, turns=turns, **GREEDY)
    start = dialogue.messages
    assert start == ([{"role": "system", "content": "s"}] if system else []) + turns
    spoken(dialogue, "one")
    dialogue.clear()
    assert dialogue.messages == start
    dialogue.system = "t"
    spoken(dialogue, "one")
    dialogue.clear()
    assert dialogue.messages == [{"role": "system", "content": "t"}, *start[1:]]


def test_used_is_what_the_conversation_takes(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    [reply] = spoken(dialogue, "one")
    # all tokens of the turn, and <end_of_turn> with its line break
    assert dialogue.used == len(reply.generation.sequences[0].tokens) + 2
    assert dialogue.context == 512


def test_options_change_between_turns(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    spoken(dialogue, "one")
    dialogue.change(max_new_tokens=3)
    assert spoken(dialogue, "two")[0].figures.new_tokens <= 3


def test_a_full_context_is_an_error_by_default(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, max_new_tokens=40)
    with pytest.raises(soban.UserError, match=r"begin a new one, .* on_full slide"):
        spoken(dialogue, *["words " * 12] * 12)
    assert dialogue.dropped == 0 and roles(dialogue).endswith("ua")


def test_the_remedy_for_what_does_not_fit_is_one_that_helps(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, system="s", **GREEDY)
    for _ in range(2):  # the first message, and a later one
        with pytest.raises(soban.UserError) as caught:
            dialogue.say("x" * 600)
        tokens = len(
            encode_chat(chat.tokenizer, chat.chat_template(), [{"role": "user", "content": "s\n\n" + "x" * 600}])
        )
        assert str(caught.value) == f"the message has {tokens} tokens, and the context holds 512; shorten it"
        spoken(dialogue, "hi")
    for text in ("x" * 512 * 300, "x" * 505):
        with pytest.raises(soban.UserError, match=r"^the message has \d+ (characters|tokens), .*; shorten it$"):
            soban.Dialogue(chat, **GREEDY).say(text)
    dialogue.change(max_new_tokens=600)
    for most in (512, 2**31 - 1):
        dialogue.change(max_new_tokens=most)
        with pytest.raises(soban.UserError, match=f"up to {most} are to follow.*; lower max_new_tokens, or"):
            dialogue.say("hi")
    dialogue.change(on_full="slide")
    assert len(dialogue.say("hi").read()) > 0  # as was promised


def test_advice_names_options_as_they_are_called_everywhere(chat: soban.Model) -> None:
    """Who reads it may be in a chat, in Python, or at the command line."""
    package = Path(soban.__file__).parent
    files = [path for room in ("model", "talk", "engine", "text/chat") for path in package.glob(f"{room}/*.py")]
    assert len(files) > 10
    for path in files:
        assert not re.search(r"--[a-z]", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("system", [None, "You are a table."])
def test_sliding_forgets_the_oldest_turns_whole(
    chat: soban.Model, caplog: pytest.LogCaptureFixture, system: str | None
) -> None:
    dialogue = soban.Dialogue(chat, system=system, temperature=0, max_new_tokens=40, on_full="slide")
    caplog.set_level(logging.WARNING)
    dropped = []
    for n in range(20):
        [reply] = spoken(dialogue, f"turn {n:02d} " + "words " * 8)
        text = chat.tokenizer.decode(reply.window.ids)
        seen = [k for k in range(20) if f"turn {k:02d}" in text]
        assert seen == list(range(dialogue.dropped, n + 1))  # whole turns, the newest always
        assert (system or "user") in text
        assert len(reply.window.ids) + 40 <= dialogue.context + 1
        assert dialogue.used <= dialogue.context
        dropped.append(dialogue.dropped)
    assert dropped == sorted(dropped) and 3 <= dropped[-1] < 19
    assert len(set(dropped)) < 8  # several at once, so that the cache stays of use in between
    assert len(dialogue.messages) == 40 + (system is not None)  # the record is whole
    assert f"{dropped[-1]} oldest turns are forgotten" in caplog.text


@pytest.mark.parametrize("most", [1, 30, 31, 32, 33, 127, 128, 129, 600, None])
@pytest.mark.parametrize("on_full", ["slide", "summarise"])
def test_no_turn_fails_for_lack_of_room_that_could_be_made(chat: soban.Model, most: int | None, on_full: str) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, max_new_tokens=most, on_full=on_full)
    for n in range(12 if most is None or most > 100 else 40):
        dialogue.say("words " * (n % 7 + 1)).read()
    assert dialogue.dropped


@pytest.mark.parametrize("seed", range(8))
def test_in_whatever_order_things_are_done_the_conversation_stays_in_order(
    chat: soban.Model, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    dialogue = soban.Dialogue(chat, on_full=chance.choice(["slide", "summarise"]), max_new_tokens=30, seed=seed)
    for n in range(60):
        text = f"{n} " + chance.choice(["words ", "한글 ", "👍🏽", "<end_of_turn>"]) * chance.randrange(1, 9)
        match chance.choice(["say"] * 6 + ["retry", "edit", "stop", "system", "change", "save", "clear"]):
            case "say":
                assert dialogue.say(text).read() == dialogue.messages[-1]["content"]
            case "retry" if dialogue.messages and dialogue.messages[-1]["role"] == "assistant":
                dialogue.retry().read()
            case "edit" if dialogue.messages and dialogue.messages[-1]["role"] == "assistant":
                dialogue.edit(text).read()
                assert dialogue.messages[-2]["content"] == text
            case "stop":
                reply = dialogue.say(text)
                for _ in zip(range(chance.randrange(4)), reply, strict=False):
                    pass
                reply.stop()
            case "system":
                dialogue.system = chance.choice([None, "짧게", "Be brief."])
            case "change":
                dialogue.change(temperature=chance.choice([0, 0.7, 2.0]), max_new_tokens=chance.randrange(1, 60))
            case "save":
                dialogue.save(tmp_path / "x.json")
                dialogue = soban.Dialogue(chat)
                dialogue.load(tmp_path / "x.json")
            case "clear" if n > 40:
                dialogue.clear()
        kinds = roles(dialogue).removeprefix("s")
        assert kinds == "ua" * (len(kinds) // 2)
        assert 0 <= dialogue.dropped <= len(kinds) // 2
        # more than the context where the system text grew, or bytes that are no text became U+FFFD: room is made later
        assert dialogue.used <= 1.5 * dialogue.context
        assert not chat.engine.busy


def test_a_message_that_fills_the_context_alone_is_refused(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, on_full="slide", **GREEDY)
    spoken(dialogue, "one", "two")
    with pytest.raises(soban.UserError, match="newest message"):
        dialogue.say("x" * 500)
    assert roles(dialogue) == "uaua" and dialogue.dropped == 0


def test_an_answer_that_fills_the_context_goes_on_after_the_oldest_turns_are_gone(
    chat: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, on_full="slide", max_new_tokens=20)
    spoken(dialogue, *["words " * 7] * 4)
    assert dialogue.used > 300 and dialogue.dropped == 0
    dialogue.change(max_new_tokens=250)
    reply = dialogue.say("more")
    prompts: list[tuple[list[int], int]] = []
    resume = chat.engine.resume

    def noted(sequence: Any, tokens: list[int]) -> None:
        prompts.append((list(tokens), sequence.produced))
        resume(sequence, tokens)

    monkeypatch.setattr(chat.engine, "resume", noted)
    text = reply.read()
    assert reply.figures.new_tokens == 250 and reply.figures.finished == "length" and dialogue.dropped > 0
    assert dialogue.messages[-1]["content"] == text
    assert dialogue.used <= dialogue.context
    # what came after is what a model writes that was given the shorter prompt in the first place
    [(prompt, produced)] = prompts
    assert chat.tokenizer.decode(prompt).endswith(text[:produced])  # a token a letter
    alone = Generation(
        soban.load(chat.loaded.path), Prompt(prompt), chat.sampling(temperature=0, max_new_tokens=250 - produced)
    )
    assert alone.read() == text[produced:]


def test_an_answer_that_fills_the_context_waits_for_a_summary(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, on_full="summarise", max_new_tokens=20)
    spoken(dialogue, *["words " * 7] * 4)
    dialogue.change(max_new_tokens=200)
    reply = dialogue.say("more")
    other = dialogue.model.start("meanwhile", max_new_tokens=400, raw=True, temperature=0)
    steps = zip(reply, other, strict=False)  # another generation shares the steps
    assert len(list(steps)) > 100
    reply.read()
    assert dialogue.summary and reply.figures.new_tokens == 200 and reply.figures.finished == "length"
    assert dialogue.messages[-1]["content"] == reply.text
    other.author.shared.engine.cancel(other.sequences[0])


def test_two_dialogues_of_one_model_are_what_each_is_alone(chat: soban.Model) -> None:
    alone = [[reply.text for reply in spoken(soban.Dialogue(chat, **GREEDY), *texts)] for texts in ("ab", "xy")]
    two = [soban.Dialogue(chat, **GREEDY) for _ in range(2)]
    for turn in range(2):
        replies = [dialogue.say("abxy"[2 * n + turn]) for n, dialogue in enumerate(two)]
        while any([next(iter(reply), "") for reply in replies]):
            pass
        assert [reply.text for reply in replies] == [texts[turn] for texts in alone]


def test_an_answer_that_is_longer_than_the_context_ends(chat: soban.Model, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, on_full="slide")
    spoken(dialogue, "one")
    assert dialogue.messages[-1]["content"]
    reply = dialogue.say("two")
    reply.read()
    assert reply.figures.finished in ("context", "end")
    if reply.figures.finished == "context":
        assert "this one answer" in caplog.text


@pytest.mark.parametrize("system", [None, "You are a table."])
def test_a_summary_by_the_model_stands_for_what_is_forgotten(
    chat: soban.Model, caplog: pytest.LogCaptureFixture, system: str | None
) -> None:
    dialogue = soban.Dialogue(chat, system=system, temperature=0, max_new_tokens=40, on_full="summarise")
    for n in range(14):
        [reply] = spoken(dialogue, f"turn {n:02d} " + "words " * 8)
        text = chat.tokenizer.decode(reply.window.ids)
        assert (system or "user") in text
        if dialogue.dropped:
            assert dialogue.summary and f"Summary of the conversation so far: {dialogue.summary}" in text
        assert [k for k in range(20) if f"turn {k:02d}" in text] == list(range(dialogue.dropped, n + 1))
    assert dialogue.dropped and "a summary stands" in caplog.text


def test_the_summary_is_asked_for_where_the_turns_are_in_the_cache(
    chat: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Generation] = []
    original = Generation.__init__

    def noted(self: Generation, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        asked.append(self)

    monkeypatch.setattr(Generation, "__init__", noted)
    monkeypatch.setattr(window, "ASKED", ("Summarise it.", "요약해 줘."))  # to fit beside the turns, a token a letter
    dialogue = soban.Dialogue(chat, temperature=0, max_new_tokens=40, on_full="summarise")
    while not dialogue.dropped:
        asked.clear()
        spoken(dialogue, f"{len(dialogue.messages)} words " * 5)
    summary, answer = asked
    figures = summary.figures
    assert figures.prompt_tokens > 100 and figures.reused_tokens > 0.5 * figures.prompt_tokens
    assert "Summarise it." in chat.tokenizer.decode(summary.sequences[0].request.prompt)
    assert dialogue.summary in chat.tokenizer.decode(answer.sequences[0].request.prompt)


def test_a_korean_conversation_is_summarised_in_korean(chat: soban.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    original = Generation.__init__

    def noted(self: Generation, *args: Any, **named: Any) -> None:
        prompts.append(chat.tokenizer.decode(args[1].ids))
        original(self, *args, **named)

    monkeypatch.setattr(Generation, "__init__", noted)
    dialogue = soban.Dialogue(chat, temperature=0, max_new_tokens=20, on_full="summarise")
    while not dialogue.dropped:
        prompts.clear()
        spoken(dialogue, "고양이가 방석에 앉았어요. ")
    assert "요약해 줘" in prompts[0]


def test_a_chat_slides_too(chat: soban.Model) -> None:
    told = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n:02d} " + "words " * 8} for n in range(21)]
    with pytest.raises(soban.UserError, match="on_full slide"):
        chat.chat(told, **GREEDY)
    generation = chat.start_chat(told, on_full="slide", **GREEDY)
    text = chat.tokenizer.decode(generation.sequences[0].request.prompt)
    assert "turn 20" in text and "turn 00" not in text and generation.read()
    with pytest.raises(soban.UserError, match="conversations"):
        chat.generate("a", on_full="summarise")


def test_several_answers_slide_each_by_themselves(chat: soban.Model) -> None:
    told = [{"role": ("user", "assistant")[n % 2], "content": "words " * 8} for n in range(11)]
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_new_tokens": 150, "on_full": "slide"}
    several = chat.chat(told, num_return_sequences=2, **options)
    assert len(several) == 2 and several[0] != several[1]
    assert several[0] == chat.chat(told, **options)
    assert not chat.engine.busy and not any(chat.engine.blocks.users)


def test_several_answers_wait_for_one_summary_and_the_first_is_what_it_is_alone(chat: soban.Model) -> None:
    told = [{"role": ("user", "assistant")[n % 2], "content": "words " * 8} for n in range(7)]
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_new_tokens": 150, "on_full": "summarise"}
    several = chat.start_chat(told, num_return_sequences=2, **options)
    texts = several.read()
    assert several.window and several.window.summary and several.figures.new_tokens > 100
    assert texts[0] != texts[1] and texts[0] == chat.chat(told, **options)
    assert not chat.engine.busy and not any(chat.engine.blocks.users)


def test_a_window_asks_no_model_and_takes_any_summary_for_what_goes(chat: soban.Model) -> None:
    told = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n:02d} " + "w " * 20} for n in range(9)]
    window = Window(chat, chat.chat_template(), told, chat.sampling(), "summarise")
    answer = chat.tokenize("as far as it got", bos=False)
    room = window.refill(answer)
    question = next(room)
    asked = chat.detokenize(question.prompt.ids)
    assert window.dropped == 0 and question.prompt.form == window.prompt.form
    assert "turn 00" in asked and "turn 08" not in asked and asked.rstrip().endswith("summary.\nmodel")
    with pytest.raises(StopIteration) as done:
        room.send(" They spoke of turns. ")
    seen = chat.detokenize(done.value.value)
    assert window.summary == "They spoke of turns." and "so far: They spoke of turns.\n" in seen
    assert seen.endswith("as far as it got") and "turn 00" not in seen and "turn 08" in seen


def test_an_answer_is_cancelled_at_once_while_it_waits_for_a_summary(
    chat: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, on_full="summarise", max_new_tokens=20)
    spoken(dialogue, *["words " * 7] * 4)
    dialogue.change(max_new_tokens=200)
    reply = dialogue.say("more")
    begin = chat.shared.begin

    def begun(*given: Any) -> None:
        begin(*given)
        if reply.generation.summary:
            reply.cancel()

    monkeypatch.setattr(chat.shared, "begin", begun)
    text = reply.read()
    assert reply.figures.finished == "cancelled" and not dialogue.summary and 0 < reply.figures.new_tokens < 200
    assert dialogue.messages[-1]["content"] == text
    assert not chat.engine.busy and not any(chat.engine.blocks.users)


def test_a_turn_is_cancelled_while_its_summary_is_written_and_nothing_is_said(
    chat: soban.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = soban.Dialogue(chat, temperature=0, on_full="summarise", max_new_tokens=40)
    while dialogue.used < 400:
        spoken(dialogue, "words " * 5)
    before = json.dumps(dialogue.messages)
    begin = chat.shared.begin

    def begun(*given: Any) -> None:
        begin(*given)
        dialogue.cancel()

    monkeypatch.setattr(chat.shared, "begin", begun)
    with pytest.raises(Cancelled):
        dialogue.say("more " * 5)
    monkeypatch.undo()
    assert json.dumps(dialogue.messages) == before and not dialogue.dropped and not chat.engine.busy
    assert dialogue.say("more " * 5).read() and dialogue.summary


@pytest.mark.parametrize(
    "wrong", [[], "hi", {"role": "user"}, ["hi"], [{"content": "x"}], [{"role": "user", "content": {1}}]]
)
def test_what_is_no_conversation_is_refused_in_one_line(chat: soban.Model, wrong: Any) -> None:
    with pytest.raises(soban.UserError) as caught:
        chat.chat(wrong)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_template_is_told_so_once_and_chats_plainly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    story = soban.load(make_model(tmp_path, max_position_embeddings=512))
    dialogue = soban.Dialogue(story, system="A story.", temperature=0, max_new_tokens=20)
    [reply] = spoken(dialogue, "Who was Lily?")
    text = story.tokenizer.decode(reply.window.ids)
    assert text == "A story.\n\nUser: Who was Lily?\n\nAssistant:"
    assert reply.window.ids[0] == story.tokenizer.bos_id and reply.window.ids.count(story.tokenizer.bos_id) == 1
    spoken(dialogue, "And then?")
    assert caplog.text.count("no chat template") <= 1
    assert "User:" not in reply.text


def test_a_conversation_is_saved_and_taken_up_again(chat: soban.Model, tmp_path: Path) -> None:
    path = tmp_path / "대화 기록.json"
    dialogue = soban.Dialogue(chat, system="짧게", template="chatml", on_full="slide", stop=["q", "zz"], **GREEDY)
    spoken(dialogue, "하나 👍🏽", "둘")
    dialogue.save(path)
    assert "하나 👍🏽" in path.read_text(encoding="utf-8") and list(tmp_path.iterdir()) == [path]
    other = soban.Dialogue(chat)
    other.load(path)
    assert other.messages == dialogue.messages and other.system == "짧게" and other.template == "chatml"
    assert other.used == dialogue.used
    [one], [two] = spoken(dialogue, "셋"), spoken(other, "셋")
    assert one.text == two.text
    other.save(path)  # over the first
    path.write_text('[{"role": "user", "content": "hi"}]', encoding="utf-8")
    other.load(path)
    assert other.messages == [{"role": "user", "content": "hi"}]


WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "another kind": b"3",
    "another format": b'{"format": "x", "messages": []}',
    "no messages": b'{"format": "soban conversation 1"}',
    "unknown keys": b'{"format": "soban conversation 1", "messages": [], "x": 1}',
    "a wrong message": b'["hi"]',
    "no content": b'[{"role": "user"}]',
    "content that is no text": b'[{"role": "user", "content": ["x"]}]',
    "a role": b'[{"role": "root", "content": "x"}]',
    "a late system": b'[{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]',
    "half a character": b'[{"role": "user", "content": "\\ud800"}]',
    "too much dropped": b'{"format": "soban conversation 1", "messages": [], "dropped": 1}',
    "a wrong option": b'{"format": "soban conversation 1", "messages": [], "options": {"x": 1}}',
    "a wrong value": b'{"format": "soban conversation 1", "messages": [], "options": {"top_p": "x"}}',
    "a wrong template": b'{"format": "soban conversation 1", "messages": [], "template": "nope"}',
    "depth": b"[" * 100_000,
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
def test_a_file_that_is_no_conversation_is_refused_in_one_line(
    chat: soban.Model, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    dialogue = soban.Dialogue(chat, **GREEDY)
    spoken(dialogue, "one")
    before = (dialogue.messages, dialogue.options, dialogue.template)
    with pytest.raises(soban.UserError) as caught:
        dialogue.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert (dialogue.messages, dialogue.options, dialogue.template) == before


def test_what_cannot_be_read_or_written_is_said_in_one_line(chat: soban.Model, tmp_path: Path) -> None:
    dialogue = soban.Dialogue(chat)
    for place in (tmp_path / "no" / "x.json", tmp_path, tmp_path / "a\0b"):
        for act in (dialogue.save, dialogue.load):
            with pytest.raises(soban.UserError) as caught:
                act(place)
            assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_more_turns_are_forgotten_than_half_the_context_takes(chat: soban.Model) -> None:
    template = chat.chat_template()
    told = [{"role": ("user", "assistant")[n % 2], "content": "x" * 40} for n in range(21)]
    fitted = Window(chat, template, told, chat.sampling(), "slide").fit(unasked)
    more = Window(chat, template, told, chat.sampling(), dropped=fitted.dropped - 1).fit(unasked)
    assert len(fitted.ids) <= chat.engine.context // 2 < len(more.ids)


def test_a_stop_string_ends_an_answer(story: soban.Model) -> None:
    told = [{"role": "user", "content": "Tell me a story."}]
    free = str(story.chat(told, temperature=0, max_new_tokens=60))
    word = free.split()[3]
    cut = story.start_chat(told, temperature=0, max_new_tokens=60, stop=word)
    assert cut.read() == free[: free.index(word)] and cut.figures.finished == "stop"


@pytest.mark.parametrize("model", [None, "gemma", 3])
def test_what_is_no_model_is_told(model: Any) -> None:
    with pytest.raises(
        soban.UserError, match=rf"^the model is of type {type(model).__name__}; give what soban\.load\("
    ):
        soban.Dialogue(model)


def test_what_is_of_the_wrong_type_is_told_and_leaves_all_as_it_was(chat: soban.Model) -> None:
    dialogue = soban.Dialogue(chat, **GREEDY)
    spoken(dialogue, "one")
    wrong: dict[str, Callable[[Any], object]] = {
        "path": dialogue.save, " path": dialogue.load, "message": dialogue.say, " message": dialogue.edit,
        "template": lambda value: soban.Dialogue(chat, template=value),
        " template": lambda value: chat.chat([{"role": "user", "content": "hi"}], template=value),
    }  # fmt: skip
    for name, call in wrong.items():
        for value in (3, ["a"], b"a"):
            with pytest.raises(soban.UserError, match=f"^the {name.strip()} is of type {type(value).__name__}; give "):
                call(value)
    for place in ("", "/", "."):
        with pytest.raises(soban.UserError, match="a folder, where a file is expected"):
            dialogue.save(place)
    with pytest.raises(soban.UserError, match="content of a message is of type int; give text"):
        chat.chat([{"role": "user", "content": 3}])
    assert roles(dialogue) == "ua"
