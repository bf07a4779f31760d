"""For all tests against server processes."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A client that is cancelled in the middle of connecting leaves its socket to the garbage collector: asyncio's
    # create_connection does not close it. Warnings about anything else stay errors.
    mark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(mark)
