"""Introspection of files that were not made for us."""

from __future__ import annotations

import pytest

from runcast.scenes.explorer import catalogue, exploration, relationships
from runcast.scenes.explorer.catalogue import Reference, quoted, readable


def test_sample_roles_and_keys(open_schema) -> None:
    _, schema = open_schema(None)
    roles = {table.name: table.role for table in schema.catalogue.tables}
    assert roles["fact_bs_delivery"] == "fact"
    assert roles["dimv_bs_supplier"] == "dimension"
    assert roles["bridge_bs_supplier_material"] == "bridge"
    assert roles["v_bs_open_order"] == "view"
    bridge = schema.catalogue.get("bridge_bs_supplier_material")
    assert bridge is not None and bridge.primary_key == ("supplier_key", "material_key")
    assert exploration.metrics(schema) == {
        "total_tables": 12,
        "total_columns": 90,
        "facts_count": 3,
        "dimensions_count": 6,
        "relationships_count": 21,
        "schema_name": "dm_bs_purchase",
        "as_of": "2025-12-31T23:59:59+00:00",
        "is_stale": False,
    }


def test_odd_names_kinds_and_problems(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    tables = {table.name: table for table in schema.catalogue.tables}
    assert {
        "Order Details",
        "Größen_Übersicht",
        "select",
        "日本",
        'x"; DROP TABLE employee; --',
        "back`tick",
        "title",
    } <= set(tables)
    assert not [name for name in tables if name.startswith(("sqlite_", "notes_"))], (
        "shadow and internal tables stay out"
    )
    assert "gone" in tables["broken"].problem and tables["broken"].columns == ()
    assert tables["notes"].is_virtual and [column.name for column in tables["notes"].columns] == ["body"]
    assert [column.generated for column in tables["twice"].columns] == [False, True]
    assert tables["Order Details"].primary_key == ("order id", "line no")
    assert tables["orphan"].references == (), "a reference to a missing table leads nowhere"


def test_composite_self_and_unnamed_references(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    shipment = schema.catalogue.get("shipment")
    assert shipment is not None
    assert shipment.references == (
        Reference("shipment", ("order_id", "line_no"), "Order Details", ("order id", "line no"), optional=True),
    )
    employee = schema.catalogue.get("EMPLOYEE")
    assert employee is not None
    assert employee.references == (Reference("employee", ("manager_id",), "employee", ("id",), optional=True),)
    badge = schema.catalogue.get("badge")
    assert badge is not None
    assert badge.references == (Reference("badge", ("employee_id",), "employee", ("id",), unique=True, optional=False),)


def test_names_suggest_references_and_are_marked(open_schema, odd, shop) -> None:
    _, schema = open_schema(odd)
    inferred = [one for one in schema.references if one.inferred]
    assert [(one.table, one.columns, one.target) for one in inferred] == [("shipment", ("employee_id",), "employee")]
    _, schema = open_schema(shop)
    assert [(one.table, one.columns, one.target, one.inferred) for one in schema.references] == [
        ("Orders", ("CustomerID",), "Customers", True)
    ]


def test_paths_are_the_shortest(open_schema, wide) -> None:
    _, schema = open_schema(None)
    found = relationships.path(schema.references, "fact_bs_delivery", "dimv_bs_material_group")
    assert found is not None
    assert [(one.table, one.target) for one in found] == [
        ("fact_bs_delivery", "dimv_bs_material"),
        ("dimv_bs_material", "dimv_bs_material_group"),
    ]
    _, schema = open_schema(wide)
    long = relationships.path(schema.references, "t000", "t199")
    assert long is not None and len(long) == 199


def test_no_path_is_said(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    assert relationships.path(schema.references, "notes", "employee") is None
    assert exploration.related(schema, ["notes", "employee"])["path"] == []  # pyright: ignore[reportTypedDictNotRequiredAccess]


def test_an_empty_file_is_an_empty_catalogue(open_schema, empty) -> None:
    _, schema = open_schema(empty)
    assert schema.catalogue.tables == () and schema.references == ()
    assert exploration.metrics(schema)["total_tables"] == 0


def test_the_catalogue_follows_the_schema(shop) -> None:
    import sqlite3
    from contextlib import closing

    from runcast.scenes.explorer.database import Database
    from runcast.scenes.explorer.exploration import SchemaCache

    database = Database(shop)
    cache = SchemaCache(database)
    with closing(database.connect()) as reading, closing(sqlite3.connect(shop)) as writing:
        first = cache.read(reading)
        assert cache.read(reading) is first, "read once while nothing changes"
        writing.execute("CREATE TABLE added (a)")
        assert "added" in cache.read(reading).names


@pytest.mark.parametrize("name", ["plain", "select", "a b", 'q"q', "日本", "1st", "x-y"])
def test_quoting_is_what_sqlite_reads(name: str) -> None:
    import sqlite3

    for written in (quoted(name), readable(name)):
        connection = sqlite3.connect(":memory:")
        connection.execute(f"CREATE TABLE {written} (a)")
        assert connection.execute("SELECT name FROM sqlite_master").fetchone() == (name,)
        connection.close()
    assert readable("plain") == "plain"


def test_affinity_follows_sqlite() -> None:
    kinds = {
        "": "BLOB",
        "INTEGER": "INTEGER",
        "BIGINT": "INTEGER",
        "VARCHAR(20)": "TEXT",
        "DOUBLE": "REAL",
        "DECIMAL(10,2)": "NUMERIC",
        "BOOLEAN": "NUMERIC",
    }
    assert {declared: catalogue.Column("c", declared).affinity for declared in kinds} == kinds
