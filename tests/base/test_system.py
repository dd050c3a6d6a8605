"""Cores and memory: what the machine has, what this process may use of it."""

import os
import platform
import subprocess
import sys

import pytest

from soban.base import system
from soban.base.errors import UserError

FILES = {
    "/proc/self/cgroup": "0::/user/box",
    "/proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable:   8000000 kB",
    "/sys/fs/cgroup/user/box/cpu.max": "max 100000",
    "/sys/fs/cgroup/user/cpu.max": "250000 100000",
    "/sys/fs/cgroup/user/box/memory.max": "3000000000",
    "/sys/fs/cgroup/user/box/memory.current": "2500000000",
    "/sys/fs/cgroup/user/box/memory.stat": "anon 400000000\nfile 2000000000",
    "/sys/fs/cgroup/user/memory.max": "max",
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A Linux machine made of the files above; 2 fast cores of 2 threads each, and 4 slow ones."""
    files = dict(FILES)
    for cpu in range(8):
        base = f"/sys/devices/system/cpu/cpu{cpu}"
        files[f"{base}/cpufreq/cpuinfo_max_freq"] = "4700000" if cpu < 4 else "3500000"
        files[f"{base}/topology/thread_siblings_list"] = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" if cpu < 4 else str(cpu)
    monkeypatch.setattr(system, "_read_text", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("SOBAN_THREADS", raising=False)
    return files


def test_one_thread_for_each_fast_core(machine: dict[str, str]) -> None:
    assert system.threads() == 2


def test_a_quota_of_an_outer_control_group_holds(machine: dict[str, str]) -> None:
    machine["/sys/fs/cgroup/user/cpu.max"] = "100000 100000"
    assert system.threads() == 1
    machine["/sys/fs/cgroup/user/cpu.max"] = "20000 100000"
    assert system.threads() == 1


def test_affinity_holds_also_where_only_slow_cores_are_left(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 6, 7}, raising=False)
    assert system.threads() == 2  # three cores, but the quota is 2.5
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert system.threads() == 1


def test_machines_that_tell_nothing_use_what_affinity_allows(
    machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert system.threads() == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", "1e9", "5000"])
def test_a_wrong_number_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOBAN_THREADS", value)
    with pytest.raises(UserError, match=value):
        system.threads()


def test_memory_is_what_the_control_group_leaves_where_that_is_less(machine: dict[str, str]) -> None:
    assert system.available_memory() == 3_000_000_000 - 2_500_000_000 + 2_000_000_000
    machine["/sys/fs/cgroup/user/box/memory.max"] = "max"
    assert system.available_memory() == 8_000_000 * 1024


def test_control_groups_of_the_first_version_count_without_their_page_cache(machine: dict[str, str]) -> None:
    machine["/proc/self/cgroup"] = "5:memory:/user/box\n1:cpu:/\n0::/"
    group = "/sys/fs/cgroup/memory/user"
    machine |= {
        f"{group}/box/memory.limit_in_bytes": str(2**63 - 4096),  # none
        f"{group}/memory.limit_in_bytes": "2000000000", f"{group}/memory.usage_in_bytes": "1500000000",
        f"{group}/memory.stat": "cache 1\nrss 2\ntotal_cache 700000000\ntotal_rss 800000000",
    }  # fmt: skip
    assert system.available_memory() == 2_000_000_000 - 1_500_000_000 + 700_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_use_grows_by_what_is_held() -> None:
    before = system.memory_use()
    block = bytearray(b"x" * (64 << 20))
    after = system.memory_use()
    assert before and after and after.anonymous - before.anonymous > 60 << 20
    assert len(block) == 64 << 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has a heap for each thread")
def test_threads_share_one_heap_where_they_are_told_to() -> None:
    code = """
import ctypes, sys, threading
from soban.base import system
if sys.argv[1] == "shared":
    system.share_heap()
libc, together = ctypes.CDLL(None), threading.Barrier(6)
libc.malloc.restype = ctypes.c_void_p
def take():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_stats()
"""
    heaps = {}
    for word in ("shared", "own"):
        done = subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True)
        heaps[word] = done.stderr.count("Arena ")
    assert heaps["shared"] == 1 < heaps["own"]
