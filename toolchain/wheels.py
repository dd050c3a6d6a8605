"""A wheel for each platform, from one machine: python -m toolchain.wheels [PLATFORM...], into dist/."""

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from toolchain import binaries, zig

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
INTERFACE = frozenset(
    {
        "soban_abi", "soban_isa_runs", "soban_isa_works", "soban_pool_create", "soban_pool_destroy", "soban_run",
        "soban_stored_bytes", "soban_encode", "soban_repack", "soban_find_not_finite", "soban_read", "soban_multiply",
        "soban_bpe",
        "soban_glu_forward", "soban_glu_backward", "soban_norm_forward", "soban_norm_backward", "soban_turn_pairs",
        "soban_next_token_loss", "soban_attention_shares", "soban_attention_room", "soban_attention_forward",
        "soban_attention_backward",
    }
)  # fmt: skip
DAY = (2026, 1, 1, 0, 0, 0)  # of every file in a wheel: the same sources give the same bytes


class Wrong(Exception):
    """A wheel is not what it should be."""


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in zig.TARGETS]:
        print(f"no platform {unknown[0]}; there are {', '.join(zig.TARGETS)}", file=sys.stderr)
        return 2
    code = 0
    pure = pure_wheel()
    for name in names or zig.TARGETS:
        try:
            path = wheel(name, pure)
            print(f"{path.name}  {path.stat().st_size / 1e6:.1f} MB", flush=True)
        except Wrong as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = 1
    return code


def wheel(name: str, pure: dict[str, bytes]) -> Path:
    """Builds the library for a platform, packs the wheel and checks both. Raises Wrong."""
    target = zig.TARGETS[name]
    folder = cross_build(target)
    check_objects(folder)
    path = write_wheel(pure, target, (folder / target.library).read_bytes())
    check_wheel(path, name)
    return path


def cross_build(target: zig.Target, **defines: str) -> Path:
    """The folder in build/ with the library for a target, built by zig. Raises Wrong."""
    found = zig.binary()
    if found is None:
        raise Wrong(f"zig is missing: pip install '{zig.PACKAGE}'")
    folder = ROOT / "build" / "cross" / target.triple
    try:
        zig.build(zig.cross_defines(found, target, ROOT / "build" / "zig") | defines, ROOT, folder)
    except subprocess.CalledProcessError as error:
        raise Wrong(f"the library does not build:\n{error.stdout[-3000:]}") from error
    return folder


def pure_wheel() -> dict[str, bytes]:
    """The files of a wheel without a native library."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
        subprocess.run([*command, "-w", folder, "-C", "wheel.cmake=false", "-C", "wheel.platlib=false"], check=True)
        (built,) = Path(folder).glob("*.whl")
        return read_wheel(built)


def read_wheel(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def write_wheel(pure: dict[str, bytes], target: zig.Target, library: bytes) -> Path:
    """The wheel of a platform in dist/: the pure one, with the library, its tags and a new RECORD."""
    (info,) = {name.split("/")[0] for name in pure if name.split("/")[0].endswith(".dist-info")}
    tags = "".join(f"Tag: py3-none-{platform}\n" for platform in target.wheel.split("."))
    files = {name: data for name, data in pure.items() if name != f"{info}/RECORD"}
    files[f"soban/{target.library}"] = library
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: soban\nRoot-Is-Purelib: false\n{tags}\n".encode()
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    DIST.mkdir(exist_ok=True)
    path = DIST / f"{info.removesuffix('.dist-info')}-py3-none-{target.wheel}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, DAY)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def check_objects(folder: Path) -> None:
    """No function of the kernels may be one that the linker could take from another instruction set. Raises Wrong."""
    objects = [path for path in folder.glob("CMakeFiles/*/native/kernels/*") if path.suffix in (".o", ".obj")]
    if not objects:
        raise Wrong(f"{folder}: no objects of kernels")
    for path in objects:
        found = binaries.read(path.read_bytes())
        if found.weak:
            raise Wrong(f"{path}: weak functions: {', '.join(sorted(found.weak))}")


def check_wheel(path: Path, name: str) -> None:
    """The library within is of the platform's kind and exports the interface and nothing else. Raises Wrong."""
    target = zig.TARGETS[name]
    check_library(read_wheel(path)[f"soban/{target.library}"], name)
    if target.system == "Linux":
        audit(path, target.wheel.split(".")[0])


def check_library(data: bytes, name: str) -> None:
    """The library is of the platform's kind and exports the interface and nothing else. Raises Wrong."""
    found = binaries.read(data)
    if (found.system, found.machine) != tuple(name.replace("arm64", "aarch64").split("-")):
        raise Wrong(f"{name}: a library for {found.system}-{found.machine}")
    # zig's linker for macOS takes no list of exports: the operators new and delete of its C++ library come with them.
    operators = {text for text in found.exports if found.system == "macos" and text.startswith(("_Zn", "_Zd"))}
    if found.exports - operators != INTERFACE:
        raise Wrong(f"{name}: exports differ by {', '.join(sorted((found.exports - operators) ^ INTERFACE))}")


def audit(path: Path, platform: str) -> None:
    """auditwheel has to call the wheel good for its platform tag. Raises Wrong."""
    done = subprocess.run([sys.executable, "-m", "auditwheel", "show", str(path)], capture_output=True, text=True)
    if done.returncode or f'"{platform}"' not in done.stdout:
        raise Wrong(f"{path.name}: auditwheel says:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
