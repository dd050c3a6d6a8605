"""The built library as a file: nothing compiled for one instruction set may stand in for another."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from soban.ops import native
from tests.native.remote import ROOT, native_tests
from toolchain.wheels import INTERFACE

BUILD = ROOT / "build"
EACH_CALL = (
    "scalar and (shape1 or not_finite or whole_numbers or other_adapters or (attention_is and 290-80))"
    " or stored or textbooks"
)


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
        kinds = ("compute_", "encode_", "learn_")
        assert len(tables) == 1 and any(kind in tables[0] for kind in kinds), (path, tables)


@pytest.mark.slow
def test_it_answers_a_program_as_it_answers_python(tmp_path: Path) -> None:
    """The way on which the tests of other systems go, tried on this one."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++, on Linux")
    program, library = tmp_path / "runner", native.library_path()
    words = ["-std=c++20", f"-I{ROOT / 'native'}", f"-Wl,-rpath,{library.parent}", "-o", str(program)]
    subprocess.run([compiler, *words, str(ROOT / "tests/native/runner.cpp"), str(library)], check=True)
    native_tests([str(program)], EACH_CALL)
