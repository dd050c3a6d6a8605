"""The papers of a model's folder: which files it takes on disk, and what they say of its licence."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from soban.weights.checkpoint import Checkpoint

MOST_READ = 1 << 20  # bytes of a README or licence; what counts stands at the beginning
LICENCE_FILES = re.compile(r"(?i)(licen[cs]e|copying|use_policy|notice|terms)[\w.-]*")
# Words that only this licence begins with, and its name as the hub writes it.
KNOWN = {
    "apache license": "apache-2.0", "mit license": "mit", "gemma terms of use": "gemma",
    "llama 2 community license": "llama2", "llama 3 community license": "llama3",
    "llama 3.1 community license": "llama3.1", "llama 3.2 community license": "llama3.2",
    "gnu general public license": "gpl", "creative commons": "cc", "bsd 3-clause": "bsd-3-clause",
    "bigscience rail": "bigscience-bloom-rail-1.0", "exaone": "exaone", "tongyi qianwen license": "tongyi-qianwen",
    "qwen research license": "qwen-research", "permission is hereby granted, free of charge": "mit",
}  # fmt: skip
FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---", re.DOTALL)


def files(path: Path, weights: Iterable[Path]) -> dict[str, Any]:
    """What the model takes on disk: all files of its folder, or the files of the weights alone."""
    entries = [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else list(weights)
    sizes = {entry.name: entry.stat().st_size for entry in sorted(entries)}
    return {"bytes": sum(sizes.values()), "files": sizes}


def licence(folder: Path) -> dict[str, Any] | None:
    """The licence that the README's front matter names, else the one that a licence file holds; None where neither is.

    `name` as the file says it, `file` where it stands; `link` and `base_model` where the front matter has them.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    front = front_matter(_beginning(folder / "README.md")) if "README.md" in names else {}
    if name := front.get("license_name") or front.get("license"):
        more = {key: front[key] for key in ("license_link", "base_model") if front.get(key)}
        return {"name": name, "file": "README.md", **more}
    for file in (name for name in names if LICENCE_FILES.fullmatch(name)):
        if text := _beginning(folder / file).strip():
            head = " ".join(text[:2000].lower().split())
            identifier = next((short for words, short in KNOWN.items() if words in head), None)
            return {"name": identifier or " ".join(text.splitlines()[0].split())[:60], "file": file}
    return None


def own_licence(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The licence that a GGUF file names in its own keys."""
    keys = {key: checkpoint.keys.get(f"general.license{key}") for key in ("", ".name", ".link")}
    name = keys[".name"] or keys[""]
    if not isinstance(name, str) or not name:
        return None
    link = {"license_link": keys[".link"]} if isinstance(keys[".link"], str) else {}
    return {"name": name, "file": checkpoint.path.name, **link}


def front_matter(text: str) -> dict[str, str]:
    """The plain `key: value` lines at the head of a README, quotes off; lists and nested values are left out."""
    match = FRONT_MATTER.match(text)
    lines = match[1].splitlines() if match else []
    pairs = (line.partition(":")[::2] for line in lines if re.match(r"[A-Za-z_]+:", line))
    return {key: value.strip().strip("'\"") for key, value in pairs if value.strip()}


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_READ).decode("utf-8", "replace")
    except OSError:
        return ""
