"""A machine without a C++ compiler builds with zig's; without the library NumPy computes, and says so."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from toolchain import zig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hidden_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a shell, cmake and ninja in it, and no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cmake", "ninja", "uname"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="hides compilers by PATH")
def test_a_machine_without_a_compiler_needs_zig_to_build(hidden_compilers: Path) -> None:
    pytest.importorskip("scikit_build_core")
    from toolchain import backend

    assert not zig.own_compiler()
    assert zig.PACKAGE in backend.get_requires_for_build_wheel()
    assert zig.PACKAGE in backend.get_requires_for_build_editable()


def test_a_machine_with_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scikit_build_core")
    from toolchain import backend

    monkeypatch.setenv("CXX", "/opt/gcc/bin/g++")
    assert zig.own_compiler()
    assert zig.PACKAGE not in backend.get_requires_for_build_wheel()


def test_with_neither_the_build_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    from toolchain import backend

    monkeypatch.setattr(zig, "own_compiler", lambda: False)
    monkeypatch.setattr(zig, "binary", lambda: None)
    with pytest.raises(RuntimeError, match="pip install 'ziglang"):
        backend.build_wheel(str(tmp_path))


def test_zig_is_told_the_kind_of_machine_and_never_builds_for_this_very_processor(tmp_path: Path) -> None:
    defines = zig.cmake_defines(Path("/opt/zig"), zig.this_machine(), tmp_path / "scripts")
    compiler = Path(defines["CMAKE_CXX_COMPILER"])
    assert f"-target {zig.this_machine()}" in compiler.read_text(encoding="utf-8")
    assert Path(defines["CMAKE_AR"]).is_file() and Path(defines["CMAKE_RANLIB"]).is_file()


def on_its_own(folder: Path) -> None:
    """A Python that begins to look for packages in this folder finds soban there, though another may be developed."""
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]\n",
        encoding="utf-8",
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="hides compilers by PATH")
def test_pip_builds_the_wheel_without_a_compiler(hidden_compilers: Path, tmp_path: Path) -> None:
    if zig.binary() is None or not (hidden_compilers / "cmake").exists():
        pytest.skip(f"needs zig (pip install '{zig.PACKAGE}') and cmake")
    pytest.importorskip("scikit_build_core")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    on_its_own(tmp_path / "installed")
    tried = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "try_wheel.py")], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "SOBAN_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert tried.returncode == 0 and str(tmp_path / "installed") in tried.stdout, tried.stdout + tried.stderr


def test_without_the_library_numpy_tells_a_story_and_says_in_one_line_why_it_is_slow(tmp_path: Path) -> None:
    package = tmp_path / "soban"
    libraries = shutil.ignore_patterns("libsoban_native*", "soban_native*", "__pycache__")
    shutil.copytree(ROOT / "src" / "soban", package, ignore=libraries)
    on_its_own(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "soban", "run", "Once upon a time", "--max-new-tokens", "8", "--temperature", "0"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time, there was a curious girl named M")
    assert [line for line in done.stderr.splitlines() if "NumPy" in line] == [
        "soban: the native library is missing, so NumPy computes: expect a tenth of the speed or less"
    ]
