"""What PC this is: processor, cores, memory, system."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A PC as its owner would name it; memory in bytes, 0 where it is not told."""

    cpu: str
    cores: int
    memory: int
    system: str


def this_machine() -> Machine:
    return Machine(cpu_name(), os.cpu_count() or 1, memory_bytes(), system_name())


def cpu_name() -> str:
    """The processor's name as its maker gives it, else its architecture."""
    if sys.platform == "linux":
        name = _linux_cpu()
    elif sys.platform == "darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    elif sys.platform == "win32":
        name = _windows_cpu()
    else:
        name = ""
    return " ".join(name.split()) or platform.processor() or platform.machine()


def _linux_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")


def _windows_cpu() -> str:
    if sys.platform != "win32":
        return ""
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
    except OSError:
        return ""


def memory_bytes() -> int:
    """Memory that is built in."""
    if sys.platform == "win32":
        kilobytes = ctypes.c_uint64()
        ask = getattr(ctypes, "windll").kernel32.GetPhysicallyInstalledSystemMemory  # noqa: B009
        return int(kilobytes.value) * 1024 if ask(ctypes.byref(kilobytes)) else 0
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def system_name() -> str:
    """Name and release of the operating system."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            pass
    return f"{platform.system()} {platform.release()}"


def _output(*command: str) -> str:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
