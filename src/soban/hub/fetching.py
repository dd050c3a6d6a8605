"""Several connections that fill partial files: retried, checked, and no more of them than help."""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.hub import access, place, remote, session
from soban.hub.choosing import RemoteFile
from soban.hub.partial import Partial
from soban.hub.remote import Listing
from soban.messages import warn

WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds after failures that followed one another without a byte between
MOST = 8  # connections
SMALL = 8 << 20  # bytes up to which a file takes longer to ask for than to fetch
SMALL_AT_ONCE = 4
WINDOW = 1.5  # seconds over which a number of connections is judged
GAIN = 1.15  # times the speed that twice the connections must bring
SLOWEST, PATIENCE = 200.0, 60.0  # bytes per second that a connection brings at least, or is made anew; seconds
CHECK = -1  # stands for a segment: all are there, and the whole is to be checked
MEMORY = 6.0  # seconds over which the speed is averaged
TICK = 0.2
NETWORK = "network.json"  # in soban's cache folder: how fast the last large download was
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TELLING = 50 << 20  # bytes from which on a download tells how fast the network is


@dataclass(frozen=True)
class Progress:
    """How far a transfer is."""

    done: int  # bytes
    total: int
    speed: float = 0.0  # bytes per second
    phase: Literal["fetching", "checking", "retrying", "waiting", "copying"] = "fetching"
    note: str = ""  # why it will be tried again, in the user's language

    @property
    def left(self) -> float | None:
        """Seconds; None where there is no speed to tell them from."""
        return (self.total - self.done) / self.speed if self.speed > 0 else None


