"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

CONNECTING = ("client", "integration", "ui")
"""Where clients come and go."""
LEFT_BEHIND = ("Exception ignored in. <socket", "Exception ignored in. <function _SelectorTransport.__del__")
"""A client that is cancelled in the middle of connecting leaves its socket to the garbage collector: asyncio's
create_connection does not close it. Warnings about anything else stay errors."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With RUNCAST_REQUIRE_ALL, as in CI, nothing may be left out: a skipped test is a failed one."""
    del item, call
    report = yield
    if report.skipped and os.environ.get("RUNCAST_REQUIRE_ALL") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which RUNCAST_REQUIRE_ALL forbids: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same of a whole file that is skipped while it is read, by a package that is not there."""
    del collector
    report = yield
    if report.skipped and os.environ.get("RUNCAST_REQUIRE_ALL"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which RUNCAST_REQUIRE_ALL forbids: {report.longrepr}"
    return report


def _connects(item: pytest.Item) -> bool:
    return any(item.path.is_relative_to(Path(__file__).parent / name) for name in CONNECTING)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in filter(_connects, items):
        for message in LEFT_BEHIND:
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}:pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def nothing_for_the_next_test(request: pytest.FixtureRequest) -> Generator[None]:
    """What is left behind is collected here, and not in whatever test runs next."""
    yield
    if _connects(request.node):
        gc.collect()
