"""A file that is being fetched, in segments: what is there already is known to any later process.

Beside `<blob>.part` lies `<blob>.part.map`: a header, and for each segment how many of its bytes are written and
their checksum. Bytes are written before they are counted, so a killed process has lost none that it counted. After a
power cut a count may have reached the disk before its bytes: then the checksum differs, and the segment begins anew.
"""

import contextlib
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

SEGMENT = 64 << 20  # bytes: large, for each is a request; small enough that several connections share a file
HEADER = struct.Struct("<8sQQ")  # magic, the file's size, a segment's size
RECORD = struct.Struct("<QII")  # bytes that are there, their CRC-32, nothing
MAGIC = b"soban 1\n"
BLOCK = 1 << 20


class Partial:
    """The part of a file that is there. Threads may add to different segments; use `close` at the end."""

    def __init__(self, blob: Path, size: int) -> None:
        """What an earlier process has left of this blob, or a new beginning. Raises OSError."""
        self.blob, self.size = blob, size
        self.path, self._map_path = blob.with_name(blob.name + ".part"), blob.with_name(blob.name + ".part.map")
        self._lock = threading.Lock()
        self._counts: list[tuple[int, int]] = []  # bytes that are there, their checksum
        self.segment = SEGMENT
        if not self._recall():
            self._begin()

    def _recall(self) -> bool:
        """Opens what is there; False where it does not fit."""
        try:
            records = self._map_path.read_bytes()
            magic, size, self.segment = HEADER.unpack_from(records)
            if magic != MAGIC or size != self.size or self.segment < 1:
                return False
            if len(records) != HEADER.size + RECORD.size * self._segments():
                return False
            self._file = self.path.open("r+b", buffering=0)
            self._map = self._map_path.open("r+b", buffering=0)
        except (OSError, struct.error):
            return False
        for index, (there, checksum, _) in enumerate(RECORD.iter_unpack(records[HEADER.size :])):
            sound = there <= self._length(index) and self._is_sound(index, there, checksum)
            self._counts.append((there, checksum) if sound else (0, 0))
        return True

    def _is_sound(self, index: int, there: int, checksum: int) -> bool:
        """A whole segment was on the disk before it was counted; of any other the bytes are checked."""
        if there == self._length(index):
            return os.fstat(self._file.fileno()).st_size >= index * self.segment + there
        self._file.seek(index * self.segment)
        actual = 0
        while there > 0:
            block = self._file.read(min(BLOCK, there))
            if not block:
                return False
            actual, there = zlib.crc32(block, actual), there - len(block)
        return actual == checksum

    def _begin(self) -> None:
        self.segment, self._counts = SEGMENT, []
        self.blob.parent.mkdir(parents=True, exist_ok=True)
        self._counts = [(0, 0)] * self._segments()
        # the whole map at once: a disk that is full later has room for what is written over
        self._map = self._map_path.open("w+b", buffering=0)
        self._map.write(HEADER.pack(MAGIC, self.size, self.segment) + bytes(RECORD.size * self._segments()))
        self._file = self.path.open("w+b", buffering=0)

    def _segments(self) -> int:
        return -(-self.size // self.segment)

    def _length(self, index: int) -> int:
        return min(self.segment, self.size - index * self.segment)

    @property
    def done(self) -> int:
        """How many bytes are there."""
        return sum(there for there, _ in self._counts)

    def missing(self) -> list[int]:
        """The segments that are not whole."""
        return [index for index, (there, _) in enumerate(self._counts) if there < self._length(index)]

    def rest(self, index: int) -> tuple[int, int]:
        """(start, stop) in the file of what a segment still lacks."""
        start = index * self.segment
        return start + self._counts[index][0], start + self._length(index)

    def add(self, index: int, data: bytes) -> None:
        """Appends to a segment, which has room for it. Raises OSError; what fitted is counted."""
        view = memoryview(data)
        while view:
            with self._lock:
                there, checksum = self._counts[index]
                self._file.seek(index * self.segment + there)
                count = self._file.write(view)
                there, checksum = there + count, zlib.crc32(view[:count], checksum)
                if there == self._length(index) > BLOCK:
                    os.fsync(self._file.fileno())
                self._map.seek(HEADER.size + RECORD.size * index)
                self._map.write(RECORD.pack(there, checksum, 0))
                self._counts[index] = there, checksum
            view = view[count:]

    def fill(self, position: int, data: bytes) -> int:
        """Takes what is still missing of these bytes, which lie at `position`; how many that are."""
        count, end = 0, position + len(data)
        for index in range(position // self.segment, -(-end // self.segment)):
            start, stop = self.rest(index)
            if position <= start < min(end, stop):
                piece = data[start - position : min(end, stop) - position]
                self.add(index, piece)
                count += len(piece)
        return count

    def is_right(self, hash: str, progress: Callable[[int], None]) -> bool:
        """Whether the whole content has this hash: sha256 in 64 digits, or git's id of a blob in 40."""
        digest = hashlib.sha256() if len(hash) == 64 else hashlib.sha1(b"blob %d\0" % self.size)
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                progress(len(block))
        return digest.hexdigest() == hash

    def publish(self) -> None:
        """The whole file becomes the blob."""
        with self._lock:
            os.fsync(self._file.fileno())
        self.close()
        os.replace(self.path, self.blob)
        self._map_path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Forgets all that is there."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._map_path.unlink()  # first: bytes without counts are nothing
        self._begin()

    def close(self) -> None:
        with self._lock:
            self._file.close()
            self._map.close()


def there(blob: Path, size: int) -> int:
    """How many bytes of a blob an earlier process has fetched, as it counted them."""
    try:
        records = blob.with_name(blob.name + ".part.map").read_bytes()
        magic, whole, _ = HEADER.unpack_from(records)
        if magic != MAGIC or whole != size:
            return 0
        return min(size, sum(count for count, _, _ in RECORD.iter_unpack(records[HEADER.size :])))
    except (OSError, struct.error):
        return 0
