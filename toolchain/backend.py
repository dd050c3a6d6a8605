"""The build backend: scikit-build-core, with zig for a compiler where the machine has none."""

import shutil
from pathlib import Path
from typing import Any

from scikit_build_core import build
from scikit_build_core.build import (  # noqa: F401  (what needs no compiler goes through)
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from toolchain import zig

Settings = dict[str, Any] | None
SCRIPTS = Path(__file__).resolve().parents[1] / "build" / "zig"


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build.get_requires_for_build_wheel(config_settings), *_compiler_packages()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build.get_requires_for_build_editable(config_settings), *_compiler_packages()]


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    return build.build_wheel(wheel_directory, _with_compiler(config_settings), metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    return build.build_editable(wheel_directory, _with_compiler(config_settings), metadata_directory)


def _compiler_packages() -> list[str]:
    if zig.own_compiler():
        return []
    return [zig.PACKAGE, *([] if shutil.which("ninja") else ["ninja"])]


def _with_compiler(settings: Settings) -> Settings:
    if zig.own_compiler():
        return settings
    found = zig.binary()
    if found is None:
        raise RuntimeError(f"no C++ compiler was found; pip install '{zig.PACKAGE}' brings one")
    # A compiler that CMake has not seen before needs a folder that it has not configured before.
    defines = zig.cmake_defines(found, zig.this_machine(), SCRIPTS)
    chosen = {f"cmake.define.{name}": value for name, value in defines.items()}
    return {**(settings or {}), **chosen, "cmake.args": "-GNinja", "build-dir": "build/zig/{wheel_tag}"}
