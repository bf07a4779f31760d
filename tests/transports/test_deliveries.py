"""What was delivered to whom: who gets what was lost, and what is forgotten."""

from __future__ import annotations

from typing import Any

from runcast.dialects.base import Frame
from runcast.runs import Principal
from runcast.transports.deliveries import (
    CONVERSATION_TTL_S,
    MAX_BROWSERS,
    MAX_CONVERSATIONS,
    MAX_LOST_RUNS,
    Deliveries,
    Lost,
    LostRun,
    Mark,
    behind,
    reaches,
)

ME, OTHER = Principal(user="me"), Principal(user="other")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Sockets:
    """Of one browser; what each was given."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.deliveries = Deliveries(self.clock)
        self.given: dict[str, list[Lost]] = {}

    def join(self, name: str, principal: Principal = ME) -> None:
        self.given[name] = []
        self.clock.seconds += 10
        self.deliveries.join(principal, "browser", name, self.given[name].append)

    def leave(self, name: str, *runs: LostRun, heard_s_ago: float = 0) -> None:
        last_heard = self.clock.seconds - heard_s_ago
        self.deliveries.leave(ME, "browser", name, runs, last_heard=last_heard)


def run(name: str, thread: str = "t1") -> LostRun:
    return LostRun(name, thread, thread)


def test_marks() -> None:
    assert behind(Frame(b"x", 7, 0, last=False)) == Mark(7, 1)
    assert behind(Frame(b"x", 7, 1)) == Mark(8)
    assert behind(Frame(b"x")) is None
    assert [reaches(Frame(b"x", seq, k), Mark(7, 1)) for seq, k in ((6, 9), (7, 0), (7, 1), (8, 0))] == [
        False,
        False,
        True,
        True,
    ]


def test_the_first_new_socket_takes_it_and_those_that_were_there_do_not() -> None:
    sockets = Sockets()
    sockets.join("twin")
    sockets.join("asked")
    sockets.leave("asked", run("r1"))
    sockets.join("stranger", OTHER)
    sockets.join("first")
    sockets.join("second")
    assert sockets.given == {
        "twin": [],
        "asked": [],
        "stranger": [],
        "first": [Lost((run("r1"),), True)],
        "second": [],
    }


def test_a_loss_that_is_noticed_late_goes_to_the_socket_that_came_meanwhile() -> None:
    sockets = Sockets()
    sockets.join("twin")
    sockets.join("asked")
    sockets.join("successor")
    sockets.leave("asked", run("r1"), heard_s_ago=5)
    assert sockets.given["successor"] == [Lost((run("r1"),), True)]
    assert sockets.given["twin"] == []


def test_several_conversations_are_nobodys() -> None:
    sockets = Sockets()
    for name in ("one", "two"):
        sockets.join(name)
    sockets.leave("one", run("r1", "t1"))
    sockets.leave("two", run("r2", "t2"))
    for name in ("three", "four"):
        sockets.join(name)
        (lost,) = sockets.given[name]
        assert not lost.whole
        assert [one.run for one in lost.runs] == ["r1", "r2"]
    sockets.deliveries.expire(ME, "browser", ["r1", "r2"])
    sockets.join("five")
    assert sockets.given["five"] == []


def test_what_is_promised_to_one_is_not_told_to_another() -> None:
    deliveries = Deliveries(Clock())
    assert deliveries.mark(ME, "t") is None
    deliveries.begin(ME, "t", Mark(3))
    deliveries.promise(ME, "t", "a", Mark(9))
    assert deliveries.mark(ME, "t") == Mark(9)
    assert deliveries.mark(OTHER, "t") is None
    deliveries.release(ME, "t", "b")
    assert deliveries.mark(ME, "t") == Mark(9)
    deliveries.release(ME, "t", "a")
    assert deliveries.mark(ME, "t") == Mark(3)
    deliveries.promise(ME, "t", "a", Mark(9))
    deliveries.reached(ME, "t", Mark(9))
    deliveries.release(ME, "t", "a")
    deliveries.reached(ME, "t", Mark(5))  # an older pong
    assert deliveries.mark(ME, "t") == Mark(9)


def test_it_is_bounded_and_forgets() -> None:
    clock = Clock()
    deliveries = Deliveries(clock)
    since = deliveries.known_since_ms
    nothing: Any = lambda lost: None  # noqa: E731
    for number in range(MAX_CONVERSATIONS + 1):
        clock.seconds += 1
        deliveries.begin(ME, f"t{number}", Mark(1))
    assert deliveries.mark(ME, "t0") is None
    assert deliveries.mark(ME, "t1") == Mark(1)
    assert deliveries.known_since_ms > since  # what went before may have been known
    clock.seconds += CONVERSATION_TTL_S
    assert deliveries.mark(ME, "t1") is None
    for number in range(MAX_BROWSERS + 10):
        deliveries.leave(ME, f"b{number}", "x", [run("r")], last_heard=clock.seconds)
        deliveries.join(ME, f"c{number}", "x", nothing)
        deliveries.leave(ME, f"c{number}", "x", [], last_heard=clock.seconds)
    assert len(deliveries._browsers) <= MAX_BROWSERS + 1  # type: ignore[reportPrivateUsage]
    for number in range(MAX_LOST_RUNS + 5):
        deliveries.leave(ME, "many", "x", [run(f"r{number}")], last_heard=clock.seconds)
    given: list[Lost] = []
    deliveries.join(ME, "many", "y", given.append)
    assert len(given[0].runs) == MAX_LOST_RUNS
