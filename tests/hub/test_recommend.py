"""Advice on models: what fits, in which form, in which order, and why the others do not."""

import math

import pytest

from soban.hub import catalogue
from soban.hub.catalogue import Benchmark, Entry
from soban.hub.recommend import FORMS, SHARE, WORKSPACE, Wish, fit, recommend
from soban.models import FAMILIES
from soban.ops import formats

BENCHMARKS = {"Ko": Benchmark("Ko", "ko", 10.0), "World": Benchmark("World", "en", 100.0)}
GB = 1_000_000_000


def model(name: str, billions: float, **facts: object) -> Entry:
    given = {"kind": "chat", "repository": f"o/{name.replace(':', '-')}", "model_type": "llama", "commercial": "yes",
             "cache": (10, 2, 64), "context": 8192, **facts}  # fmt: skip
    return Entry(name=name, title=name, parameters=round(billions * 1e9), **given)  # type: ignore[arg-type]


def advise(*entries: Entry, memory: float = 8, **wish: object) -> list[str]:
    made = recommend(entries, Wish(round(memory * GB), **wish), {"llama"}, BENCHMARKS)  # type: ignore[arg-type]
    return [one.entry.name for one in made.fits]


def test_at_most_three_are_named_the_largest_first_one_of_a_series() -> None:
    entries = [
        model("a1:1b", 1),
        model("b:2b", 2),
        model("c:3b", 3),
        model("d:4b", 4),
        model("a2:2b", 2.5),
        model("a:3b", 2.6),
    ]
    assert advise(*entries) == ["d:4b", "c:3b", "a:3b"]


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    made = recommend([model("a:7b", 7), model("b:70b", 70)], Wish(8 * GB), {"llama"}, BENCHMARKS)
    assert [one.entry.name for one in made.fits] == ["a:7b"] and made.fits[0].form == "q4"
    assert made.against == {"memory": 1}


def test_eight_bits_are_taken_where_they_fit_and_four_where_not() -> None:
    forms = {billions: fit(model("a:1b", billions), Wish(8 * GB)) for billions in (1.0, 5.0, 6.0, 8.0, 9.0)}
    assert {billions: made and made.form for billions, made in forms.items()} == {
        1.0: "q8", 5.0: "q8", 6.0: "q4", 8.0: "q4", 9.0: None,
    }  # fmt: skip
    assert fit(model("a:10b", 10), Wish(64 * GB)).form == "q4"  # type: ignore[union-attr]  # 8 bits would be slow


def test_small_memories_are_shared_with_the_system() -> None:
    rooms = {memory: Wish(round(memory * GB)).room / GB for memory in (0, 1, 2, 3, 4, 8, 16)}
    assert rooms == {0: 0, 1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0, 8: 6.0, 16: 14.0}
    assert advise(model("a:135m", 0.135), model("b:2b", 2), memory=2) == ["a:135m"]


def test_what_this_pc_writes_as_fast_as_people_read_comes_first_and_of_the_rest_the_fastest() -> None:
    entries = [model("a:27b", 27, scores=(("Ko", 9.0),)), model("b:9b", 9, scores=(("Ko", 8.0),)),
               model("c:2b", 2, scores=(("Ko", 5.0),)), model("d:1b", 1, scores=(("Ko", 1.0),))]  # fmt: skip
    for bandwidth, names in (
        (200e9, ["a:27b", "b:9b", "c:2b"]), (25e9, ["b:9b", "c:2b", "d:1b"]), (10e9, ["c:2b", "d:1b", "b:9b"]),
        (1e9, ["d:1b", "c:2b", "b:9b"]), (None, ["b:9b", "c:2b", "d:1b"]),
    ):  # fmt: skip
        assert advise(*entries, memory=64, language="ko", bandwidth=bandwidth) == names, bandwidth


def test_the_speed_is_what_reading_all_weights_for_each_token_gives() -> None:
    made = fit(model("a:1b", 1), Wish(8 * GB, bandwidth=20e9))
    assert made is not None and made.speed == pytest.approx(SHARE * 20e9 / made.weights) and made.fluent


def test_the_context_counts_with_two_bytes_a_number() -> None:
    short, long = (fit(model("a:1b", 1), Wish(8 * GB, context=tokens)) for tokens in (1024, 8192))
    assert short is not None and long is not None
    assert short.cache == 1024 * 10 * 2 * (2 * 64) * 2 and long.bytes - short.bytes == 7 * short.cache
    beyond = fit(model("a:1b", 1, context=512), Wish(8 * GB, context=4096))
    assert beyond is not None and beyond.context == 512


def test_a_context_that_is_asked_for_has_to_be_held_where_the_models_is_known() -> None:
    entries = [model("a:1b", 1, context=2048), model("b:1b", 1, context=8192), model("c:1b", 1, context=None)]
    asked = recommend(entries, Wish(8 * GB, context=4096, insists=True), {"llama"}, BENCHMARKS)
    assert {one.entry.name for one in asked.fits} == {"b:1b", "c:1b"} and asked.against == {"context": 1}
    assert len(advise(*entries)) == 3


