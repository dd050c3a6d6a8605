"""One engine for callers in several threads: whoever needs an event runs a step for all; no thread of its own."""

import os
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np

from soban.base.errors import UserError
from soban.engine.engine import Engine
from soban.engine.sequence import Event, Sequence
from soban.ops.native import Cancelled


class Caller:
    """Whoever has sequences in the engine, and the events that nobody has read yet."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []
        self.events: deque[Event] = deque()
        self.cancelled = False
        self.error: BaseException | None = None  # of a step that another thread ran

    @property
    def ready(self) -> bool:
        """Whether it need not wait: there is something to read, or nothing will come."""
        return bool(self.events) or self.cancelled or self.error is not None


class SharedEngine:
    """Gives each caller the events of its own sequences, as if it were alone.

    A thread that has no event left takes the engine, runs one step of all sequences and leaves the others their
    events; who finds the engine taken waits for the end of that step. Nothing of the engine is touched by a thread
    that has not taken it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # The runner's flag is an int32 of 0 or 1, set by whoever stops all that runs. Another byte of it stops a
        # single step, after which those that were not cancelled go on.
        self._flag, self._bell = np.split(engine.runner.cancel.view(np.int8)[:2], 2)
        self._callers: dict[Sequence, Caller] = {}
        self._left: deque[Sequence] = deque()  # to be forgotten as soon as nobody has the engine
        self._owner = 0  # the thread that has taken the engine
        self._thread, self._several = 0, False  # the first that has begun something; whether there was another one
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()  # of all that is here; held for moments, and never while waiting
        self._guests: set[int] = set()  # threads that have something to do between two steps: they go first
        self._gates: list[threading.Lock] = []  # one for each thread that waits

    def begin(self, caller: Caller, sequences: list[Sequence]) -> None:
        """Lets the sequences of a request run for the caller, beside those that it has."""
        if self._process != os.getpid():  # a forked child, in which no other thread goes on
            self._open()
            if self._owner:
                self._fail(RuntimeError("the process was forked in the middle of a step"))
        with self._between_steps():
            self._thread = self._thread or threading.get_ident()
            self._several = self._several or self._thread != threading.get_ident()
            caller.sequences += sequences
            if caller.cancelled:  # asked after the line before: whoever cancels from now on forgets these as well
                return
            for sequence in sequences:
                sequence.unread = caller.events
                self._callers[sequence] = caller
            self.engine.queue(sequences)

    def resume(self, caller: Caller, sequence: Sequence, tokens: list[int]) -> None:
        """`Engine.resume` of one of the caller's sequences."""
        with self._between_steps():
            if not caller.cancelled:
                self.engine.resume(sequence, tokens)

    def leave(self, sequences: list[Sequence]) -> None:
        """Forgets sequences. Waits for nobody, for the garbage collector may call this in the middle of anything."""
        self._left.extend(sequences)
        self._tidy()

    def cancel(self, caller: Caller) -> None:
        """Ends a caller's sequences, from any thread and at once: `next` raises Cancelled for it, and it alone."""
        caller.cancelled = True
        self._left.extend(caller.sequences)
        self._bell[0] = 1  # after the line before: a step that does not hear it has forgotten them
        self._tidy()

    def next(self, caller: Caller) -> Event:
        """The caller's next event. Raises Cancelled, and what the runner raises in a step that it had a part in."""
        while not caller.events or caller.cancelled:
            if caller.cancelled:
                raise Cancelled
            if caller.error is not None:
                raise caller.error
            if self._several or len(self._callers) > len(caller.sequences):
                with _uninterrupted():  # a step that breaks off would be everybody's loss
                    self._step((caller,))
            else:
                self._step((caller,))
        return caller.events.popleft()

    def step(self, callers: Collection[Caller]) -> None:
        """Runs a step for several callers that one thread looks after, unless one of them is ready as it is."""
        with _uninterrupted():
            self._step(callers)

    def hurry(self) -> None:
        """Somebody has come: gives up a long step that reads a prompt alone, so that the next one is for both.

        From any thread. What is lost is done again by the next step.
        """
        if self.engine.long:
            self._bell[0] = 1

    def _take(self, callers: Collection[Caller] | None = None) -> bool:
        """Takes the engine, or waits until that may be possible; callers only as long as all of them need a step."""
        me = threading.get_ident()
        with self._lock:
            if self._owner == me:  # an interrupt has torn this thread out of a step, past all that clears up
                self._fail(RuntimeError("a step was interrupted"))
            if callers is not None and any(caller.ready for caller in callers):
                return False
            if not self._owner and (callers is None or self._guests <= {me}):
                self._owner = me
                return True
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        gate.acquire()
        return False

    def _give_back(self) -> None:
        with self._lock:
            self._owner = 0
            gates, self._gates = self._gates, []
            for gate in gates:
                gate.release()
            self._sweep()

    def _tidy(self) -> None:
        """Forgets who has left, unless somebody has the engine, who then does it."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._owner:
                    self._sweep()
            finally:
                self._lock.release()

    def _sweep(self) -> None:
        while self._left:
            sequence = self._left.popleft()
            self._callers.pop(sequence, None)
            if sequence.finish_reason is None:
                self.engine.cancel(sequence)

    @contextmanager
    def _between_steps(self) -> Iterator[None]:
        """The engine, for something short."""
        me = threading.get_ident()
        with _uninterrupted():
            try:
                self._guests.add(me)
                self.hurry()
                while not self._take():
                    pass
            finally:
                self._guests.discard(me)
            try:
                yield
            except BaseException as error:
                self._fail(error)
                raise
            finally:
                self._give_back()

    def _step(self, callers: Collection[Caller]) -> None:
        """Runs a step, or waits for the end of another's."""
        if not self._take(callers):
            return
        try:
            self._bell[0] = 0
            self._sweep()
            assert self.engine.busy or any(one.cancelled for one in callers), "nothing is left to be done"
            for event in self.engine.step() if self.engine.busy else ():
                self._callers[event.sequence].events.append(event)
        except Cancelled:
            if self._flag[0]:
                for each in self._callers.values():
                    each.error = Cancelled()
        except UserError as error:
            for sequence in self.engine.scheduler.running:
                self._callers[sequence].error = UserError(error.template, hint=error.hint, **error.fields)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._give_back()

    def _fail(self, error: BaseException) -> None:
        """The engine is in no state that is known: it begins anew, and whoever had sequences in it gets an error."""
        self.engine.clear()
        for caller in self._callers.values():
            short = isinstance(error, MemoryError)
            caller.error = MemoryError() if short else RuntimeError(f"a step failed: {error!r}")
        self._callers.clear()
        self._left.clear()
        self._owner = 0


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts off what Ctrl-C does until the end; Python does it in the main thread alone."""
    usual = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(usual):
        yield
        return
    pressed: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *event: pressed.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if pressed:
            usual(*pressed[0])
