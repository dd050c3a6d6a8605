"""The report of an unexpected error: saved where its finder can read it before it is sent to anybody."""

import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Container, Sequence
from pathlib import Path

from soban.base.version import VERSION

MOST_REPORTS = 20  # older ones are deleted
FLAG = re.compile(r"--?[a-z][a-z0-9-]*(?==|$)")
ENVIRONMENT = ("SOBAN_ISA", "SOBAN_LANG", "SOBAN_OPS", "SOBAN_THREADS", "LANG", "LC_ALL", "PYTHONUTF8")


def save_report(error: BaseException, arguments: Sequence[str], commands: Container[str]) -> Path | None:
    """Writes the report into the cache folder and returns its path; None where that cannot be done."""
    from soban.base.system import cache_folder

    try:
        folder = cache_folder() / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"soban-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        path.write_text(report(error, arguments, commands), encoding="utf-8", errors="backslashreplace")
        for old in sorted(folder.glob("soban-*.txt"))[:-MOST_REPORTS]:
            old.unlink()
        return path
    except Exception:  # a report that fails must not hide what it reports
        return None


def report(error: BaseException, arguments: Sequence[str], commands: Container[str]) -> str:
    """What a developer needs. Of the command line only the command and the flags' names: the rest is private."""
    command = [word for word in arguments[:1] if word in commands]
    names = [flag[0] for word in arguments if (flag := FLAG.match(word))]
    lines = [
        f"soban {VERSION}",
        f"Python {sys.version}",
        f"system {platform.platform()}, {platform.machine()}, {os.cpu_count()} logical CPUs",
        f"encoding {sys.getfilesystemencoding()}, {getattr(sys.stdout, 'encoding', None)}",
        f"library {_library()}",
        f"command {' '.join([*command, *names])}",
        *(f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ),
        "",
        *traceback.format_exception(type(error), error, error.__traceback__),
    ]
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"


def _library() -> str:
    try:
        from soban.ops import native

        return ", ".join(native.isas()) or "missing"
    except Exception as error:
        return f"fails: {error}"
