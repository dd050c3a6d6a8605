"""Yielding to the person at the PC: a training pauses on battery, or while other programs want the processor."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from soban.base.errors import UserError
from soban.messages import translate

CAUSES = ("battery", "load")
LOOK_SECONDS = 2.0  # between two looks
MUCH, LITTLE = 0.5, 0.25  # cores that others use: from the first on it pauses, below the second it goes on
LOOKS_BUSY, LOOKS_QUIET = 2, 4  # in a row, so that neither a short burst nor a short silence counts
NAP_SECONDS = 0.2  # within which Ctrl-C is noticed


class Sensors(Protocol):
    """What is looked at."""

    def on_battery(self) -> bool:
        """Whether the PC runs on battery now."""

    def others(self) -> float:
        """Cores that other processes have used since this was asked last."""


class PcSensors:
    """This PC's."""

    def __init__(self) -> None:
        self._last = self._now()

    def on_battery(self) -> bool:
        """False where there is no battery."""
        import psutil

        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
        return battery is not None and battery.power_plugged is False

    def others(self) -> float:
        """All processors' working time less this process's own."""
        before, self._last = self._last, self._now()
        seconds, all_work, own_work = (now - then for now, then in zip(self._last, before, strict=True))
        return max(0.0, all_work - own_work) / seconds if seconds > 0 else 0.0

    def _now(self) -> tuple[float, float, float]:
        import psutil

        times = psutil.cpu_times()._asdict()
        idle = ("idle", "iowait", "guest", "guest_nice")  # guests are counted as users as well
        own = os.times()
        return time.monotonic(), sum(times.values()) - sum(times.get(name, 0.0) for name in idle), own.user + own.system


class Asleep:
    """For a training that pauses for nothing."""

    def on_battery(self) -> bool:
        """Of no interest."""
        return False

    def others(self) -> float:
        """Of no interest."""
        return 0.0


@dataclass
class Pauses:
    """Waits between two steps for as long as a cause lasts. Its clock stands still meanwhile."""

    causes: frozenset[str]
    sensors: Sensors
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    paused: float = 0.0  # seconds in all
    _looked: float = field(init=False)
    _busy: int = 0  # looks in a row that found others at work
    _quiet: int = 0  # and those that found them idle
    _loaded: bool = False

    def __post_init__(self) -> None:
        self._looked = self.clock()

    def working_clock(self) -> float:
        """The time, without pauses."""
        return self.clock() - self.paused

    def wait(self, stop: Callable[[], bool]) -> None:
        """Returns when nothing keeps the training from going on, or as soon as `stop` says so."""
        if self.clock() - self._looked < LOOK_SECONDS or not (cause := self._cause()):
            return
        start = self.clock()
        self.say(cause)
        try:
            while cause and not stop():
                self.sleep(NAP_SECONDS)
                if self.clock() - self._looked >= LOOK_SECONDS:
                    cause = self._cause()
        finally:
            self.paused += self.clock() - start
        if not stop():
            self.say(translate("going on"))

    def _cause(self) -> str:
        """Why it has to wait now; "" for nothing."""
        self._looked = self.clock()
        if "battery" in self.causes and self.sensors.on_battery():
            return translate("paused: the PC runs on battery")
        if "load" in self.causes and self._others_at_work(cores := self.sensors.others()):
            return translate("paused: other programs use the processor ({cores:.1f} cores)", cores=cores)
        return ""

    def _others_at_work(self, cores: float) -> bool:
        self._busy = self._busy + 1 if cores > MUCH else 0
        self._quiet = self._quiet + 1 if cores < LITTLE else 0
        self._loaded = self._quiet < LOOKS_QUIET if self._loaded else self._busy >= LOOKS_BUSY
        return self._loaded


def causes(text: str | None) -> frozenset[str]:
    """The causes that --pause-on names. Raises UserError for others, and where they cannot be watched."""
    if text is None:
        return frozenset()
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CAUSES:
            raise UserError(
                "--pause-on {name} is not known", name=name or "''", known=", ".join(CAUSES),
                hint="choose among {known}, or several with commas",
            )  # fmt: skip
    try:
        import psutil  # noqa: F401
    except ImportError as error:
        raise UserError("--pause-on needs psutil, which is not installed", hint='pip install "soban[learn]"') from error
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "--pause-on is for one process: several would wait for each other too long", hint="leave it out"
        )
    return frozenset(names)