class Speed:
    """Bytes per second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, count: int) -> float:
        now = time.monotonic()
        self._seen.append((now, count))
        while now - self._seen[0][0] > MEMORY and len(self._seen) > 2:
            self._seen.popleft()
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return max(0.0, (after - before) / (end - start)) if end > start else 0.0


class Width:
    """How many connections: twice as many, as long as that makes it faster."""

    def __init__(self) -> None:
        self.now = 1
        self._rate, self._settled = 0.0, False
        self._since, self._done = 0.0, 0

    def look(self, count: int, busy: bool) -> None:
        """Judges the window that has passed, if one has in which all were `busy`."""
        now = time.monotonic()
        if not busy or not self._since:
            self._since, self._done = now, count
        if self._settled or now - self._since < WINDOW:
            return
        rate = (count - self._done) / (now - self._since)
        self._since, self._done = now, count
        if rate < GAIN * self._rate or self.now == MOST:
            self._settled = True
            self.now = self.now if rate >= GAIN * self._rate else max(1, self.now // 2)
        elif rate > 0:
            self._rate, self.now = rate, min(MOST, 2 * self.now)


@dataclass
class Job:
    """A file to fetch."""

    file: RemoteFile
    partial: Partial
    taken: set[int] = field(default_factory=set)  # segments that a connection is at
    alone: bool = False  # its server sends no parts: one connection brings it from the beginning
    wrong: int = 0  # how often its hash was wrong
    finished: bool = False


class Fetching:
    """Fetches files until all are there and right. `run` once."""

    def __init__(
        self, listing: Listing, jobs: Sequence[Job], token: str | None, there: int, report: Callable[[Progress], None]
    ) -> None:
        """`there`: the bytes of files that are here already; with them progress counts the whole model."""
        self._listing, self._jobs, self._token, self._report = listing, jobs, token, report
        self._total = there + sum(job.file.size for job in jobs)
        self._done = there + sum(job.partial.done for job in jobs)
        self._changed = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self._failures, self._done_at_failure = 0, -1
        self._pause_until, self._why = 0.0, ""
        self._width, self._speed = Width(), Speed()

    def run(self) -> None:
        """Raises UserError where it cannot be done, OSError where it cannot be written, KeyboardInterrupt at Ctrl-C.

        What is fetched stays.
        """
        started, before = time.monotonic(), self._done
        if before < self._total:
            self._report(self._progress())  # before anything comes: how much there is to fetch
        with session.open_client() as client:
            count = min(MOST, sum(len(job.partial.missing()) or 1 for job in self._jobs))
            threads = [threading.Thread(target=self._work, args=(client,), daemon=True) for _ in range(count)]
            for thread in threads:
                thread.start()
            try:
                while not self._is_over():
                    with self._changed:
                        self._changed.wait(TICK)
                    self._width.look(self._done, self._large() == self._width.now)
                    self._report(self._progress())
            finally:
                with self._changed:
                    self._stopped = True
                    self._changed.notify_all()
                end = time.monotonic() + 1.0  # one that waits for a silent server ends with its process
                for thread in threads:
                    thread.join(timeout=max(0.0, end - time.monotonic()))
                for job in self._jobs:
                    job.partial.close()
        if self._error is not None:
            raise self._error
        self._report(self._progress())
        seconds = time.monotonic() - started
        if self._done - before >= TELLING:
            system.remember(NETWORK, {"bytes_per_second": (self._done - before) / seconds})

    def _is_over(self) -> bool:
        return self._error is not None or all(job.finished for job in self._jobs)

    def _progress(self) -> Progress:
        speed = self._speed(self._done)
        if time.monotonic() < self._pause_until:
            return Progress(self._done, self._total, 0.0, "retrying", self._why)
        busy = set().union(*(job.taken for job in self._jobs))
        return Progress(self._done, self._total, speed, "checking" if busy == {CHECK} else "fetching")

    def _work(self, client: session.Client) -> None:
        """One connection, until nothing is left or something went wrong for good."""
        try:
            while (piece := self._take()) is not None:
                job, index = piece
                try:
                    if index == CHECK:
                        self._finish(job)
                    else:
                        self._fetch(client, job, index)
                except session.Unavailable as unavailable:
                    self._failed(unavailable)
                finally:
                    with self._changed:
                        job.taken.discard(index)
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = self._error or self._in_words(error)
                self._stopped = True
                self._changed.notify_all()

    def _take(self) -> tuple[Job, int] | None:
        """The next segment for a connection, or CHECK for a file of which all is there. None at the end."""
        with self._changed:
            while not self._stopped and not all(job.finished for job in self._jobs):
                if time.monotonic() >= self._pause_until and (piece := self._free()) is not None:
                    job, index = piece
                    job.taken.add(index)
                    return piece
                self._changed.wait(TICK)
        return None

    def _free(self) -> tuple[Job, int] | None:
        """What nobody is at."""
        for job in self._jobs:
            if job.finished or (job.alone and job.taken):
                continue
            missing = job.partial.missing()
            if not missing and not job.taken:
                return job, CHECK
            free = next((index for index in missing if index not in job.taken), None)
            if free is not None and self._is_allowed(job):
                return job, free
        return None

    def _is_allowed(self, job: Job) -> bool:
        """Whether one more connection may be at a file of this size."""
        if job.file.size <= SMALL:
            return sum(len(other.taken) for other in self._jobs if other.file.size <= SMALL) < SMALL_AT_ONCE
        return self._large() < self._width.now

    def _large(self) -> int:
        """How many connections are at files that take long."""
        return sum(len(job.taken - {CHECK}) for job in self._jobs if job.file.size > SMALL)

    def _fetch(self, client: session.Client, job: Job, index: int) -> None:
        """What a segment lacks. Raises Unavailable where that broke off."""
        from huggingface_hub.errors import HfHubHTTPError

        start, stop = job.partial.rest(index)
        headers = session.headers(self._token)
        if stop - start < job.file.size:
            headers["range"] = f"bytes={start}-{stop - 1}"
        address = remote.url(self._listing.repository, self._listing.commit, job.file.name)
        with session.answer(client, address, headers) as response:
            if response.status_code != 416:  # which says that the file ends before: below
                try:
                    session.check(response)
                except HfHubHTTPError as error:
                    raise self._refused(error, response) from error
            if response.status_code == 206:
                self._check_size(job, remote.check_range(response, start, stop))
                self._receive(job, index, stop - start, response)
            elif response.status_code == 200:
                self._receive_whole(job, response)
            else:
                self._check_size(job, None)

    def _receive(self, job: Job, index: int, length: int, response: session.Response) -> None:
        """The content of an answer that brings just this segment's rest."""
        for data in self._pieces(response, response.iter_raw()):
            if len(data) > length:
                raise self._lie(job, None)
            job.partial.add(index, data)
            length -= len(data)
            self._count(len(data))
        if length and not self._stopped:
            raise self._broke_off(response)

    def _receive_whole(self, job: Job, response: session.Response) -> None:
        """A file from its beginning, by a server that sends no parts, or was not asked for one."""
        with self._changed:
            job.alone = True
            if len(job.taken) > 1:
                return  # another connection brings it, or will
        length = response.headers.get("content-length", "")
        if length.isdecimal() and "content-encoding" not in response.headers:
            self._check_size(job, int(length))
        position = 0
        for data in self._pieces(response, response.iter_bytes()):
            if position + len(data) > job.file.size:
                raise self._lie(job, None)
            self._count(job.partial.fill(position, data))
            position += len(data)
        if position < job.file.size and not self._stopped:
            raise self._broke_off(response)

    def _pieces(self, response: session.Response, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The content as it comes, until it is to stop. Raises Unavailable for a connection that has all but died."""
        since, received = time.monotonic(), 0
        for data in pieces:
            if self._stopped:
                return
            yield data
            received += len(data)
            if (passed := time.monotonic() - since) > PATIENCE:
                if received < SLOWEST * passed:
                    raise self._broke_off(response)
                since, received = time.monotonic(), 0

    def _count(self, received: int) -> None:
        with self._changed:
            self._done += received

    def _finish(self, job: Job) -> None:
        """Checks a file of which all is there; one that is wrong is fetched once more."""
        if job.partial.is_right(job.file.hash, self._look_up):
            job.partial.publish()
            job.finished = True
            return
        job.wrong += 1
        with self._changed:
            self._done -= job.file.size
        job.partial.restart()
        if job.wrong > 1:
            raise UserError(
                "{repository}: {name} arrives damaged, twice already: its hash is not the one that the hub lists",
                repository=self._listing.repository, name=job.file.name,
                hint="try another network; a proxy or virus scanner may be changing it",
            )  # fmt: skip
        warn("{name} has arrived damaged and is fetched once more", name=job.file.name)

    def _look_up(self, _: int) -> None:
        """Lets Ctrl-C end a check."""
        if self._stopped:
            raise KeyboardInterrupt

    def _failed(self, unavailable: session.Unavailable) -> None:
        """Pauses all connections, longer each time; ends it where nothing came for too long."""
        with self._changed:
            now = time.monotonic()
            if now < self._pause_until or self._stopped:
                return  # the same failure, by another connection
            if self._done > self._done_at_failure:
                self._failures, self._done_at_failure = 0, self._done
            if self._failures == len(WAITS):
                raise self._given_up(unavailable)
            wait = max(WAITS[self._failures], unavailable.wait or 0.0)
            self._failures += 1
            self._pause_until, self._why = now + wait, unavailable.reason()

    def _given_up(self, unavailable: session.Unavailable) -> UserError:
        why = unavailable.why
        return UserError(
            why.template, hint="run the same command again later: it goes on from where it stopped", **why.fields
        )

    def _refused(self, error: Any, response: session.Response) -> Exception:
        """The hub's refusal; that of a server to which it redirects is an address that has expired."""
        if str(response.url).startswith(place.endpoint()):
            return access.refusal(error, self._listing.repository, self._token)
        return session.Unavailable(access.refused(error, response.url.host))

    def _check_size(self, job: Job, size: int | None) -> None:
        if size != job.file.size:
            raise self._lie(job, size)

    def _lie(self, job: Job, size: int | None) -> UserError:
        if size is None:
            return UserError(
                "{repository}: {name} is listed with {listed:,} bytes, and the server has another number",
                repository=self._listing.repository, name=job.file.name, listed=job.file.size,
                hint="try again later: it may just be replaced",
            )  # fmt: skip
        return UserError(
            "{repository}: {name} is listed with {listed:,} bytes, and the server has {size:,}",
            repository=self._listing.repository, name=job.file.name, listed=job.file.size, size=size,
            hint="try again later: it may just be replaced",
        )  # fmt: skip

    def _broke_off(self, response: session.Response) -> session.Unavailable:
        return session.Unavailable(
            UserError(
                "{host} sends less than it said, or hardly anything", host=response.url.host, hint="try again later"
            )
        )

    def _in_words(self, error: BaseException) -> BaseException:
        """A full disk in words; anything else as it is."""
        if isinstance(error, OSError) and error.errno in FULL:
            missing = sum(job.file.size - job.partial.done for job in self._jobs)
            return UserError(
                "{path}: the disk is full, with {missing} still to come", path=self._jobs[0].partial.blob.parent,
                missing=of_bytes(missing),
                hint="make room and run the same command again: it goes on from where it stopped",
            )  # fmt: skip
        return error
