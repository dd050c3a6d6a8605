"""The examples of the guide run as they stand, one after the other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["chat.md"])
def test_the_examples_of_the_guide_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    shown = capsys.readouterr().out
    assert "turns are forgotten" in shown


@pytest.mark.parametrize("page", ["docs/walk.md", "CONTRIBUTING.md"])
def test_every_file_that_the_map_names_is_there(page: str) -> None:
    rooms = (
        "",
        "src",
        "src/soban",
        "native",
        "src/soban/learn/training",
        "src/soban/ops",
        "native/kernels",
        "tests",
        "docs",
    )
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./]+\.(?:py|cpp|h|md|po|toml))`", text) if "NAME" not in name}
    assert len(named) > 10
    assert not [name for name in named if not any((ROOT / room / name).exists() for room in rooms)]
