"""What this PC has and what of it soban can use: processor, instruction sets, memory, disks; each problem with a cure.

Nothing heavy is imported at the top, and what fails to import is a finding: a broken installation is what this is for.
"""

import ctypes
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from soban.base import machine, system
from soban.base.errors import Finding, UserError
from soban.base.files import on_disk
from soban.base.units import of_bytes

Report = dict[str, Any]
PACKAGE = Path(__file__).resolve().parents[1]
LITTLE_MEMORY = 1_200_000_000  # bytes: a model of 1 to 2 billion weights in 4 bits, and the program around it
LITTLE_DISK = 6_000_000_000  # bytes: a model of 2 billion weights in 16 bits, or its packed forms
MOST_ENTRIES = 20_000  # of a folder whose size is asked for


def checkup(network: bool = False) -> Report:
    """All of it in plain values, findings as `Finding`, no secrets. `network`: the hub is asked, too."""
    from soban.measure import surroundings

    findings: list[Finding] = []
    report: Report = {
        "soban": surroundings.installation(findings),
        "processor": processor(findings),
        "memory": memory(findings),
        "disks": disks(findings),
        "packages": surroundings.packages(findings),
        "hub": surroundings.hub(findings),
        "terminal": surroundings.terminal(findings),
        "environment": surroundings.environment(findings),
    }
    if network:
        report["network"] = surroundings.network(findings)
    report["findings"] = sorted(findings, key=lambda finding: finding.level == "note")
    return {name: surroundings.cleaned(part, surroundings.without_secrets) for name, part in report.items()}


def processor(findings: list[Finding]) -> Report:
    """The processor, its cores, and the instruction sets that it claims and keeps."""
    logical, allowed = os.cpu_count() or 1, system.allowed_cores()
    try:
        threads = system.threads()
    except UserError as error:
        findings.append(Finding("threads-wrong", error, "SOBAN_THREADS", os.environ.get("SOBAN_THREADS")))
        threads = None
    if threads is not None and threads > allowed:
        findings.append(
            Finding(
                "threads-many",
                UserError(
                    "{threads} threads for {cores} cores make everything slower", threads=threads, cores=allowed,
                    hint="unset SOBAN_THREADS",
                ),
                "SOBAN_THREADS", threads,
            )
        )  # fmt: skip
    if allowed < logical:
        findings.append(
            Finding(
                "cores-few",
                UserError(
                    "this process may use {allowed} of {cores} cores", allowed=allowed, cores=logical,
                    hint="a container's or a task's setting says so; give it more, if it is yours to give",
                ),
                value=allowed, level="note",
            )
        )  # fmt: skip
    return {
        "name": machine.cpu_name(), "architecture": platform.machine(), "system": machine.system_name(),
        "cores": logical, "allowed": allowed, "quota": system.cgroup_cores() if sys.platform == "linux" else None,
        "fast": len(system.fast_cores()), "threads": threads, "library": library(findings),
    }  # fmt: skip


def library(findings: list[Finding]) -> Report:
    """The native library, and what becomes of each instruction set that it knows."""
    path = next(iter(sorted(PACKAGE.glob("*soban_native.*"))), None)
    report: Report = {"path": None if path is None else str(path), "version": None, "sets": [], "chosen": None}
    if path is None:
        findings.append(
            Finding(
                "library-missing",
                UserError(
                    "the native library is missing, so NumPy computes: expect a tenth of the speed or less",
                    hint="install the wheel for this system (pip install --force-reinstall soban), or build it with "
                    "pip install .",
                ),
            )
        )  # fmt: skip
        return report
    try:
        report["version"] = ctypes.CDLL(str(path)).soban_abi()
    except (OSError, AttributeError) as error:
        findings.append(
            Finding(
                "library-broken",
                UserError(
                    "the native library cannot be loaded: {reason}", reason=error,
                    hint="install the wheel for this system: pip install --force-reinstall soban",
                ),
                str(path),
            )
        )  # fmt: skip
        return report
    try:
        from soban.ops import native
    except Exception:  # NumPy's trouble, which `packages` tells
        return report
    if report["version"] != native.ABI:
        findings.append(
            Finding(
                "library-old",
                UserError(
                    "the native library is of another version ({held}; this soban needs {wanted})",
                    held=report["version"], wanted=native.ABI,
                    hint="install soban anew: pip install --force-reinstall soban",
                ),
                str(path), report["version"],
            )
        )  # fmt: skip
        return report
    report["sets"] = _instruction_sets(path)
    report["chosen"] = _choose_set(report["sets"], findings)
    return report


def _instruction_sets(path: Path) -> list[Report]:
    """Those that the processor claims, the fastest last, and whether each was found to work."""
    from soban.ops import native, probe

    return [
        {"name": name, "works": probe.works(path, name, native.ISAS.index(name))} for name in native.isas()
    ]  # fmt: skip


