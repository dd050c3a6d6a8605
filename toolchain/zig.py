"""The C++ compiler of the `ziglang` package: found by its path, and called by CMake through small scripts."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "ziglang>=0.16,<0.18"
# CMake's own trials compile without linking, for which zig would build a C++ library that nothing else needs: minutes.
TRIALS = {"CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY"}
COMPILES_ONLY = 'case "$*" in *CMakeCXXCompilerId.cpp) set -- -c "$@" ;; esac\n'  # the same, where it asks who zig is


@dataclass(frozen=True)
class Target:
    """A system that zig builds for: zig's name for it, CMake's two, and what the wheel's platform tag says."""

    triple: str
    system: str
    processor: str
    wheel: str
    library: str = "libsoban_native.so"


TARGETS = {
    "linux-x86_64": Target(
        "x86_64-linux-gnu.2.17", "Linux", "x86_64", "manylinux_2_17_x86_64.manylinux2014_x86_64"
    ),
    "linux-aarch64": Target(
        "aarch64-linux-gnu.2.17", "Linux", "aarch64", "manylinux_2_17_aarch64.manylinux2014_aarch64"
    ),
    "windows-x86_64": Target("x86_64-windows-gnu", "Windows", "AMD64", "win_amd64", "soban_native.dll"),
    "macos-arm64": Target("aarch64-macos.13.0", "Darwin", "arm64", "macosx_13_0_arm64", "libsoban_native.dylib"),
    "macos-x86_64": Target("x86_64-macos.13.0", "Darwin", "x86_64", "macosx_13_0_x86_64", "libsoban_native.dylib"),
}  # fmt: skip


def own_compiler() -> bool:
    """Whether this machine has a C++ compiler that can build the kernels; Microsoft's cannot."""
    if os.environ.get("CXX"):
        return True
    if sys.platform == "darwin":  # /usr/bin/c++ is there before the tools are, and asks to install them
        return subprocess.run(["xcode-select", "-p"], capture_output=True).returncode == 0
    return any(map(shutil.which, ("g++", "clang++") if sys.platform == "win32" else ("c++", "g++", "clang++")))


def binary() -> Path | None:
    """The package's program, or None where the package is not installed for this Python."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).with_name("zig.exe" if os.name == "nt" else "zig")


def this_machine() -> str:
    """zig's name for this machine's kind: without one it would build for this very processor."""
    machine = {"AMD64": "x86_64", "ARM64": "aarch64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    linux = "-linux-gnu.2.17" if platform.libc_ver()[0] == "glibc" else "-linux-musl"
    return machine + {"win32": "-windows-gnu", "darwin": "-macos"}.get(sys.platform, linux)


def cmake_defines(zig: Path, triple: str, folder: Path) -> dict[str, str]:
    """What CMake has to be told to build with zig for a target; its scripts are written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = _script(folder / f"c++-{triple}", f'"{zig}" c++ -target {triple}')
    tools = {f"CMAKE_{name.upper()}": _script(folder / name, f'"{zig}" {name}') for name in ("ar", "ranlib")}
    defines = {"CMAKE_CXX_COMPILER": str(compiler)} | {name: str(path) for name, path in tools.items()} | TRIALS
    # Elsewhere what is for debuggers lies in files of its own.
    return defines | ({"CMAKE_SHARED_LINKER_FLAGS": "-s"} if "-linux-" in triple else {})


def cross_defines(zig: Path, target: Target, folder: Path) -> dict[str, str]:
    """The same for another system than this one."""
    system = {"CMAKE_SYSTEM_NAME": target.system, "CMAKE_SYSTEM_PROCESSOR": target.processor}
    return system | cmake_defines(zig, target.triple, folder)


def build(defines: dict[str, str], source: Path, folder: Path, *targets: str) -> None:
    """Configures and builds with CMake and ninja, quietly. Raises CalledProcessError, with what they said."""
    words = [f"-D{name}={value}" for name, value in defines.items()]
    configure = ["cmake", "-S", str(source), "-B", str(folder), "-G", "Ninja", *words]
    compile_all = ["cmake", "--build", str(folder), *(("--target", *targets) if targets else ())]
    for command in (configure, compile_all):
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _script(path: Path, command: str) -> Path:
    if os.name == "nt":
        path = path.with_name(path.name + ".cmd")
        text = f"@{command} %*\r\n"
    else:
        text = f'#!/bin/sh\n{COMPILES_ONLY}exec {command} "$@"\n'
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8", newline="")
        fresh.chmod(0o755)
        fresh.replace(path)  # in one step, for another build may be calling it
    return path
