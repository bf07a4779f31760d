"""What the log is told of refusals, and how many addresses it remembers."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from runcast.transports.refusals import Refusals
from runcast.transports.wire import Scope, cookies_of
from test_session import ManualClock


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines of the log, as they come."""

    class Lines(list[str]):
        def __len__(self) -> int:
            return len(caplog.messages)

        def __getitem__(self, index: int) -> str:  # type: ignore[override]
            return caplog.messages[index]

    with caplog.at_level(logging.INFO, "runcast.refused"):
        yield Lines()


def at(address: str | None, path: str = "/ws") -> Scope:
    return {"type": "websocket", "client": None if address is None else (address, 1), "path": path}


def test_one_line_a_minute_for_each_address(told: list[str]) -> None:
    clock = ManualClock()
    refusals = Refusals(clock)
    for second in range(119):
        refusals.tell(at("10.0.0.1"), "no token")
        clock.seconds += 1
        assert len(told) == 1 + second // 60
    assert told[0] == "refused 10.0.0.1 at /ws: no token"
    assert told[1] == "refused 10.0.0.1 at /ws: no token (59 more were not logged)"
    refusals.tell(at("10.0.0.2"), "no token")
    refusals.tell(at(None), "no token")
    assert len(told) == 4


def test_a_network_of_one_owner_is_one_address(told: list[str]) -> None:
    refusals = Refusals(ManualClock())
    for address in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "fe80::1%eth0", "::ffff:10.0.0.1", "::1"):
        refusals.tell(at(address), "x")
    assert [told[n].split()[1] for n in range(len(told))] == [
        "2001:db8:1:2::/64",
        "fe80::/64",
        "10.0.0.1",
        "::1",
    ]


def test_it_remembers_so_many_and_no_more(told: list[str]) -> None:
    refusals = Refusals(ManualClock(), most=3)
    for n in range(1000):
        refusals.tell(at(f"10.0.{n // 250}.{n % 250}"), "x")
        assert len(refusals._told) <= 3
    refusals.tell(at("10.0.3.249"), "x")
    assert len(told) == 1000
    refusals.tell(at("10.0.0.0"), "x")
    assert len(told) == 1001


def test_a_path_cannot_make_a_line_of_its_own(told: list[str]) -> None:
    """Attack 45."""
    Refusals(ManualClock()).tell(at("10.0.0.1", "/ws\nrefused nobody\x1b[31m"), "x")
    assert told[0] == "refused 10.0.0.1 at /ws\\nrefused nobody\\x1b[31m: x"


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        ([], {}),
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (['theme={"dark":[1,2]}; a=1'], {"theme": '{"dark":[1,2]}', "a": "1"}),
        (['a="1"; b=""'], {"a": "1", "b": ""}),
        (["a=x=y=="], {"a": "x=y=="}),
        (["a=1; a=1"], {"a": "1"}),
        (["a=1; a=2; b=3"], {"b": "3"}),
        (["a=1; a=2; a=1"], {}),
        (["novalue; =x; ;; a=1"], {"a": "1"}),
        (["$Version=1; a=é"], {"$Version": "1", "a": "é"}),
    ],
)
def test_cookies_are_read_each_for_itself(headers: list[str], cookies: dict[str, str]) -> None:
    assert cookies_of(headers) == cookies
