"""What a built library or object file is and gives away: ELF, Mach-O and PE/COFF, read without foreign tools."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
MACH_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
MACH_OWN = ("__dso_handle", "_mh_dylib_header")  # zig's linker adds them
PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}


@dataclass(frozen=True)
class Binary:
    """Kind ("linux", "macos", "windows"), machine, names exported, and functions that another file may stand in for."""

    system: str
    machine: str
    exports: frozenset[str]
    weak: frozenset[str]


def read(data: bytes) -> Binary:
    """A 64-bit, little-endian shared library or object file. Raises ValueError for anything else."""
    try:
        return _read(data)
    except struct.error as error:
        raise ValueError("the file is cut off") from error


def _read(data: bytes) -> Binary:
    if data[:6] == b"\x7fELF\x02\x01":
        return _elf(data)
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return _mach(data)
    if data[:2] == b"MZ":
        return _pe(data, _at(data, "<I", 0x3C)[0] + 4)
    if _at(data, "<H", 0)[0] in PE_MACHINES:
        return _pe(data, 0)
    raise ValueError("neither ELF nor Mach-O nor PE, of 64 bits")


def _at(data: bytes, form: str, place: int) -> tuple[int, ...]:
    return struct.unpack_from(form, data, place)


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()


def _elf(data: bytes) -> Binary:
    kind, machine = _at(data, "<HH", 16)
    place, size, count = _at(data, "<Q", 40)[0], *_at(data, "<HH", 58)
    sections = [_at(data, "<IIQQQQIIQQ", place + i * size) for i in range(count)]
    wanted = 11 if kind == 3 else 2  # a library's dynamic symbols, an object's own
    exports, weak = set(), set()
    for _, section, _, _, offset, length, link, *_ in sections:
        if section != wanted:
            continue
        for at in range(offset, offset + length, 24):
            name, info, visibility, home = _at(data, "<IBBH", at)
            bind, outside = info >> 4, visibility & 3 in (0, 3)
            if home == 0 or bind == 0:  # not defined here, or local
                continue
            text = _text(data, sections[link][4] + name)
            if outside or kind == 1:
                exports.add(text)
            if bind != 1 and info & 15 == 2:
                weak.add(text)
    return Binary("linux", ELF_MACHINES.get(machine, str(machine)), frozenset(exports), frozenset(weak))


def _mach_commands(data: bytes) -> Iterator[tuple[int, int]]:
    at = 32
    for _ in range(_at(data, "<I", 16)[0]):
        command, size = _at(data, "<II", at)
        yield command, at
        at += size


def _mach(data: bytes) -> Binary:
    exports, weak = set(), set()
    for command, at in _mach_commands(data):
        if command != 2:  # LC_SYMTAB
            continue
        symbols, count, strings = _at(data, "<III", at + 8)
        for i in range(count):
            name, kind, _, description = _at(data, "<IBBH", symbols + 16 * i)
            if kind & 0xE0 or kind & 0x0E != 0x0E:  # for debuggers, or not defined here
                continue
            text = _text(data, strings + name).removeprefix("_")
            if kind & 0x11 == 0x01 and text not in MACH_OWN:  # to be seen from outside, and not only within the file
                exports.add(text)
            if description & 0x80:
                weak.add(text)
    machine = _at(data, "<I", 4)[0]
    return Binary("macos", MACH_MACHINES.get(machine, str(machine)), frozenset(exports), frozenset(weak))


def _pe(data: bytes, header: int) -> Binary:
    machine, count, _, symbols, symbol_count, optional = _at(data, "<HHIIIH", header)
    sections = header + 20 + optional
    if optional:
        exports, weak = _pe_exports(data, header + 20, sections, count), set()
    else:
        exports, weak = _coff_symbols(data, sections, symbols, symbol_count)
    return Binary("windows", PE_MACHINES[machine], frozenset(exports), frozenset(weak))


def _pe_exports(data: bytes, optional: int, sections: int, count: int) -> set[str]:
    def place(address: int) -> int:
        for i in range(count):
            size, start, _, offset = _at(data, "<IIII", sections + 40 * i + 8)
            if start <= address < start + size:
                return offset + address - start
        raise ValueError(f"no section has the address {address:#x}")

    table = _at(data, "<I", optional + 112)[0]
    if not table:
        return set()
    names, first = _at(data, "<I", place(table) + 24)[0], _at(data, "<I", place(table) + 32)[0]
    return {_text(data, place(_at(data, "<I", place(first) + 4 * i)[0])) for i in range(names)}


def _coff_symbols(data: bytes, sections: int, symbols: int, count: int) -> tuple[set[str], set[str]]:
    """External symbols of an object file, and those functions of them that lie in sections shared between files."""
    exports, weak = set(), set()
    strings, i = symbols + 18 * count, 0
    while i < count:
        name, _, section, kind, storage, more = struct.unpack_from("<8sIhHBB", data, symbols + 18 * i)
        text = _text(data, strings + _at(name, "<I", 4)[0]) if name[:4] == b"\0" * 4 else name.rstrip(b"\0").decode()
        if storage in (2, 105) and section > 0:
            exports.add(text)
            shared = _at(data, "<I", sections + 40 * (section - 1) + 36)[0] & 0x1000  # IMAGE_SCN_LNK_COMDAT
            if kind == 0x20 and (shared or storage == 105):
                weak.add(text)
        i += 1 + more
    return exports, weak
