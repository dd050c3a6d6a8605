"""Pauses, with a clock and sensors of the test's own: nothing waits."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from soban.base.errors import UserError
from soban.learn.training import pausing


@dataclass
class Day:
    """A PC whose load and battery follow the time; sleeping moves it on."""

    load: Callable[[float], float] = lambda now: 0.0
    battery: Callable[[float], bool] = lambda now: False
    now: float = 100.0
    said: list[tuple[float, str]] = field(default_factory=list)

    def others(self) -> float:
        return self.load(self.now)

    def on_battery(self) -> bool:
        return self.battery(self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pauses(self, *causes: str) -> pausing.Pauses:
        def say(line: str) -> None:
            self.said.append((self.now, line))

        return pausing.Pauses(frozenset(causes), self, say, lambda: self.now, self.sleep)

    def train(self, pauses: pausing.Pauses, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Steps of half a second."""
        while self.now < until and not stop():
            self.now += 0.5
            pauses.wait(stop)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


def test_it_pauses_on_battery_and_goes_on_when_plugged_in() -> None:
    day = Day(battery=lambda now: 120 <= now < 200)
    pauses = day.pauses("battery")
    day.train(pauses, 300)
    (first, paused), (second, going) = day.said
    assert "battery" in paused and 120 <= first <= 122
    assert "going on" in going and 200 <= second <= 202.5
    assert pauses.paused == pytest.approx(second - first)
    assert pauses.working_clock() == pytest.approx(day.now - pauses.paused)


def test_a_short_burst_of_others_does_not_stop_it() -> None:
    day = Day(load=lambda now: 3.0 if 120 <= now < 121.9 else 0.0)
    day.train(day.pauses("load"), 200)
    assert not day.said


def test_work_of_others_stops_it_until_they_have_been_quiet_for_a_while() -> None:
    # at work, then a lull of 4 seconds, at work again, half at work, and at last quiet
    def load(now: float) -> float:
        return 2.0 if 120 <= now < 140 or 144 <= now < 150 else 0.4 if 150 <= now < 170 else 0.0

    day = Day(load=load)
    day.train(day.pauses("load"), 250)
    (first, paused), (second, _) = day.said
    assert "2.0 cores" in paused and 122 <= first <= 126
    assert 170 + 3 * pausing.LOOK_SECONDS <= second <= 172 + 4 * pausing.LOOK_SECONDS


def test_some_load_between_the_two_marks_changes_nothing() -> None:
    day = Day(load=lambda now: 0.4)
    day.train(day.pauses("load"), 300)
    assert not day.said


def test_nothing_is_looked_at_that_was_not_asked_for() -> None:
    day = Day(load=lambda now: 9.0, battery=lambda now: True)
    day.train(day.pauses(), 200)
    assert not day.said


def test_it_looks_every_two_seconds_at_the_most() -> None:
    looks = []
    day = Day(load=lambda now: looks.append(now) or 0.0)
    day.train(day.pauses("load"), 200)
    assert len(looks) >= 45 and min(b - a for a, b in itertools.pairwise(looks)) >= 2


def test_ctrl_c_ends_a_pause_at_once() -> None:
    day = Day(battery=lambda now: True)
    day.train(day.pauses("battery"), 1e9, stop=lambda: day.now >= 150)
    assert day.now < 150.5
    assert [line for _, line in day.said] == ["paused: the PC runs on battery"]


def test_this_pc_tells_its_load() -> None:
    pytest.importorskip("psutil")
    sensors = pausing.PcSensors()
    sum(range(300_000))  # own work is none of others
    assert sensors.others() >= 0
    assert sensors.on_battery() in (True, False)


@pytest.mark.parametrize("text", ["", "lunch", "battery,lunch", "load,"])
def test_unknown_causes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="battery, load"):
        pausing.causes(text)


def test_several_processes_do_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pausing.causes("battery, load") == {"battery", "load"}
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        pausing.causes("load")
