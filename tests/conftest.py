"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


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
