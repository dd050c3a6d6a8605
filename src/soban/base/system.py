"""What differs from system to system: cores, memory and how much of it this process takes, the terminal."""

import contextlib
import json
import ntpath
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from soban.base.errors import UserError
from soban.base.leftovers import remove_leftovers, temporary

MOST_THREADS = 1024
UNLIMITED = 1 << 62  # what the first version of control groups says where there is no limit is little above
LOW_PRIORITY = 10  # of niceness, 0 to 19
SHORT_PATH = 150  # characters that leave room for what a model's folder holds, or a cache's


def threads() -> int:
    """SOBAN_THREADS, or the number of fast cores that this process may use: affinity and cgroup quota respected."""
    if setting := os.environ.get("SOBAN_THREADS"):
        return checked_threads(setting)
    cores = fast_cores()
    quota = cgroup_cores()
    return max(1, len(cores) if quota is None else min(len(cores), round(quota)))


def checked_threads(text: str) -> int:
    """A number of threads as a user wrote it. Raises UserError for what is none."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise UserError(
            "SOBAN_THREADS={value}: not a number of threads", value=text, most=MOST_THREADS,
            hint="give a number from 1 to {most}",
        )  # fmt: skip
    return int(text)


def extended(path: Path) -> Path:
    """The path as Windows takes it where it, or what lies below it, may have more than 260 characters."""
    if sys.platform != "win32":
        return path
    full = ntpath.abspath(path)
    if len(full) < SHORT_PATH or full.startswith("\\\\?\\"):
        return path
    return Path("\\\\?\\UNC" + full[1:] if full.startswith("\\\\") else "\\\\?\\" + full)


def allowed_cores() -> int:
    """How many logical CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def fast_cores() -> set[int]:
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


def cgroup_cores() -> float | None:
    """The least CPU quota that holds for this process, in cores, or None."""
    quotas = []
    for folder in _cgroup_folders():
        quota, _, period = _read_text(f"{folder}/cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    if (old := _read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")) > 0:  # version 1
        quotas.append(old / _read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """The least memory that the control groups allow to this process, or None."""
    limits = [_read_text(f"{folder}/memory.max") for folder in _cgroup_folders()]
    limits += [_read_text(f"{folder}/memory.limit_in_bytes") for folder in _old_memory_folders()]
    return min((int(limit) for limit in limits if limit.isdecimal() and int(limit) < UNLIMITED), default=None)


def swap() -> tuple[int, int] | None:
    """Bytes of swap, and how many of them are free; None where the system does not tell."""
    if sys.platform == "win32":
        status = _windows_memory()
        if status is None:
            return None
        # Windows counts its page file together with the memory.
        total, free = (max(0, status.rest[i] - part) for i, part in ((0, status.total), (1, status.available)))
        return total, min(total, free)
    lines = dict(line.split(":", 1) for line in _read_text("/proc/meminfo").splitlines() if ":" in line)
    if "SwapTotal" not in lines or "SwapFree" not in lines:
        return None
    return int(lines["SwapTotal"].split()[0]) * 1024, int(lines["SwapFree"].split()[0]) * 1024


def _cgroup_memory() -> int | None:
    """The least memory that the control groups still leave to this process, or None. Page cache gives way."""
    left = []
    for folder in _cgroup_folders():
        limit = _read_text(f"{folder}/memory.max")
        if limit.isdecimal():
            stat = _read_text(f"{folder}/memory.stat").splitlines()
            cache = next((int(line.split()[1]) for line in stat if line.startswith("file ")), 0)
            left.append(int(limit) - _read_number(f"{folder}/memory.current") + cache)
    for folder in _old_memory_folders():
        limit = _read_text(f"{folder}/memory.limit_in_bytes")
        if limit.isdecimal() and int(limit) < UNLIMITED:
            lines = (line.split() for line in _read_text(f"{folder}/memory.stat").splitlines())
            cache = next((int(line[1]) for line in lines if line[0] == "total_cache"), 0)
            left.append(int(limit) - _read_number(f"{folder}/memory.usage_in_bytes") + cache)
    return min(left, default=None)


def _old_memory_folders() -> list[Path]:
    """The control group of memory of this process and those around it (Linux, version 1)."""
    lines = (line.split(":", 2) for line in _read_text("/proc/self/cgroup").splitlines())
    own = next((line[2] for line in lines if len(line) == 3 and "memory" in line[1].split(",")), None)
    if own is None:
        return []
    folder = Path("/sys/fs/cgroup/memory", own.lstrip("/"))
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to("/sys/fs/cgroup/memory"))]


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
        status = _windows_memory()
        return None if status is None else int(status.available)
    if sys.platform == "darwin":
        return _mac_available_memory()
    return None


