"""Characters that a vocabulary lacks become what the tokenizers library makes of them, with every kind of model."""

import random
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.text import kinds

tokenizers = pytest.importorskip("tokenizers")


def test_every_model_gives_the_librarys_ids_for_what_it_lacks(tmp_path: Path) -> None:
    compared = refused = 0
    for n, (name, told) in enumerate(kinds.kinds(dice := random.Random(7))):
        folder = kinds.write(tmp_path / str(n), told)
        judge = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        ours = load_tokenizer(folder, {})
        for _ in range(25):
            text = kinds.text(dice)
            try:
                ids = judge.encode(text, add_special_tokens=False).ids
            except Exception:
                with pytest.raises(UserError, match=r"tokenizer\.json.*(unk|UNK)"):
                    ours.encode(text, bos=False)
                refused += 1
                continue
            assert ours.encode(text, bos=False) == ids == ours.encode(text, bos=False, special=True), (name, text)
            compared += 1
    assert compared > 2500 and refused > 30


def test_the_unknown_piece_is_never_spelled_out_and_others_are(tmp_path: Path) -> None:
    told = kinds.state(kinds.unigram(random.Random(1)), "<unk>", "<s>", "</s>")
    told["model"]["vocab"] += [[piece, -9.0] for piece in "<>/unk"]
    ours = load_tokenizer(kinds.write(tmp_path / "unigram", told), {})
    ids = {piece: n for n, (piece, _) in enumerate(told["model"]["vocab"])}
    assert ours.encode("a쀍日b") == [ids["a"], 0, ids["b"]]
    assert ours.encode("</s>") == [ids[letter] for letter in "</s>"]
    # what nothing spells is unknown
    told = kinds.state(kinds.wordlevel(), "<unk>", "<s>", "</s>", pre_tokenizer={"type": "WhitespaceSplit"})
    ours = load_tokenizer(kinds.write(tmp_path / "words", told), {})
    ids = told["model"]["vocab"]
    assert ours.encode("the <s> cat") == [ids["the"], 2, ids["s"], 2, ids["cat"]]


def test_what_only_training_draws_at_random_is_off(tmp_path: Path) -> None:
    dice = random.Random(3)
    text = "".join(kinds.text(dice) for _ in range(40))
    for n, (told, chance) in enumerate(
        (
            (kinds.state(kinds.bpe(dice)), {"dropout": 0.5}),
            (kinds.state(kinds.unigram(dice)), {"alpha": 0.5, "nbest_size": -1}),
        )
    ):
        steady = load_tokenizer(kinds.write(tmp_path / f"{n}", told), {}).encode(text)
        told["model"] |= chance
        drawn = load_tokenizer(kinds.write(tmp_path / f"{n} drawn", told), {})
        assert all(drawn.encode(text) == steady for _ in range(5))


def test_a_vocabulary_without_letters_keeps_its_bos_in_front(tmp_path: Path) -> None:
    parts = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    named = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": named}
    model = kinds.bpe(random.Random(2), unk=None) | {"vocab": {"x": 0, "<s>": 1}, "merges": []}
    ours = load_tokenizer(kinds.write(tmp_path, kinds.state(model, "<s>", post_processor=processor)), {})
    assert ours.encode("ax") == [1, 0]
