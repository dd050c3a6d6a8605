"""What differs from system to system: cores, memory, and how much of it this process takes."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from soban.errors import UserError


def threads() -> int:
    """SOBAN_THREADS, or the number of fast cores that this process may use: affinity and cgroup quota respected."""
    if given := os.environ.get("SOBAN_THREADS"):
        if not given.isdecimal() or not 1 <= int(given) <= 1024:
            raise UserError(
                "SOBAN_THREADS={value}: not a number of threads", value=given, hint="give a number from 1 to 1024"
            )
        return int(given)
    cores = _fast_cores()
    quota = _cgroup_cores()
    return max(1, len(cores) if quota is None else min(len(cores), round(quota)))


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


def _cgroup_cores() -> float | None:
    """The CPU quota of this process's control group in cores, or None."""
    quota, _, period = _read_text("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        return int(quota) / int(period)
    old = _read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    return old / _read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us") if old > 0 else None


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
        limit, used = _read_text("/sys/fs/cgroup/memory.max"), _read_number("/sys/fs/cgroup/memory.current")
        if limit.isdecimal():
            file_pages = _cgroup_file_pages()
            here = int(limit) - used + file_pages
            return here if free is None else min(free, here)
        return free
    if sys.platform == "win32":
        return _windows_available_memory()
    return None


def _cgroup_file_pages() -> int:
    """Page-cache bytes charged to the control group, which give way when memory is asked for."""
    for line in _read_text("/sys/fs/cgroup/memory.stat").splitlines():
        if line.startswith("file "):
            return int(line.split()[1])
    return 0


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
