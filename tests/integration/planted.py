"""Defects to plant in the server under test, one for each promise: the test of the promise must fail with them."""

from __future__ import annotations

from collections.abc import Callable

from runcast.server import Server

PLANTS: dict[str, Callable[[Server], None]] = {}
