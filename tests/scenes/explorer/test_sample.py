"""The sample is the same everywhere, holds together, and is no toy."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from runcast.scenes.explorer import sample


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(sample.image())
        yield connection


def dump(connection: sqlite3.Connection) -> str:
    return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()


def test_is_deterministic(connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as other:
        sample.fill(other)
        assert dump(other) == dump(connection)


def test_every_reference_has_its_target(connection: sqlite3.Connection) -> None:
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_holds_a_mart_of_some_size(connection: sqlite3.Connection) -> None:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    assert {
        "fact_bs_purchase_order",
        "fact_bs_delivery",
        "dimv_bs_supplier",
        "dimv_bs_material",
        "dimv_bs_date",
    } <= set(names)
    counts = {name: connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in names}
    assert min(counts.values()) > 0
    assert counts["fact_bs_purchase_order"] > 5_000
    assert counts["fact_bs_delivery"] > 5_000


def test_facts_agree_with_each_other(connection: sqlite3.Connection) -> None:
    one = connection.execute
    assert one("SELECT COUNT(*) FROM fact_bs_delivery WHERE (days_late > 0) <> is_late").fetchone() == (0,)
    assert one(
        "SELECT COUNT(*) FROM fact_bs_delivery AS d JOIN fact_bs_purchase_order AS o USING (order_line_key) "
        "WHERE d.supplier_key <> o.supplier_key OR d.material_key <> o.material_key"
    ).fetchone() == (0,)
    assert one(
        "SELECT COUNT(*) FROM (SELECT o.order_quantity - SUM(d.delivered_quantity) AS open, o.order_status FROM fact_bs_delivery AS d "
        "JOIN fact_bs_purchase_order AS o USING (order_line_key) GROUP BY order_line_key) WHERE (open > 0) <> (order_status = 'open')"
    ).fetchone() == (0,)
    assert one("SELECT COUNT(*) FROM v_bs_open_order WHERE open_quantity <= 0").fetchone() == (0,)
    assert one("SELECT COUNT(DISTINCT supplier_name), COUNT(*) FROM dimv_bs_supplier").fetchone() == (48, 48)
