"""The house style of errors: what is wrong, its value, what to do; and the page that lists them."""

import ast
import re
from pathlib import Path

from soban.base.errors import UserError
from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "soban"
FILES = sorted(PACKAGE.rglob("*.py"))


def user_errors(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in calls if ast.unparse(node.func).endswith("UserError")]


def test_every_error_says_what_to_do() -> None:
    silent = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}: {ast.unparse(call)}"
        for path in FILES
        for call in user_errors(ast.parse(path.read_text(encoding="utf-8")))
        if not any(word.arg in ("hint", None) for word in call.keywords)
    ]
    assert not silent


def test_the_page_of_errors_is_up_to_date() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == script("errors").page(), "python dev.py messages"
    assert "| the prompt is empty; give some text | 프롬프트가 비어 있습니다. " in page


def test_what_becomes_the_reason_in_an_error_is_translated() -> None:
    # Never shown: our own mistakes, what is caught and told otherwise, and the story world of the scripts.
    unseen = {
        "hub/remote.py",
        "learn/synthetic/plan.py",
        "measure/report.py",
        "text/tokenizers/bpe.py",
        "text/tokenizers/packed.py",
    }
    plain = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            kind, told = ast.unparse(node.exc.func), ast.unparse(node.exc.args[0])
            if kind in ("ValueError", "_Malformed") and told[:2].strip("f")[:1] in ("'", '"'):
                plain.append((path.relative_to(PACKAGE).as_posix(), told))
    sentences = [(path, told) for path, told in plain if re.search("[a-z] [a-z]", re.sub(r"\{.*?\}", "", told))]
    assert not [one for one in sentences if one[0] not in unseen]


def test_an_error_is_one_line_whatever_its_values_are() -> None:
    long = "가" * 1_000_000
    error = UserError(
        "{path}: {reason}, {count:,}", path="a\nb\x1b[2J\u202e", reason=long, count=1234567, hint="{path}"
    )
    assert str(error).startswith("a\\nb\\x1b[2J\\u202e: 가가") and str(error).endswith(
        "가, 1,234,567; a\\nb\\x1b[2J\\u202e"
    )
    assert "\n" not in str(error) and len(str(error)) < 1000
