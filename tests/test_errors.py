"""The house style of errors: what is wrong, its value, what to do; and the page that lists them."""

import ast
from pathlib import Path

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
