"""The native tests once more over a library built with the sanitizers of addresses, undefined behaviour and threads."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import pathlib, sys
import pytest
from soban.ops import native
native.library_path = lambda: pathlib.Path(sys.argv[1])
assert native.library() is not None, "the library with sanitizers does not load"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not slow", *sys.argv[2:]]))
"""


def check(build: Path, sanitizers: str, libraries: Sequence[str], options: dict[str, str], *tests: str) -> None:
    """Builds the library with the sanitizers and runs the tests over it; any report of theirs is a failure."""
    cmake, compiler = shutil.which("cmake"), shutil.which("g++")
    if cmake is None or compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs cmake and g++ on Linux")
    subprocess.run(
        [cmake, "-S", ROOT, "-B", build, f"-DCMAKE_CXX_COMPILER={compiler}", f"-DSOBAN_SANITIZE={sanitizers}"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([cmake, "--build", build, "-j2"], check=True, capture_output=True)
    preload = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in (*libraries, "libstdc++.so")
    ]
    environment = os.environ | options | {"LD_PRELOAD": " ".join(preload), "PYTHONPATH": str(ROOT / "src")}
    # ThreadSanitizer knows where a process lies in memory: it must not lie elsewhere each time
    still = [found, platform.machine(), "-R"] if (found := shutil.which("setarch")) else []
    done = subprocess.run(
        [*still, sys.executable, "-c", RUN, build / "libsoban_native.so", *tests],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


@pytest.mark.slow
def test_address_and_undefined_behaviour_sanitizers_find_nothing(tmp_path: Path) -> None:
    leaks = {"ASAN_OPTIONS": "detect_leaks=0"}  # Python's own
    check(tmp_path, "address,undefined", ["libasan.so", "libubsan.so"], leaks, "tests/native")


@pytest.mark.slow
def test_the_thread_sanitizer_finds_nothing_whoever_calls_at_the_same_time(tmp_path: Path) -> None:
    # without those that run processes of their own, whose library is another
    check(tmp_path, "thread", ["libtsan.so"], {}, "tests/test_threads.py", "-k", "not child and not ctrl_c")
