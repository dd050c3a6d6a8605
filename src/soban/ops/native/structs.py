"""The plain data of native/soban.h that a run is given, for ctypes."""

from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p


class View(Structure):
    _fields_ = (
        ("offset", c_int64), ("stride", c_int32), ("columns", c_int32), ("rows", c_int32), ("unused", c_int32),
    )  # fmt: skip


class Part(Structure):
    _fields_ = (
        ("data", c_void_p), ("format", c_int32), ("rows", c_int32), ("columns", c_int32), ("unused", c_int32),
    )  # fmt: skip


class Vector(Structure):
    _fields_ = (("data", c_void_p), ("count", c_int64))


class Instruction(Structure):
    _fields_ = (
        ("op", c_int32), ("slot", c_int32), ("first_part", c_int32), ("part_count", c_int32), ("first_vector", c_int32),
        ("unused", c_int32), ("i", c_int32 * 4), ("f", c_float * 4), ("out", View), ("a", View), ("b", View),
        ("c", View),
    )  # fmt: skip


class ProgramStruct(Structure):
    _fields_ = (
        ("instructions", POINTER(Instruction)), ("parts", POINTER(Part)), ("vectors", POINTER(Vector)),
        ("instruction_count", c_int32), ("part_count", c_int32), ("vector_count", c_int32), ("unused", c_int32),
    )  # fmt: skip


class BatchStruct(Structure):
    _fields_ = (
        ("tokens", c_int32), ("sequences", c_int32), ("outputs", c_int32), ("table_stride", c_int32),
        ("token_ids", c_void_p), ("positions", c_void_p), ("starts", c_void_p), ("tables", c_void_p),
        ("output_rows", c_void_p), ("adapters", c_void_p), ("types", c_void_p), ("states", c_void_p),
    )  # fmt: skip


class LayerStruct(Structure):
    _fields_ = (
        ("keys", c_void_p), ("values", c_void_p), ("states", c_void_p), ("state_floats", c_int64), ("heads", c_int32),
        ("size", c_int32),
    )  # fmt: skip


class CacheStruct(Structure):
    _fields_ = (
        ("layers", POINTER(LayerStruct)), ("layer_count", c_int32), ("format", c_int32), ("pages", c_int32),
        ("unused", c_int32),
    )  # fmt: skip


class PieceStruct(Structure):
    _fields_ = (
        ("a", c_void_p), ("b", c_void_p), ("format", c_int32), ("rank", c_int32), ("first", c_int32),
        ("rows", c_int32), ("scale", c_float), ("unused", c_int32),
    )  # fmt: skip


class AdapterStruct(Structure):
    _fields_ = (("pieces", POINTER(PieceStruct)), ("starts", POINTER(c_int32)))


class AdaptersStruct(Structure):
    _fields_ = (("adapters", POINTER(AdapterStruct)), ("count", c_int32), ("unused", c_int32))
