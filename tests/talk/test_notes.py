"""What is to be told about a text belongs to its request: each has its own, and whoever asked is shown them."""

from collections.abc import Iterator

import pytest

import soban
from soban import messages

from ..tiny import make_model, write_ascii_weights

SYSTEM = "the model has no system role"
LONG = {"min_new_tokens": 100}
FULL = "the context of 64 tokens is full, so the text ends here"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    folder = make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=64)
    write_ascii_weights(folder)
    return soban.load(folder)


@pytest.fixture(autouse=True)
def said_anew() -> Iterator[None]:
    messages._once.cache_clear()
    yield
    messages._once.cache_clear()


def test_requests_that_run_together_have_each_their_own_notes(
    model: soban.Model, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[tuple[str, str]] = []
    first, second, third = (
        model.start("hi", temperature=0, show=lambda text, name=name: shown.append((name, text)), **options)  # type: ignore[misc]
        for name, options in (
            ("a", {"system": "s", **LONG}),
            ("b", {"raw": True, **LONG}),
            ("c", {"max_new_tokens": 3, "raw": True}),
        )
    )
    texts = [iter(generation) for generation in (first, second, third)]
    while any([next(text, None) for text in texts]):
        pass
    assert [note.startswith(SYSTEM) for note in first.notes] == [True, False] and first.notes[1].startswith(FULL)
    assert len(second.notes) == 1 and second.notes[0].startswith(FULL) and not third.notes
    assert sorted(shown) == sorted([*(("a", note) for note in first.notes), *(("b", note) for note in second.notes)])
    assert not caplog.text


def test_where_nobody_is_named_the_log_says_each_note_once_and_every_request_has_it(
    model: soban.Model, caplog: pytest.LogCaptureFixture
) -> None:
    generations = [model.start("hi", system="s", temperature=0, max_new_tokens=2) for _ in range(3)]
    assert [len(generation.notes) for generation in generations] == [1, 1, 1]
    assert caplog.text.count(SYSTEM) == 1


def test_a_turn_of_a_conversation_has_its_notes_and_shows_them_as_they_come_up(model: soban.Model) -> None:
    shown: list[str] = []
    dialogue = soban.Dialogue(model, system="s", temperature=0, max_new_tokens=4, on_full="slide", show=shown.append)
    replies = []
    for _ in range(4):
        replies.append(dialogue.say("word"))
        replies[-1].read()
    assert shown == [note for reply in replies for note in reply.notes]
    assert all(reply.notes[0].startswith(SYSTEM) for reply in replies)
    assert any("oldest turns are forgotten" in note for reply in replies for note in reply.notes)


def test_what_no_request_asked_for_is_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with messages.heard_by(lambda text: None):
        messages.warn("fetching {model} from the hub: {id}", model="x", id="y")
    assert not caplog.text
    messages.warn("fetching {model} from the hub: {id}", model="x", id="y")
    assert "fetching x" in caplog.text
