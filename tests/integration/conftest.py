"""For all tests against server processes."""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEFT_BEHIND = ("Exception ignored in. <socket", "Exception ignored in. <function _SelectorTransport.__del__")
"""A client that is cancelled in the middle of connecting leaves its socket to the garbage collector: asyncio's
create_connection does not close it. Warnings about anything else stay errors."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            for message in LEFT_BEHIND:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}:pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def nothing_for_the_next_test() -> Generator[None]:
    """What is left behind is collected here, and not in whatever test runs next."""
    yield
    gc.collect()
