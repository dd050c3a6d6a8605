"""The library built by zig for other systems: its form, and its results where an emulator can run it."""

import functools
import shutil
from pathlib import Path

import pytest

from soban.ops import native
from tests.native.remote import Remote, native_tests
from toolchain import wheels, zig

pytestmark = pytest.mark.slow
# One file without libraries, so that the emulator needs no ARM system around it.
EMULATED = zig.Target("aarch64-linux-musl", "Linux", "aarch64", "")
# What an emulated processor is, and which instruction sets it has.
PROCESSORS = {
    "cortex-a72": ["scalar"], "cortex-a76": ["scalar", "neon"], "max": ["scalar", "neon", "neon_i8mm"],
}  # fmt: skip
MINUTES_UNDER_EMULATION = "530 or chunks or attention_is"  # of which some are run by themselves


@functools.cache
def built(target: zig.Target, **defines: str) -> Path:
    """The folder that the library was built in; built once for all tests."""
    if zig.binary() is None or shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip(f"needs zig (pip install '{zig.PACKAGE}'), cmake and ninja")
    return wheels.cross_build(target, **defines)


def emulated(processor: str) -> list[str]:
    """The command that runs the runner on an ARM processor."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("needs qemu-aarch64 (Debian: qemu-user)")
    return [emulator, "-cpu", processor, str(built(EMULATED, SOBAN_KIND="STATIC", SOBAN_RUNNER="ON") / "soban_runner")]


def under_wine() -> list[str]:
    """The command that runs the runner, and the library beside it, as a program of Windows."""
    wine = shutil.which("wine64") or shutil.which("wine")
    if wine is None:
        pytest.skip("needs wine")
    return [wine, str(built(zig.TARGETS["windows-x86_64"], SOBAN_RUNNER="ON") / "soban_runner.exe")]


@pytest.mark.parametrize("name", zig.TARGETS)
def test_the_library_for_each_platform_is_of_its_kind_and_keeps_instruction_sets_apart(name: str) -> None:
    target = zig.TARGETS[name]
    runner = {"SOBAN_RUNNER": "ON"} if target.system == "Windows" else {}  # as the test under wine wants it
    folder = built(target, **runner)
    wheels.check_library((folder / target.library).read_bytes(), name)
    wheels.check_objects(folder)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_an_arm_processor_gets_the_instruction_sets_that_it_has(processor: str) -> None:
    remote = Remote(emulated(processor))
    assert [name for i, name in enumerate(native.ISAS) if remote.soban_isa_runs(i)] == PROCESSORS[processor]
    assert all(remote.soban_isa_works(native.ISAS.index(name)) for name in PROCESSORS[processor])
    remote.close()


def test_the_native_tests_pass_on_an_emulated_arm_processor() -> None:
    native_tests(emulated("max"), f"not ({MINUTES_UNDER_EMULATION} or library)")


def test_attention_is_right_on_an_emulated_arm_processor() -> None:
    native_tests(emulated("max"), "neon and ((attention_is and 80 and 290) or (chunks and 2-80))")


def test_arm_without_dot_products_computes_in_plain_code() -> None:
    native_tests(emulated("cortex-a72"), "whole_numbers or row_ops")


def test_the_native_tests_pass_as_a_program_of_windows() -> None:
    native_tests(under_wine(), f"not ({MINUTES_UNDER_EMULATION} or library)")
