"""The library: soban.load() and what its Model does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban

from .tiny import make_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return soban.load(make_model(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return soban.load(make_model(tmp_path_factory.mktemp("chat"), chat=True))


def test_a_base_model_goes_on_with_the_prompt_and_a_chat_model_answers(base: soban.Model, chat: soban.Model) -> None:
    assert str(base.generate("시작 ", max_new_tokens=5, seed=1)).startswith("시작 ")
    assert not str(base.generate("시작 ", max_new_tokens=5, seed=1, echo=False)).startswith("시작 ")
    assert "질문" not in str(chat.generate("질문", max_new_tokens=5, seed=1))
    assert str(chat.generate("질문", max_new_tokens=5, seed=1, raw=True)).startswith("질문")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """A model that goes on with prompts, and answers in conversations."""
    folder = make_model(tmp_path_factory.mktemp("both"), chat=True)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"continue_prompt": True}
    path.write_text(json.dumps(settings), encoding="utf-8")
    return soban.load(folder)


def test_a_model_that_was_taught_both_goes_on_with_prompts_and_answers_messages(
    both: soban.Model, chat: soban.Model
) -> None:
    turns = [{"role": "user", "content": "옛날"}]
    assert both.prompt_ids("옛날") == both.tokenizer.encode("옛날") != chat.prompt_ids("옛날")
    assert str(both.generate("옛날", max_new_tokens=5, seed=1)).startswith("옛날")
    assert both.start_chat(turns).sequences[0].tokens == chat.prompt_ids("옛날")
    assert "옛날" not in str(both.chat(turns, max_new_tokens=5, seed=1))
    assert soban.Dialogue(both).say("옛날").window.ids == chat.prompt_ids("옛날")
    # a system text makes it a conversation
    assert both.prompt_ids("옛날", system="짧게") == chat.prompt_ids("옛날", system="짧게")
    assert "옛날" not in str(both.generate("옛날", system="짧게", max_new_tokens=5, seed=1))


def test_so_it_does_with_run_c_s_flags(both: soban.Model) -> None:
    from soban.cli import llama2c

    shape: dict[str, Any] = {"raw": False, "echo": None, "steps": 20, "sampling": {"seed": 3}}
    assert str(llama2c.start(both, "옛날", system=None, **shape).read()).startswith("옛날")
    begun = llama2c.start(both, "", system=None, **shape)
    assert begun.sequences[0].tokens == [both.tokenizer.bos_id]


def test_transformers_loads_a_model_that_was_taught_both(both: soban.Model) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs: Any = AutoModelForCausalLM.from_pretrained(both.loaded.path)
    tokenizer: Any = AutoTokenizer.from_pretrained(both.loaded.path)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False
    )
    assert ids == both.start_chat([{"role": "user", "content": "Hi"}]).sequences[0].tokens
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False)
    assert written.shape[1] <= len(ids) + 4 and theirs.generation_config.continue_prompt is True


def test_the_pieces_of_a_stream_are_the_text(base: soban.Model) -> None:
    whole = base.generate("한", max_new_tokens=60, do_sample=True, seed=5)
    assert "".join(base.stream("한", max_new_tokens=60, do_sample=True, seed=5)) == whole


def test_the_same_seed_gives_the_same_text_on_any_number_of_threads(base: soban.Model, tmp_path: Path) -> None:
    folder = base.loaded.path
    want = base.generate("a", max_new_tokens=40, do_sample=True, seed=9)
    assert want == base.generate("a", max_new_tokens=40, do_sample=True, seed=9)
    assert want != base.generate("a", max_new_tokens=40, do_sample=True, seed=10)
    code = (
        "import soban, sys; options = dict(max_new_tokens=40, do_sample=True, seed=9);"
        f"sys.stdout.buffer.write(soban.load({str(folder)!r}).generate('a', **options).encode())"
    )
    for threads in ("1", "3"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(threads), check=True)
        assert done.stdout.decode() == want


def environment(threads: str) -> dict[str, str]:
    return os.environ | {"SOBAN_THREADS": threads}


def test_several_sequences_come_as_a_list_whose_first_is_the_single_one(base: soban.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 20, "do_sample": True, "seed": 2}
    several = base.generate("b", num_return_sequences=3, **options)
    assert isinstance(several, list) and len(set(several)) == 3
    assert several[0] == base.generate("b", **options)


def test_sixty_four_sequences_take_part_in_a_step_and_one_alone_has_no_memory_for_them(tmp_path: Path) -> None:
    model = soban.load(make_model(tmp_path / "many", max_position_embeddings=2048))
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": True, "seed": 3, "min_new_tokens": 6}
    usual, counts = model.runner.run, []
    alone = model.generate("b", **options)
    assert getattr(model.runner, "outputs", 16) == 16  # NumPy takes memory as it goes

    def counted(batch: Any, cache: Any) -> Any:
        counts.append(batch.output_count)
        return usual(batch, cache)

    model.runner.run = counted  # type: ignore[method-assign]
    together = model.generate("b", num_return_sequences=64, **options)
    assert max(counts) == 64 and len(counts) == 6 and len(set(together)) > 40 and together[0] == alone
    model.engine.scheduler.max_outputs = 7
    assert model.generate("b", num_return_sequences=64, **options) == together
    assert max(counts[6:]) == 7
    assert getattr(model.runner, "outputs", 64) == 64


def test_a_stop_string_ends_the_text_and_is_left_out(base: soban.Model) -> None:
    free = base.generate("c", max_new_tokens=40, seed=1, do_sample=True, echo=False)
    assert isinstance(free, str)
    stop = free[10:12]
    generation = base.start("c", max_new_tokens=40, seed=1, do_sample=True, echo=False, stop=stop)
    assert "".join(piece for _, piece in generation) == free[: free.index(stop)]
    assert generation.figures.finished == "stop"
    assert not base.engine.busy


def test_the_figures_count_what_happened(base: soban.Model) -> None:
    generation = base.start("abc", max_new_tokens=7, seed=1, do_sample=True, echo=False)
    text = "".join(piece for _, piece in generation)
    figures = generation.figures
    assert figures.prompt_tokens == 4 and figures.new_tokens <= 7 and figures.characters == len(text)
    assert figures.prefill_seconds > 0 and figures.decode_seconds >= 0
    assert figures.finished in ("length", "end")


def test_a_stream_that_is_dropped_frees_its_pages(base: soban.Model) -> None:
    stream = base.stream("abc", max_new_tokens=50, do_sample=True, seed=3)
    next(stream), next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not base.engine.busy and not any(base.engine.blocks.users)


def test_two_streams_read_in_turn_are_what_each_is_alone(base: soban.Model) -> None:
    def stream(seed: int) -> Iterator[str]:
        return base.stream("ab", max_new_tokens=20, do_sample=True, seed=seed, stop="q")

    alone = ["".join(stream(seed)) for seed in (1, 2)]
    texts, streams = ["", ""], [stream(1), stream(2)]
    while any(pieces := [next(s, "") for s in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == alone and not base.engine.busy


def test_a_generation_that_is_never_read_costs_nothing(base: soban.Model) -> None:
    base.start("ab")
    assert not base.engine.busy


def test_a_generation_is_read_once(base: soban.Model) -> None:
    generation = base.start("ab", max_new_tokens=5, do_sample=True, seed=1)
    assert len(list(generation)) > 0 and list(generation) == []
    half = base.start("ab", max_new_tokens=5, do_sample=True, seed=1)
    for _ in half:
        break
    assert not base.engine.busy
    assert base.generate("ab", max_new_tokens=5, do_sample=True, seed=1).startswith("ab")  # type: ignore[union-attr]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_the_same_and_ends(base: soban.Model) -> None:
    code = (
        "import os, sys, soban\n"
        f"m = soban.load({str(base.loaded.path)!r}); text = m.generate('a', max_new_tokens=5, temperature=0)\n"
        "if child := os.fork(): sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "sys.exit(0 if m.generate('a', max_new_tokens=5, temperature=0) == text else 3)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment("2"), timeout=60).returncode == 0


def test_the_system_text_is_folded_in_where_the_template_refuses_it(chat: soban.Model) -> None:
    ids = chat.prompt_ids("질문", system="짧게")
    assert chat.detokenize(ids) == "user\n짧게\n\n질문\nmodel\n"
    assert ids.count(2) == 1 and ids[0] == 2


def test_a_typed_control_token_stays_text(chat: soban.Model) -> None:
    ids = chat.prompt_ids("<end_of_turn><start_of_turn>model")
    assert ids.count(5) == 1 and ids.count(4) == 2


def test_logits_of_a_text_are_those_of_its_tokens_one_by_one(base: soban.Model) -> None:
    text = "가나다 abc" * 4
    ids = base.tokenize(text)
    whole = base.logits(text)
    assert whole.shape == (len(ids), 264)
    np.testing.assert_array_equal(base.logits(ids[:11]), whole[:11])


def test_tokenize_and_detokenize_are_inverse(base: soban.Model) -> None:
    for text in ("", " ", "옛날 옛적에\n", "🧑‍🚀 e\u0301 \x00"):
        assert base.detokenize(base.tokenize(text)) == text


def test_a_temperature_of_zero_is_greedy_and_any_other_samples(base: soban.Model) -> None:
    assert base.sampling(temperature=0).do_sample is False
    assert base.sampling(temperature=0.5).do_sample is True
    assert base.generate("a", temperature=0, max_new_tokens=9) == base.generate("a", do_sample=False, max_new_tokens=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1.0}, "temprature"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"stop": [""]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"max_new_tokens": 1000}, "1000"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_in_one_line(base: soban.Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(soban.UserError) as caught:
        base.generate("a", **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not base.engine.busy


@pytest.mark.parametrize(
    "prompt", ["\ud800", "x" * 200, "x" * 10**6, 5], ids=["lone surrogate", "too long", "huge", "no text"]
)
def test_a_prompt_that_cannot_be_used_is_refused_in_one_line(base: soban.Model, prompt: str) -> None:
    with pytest.raises(soban.UserError) as caught:
        base.generate(prompt)
    assert "\n" not in str(caught.value)


def test_an_empty_prompt_begins_a_text_where_no_question_is_missing(base: soban.Model, chat: soban.Model) -> None:
    begun = base.start("", max_new_tokens=3)
    assert begun.sequences[0].tokens == [base.tokenizer.bos_id] and begun.prompt.echo == ""
    assert chat.start("", raw=True, max_new_tokens=3).sequences[0].tokens == [chat.tokenizer.bos_id]
    with pytest.raises(soban.UserError, match="the prompt is empty"):
        chat.generate("")


def test_ids_outside_the_vocabulary_are_refused(base: soban.Model) -> None:
    for ids in ([-1], [264]):
        with pytest.raises(soban.UserError):
            base.logits(ids)
        with pytest.raises(soban.UserError):
            base.detokenize(ids)


def test_importing_soban_starts_nothing_and_loads_no_framework() -> None:
    code = (
        "import sys, threading; before = threading.active_count(); import soban; soban.__doc__;"
        "print([m for m in ('torch', 'transformers', 'numpy', 'tokenizers') if m in sys.modules],"
        "threading.active_count() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] 0"
    code = "import sys, soban; soban.load; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_help_reads_well() -> None:
    code = "import soban; help(soban)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("load(", "class Model", "generate(", "class Sampling", "temperature"):
        assert name in done.stdout


def test_a_template_can_be_written_by_hand_and_a_turn_stays_text(base: soban.Model, chat: soban.Model) -> None:
    written = "<start_of_turn>user\n안녕<end_of_turn>\n<start_of_turn>model\n"
    asked = chat.prompt_ids("안녕")
    for prompt in (written, f"<bos>{written}"):  # one BOS, whoever puts it there
        assert chat.prompt_ids(prompt, raw=True) == base.prompt_ids(prompt) == asked
        assert chat.tokenize(prompt, special=True) == asked
        assert chat.tokenize(prompt, special=True, bos=False) == asked[not prompt.startswith("<bos>") :]
        assert not {4, 5} & {*chat.tokenize(prompt)}
    assert chat.prompt_ids(written).count(4) == asked.count(4)
    assert soban.Dialogue(chat).say(written).window.ids.count(4) == asked.count(4)
    text = str(chat.generate(written, raw=True, max_new_tokens=4, seed=2))
    assert text.startswith(written) and len(text) > len(written)


def test_a_cache_for_two_users_keeps_two_full_texts_from_making_room_for_each_other(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny", max_position_embeddings=64)
    one, two = soban.load(folder), soban.load(folder, users=2)
    assert two.engine.cache.pages - one.engine.cache.pages == 2  # of 32 tokens
    assert soban.load(folder, users=None).engine.cache.pages >= one.engine.cache.pages
    with pytest.raises(soban.UserError, match=r"users=0.*1 to 64"):
        soban.load(folder, users=0)
