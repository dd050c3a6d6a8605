"""What models, conversations and replies say of themselves, and with how many threads a model computes."""

from pathlib import Path

import pytest

import soban

from .tiny import make_model, write_ascii_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    folder = make_model(tmp_path_factory.mktemp("models") / "small", chat=True)
    write_ascii_weights(folder)
    return soban.load(folder, threads=2)


def test_a_reply_that_is_printed_is_its_answer_and_one_that_is_looked_at_is_not_read(model: soban.Model) -> None:
    talk = soban.Dialogue(model, temperature=0, max_new_tokens=6)
    reply = talk.say("hi")
    assert repr(reply) == "<soban Reply: 0 characters, not read to its end>" and not reply.finished
    assert str(reply) == f"{reply}" == reply.text == reply.read() != ""
    assert repr(reply) == f"<soban Reply: {len(reply.text)} characters, length>"


def test_a_model_and_a_conversation_say_what_they_are(model: soban.Model) -> None:
    assert repr(model) == "<soban.Model: 'small' as f32, 128 tokens of context>"
    talk = soban.Dialogue(model, system="s")
    assert repr(talk) == f"<soban.Dialogue: 1 messages, 0 turns forgotten, with {model!r}>"


def test_a_model_computes_with_the_threads_that_are_asked_for(model: soban.Model, tmp_path: Path) -> None:
    other = soban.load(model.loaded.path, threads=1)
    if hasattr(model.runner, "pool"):
        assert (model.runner.pool.threads, other.runner.pool.threads) == (2, 1)
    options = {"max_new_tokens": 9, "seed": 1, "temperature": 1.0}
    assert model.generate("a", **options) == other.generate("a", **options)  # type: ignore[arg-type]
    for wrong in (0, 10**6, "2", True):
        with pytest.raises(soban.UserError, match="threads="):
            soban.load(model.loaded.path, threads=wrong)  # type: ignore[arg-type]


def test_an_empty_prompt_begins_a_text_where_a_base_model_has_a_token_for_beginnings(tmp_path: Path) -> None:
    base = soban.load(make_model(tmp_path / "base"))
    assert base.start("").sequences[0].tokens == [base.tokenizer.bos_id]
    generation = base.start("", max_new_tokens=5, min_new_tokens=5)
    generation.read()
    assert generation.figures.new_tokens == 5


def test_the_scores_of_a_long_text_are_those_of_its_tokens_one_by_one(model: soban.Model) -> None:
    ids = model.tokenize("Once upon a time " * 7)[:120]
    whole = model.logits(ids)
    assert whole.shape == (120, 264) and (model.logits(ids[:50]) == whole[:50]).all()
