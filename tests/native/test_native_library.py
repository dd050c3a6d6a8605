"""The built library as a file: nothing compiled for one instruction set may stand in for another."""

import shutil
import subprocess
from pathlib import Path

import pytest

from soban.ops import native
from toolchain.wheels import INTERFACE

BUILD = Path(__file__).resolve().parents[2] / "build"


def symbols(path: Path, *options: str) -> list[tuple[str, str]]:
    """(kind, name) of the file's symbols."""
    tool = shutil.which("nm")
    if tool is None:
        pytest.skip("needs nm")
    text = subprocess.run([tool, *options, str(path)], capture_output=True, text=True, check=True).stdout
    return [(line.split()[-2], line.split()[-1]) for line in text.splitlines() if len(line.split()) >= 2]


def test_the_library_exports_the_interface_and_nothing_else() -> None:
    exported = {name for kind, name in symbols(native.library_path(), "-D", "--defined-only") if kind in "TDBRVWu"}
    assert exported == INTERFACE


def test_kernels_define_one_table_for_each_instruction_set_and_no_weak_symbol() -> None:
    objects = sorted(BUILD.glob("native/CMakeFiles/*_*.dir/native/kernels/*.o"))
    if not objects:
        pytest.skip("needs the objects of cmake -B build/native")
    for path in objects:
        defined = symbols(path, "--defined-only")
        assert not [name for kind, name in defined if kind in "WVuvw"], path
        tables = [name for kind, name in defined if kind.isupper()]
        assert len(tables) == 1 and ("compute_" in tables[0] or "encode_" in tables[0]), (path, tables)
