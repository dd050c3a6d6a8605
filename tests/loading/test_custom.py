"""Models with a name of one's own: what a Modelfile says, and that the model is used so."""

from pathlib import Path

import pytest

import soban
from soban.base.errors import UserError
from soban.loading import custom
from soban.loading.modelfile import Modelfile, parse

from ..tiny import make_model

WHOLE = '''\ufeff# a teacher
from ./tiny
PARAMETER temperature 0.5
parameter stop "<end> "
PARAMETER stop two
PARAMETER num_gpu 99
PARAMETER num_ctx 128
SYSTEM """너는
"친절"하다."""
MESSAGE user 안녕?
MESSAGE assistant """네,

안녕하세요."""
TEMPLATE chatml
LICENSE "MIT"
'''


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "state"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base") / "tiny", chat=True)


def test_a_modelfile_says_what_its_lines_say() -> None:
    assert parse(WHOLE) == Modelfile(
        "./tiny", None, (("temperature", 0.5), ("stop", ("<end> ", "two")), ("num_ctx", 128)), '너는\n"친절"하다.',
        "chatml", (("user", "안녕?"), ("assistant", "네,\n\n안녕하세요.")), "MIT",
    )  # fmt: skip


@pytest.mark.parametrize(
    "system", ["", " blank ", "one line", '"quoted"', "two\nlines\n", "# no comment", "FROM x", 'a "b"', "\\n", '"']
)
def test_what_is_written_is_read_again(system: str) -> None:
    one = Modelfile(
        "base", "/a b/c", (("stop", ("\n", " x", '"y"')), ("top_k", 3)), system, None, (("user", system or "-"),)
    )
    assert parse(one.text()) == one


WRONG = [
    ("FROM a\nFOO b", 2, "FOO"),
    ("FROM a\n\n# x\nPARAMETER seed 4", 4, "seed"),
    ("FROM a\nPARAMETER top_k x", 2, "top_k"),
    ('FROM a\n\nSYSTEM """x\ny', 3, "does not end"),
    ('FROM a\nSYSTEM """x\ny"""\nTEMPLATE {{ .Prompt }}', 4, "chatml"),
    ("FROM", 1, "FROM"),
    ("FROM a\nMESSAGE robot x", 2, "user"),
    ("FROM a\nMESSAGE user", 2, "MESSAGE"),
    ('FROM a\nSYSTEM """x\n""" y', 3, "y"),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_a_line_that_cannot_be_followed_is_told_by_its_number(text: str, line: int, said: str) -> None:
    with pytest.raises(UserError, match=f"line {line}:.*{said}"):
        parse(text, "Modelfile")


def test_a_modelfile_without_a_base_is_refused() -> None:
    with pytest.raises(UserError, match="FROM"):
        parse("SYSTEM hello")


def test_a_named_model_answers_as_its_base_that_is_told_the_same(folder: Path) -> None:
    turns = (("user", "a"), ("assistant", "b"))
    custom.keep(
        "mina:1", Modelfile(str(folder), None, (("temperature", 0.7), ("num_predict", 9)), "be kind", None, turns)
    )
    base, mina = soban.load(folder), soban.load("mina:1")
    said = [{"role": "system", "content": "be kind"}, *({"role": r, "content": c} for r, c in turns)]
    said.append({"role": "user", "content": "hello"})
    expected = base.chat(said, temperature=0.7, max_new_tokens=9, seed=3)
    assert mina.generate("hello", seed=3) == mina.chat(said[-1:], seed=3) == expected
    other = [{"role": "system", "content": "be short"}, said[-1]]
    assert mina.chat(other, seed=3) == base.chat([other[0], *said[1:]], temperature=0.7, max_new_tokens=9, seed=3)
    greedy = custom.keep("greedy", Modelfile("MINA:1", None, (("temperature", 0),)))
    assert greedy.modelfile.base == str(folder) and greedy.modelfile.system == "be kind"
    assert soban.load("greedy").generate("hello") == base.chat(said, temperature=0, max_new_tokens=9)


def test_a_named_model_has_the_context_and_the_template_that_it_says(folder: Path) -> None:
    custom.keep("선생님", Modelfile(str(folder), None, (("num_ctx", 128),), template="chatml"))
    model = soban.load("선생님:latest")
    assert model.engine.context == 128 and model.chat_template().origin == "chatml"
    assert soban.load("선생님", context=64).engine.context == 64


def test_names_that_others_have_are_not_given(folder: Path) -> None:
    for name in ("gemma2:2b", "soban", "a/b", "", "a b", "../x", "nul", "x:"):
        with pytest.raises(UserError):
            custom.keep(name, Modelfile(str(folder)))
    assert custom.every() == []


def test_a_name_is_copied_and_taken_away(folder: Path) -> None:
    custom.keep("one", Modelfile(str(folder), None, (), "x"))
    two = custom.copy("one", "two")
    custom.remove(custom.every()[0])
    assert [one.name for one in custom.every()] == ["two"] and two.modelfile.system == "x"
    assert custom.find("one") is None


def test_paths_in_a_modelfile_count_from_its_folder(folder: Path) -> None:
    found = custom.with_paths(parse("FROM ./tiny\nADAPTER tiny"), folder.parent)
    assert found.base == found.adapter == str(folder.resolve())
    with pytest.raises(UserError, match="no such file or folder"):
        custom.with_paths(parse("FROM ./tiny\nADAPTER missing"), folder.parent)
    assert custom.with_paths(parse("FROM gemma2:2b"), folder.parent).base == "gemma2:2b"
