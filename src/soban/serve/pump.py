"""The thread that runs a model's steps for a server: requests come in from the event loop, parts of texts go back."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable

from soban.base.errors import UserError
from soban.engine.sharing import SharedEngine
from soban.model import Model
from soban.ops.native import Cancelled
from soban.serve import errors
from soban.serve.errors import ApiError
from soban.talk.answer import Answer, Answering, Step

Item = Step | ApiError | None  # None: that was all


class Job:
    """A request: made in any thread, read in the event loop's. Leaving it frees its place within a step."""

    def __init__(self, answering: Answering, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self.answering, self.loop, self.deadline = answering, loop, deadline
        self.generation = answering.generation
        self.queue: asyncio.Queue[Item] = asyncio.Queue()
        self.gone = False  # whoever asked has left

    def __aiter__(self) -> AsyncIterator[Step]:
        return self._steps()

    async def _steps(self) -> AsyncIterator[Step]:
        while (step := await self.queue.get()) is not None:
            if isinstance(step, ApiError):
                raise step
            yield step

    async def answers(self) -> list[Answer]:
        """The answers, when all of them are written."""
        async for _ in self:
            pass
        return self.answering.answers


class Pump:
    """One model's engine, run by a thread of its own as long as there is something to do."""

    def __init__(self, model: Model, most: int) -> None:
        """`most`: requests that may be here at the same time."""
        self.model, self.most = model, most
        self.jobs: list[Job] = []
        self.arrivals: deque[Job] = deque()
        self.outbox: dict[asyncio.AbstractEventLoop, list[tuple[Job, Item]]] = {}
        self.count = 0  # of all that are here
        self.last = time.monotonic()  # when the latest one left
        self.awake = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self._run, name="soban-pump", daemon=True)
        self.thread.start()

    @property
    def shared(self) -> SharedEngine:
        """The model's engine; where it has none, as it writes nothing, no job is ever made that asks for it."""
        return self.model.shared

    def submit(self, job: Job) -> None:
        """Lets a request take part from the next step on. Raises ApiError where too many wait already."""
        with self.awake:
            if self.closed:
                raise ApiError("the model is being unloaded; ask again", 503, code="unloading", retry_after=1)
            if self.count >= self.most:
                raise ApiError(
                    f"{self.count} requests are being answered or wait already; ask again later", 503,
                    code="overloaded", retry_after=5,
                )  # fmt: skip
            self.count += 1
            self.arrivals.append(job)
            self.awake.notify()
        self.shared.hurry()

    def leave(self, job: Job) -> None:
        """Whoever asked is gone: the job's place is free from the next step on. From any thread, and at any time."""
        job.gone = job.generation.caller.cancelled = True
        self.shared.leave(list(job.generation.caller.sequences))
        with self.awake:
            self.awake.notify()

    def close(self) -> None:
        """Ends what still runs, and the thread."""
        with self.awake:
            self.closed = True
            self.awake.notify()
        self.thread.join()

    @property
    def idle(self) -> bool:
        return self.count == 0

    def _run(self) -> None:
        while self._receive():
            callers = [job.generation.caller for job in self.jobs]
            try:
                if callers and not any(caller.ready for caller in callers):
                    self.shared.step(callers)
            except Exception as error:  # a fault of the program's own: whoever was in that step hears of it
                for caller in callers:
                    caller.error = caller.error or error
            self._deliver()
            self._flush()
        for job in list(self.jobs):
            self._end(job, ApiError("the server is stopping", 503, code="stopping", retry_after=5))
        self._flush()

    def _receive(self) -> bool:
        """Takes in who has come, and waits while there is nobody; False: it is over."""
        with self.awake:
            while not (self.jobs or self.arrivals or self.closed):
                self.awake.wait()
            arrivals = [self.arrivals.popleft() for _ in range(len(self.arrivals))]
        for job in arrivals:
            self.jobs.append(job)
            try:
                self._put(job, job.answering.begin())
            except Exception as error:
                self._end(job, _answer(error))
        for job in [job for job in self.jobs if job.gone]:
            self._end(job)
        return not self.closed

    def _deliver(self) -> None:
        """Hands out what the latest step brought."""
        now = time.monotonic()
        for job in list(self.jobs):
            if job.generation.caller.ready:
                self._read(job)
            if now > job.deadline and job in self.jobs:
                self._end(job, ApiError("the request took longer than the server allows", 504, code="timeout"))

    def _read(self, job: Job) -> None:
        generation, caller = job.generation, job.generation.caller
        try:
            if caller.error is not None:
                raise caller.error
            while caller.events and generation.writing:
                self._put(job, job.answering.take(caller.events.popleft()))
        except Exception as error:
            self._end(job, _answer(error))
        else:
            if not generation.writing:
                self._end(job)

    def _end(self, job: Job, error: ApiError | None = None) -> None:
        job.generation.close()
        self.jobs.remove(job)
        with self.awake:
            self.count -= 1
            self.last = time.monotonic()
        self._put(job, [error])

    def _put(self, job: Job, items: Iterable[Item]) -> None:
        if not job.gone:
            self.outbox.setdefault(job.loop, []).extend((job, item) for item in items)

    def _flush(self) -> None:
        """What a step brought goes into the event loop at once: waking it for each would cost more than the step."""
        for loop, items in self.outbox.items():
            with contextlib.suppress(RuntimeError):  # a loop that has ended meanwhile
                loop.call_soon_threadsafe(_deliver_all, items)
        self.outbox = {}


def _deliver_all(items: list[tuple[Job, Item]]) -> None:
    for job, item in items:
        job.queue.put_nowait(item)


def _answer(error: Exception) -> ApiError:
    if isinstance(error, UserError):
        return errors.of(error)
    if isinstance(error, Cancelled):
        return ApiError("the request was cancelled", 503, code="cancelled")
    if isinstance(error, MemoryError):
        return ApiError("memory ran out; ask for less, or close other programs", 503, code="memory", retry_after=30)
    return ApiError(f"the engine failed: {error!r}", 500)