def _mac_available_memory() -> int | None:
    """The share of memory that macOS calls free, of what is built in."""
    import ctypes

    values = []
    for name in (b"kern.memorystatus_level", b"hw.memsize"):
        value, size = ctypes.c_uint64(), ctypes.c_size_t(8)
        if ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0):
            return None
        values.append(value.value)
    return values[1] * values[0] // 100


def _windows_memory() -> Any:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32), ("load", ctypes.c_uint32), ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64), ("rest", ctypes.c_uint64 * 5),
        )  # fmt: skip

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (absent on other systems)
    return status if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


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


@dataclass(frozen=True)
class Paging:
    """Since some start: bytes that came from the disk for want of memory or at first use, and seconds of waiting.

    `stalled` counts only waiting for what had been thrown out, as far as the system tells; else it is None.
    """

    read: int
    stalled: float | None


def paging() -> Paging | None:
    """The counts now, of this process where they are kept by process; None where the system tells nothing."""
    if sys.platform == "linux":
        lines = dict(line.split(": ") for line in _read_text("/proc/self/io").splitlines())
        waited = _read_text("/proc/pressure/memory").partition("total=")[2].split()
        stalled = int(waited[0]) / 1e6 if waited and waited[0].isdecimal() else None
        return Paging(int(lines["read_bytes"]), stalled) if "read_bytes" in lines else None
    if sys.platform == "win32":
        return _windows_paging()
    import mmap
    import resource

    return Paging(resource.getrusage(resource.RUSAGE_SELF).ru_majflt * mmap.PAGESIZE, None)


def _windows_paging() -> Paging | None:
    """Pages that all processes together have read from the disk: Windows has no such count for each."""
    import ctypes

    information, page_reads, page = ctypes.create_string_buffer(1024), 80, 4096
    query = getattr(ctypes, "windll").ntdll.NtQuerySystemInformation  # noqa: B009  (absent on other systems)
    system_performance = 2
    if query(system_performance, information, len(information), None):
        return None
    return Paging(int.from_bytes(information.raw[page_reads : page_reads + 4], "little") * page, None)


def forget_pages(file: BinaryIO, start: int, size: int) -> bool:
    """Drops a part of a file from memory, so that it comes from the disk; False where that cannot be asked for."""
    if sys.platform != "linux":
        return False
    os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_DONTNEED)
    return True


def give_way() -> None:
    """Other programs get the processor first. A priority that was set from outside stays."""
    if sys.platform != "win32":
        if os.nice(0) == 0:
            os.nice(LOW_PRIORITY)
        return
    try:
        import psutil
    except ImportError:
        return  # a training without it only runs at the usual priority
    own = psutil.Process()
    if own.nice() == psutil.NORMAL_PRIORITY_CLASS:
        own.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)


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
    is_console = kernel.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(is_console and kernel.SetConsoleMode(handle, mode.value | virtual_terminal))


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


def state_folder() -> Path:
    """Where soban keeps what it remembers of its use, and what is to outlive a cache."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state"
    return extended(Path(base) / "soban")


def share_heap() -> None:
    """From now on all threads take memory from one heap (glibc): else each keeps what it has given back for itself."""
    import ctypes

    most_arenas = -8  # M_ARENA_MAX, malloc.h
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(most_arenas, 1)


def recalled(name: str) -> dict[str, Any]:
    """What a JSON file of the cache folder remembers; nothing where it is missing or damaged."""
    try:
        value = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
    except (OSError, UserError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def remember(name: str, records: Mapping[str, object]) -> None:
    """Replaces such a file as a whole. Where the cache cannot be written, it is found out again the next time."""
    with contextlib.suppress(OSError, UserError):
        path = cache_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        new = temporary(path)
        new.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(new, path)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise CacheUnavailableError("no home folder to keep a cache in", hint="set SOBAN_CACHE to a folder") from error


def silence_terminal() -> Any:
    """Lets the terminal of stdin keep what is typed, without echo or lines; what it was like, for `restore_terminal`.

    None on Windows, where a terminal echoes only while somebody reads.
    """
    if sys.platform == "win32":
        return None
    import termios

    before, silent = termios.tcgetattr(0), termios.tcgetattr(0)
    silent[0] &= ~termios.ICRNL
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSADRAIN, silent)
    return before


def restore_terminal(before: Any) -> None:
    """Makes the terminal of stdin what it was."""
    if sys.platform != "win32" and before is not None:
        import termios

        termios.tcsetattr(0, termios.TCSADRAIN, before)


def typed_ahead() -> str:
    """What has been typed up to now and read by nobody; "" where that cannot be known."""
    if sys.platform == "win32":
        return ""
    import fcntl
    import struct
    import termios

    try:
        (count,) = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, struct.pack("i", 0)))
        return os.read(0, count).decode("utf-8", "replace") if count else ""
    except OSError:
        return ""
