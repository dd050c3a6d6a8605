"""Whether an instruction set that the processor claims really works here: tried once in a child process, remembered.

Every claim is doubtful until this build of the library has kept it on this processor under this system: virtual
machines pass on bits of hosts that they do not run on, and a process cannot survive an instruction that is none.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from soban.base import system

MEMORY = "instruction-sets.json"  # in the cache folder
SECONDS = 20.0  # for what takes some hundredths
WORKS, BROKEN = 60, 61  # exit codes of the child that no failure of Python's has
CHILD = """
import ctypes, sys
if sys.platform == "win32":
    ctypes.windll.kernel32.SetErrorMode(3)  # die without a window
library = ctypes.CDLL(sys.argv[1])
sys.exit(60 if library.soban_isa_works(int(sys.argv[2])) else 61)
"""


def works(library: Path, isa: str, number: int) -> bool:
    """Whether an instruction set, of this number in native/soban.h, computes here what plain code does.

    True, too, where no child process can be had to find out.
    """
    if isa == "scalar":
        return True
    key = f"{isa} {_surroundings(library)}"
    verdicts = system.recalled(MEMORY)
    if not isinstance(verdicts.get(key), bool):
        verdict = _try(library, number)
        if verdict is None:
            return True
        verdicts[key] = verdict
        system.remember(MEMORY, verdicts)
    return bool(verdicts[key])


def _try(library: Path, number: int) -> bool | None:
    """What a child process says that uses each kernel; None where none can be started."""
    if not Path(sys.executable or "").stem.lower().startswith(("python", "pypy")):
        return None  # Python inside of another program, which is not ours to start
    command = [sys.executable, "-I", "-S", "-c", CHILD, str(library), str(number)]
    try:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        ).returncode  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if code == WORKS:
        return True
    # A signal is negative, and an exception of Windows has its highest bits set. The rest is Python's own trouble.
    return False if code == BROKEN or code < 0 or code >= 0xC0000000 else None


@functools.cache
def _surroundings(library: Path) -> str:
    """A hash of what a verdict depends on: the processor, the build of the library, the system."""
    state = library.stat()
    whole = (_processor(), state.st_size, state.st_mtime_ns, sys.platform, platform.release())
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]


def _processor() -> str:
    """A name that differs where processors do, within some tenths of a millisecond."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb") as file:  # its first processor is enough
            words = file.read(4096).split(b"\n\n")[0].decode("utf-8", "replace").splitlines()
            keys = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags", "CPU", "Features")
            return " ".join(line for line in words if line.startswith(keys))
    if sys.platform == "darwin":
        return _sysctl(b"machdep.cpu.brand_string")
    return os.environ.get("PROCESSOR_IDENTIFIER", platform.machine())


def _sysctl(name: bytes) -> str:
    """What the kernel of macOS says; the command of that name would take a process."""
    value, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).sysctlbyname(name, value, ctypes.byref(size), None, 0)
    return value.value.decode("utf-8", "replace")
