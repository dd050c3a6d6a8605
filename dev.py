"""Everything around the code, on any system: python dev.py run|test|test-all|lint|bench|fuzz|messages|native|wheels.

It needs Python alone. The first call makes .venv, installs what the command needs and builds the native library;
later calls find that nothing has changed and start at once.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from toolchain import zig

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "soban-stamp.json"
TORCH = "torch>=2.6,<2.14"
TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"
BUILD_TOOLS = ("scikit-build-core>=0.11", "ninja")
# Test processes, each of which may load torch; a folder's tests stay together, which share what they have made.
SEVERAL = ("-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal")
NONE_CHOSEN = 5  # what pytest says where the arguments name no test
WHEEL_TOOLS = (zig.PACKAGE, "auditwheel>=6.2", "pip>=23.1")  # an older pip passes no settings on to the build


def main(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name not in COMMANDS:
        print(__doc__)
        return 0 if name in ("", "-h", "--help") else 2
    try:
        return COMMANDS[name](rest)
    except Failed as failure:
        print(f"dev.py: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class Failed(Exception):
    """Something that the set-up needs is missing or went wrong."""


def run(arguments: list[str]) -> int:
    """`soban run` with the bundled model; the arguments are passed on."""
    set_up()
    # Short flags are llama2.c's, which need no prompt; any other first flag still does.
    begins_with_flag = not arguments or arguments[0].startswith("--")
    words = ["Once upon a time", *arguments] if begins_with_flag else arguments
    return call("-m", "soban", "run", *words)


def test(arguments: list[str]) -> int:
    """The tests that take a few minutes."""
    set_up("test")
    return call("-m", "pytest", *SEVERAL, "-m", "not slow", *arguments, quiet=True)


def test_all(arguments: list[str]) -> int:
    """Every test, also those that build for other systems and run that under emulators, where these are installed."""
    set_up("test")
    pip(*WHEEL_TOOLS)
    # Slow ones by file, for those of one file build in the same folders; as they come, for the longest come early.
    by_file = ("--dist", "loadfile", "--no-loadscope-reorder", "--durations", "20")
    codes = {
        call("-m", "pytest", *SEVERAL, "-m", "not slow", *arguments, quiet=True),
        call("-m", "pytest", *SEVERAL, *by_file, "-m", "slow", *arguments, quiet=True),
    }
    return max(map(abs, codes - {NONE_CHOSEN} or codes))


def lint(arguments: list[str]) -> int:
    """Style, types and formatting; all of them are checked, whichever fails."""
    set_up("test", "lint")  # mypy reads the types of what the tests and teaching import
    sources = [str(path) for path in native_sources() if path.suffix in (".cpp", ".h")]
    codes = [
        call("-m", "ruff", "check", "."),
        call("-m", "ruff", "format", "--check", "."),
        call("-m", "mypy"),
        subprocess.run([tool("clang-format"), "--dry-run", "-Werror", *sources], cwd=ROOT).returncode,
    ]
    return max(map(abs, codes))


# Whether a benchmark needs a model of full size; what else a script takes stands in its --help.
BENCHMARKS = {
    "limits": False, "tiny": False, "decode_prefill": True, "batch": True, "long_context": True,
    "noisy_neighbour": True, "lookup": True, "packing": True, "training": False, "tuning": False,
    "gguf_files": False, "embedding": False,
}  # fmt: skip


def bench(arguments: list[str]) -> int:
    """All of benchmarks/, or those that are named; `--model FOLDER` for those that need one of full size."""
    names, model = arguments, None
    if "--model" in arguments:
        at = arguments.index("--model")
        names, model = arguments[:at] + arguments[at + 2 :], "".join(arguments[at + 1 : at + 2])
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise Failed(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    if model is not None and not Path(model, "config.json").is_file():
        raise Failed(f"--model {model}: no folder with a model in it")
    set_up("bench")
    code = 0
    for name in names or BENCHMARKS:
        if BENCHMARKS[name] and model is None:
            say(f"{name} needs a model: python scripts/make_random_gemma2.py out/big, then --model out/big")
        elif name == "tiny" and not os.environ.get("SOBAN_BENCH_LLAMA2C"):
            say("tiny needs llama2.c: git clone https://github.com/karpathy/llama2.c, and SOBAN_BENCH_LLAMA2C=llama2.c")
        else:
            say(f"benchmarks/{name}.py")
            code = max(code, abs(call(f"benchmarks/{name}.py", *([model] if BENCHMARKS[name] and model else []))))
    return code


def fuzz(arguments: list[str]) -> int:
    """Mutated files of every format that soban reads, for so many --minutes; what fails lies in out/fuzz."""
    set_up("test")
    return call("-m", "tests.fuzz", *arguments, quiet=True)


def messages(arguments: list[str]) -> int:
    """Brings the Korean catalogue and the page of errors up to date with the code."""
    codes = [
        subprocess.run([sys.executable, f"scripts/{name}.py", *arguments], cwd=ROOT).returncode
        for name in ("messages", "errors")
    ]
    return max(codes)


def native(arguments: list[str]) -> int:
    """Builds the native library anew."""
    set_up(rebuild=True)
    return 0


def wheels(arguments: list[str]) -> int:
    """A wheel for each platform, or for those that are named, into dist/."""
    set_up()
    pip(*WHEEL_TOOLS)
    return call("-m", "toolchain.wheels", *arguments)


COMMANDS = {
    "run": run, "test": test, "test-all": test_all, "lint": lint, "bench": bench, "fuzz": fuzz,
    "messages": messages, "native": native, "wheels": wheels,
}  # fmt: skip


def call(*arguments: str, quiet: bool = False) -> int:
    """Runs Python in .venv at the root; `quiet`: with nothing on stdin, for what must not ask."""
    return subprocess.run([PYTHON, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL if quiet else None).returncode


def tool(name: str) -> str:
    return str(PYTHON.with_name(name + (".exe" if os.name == "nt" else "")))


def set_up(*extras: str, rebuild: bool = False) -> None:
    """Makes .venv hold the project with these extras, and the native library lie in src/soban."""
    make_venv()
    done = json.loads(STAMP.read_text(encoding="utf-8")) if STAMP.is_file() else {}
    wanted = {"pyproject": digest([ROOT / "pyproject.toml"]), "native": digest(native_sources())}
    same = done.get("pyproject") == wanted["pyproject"]
    had = done.get("extras", []) if same else []
    missing = [extra for extra in extras if extra not in had]
    built = same and done["native"] == wanted["native"] and native_library(ROOT / "src/soban") is not None
    if built and not missing and not rebuild:
        return
    if not same:
        say("installing the build tools")
        pip(*BUILD_TOOLS, *([] if shutil.which("cmake") else ["cmake"]))
    if {"test", "bench"} & set(missing):
        say("installing torch, to compare with (about 200 MB)")
        pip(TORCH, *torch_source())
    if not zig.own_compiler():
        say("no C++ compiler that could build the kernels: installing one (about 80 MB), which takes its time")
        pip(zig.PACKAGE)
    say("building the native library and installing soban" + "".join(f" [{extra}]" for extra in missing))
    names = ",".join([*had, *missing])
    pip("--no-build-isolation", "-e", f".[{names}]" if names else ".")
    place_library()
    STAMP.write_text(json.dumps({**wanted, "extras": [*had, *missing]}), encoding="utf-8")


def make_venv() -> None:
    if PYTHON.is_file() and subprocess.run([PYTHON, "-c", ""], capture_output=True).returncode == 0:
        return
    say("making .venv")
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)]).returncode:
        raise Failed("python -m venv failed. Debian, Ubuntu: sudo apt install python3-venv")


def pip(*arguments: str) -> None:
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
        raise Failed("pip could not install " + " ".join(arguments) + " (its words stand above)")


def torch_source() -> list[str]:
    """Where to get torch: on Linux, PyPI's brings gigabytes for graphics cards; but pip's own settings come first."""
    told = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    if sys.platform != "linux" or "index" in told or "find-links" in told:
        return []
    return ["--index-url", TORCH_FOR_CPUS]


def place_library() -> None:
    """An editable install runs the Python files in src/, but builds the library into .venv: put a copy beside them."""
    built = [path for site in VENV.glob("**/site-packages/soban") if (path := native_library(site))]
    if not built:
        raise Failed("the native library was not built")
    target = ROOT / "src/soban" / built[0].name
    fresh = target.with_name(target.name + ".new")
    shutil.copy2(built[0], fresh)
    try:
        os.replace(fresh, target)  # in one step, for a process that runs keeps the old file
    except PermissionError:
        raise Failed(f"{target.name} is in use; end the programs that use soban") from None


def native_library(folder: Path) -> Path | None:
    names = ("libsoban_native.so", "libsoban_native.dylib", "soban_native.dll")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def native_sources() -> list[Path]:
    """All that the native library is built from."""
    files = [path for path in (ROOT / "native").rglob("*") if path.is_file()]
    return sorted([*files, ROOT / "CMakeLists.txt"])


def digest(paths: list[Path]) -> str:
    """A hash of the files' names and contents, line ends aside."""
    whole = hashlib.sha256()
    for path in paths:
        if path.is_file():
            whole.update(f"{path.relative_to(ROOT).as_posix()}\n".encode())
            whole.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return whole.hexdigest()


def say(text: str) -> None:
    print(f"dev.py: {text} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
