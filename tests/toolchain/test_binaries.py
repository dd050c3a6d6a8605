"""What is read from libraries and objects, against nm's word, and that a shared function is found."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from soban.ops import native
from toolchain import binaries, wheels

SHARED = """
inline int twice(int x) { return 2 * x; }
int (*keep)(int) = twice;
extern "C" int once(int x) { return x; }
"""


def test_the_library_at_hand_exports_the_interface() -> None:
    if native.library() is None:
        pytest.skip("needs the native library")
    found = binaries.read(native.library_path().read_bytes())
    assert found.exports == wheels.INTERFACE and not found.weak


def test_an_inline_function_of_an_object_is_found_as_one_that_may_be_shared(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    (tmp_path / "a.cpp").write_text(SHARED, encoding="utf-8")
    subprocess.run([compiler, "-c", "a.cpp"], cwd=tmp_path, check=True)
    found = binaries.read((tmp_path / "a.o").read_bytes())
    assert found.weak == {"_Z5twicei"} and {"keep", "once"} <= found.exports


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "aarch64-macos", "aarch64-linux-gnu"])
def test_so_it_is_for_other_systems(tmp_path: Path, target: str) -> None:
    from toolchain import zig

    found = zig.binary()
    if found is None:
        pytest.skip(f"needs zig (pip install '{zig.PACKAGE}')")
    (tmp_path / "a.cpp").write_text(SHARED, encoding="utf-8")
    subprocess.run([found, "c++", "-target", target, "-c", "a.cpp", "-o", "a.o"], cwd=tmp_path, check=True)
    read = binaries.read((tmp_path / "a.o").read_bytes())
    assert read.system == target.split("-")[1] and read.machine == target.split("-")[0]
    assert read.weak == {"_Z5twicei"} and {"keep", "once"} <= read.exports


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF\x01\x01" + bytes(60), bytes(64)])
def test_what_is_no_library_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        binaries.read(data)


def test_a_library_of_another_kind_or_with_more_to_show_is_refused(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None or native.library() is None or sys.platform != "linux":
        pytest.skip("needs g++ and the native library, on Linux")
    (tmp_path / "a.cpp").write_text(SHARED, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "a.cpp", "-o", "a.so"], cwd=tmp_path, check=True)
    with pytest.raises(wheels.Wrong, match=r"exports differ by .*once.*soban_abi"):
        wheels.check_library((tmp_path / "a.so").read_bytes(), f"linux-{platform.machine()}")
    with pytest.raises(wheels.Wrong, match="a library for linux"):
        wheels.check_library(native.library_path().read_bytes(), "windows-x86_64")
