"""Stop texts that spell a token: those that do end the answer at it, those that only look like one are told."""

import random

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


def test_texts_and_tokens_in_any_mixture_stop_where_transformers_stops(model: Model) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(model.loaded.path)
    dice = random.Random(7)
    written = ["<start_of_turn>", "<unk>", "<pad>", "a", "b", "\n"]
    ids = {text: model.tokenizer.encode(text, bos=False, special=True)[0] for text in written}
    (prompt,) = model.tokenizer.encode("c", bos=False)
    found = 0
    for _ in range(60):
        stop = "".join(dice.choices(written, k=dice.randint(1, 3)))
        if dice.random() < 0.3:
            stop = stop[dice.randrange(len(stop)) :]  # from the middle of a token's text
        tokens = [ids[text] for text in dice.choices(written, k=14)]
        if ids.get(stop) in tokens[:-1] and stop in tiny.SPECIAL:
            continue  # a token that ends the answer: see above
        criterion = transformers.StopStringCriteria(theirs, [stop])
        ends = [n for n in range(1, 15) if criterion(torch.tensor([[prompt, *tokens[:n]]]), None)[0]]
        generation = model.start("c", raw=True, stop=stop, max_new_tokens=14)
        script = iter(tokens)
        generation.sequences[0].sampler.choose = lambda logits, script=script: next(script)  # type: ignore[method-assign]
        generation.read()
        assert len(tokens) - len(list(script)) == (ends or [14])[0], (stop, tokens)
        found += generation.figures.finished == "stop"
    assert found > 15