def _choose_set(sets: list[Report], findings: list[Finding]) -> str | None:
    """The set that computes: as `native.chosen_isa` takes it, with findings in place of its notes."""
    from soban.ops import native

    isa = os.environ.get("SOBAN_ISA")
    if isa is not None:
        try:
            return native.chosen_isa()
        except UserError as error:
            findings.append(Finding("instructions-wrong", error, "SOBAN_ISA", isa))
            return None
    best = next((one["name"] for one in reversed(sets) if one["works"]), None)
    for one in sets:
        if not one["works"]:
            findings.append(
                Finding(
                    "instructions-broken",
                    UserError(
                        "this processor claims {isa} and fails with it, so {next} takes its place", isa=one["name"],
                        next=best, hint="nothing is to be done; a virtual machine may promise what its host lacks",
                    ),
                    value=one["name"], level="note",
                )
            )  # fmt: skip
    if best == "scalar":
        findings.append(
            Finding(
                "instructions-slow",
                UserError(
                    "this processor has neither AVX2 nor ARM's dot products, so plain code computes, several times "
                    "slower", hint="take small models; in a virtual machine, pass the host's processor through",
                ),
                value=best,
            )
        )  # fmt: skip
    return best


def memory(findings: list[Finding]) -> Report:
    """What is built in, free, allowed, and how much swap there is; bytes, None where that is not told."""
    built_in, free, limit = machine.memory_bytes(), system.available_memory(), None
    if sys.platform == "linux":
        limit = system.memory_limit()
    swap = system.swap()
    if free is not None and free < LITTLE_MEMORY:
        findings.append(
            Finding(
                "memory-little",
                UserError(
                    "only {free} of memory are free", free=of_bytes(free),
                    hint="close other programs, or take a model below 1 billion weights",
                ),
                value=free,
            )
        )  # fmt: skip
    if limit is not None and limit < built_in:
        findings.append(
            Finding(
                "memory-limited",
                UserError(
                    "a control group allows {limit} of the {memory} of memory", limit=of_bytes(limit),
                    memory=of_bytes(built_in), hint="a container's setting; soban keeps to it",
                ),
                value=limit, level="note",
            )
        )  # fmt: skip
    return {
        "built_in": built_in, "free": free, "limit": limit, "swap": None if swap is None else swap[0],
        "swap_free": None if swap is None else swap[1],
    }  # fmt: skip


def disks(findings: list[Finding]) -> list[Report]:
    """The folders that soban fills: how much they hold, and how much room there is."""
    from soban.hub import place

    folders = (
        ("packed", system.cache_folder, "SOBAN_CACHE"),
        ("models", lambda: place.check_cache(place.cache_folder()), "HF_HOME"),
        ("temporary", lambda: Path(tempfile.gettempdir()), "TMPDIR"),
    )
    reports = []
    for name, where, variable in folders:
        try:
            folder = where()
            reports.append(_disk(name, folder, variable, findings))
        except (UserError, OSError) as error:
            problem = (
                error
                if isinstance(error, UserError)
                else UserError(
                    "{problem}",
                    problem=error,
                    hint="see that {variable} names a folder that can be read",
                    variable=variable,
                )
            )
            findings.append(Finding("folder-unusable", problem, variable))
    return reports


def _disk(name: str, folder: Path, variable: str, findings: list[Finding]) -> Report:
    """One folder; where it is not there yet, the nearest one above it."""
    import shutil

    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    usage, writable = shutil.disk_usage(there), os.access(there, os.W_OK) and there.is_dir()
    if not writable:
        findings.append(
            Finding(
                "folder-unwritable",
                UserError(
                    "{path} cannot be written", path=there, variable=variable,
                    hint="set {variable} to a folder of your own, or mend its permissions",
                ),
                variable, str(folder),
            )
        )  # fmt: skip
    elif usage.free < LITTLE_DISK and name != "temporary":
        findings.append(
            Finding(
                "disk-full",
                UserError(
                    "{path}: only {free} of disk are free", path=there, free=of_bytes(usage.free), variable=variable,
                    hint="delete models that you do not need, or set {variable} to a folder on another disk",
                ),
                variable, usage.free,
            )
        )  # fmt: skip
    bytes, whole = folder_bytes(folder) if name != "temporary" else (None, True)
    return {
        "name": name, "path": str(folder), "there": folder.is_dir(), "writable": writable, "free": usage.free,
        "total": usage.total, "bytes": bytes, "counted": whole,
    }  # fmt: skip


def folder_bytes(folder: Path) -> tuple[int, bool]:
    """What the files below a folder take, links left out; False where there were too many to count all."""
    total, left, waiting = 0, MOST_ENTRIES, [str(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        left -= len(entries)
        if left < 0:
            return total, False
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += on_disk(entry.stat(follow_symlinks=False))
            except OSError:
                continue
    return total, True
