"""What differs from system to system: cores, memory and how much of it this process takes, the terminal."""

import contextlib
import json
import ntpath
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soban.errors import UserError

MOST_THREADS = 1024
SHORT_PATH = 150  # characters that leave room for what a model's folder holds, or a cache's


def threads() -> int:
    """SOBAN_THREADS, or the number of fast cores that this process may use: affinity and cgroup quota respected."""
    if given := os.environ.get("SOBAN_THREADS"):
        return checked_threads(given)
    cores = _fast_cores()
    quota = _cgroup_cores()
    return max(1, len(cores) if quota is None else min(len(cores), round(quota)))


def checked_threads(given: str) -> int:
    """A number of threads as a user wrote it. Raises UserError for what is none."""
    if not given.isdecimal() or not 1 <= int(given) <= MOST_THREADS:
        raise UserError(
            "SOBAN_THREADS={value}: not a number of threads", value=given, most=MOST_THREADS,
            hint="give a number from 1 to {most}",
        )  # fmt: skip
    return int(given)


def extended(path: Path) -> Path:
    """The path as Windows takes it where it, or what lies below it, may have more than 260 characters."""
    if sys.platform != "win32":
        return path
    full = ntpath.abspath(path)
    if len(full) < SHORT_PATH or full.startswith("\\\\?\\"):
        return path
    return Path("\\\\?\\UNC" + full[1:] if full.startswith("\\\\") else "\\\\?\\" + full)


def _fast_cores() -> set[int]:
    """One logical CPU for each physical core of the fastest kind among those that this process may use."""
    if sys.platform != "linux":
        return set(range(os.cpu_count() or 1))
    allowed = os.sched_getaffinity(0)
    speed = {cpu: _read_number(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq") for cpu in allowed}
    fastest = max(speed.values())
    # Turbo differs a little between equal cores; efficiency cores are slower by a quarter and more.
    fast = {cpu for cpu in allowed if speed[cpu] >= 0.8 * fastest}
    core = {cpu: _read_text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in fast}
    return {min(c for c in fast if core[c] == core[cpu]) if core[cpu] else cpu for cpu in fast}


def _cgroup_folders() -> list[Path]:
    """The control group of this process and those around it, each of which may set a limit (Linux, version 2)."""
    own = next((line[3:] for line in _read_text("/proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    folder = Path("/sys/fs/cgroup", own.lstrip("/"))
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to("/sys/fs/cgroup"))]


def _cgroup_cores() -> float | None:
    """The least CPU quota that holds for this process, in cores, or None."""
    quotas = []
    for folder in _cgroup_folders():
        quota, _, period = _read_text(f"{folder}/cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    if (old := _read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")) > 0:  # version 1
        quotas.append(old / _read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    return min(quotas, default=None)


def _cgroup_memory() -> int | None:
    """The least memory that the control groups still leave to this process, or None. Page cache gives way."""
    left = []
    for folder in _cgroup_folders():
        limit = _read_text(f"{folder}/memory.max")
        if limit.isdecimal():
            held = _read_text(f"{folder}/memory.stat").splitlines()
            cache = next((int(line.split()[1]) for line in held if line.startswith("file ")), 0)
            left.append(int(limit) - _read_number(f"{folder}/memory.current") + cache)
    return min(left, default=None)


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _read_number(path: str) -> int:
    text = _read_text(path)
    return int(text) if text.isdecimal() else 0


def available_memory() -> int | None:
    """Bytes that can be had without swapping, within the control group's limit; None where that is not known."""
    if sys.platform == "linux":
        lines = dict(line.split(":", 1) for line in _read_text("/proc/meminfo").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None
        return min((amount for amount in (free, _cgroup_memory()) if amount is not None), default=None)
    if sys.platform == "win32":
        return _windows_available_memory()
    return None


def _windows_available_memory() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32), ("load", ctypes.c_uint32), ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64), ("rest", ctypes.c_uint64 * 5),
        )  # fmt: skip

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (absent on other systems)
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in memory now: what only this process holds, and pages of mapped files that can be dropped."""

    anonymous: int
    mapped: int


def memory_use() -> MemoryUse | None:
    """This process's memory now; None where the system does not tell the two apart."""
    lines = dict(line.split(":", 1) for line in _read_text("/proc/self/status").splitlines() if ":" in line)
    if "RssAnon" not in lines:
        return None
    anonymous, mapped = (int(lines[key].split()[0]) * 1024 for key in ("RssAnon", "RssFile"))
    return MemoryUse(anonymous, mapped)


@contextlib.contextmanager
def silent_keys() -> Iterator[None]:
    """Keys that are pressed while nobody reads them are not echoed; they wait, line ends as they were typed.

    Ctrl-C stays the interrupt. Windows echoes only while somebody reads, so there is nothing to do there.
    """
    if sys.platform == "win32" or not os.isatty(0):
        yield
        return
    import termios

    before = termios.tcgetattr(0)
    silent = termios.tcgetattr(0)
    silent[0] &= ~termios.ICRNL
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def obeys_escapes() -> bool:
    """Whether stdout is a terminal that changes its look on request; Windows' consoles have to be asked first."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    if sys.platform != "win32":
        return os.environ.get("TERM", "dumb") != "dumb"
    import ctypes
    import msvcrt

    kernel, mode = getattr(ctypes, "windll").kernel32, ctypes.c_uint32()  # noqa: B009  (absent on other systems)
    handle = msvcrt.get_osfhandle(sys.stdout.fileno())
    virtual_terminal = 0x4
    known = kernel.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(known and kernel.SetConsoleMode(handle, mode.value | virtual_terminal))


class CacheUnavailableError(UserError):
    """The cache folder cannot be written."""


def cache_folder() -> Path:
    """Where soban keeps what it can make again: SOBAN_CACHE, or the system's place for such things."""
    if own := os.environ.get("SOBAN_CACHE"):
        return extended(Path(own))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return extended(Path(base) / "soban")


def recalled(name: str) -> dict[str, Any]:
    """What a JSON file of the cache folder remembers; nothing where it is missing or damaged."""
    try:
        found = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, UserError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(name: str, known: Mapping[str, object]) -> None:
    """Replaces such a file as a whole. Where the cache cannot be written, it is found out again the next time."""
    with contextlib.suppress(OSError, UserError):
        path = cache_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{name}.{os.getpid()}.tmp")
        new.write_text(json.dumps(known, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(new, path)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise CacheUnavailableError("no home folder to keep a cache in", hint="set SOBAN_CACHE to a folder") from error