def test_an_unknown_cache_is_said_to_be_unknown() -> None:
    made = fit(model("a:1b", 1, cache=None), Wish(8 * GB))
    assert made is not None and made.cache is None and made.bytes == made.weights + WORKSPACE


def test_the_bytes_of_a_weight_are_those_that_packing_takes() -> None:
    """Gemma 2 2B by its shapes, in the formats that packing chooses for them."""
    width, inner, size = 2304, 9216, 256

    def packed(rows: int, columns: int, format: str) -> int:
        return formats.stored_bytes(format, rows, columns)

    layer = {"q": (8 * size, width), "k": (4 * size, width), "v": (4 * size, width), "o": (width, 8 * size),
             "gate": (inner, width), "up": (inner, width), "down": (width, inner)}  # fmt: skip
    small = {"q8": packed(256000, width, "q8"), "q4": 2 * packed(256000, width, "q4")}
    for form, vocabulary in small.items():
        body = sum(packed(*shape, "q8" if name == "v" else form) for name, shape in layer.items())
        exact = (vocabulary + 26 * body) / 2614341888
        assert math.isclose(FORMS[form], exact, rel_tol=0.02)


def test_commercial_use_has_to_be_allowed_or_at_least_possible() -> None:
    entries = [
        model("a:1b", 1), model("b:1b", 2, commercial="no"), model("c:1b", 3, commercial=None),
        model("d:1b", 1.5, commercial="conditions"),
    ]  # fmt: skip
    assert advise(*entries, commercial=True) == ["d:1b", "a:1b"]
    made = recommend(entries, Wish(8 * GB, commercial=True), {"llama"}, BENCHMARKS)
    assert made.against == {"commercial": 1, "unknown licence": 1}


def test_a_language_is_known_by_its_makers_or_by_a_published_score() -> None:
    entries = [
        model("a:1b", 1, languages=("ko",)), model("b:3b", 3, languages=("en",)),
        model("c:2b", 2, languages=("en",), scores=(("Ko", 6.0),)), model("d:2b", 2.5, scores=(("World", 90.0),)),
        model("e:2b", 2.9, scores=(("Ko", 4.0),)),
    ]  # fmt: skip
    assert advise(*entries, language="ko") == ["c:2b", "a:1b", "e:2b"]


def test_where_no_language_is_known_it_is_said_and_not_looked_at() -> None:
    entries = [model("a:1b", 1, languages=("en",)), model("b:2b", 2, languages=("ko",), model_type="other")]
    made = recommend(entries, Wish(8 * GB, language="ko"), {"llama"}, BENCHMARKS)
    assert [one.entry.name for one in made.fits] == ["a:1b"] and not made.language_known
    assert [entry.name for entry in made.waiting] == ["b:2b"]


def test_models_without_an_engine_wait_and_are_no_advice() -> None:
    made = recommend(
        [model("a:1b", 1, model_type="new"), model("b:1b", 1, model_type=None)], Wish(8 * GB), {"llama"}, {}
    )
    assert not made.fits and [entry.name for entry in made.waiting] == ["a:1b", "b:1b"]


@pytest.mark.parametrize("form", ["pickle", "delta"])
def test_forms_that_soban_does_not_read_are_no_advice(form: str) -> None:
    made = recommend([model("a:1b", 1, form=form)], Wish(8 * GB), {"llama"}, {})
    assert not made.fits and made.against == {"form": 1}


def test_every_model_of_the_catalogue_is_named_counted_or_waiting() -> None:
    for memory in (0, 1, 4, 8, 16, 64, 512):
        for language in (None, "ko", "en", "xx"):
            for task in ("chat", "summary", "story", "write"):
                for commercial in (False, True):
                    wish = Wish(memory * GB, task, language, commercial)
                    made = recommend(catalogue.entries(), wish, FAMILIES, catalogue.benchmarks())
                    told = len(made.fits) + sum(made.against.values()) + len(made.waiting)
                    assert told == len(catalogue.entries())
                    assert len(made.fits) <= 3 and all(one.bytes <= wish.room for one in made.fits)


def test_a_korean_chat_on_eight_gigabytes_is_qwens_then_gemmas() -> None:
    wish = Wish(8 * GB, "chat", "ko", True)
    made = recommend(catalogue.entries(), wish, FAMILIES, catalogue.benchmarks())
    assert [(one.entry.name, one.form) for one in made.fits[:2]] == [("qwen2.5:7b", "q4"), ("gemma2:2b", "q8")]
    made = recommend(catalogue.entries(), wish, FAMILIES.keys() - {"qwen2"}, catalogue.benchmarks())
    assert "qwen2.5:1.5b" in [entry.name for entry in made.waiting]  # knows Korean, and will do once it has an engine
