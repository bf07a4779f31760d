"""What the tools answer from a database, without the agent around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runcast.scenes.explorer import exploration
from runcast.scenes.explorer.exploration import CannotAnswer


def test_details_of_a_fact(open_schema) -> None:
    connection, schema = open_schema(None)
    found = exploration.details(connection, schema, "deliveries")
    assert (found["asked"], found["table"], found["role"]) == ("deliveries", "fact_bs_delivery", "fact")
    assert found["primary_key"] == ["delivery_key"]
    columns = {column["column"]: column for column in found["columns"]}
    assert columns["supplier_key"] == {
        "column": "supplier_key",
        "type": "INTEGER",
        "nullable": False,
        "key": "foreign key",
        "references": "dimv_bs_supplier.supplier_key",
    }
    assert len(found["sample_rows"]) == 3
    assert next(one["target"] for one in found["references"]) == "fact_bs_purchase_order"
    suppliers = exploration.details(connection, schema, "suppliers")
    assert {one["table"] for one in suppliers["referenced_by"]} >= {"fact_bs_delivery", "fact_bs_invoice"}


def test_details_of_every_odd_table(open_schema, odd: Path) -> None:
    connection, schema = open_schema(odd)
    for name in schema.names:
        found = exploration.details(connection, schema, name)
        assert found["table"] == name
        assert ("problem" in found) == (name == "broken")
    blob = exploration.details(connection, schema, 'x"; DROP TABLE employee; --')
    assert blob["sample_rows"] == [[1, "<2 bytes>"]]


def test_search_ranks_whole_names_first(open_schema) -> None:
    _, schema = open_schema(None)
    hits = exploration.search(schema, "order value")["hits"]
    assert (hits[0]["table"], hits[0]["column"], hits[0]["match"]) == ("fact_bs_purchase_order", "order_value", 1.0)
    assert {hit["column"] for hit in exploration.search(schema, "prices")["hits"]} == {
        "agreed_price", "standard_price", "price_difference", "net_price",
    }  # fmt: skip
    assert exploration.search(schema, "weather")["hits"] == []
    with pytest.raises(CannotAnswer):
        exploration.search(schema, "  ?! ")


def test_search_caps_its_hits(open_schema, wide: Path) -> None:
    _, schema = open_schema(wide)
    found = exploration.search(schema, "name")
    assert len(found["hits"]) == exploration.MAX_HITS
    assert found.get("omitted") == 200 - exploration.MAX_HITS


def test_rows_are_capped_and_said(open_schema) -> None:
    connection, _ = open_schema(None)
    found = exploration.query(connection, "SELECT * FROM fact_bs_delivery")
    assert len(found["rows"]) == exploration.MAX_ROWS and found["truncated"]
    exact = exploration.query(connection, f"SELECT * FROM fact_bs_delivery LIMIT {exploration.MAX_ROWS}")
    assert len(exact["rows"]) == exploration.MAX_ROWS and not exact["truncated"]


def test_values_become_json(open_schema) -> None:
    connection, _ = open_schema(None)
    found = exploration.query(connection, "SELECT NULL, x'0102', 9e999, 'a', 1, 1.5, printf('%.*c', 900, 'y')")
    *others, long = found["rows"][0]
    assert others == [None, "<2 bytes>", "inf", "a", 1, 1.5]
    assert isinstance(long, str) and len(long) == 500 and long.endswith("…")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1;",
        "  -- why\n/* because */ SELECT 1 ;; ",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "SELECT ';'",
    ],
)
def test_one_select_is_run(open_schema, sql: str) -> None:
    connection, _ = open_schema(None)
    exploration.check_query(connection, sql)
    assert len(exploration.query(connection, sql)["rows"]) == 1


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "no statement"),
        ("-- only a comment", "no statement"),
        ("/* never closed", "no statement"),
        ("DELETE FROM dimv_bs_plant", "'DELETE' is not"),
        ("PRAGMA table_list", "'PRAGMA' is not"),
        ("EXPLAIN SELECT 1", "'EXPLAIN' is not"),
        ("ATTACH 'x' AS y", "'ATTACH' is not"),
        ("VACUUM INTO '/nowhere/x'", "'VACUUM' is not"),
        ("SELECT 1; DELETE FROM dimv_bs_plant", "one statement"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("WITH a AS (SELECT 1) DELETE FROM dimv_bs_plant", "refused"),
        ("SELECT * FROM pragma_table_list", "refused"),
        ("SELECT load_extension('x')", "cannot be run"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT nowhere_to_be_found FROM dimv_bs_plant", "no such column"),
        ("SELECT FROM", "syntax error"),
        ("SELECT ?", "cannot be run"),
    ],
)
def test_everything_else_is_refused_with_a_reason(open_schema, sql: str, reason: str) -> None:
    connection, _ = open_schema(None)
    with pytest.raises(CannotAnswer, match=reason):
        exploration.check_query(connection, sql)
    with pytest.raises(CannotAnswer, match=reason):
        exploration.query(connection, sql)


def test_full_text_tables_can_be_asked(open_schema, odd: Path) -> None:
    connection, _ = open_schema(odd)
    assert exploration.query(connection, "SELECT body FROM notes WHERE notes MATCH 'hello'")["rows"] == [
        ["hello world"]
    ]
