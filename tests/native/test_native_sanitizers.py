"""The native tests once more over a library built with the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
import sys
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


@pytest.mark.slow
def test_address_and_undefined_behaviour_sanitizers_find_nothing(tmp_path: Path) -> None:
    cmake, compiler = shutil.which("cmake"), shutil.which("g++")
    if cmake is None or compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs cmake and g++ on Linux")
    build = tmp_path / "build"
    subprocess.run(
        [cmake, "-S", ROOT, "-B", build, f"-DCMAKE_CXX_COMPILER={compiler}", "-DSOBAN_SANITIZE=address,undefined"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([cmake, "--build", build, "-j2"], check=True, capture_output=True)
    preload = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, build / "libsoban_native.so", ROOT / "tests" / "native"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
