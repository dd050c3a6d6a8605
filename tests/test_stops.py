"""Stop texts that spell a token: those that do end the answer at it, those that only look like one are told."""

import pytest

from soban import messages
from soban.model import Model, load

from . import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tiny.make_model(tmp_path_factory.mktemp("models") / "chat", chat=True)
    tiny.write_ascii_weights(folder)
    return load(folder)


def test_a_stop_text_that_looks_like_a_token_is_told_with_the_near_match(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        messages, "warn", lambda template, **fields: told.append(messages.translate(template, **fields))
    )
    model.generate("hi", stop=["<|end_of_turn|>"], max_new_tokens=1)
    assert told == ["stop: <|end_of_turn|> is no token of this model, so it never ends an answer; <end_of_turn> is one"]
    model.chat([{"role": "user", "content": "hi"}], stop="<|eos|>", max_new_tokens=1)
    assert len(told) == 2 and told[1].endswith("<eos> is one")
    model.generate("hi", stop=["END", "<start_of_turn>", "</answer>"], max_new_tokens=1)
    assert len(told) == 2


def test_a_stop_text_that_is_a_token_ends_the_answer_at_it(model: Model) -> None:
    start = tiny.SPECIAL.index("<start_of_turn>")
    ends = [model.start("hi", stop=stop).sequences[0].request.ends for stop in ("<start_of_turn>", "END", "a<eos>")]
    assert [start in those for those in ends] == [True, False, False]
    # the token itself is never text, so as a text it would never be found
    assert model.tokenizer.token_bytes(start) == b""
