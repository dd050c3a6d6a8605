"""Every kind of finding is in the guide, and the guide names no other."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_guide_has_every_code() -> None:
    package = ROOT / "src" / "soban"
    files = [
        path for path in package.rglob("*.py") if package / "serve" not in path.parents
    ]  # whose codes are OpenAI's
    sources = [path.read_text(encoding="utf-8") for path in files]
    made = {code for text in sources for code in re.findall(r'Finding\(\s*"([a-z0-9-]+)"', text)}
    made |= {code for text in sources for code in re.findall(r'_no_token\("([a-z-]+)"', text)} | {
        "bos-differs",
        "eos-differs",
    }
    made |= {code for text in sources for code in re.findall(r'\bcode="([a-z-]+)"', text)}  # of tensors that do not fit
    rows = re.findall(
        r"^\| ([a-z0-9, -]+) \|", (ROOT / "docs" / "looking.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    told = [code for row in rows for code in row.split(", ") if code != "code"]
    assert sorted(told) == sorted(made) and len(made) > 40
