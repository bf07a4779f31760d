"""Databases for the explorer's tests: the shipped sample, and files that break naive tools."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic_ai.models import override_allow_model_requests

from runcast.scenes.explorer.database import Database
from runcast.scenes.explorer.exploration import Schema, SchemaCache


@pytest.fixture(autouse=True)
def no_model() -> Iterator[None]:
    """None of these tests may reach one; other tests ask models of their own, in the same process."""
    with override_allow_model_requests(False):
        yield


ODD = '''
CREATE TABLE "Order Details" (
    "order id" INTEGER, "line no" INTEGER, "product ""name""" TEXT, "Prix unitaire (€)" REAL, PRIMARY KEY ("order id", "line no")
);
CREATE TABLE "Größen_Übersicht" (id INTEGER PRIMARY KEY, "größe" TEXT, "a|b" TEXT);
CREATE TABLE "select" ("from" INTEGER PRIMARY KEY, "group" TEXT);
CREATE TABLE "日本" ("名前" TEXT PRIMARY KEY, "番号" INTEGER);
CREATE TABLE employee (id INTEGER PRIMARY KEY, name TEXT, manager_id INTEGER REFERENCES employee);
CREATE TABLE shipment (
    order_id INTEGER, line_no INTEGER, employee_id INTEGER, note,
    FOREIGN KEY (order_id, line_no) REFERENCES "Order Details" ("order id", "line no")
);
CREATE TABLE badge (employee_id INTEGER NOT NULL UNIQUE REFERENCES EMPLOYEE (ID), code TEXT);
CREATE TABLE "x""; DROP TABLE employee; --" (a, b BLOB);
CREATE TABLE "back`tick" (a);
CREATE TABLE orphan (nope_id INTEGER REFERENCES missing (id));
CREATE VIEW broken AS SELECT * FROM gone;
CREATE VIEW "title" AS SELECT id, name FROM employee;
CREATE VIRTUAL TABLE notes USING fts5 (body);
CREATE TABLE twice (a INTEGER, b INTEGER GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO employee VALUES (1, 'boss', NULL), (2, '<b>x</b> | *y*', 1);
INSERT INTO "Order Details" VALUES (1, 1, 'a', 2.5);
INSERT INTO "select" VALUES (1, 'x');
INSERT INTO notes VALUES ('hello world');
INSERT INTO "x""; DROP TABLE employee; --" VALUES (1, x'00ff');
INSERT INTO twice (a) VALUES (3);
'''

SHOP = """
CREATE TABLE Customers (CustomerID INTEGER PRIMARY KEY, CompanyName TEXT, Country TEXT);
CREATE TABLE Orders (OrderID INTEGER PRIMARY KEY, CustomerID INTEGER, OrderDate DATETIME, Freight REAL, Total NUMERIC(10,2));
INSERT INTO Customers VALUES (1, 'Acme', 'DE'), (2, 'Foo', 'FR');
INSERT INTO Orders VALUES (1, 1, '2024-01-03', 3.5, 100), (2, 1, '2024-02-03', 3.5, 200.5), (3, 2, '2025-02-03', 1.5, 50);
"""

WIDE = "".join(
    f"CREATE TABLE t{number:03d} (id INTEGER PRIMARY KEY, name TEXT, value REAL"
    + (f", t{number - 1:03d}_id INTEGER REFERENCES t{number - 1:03d} (id)" if number else "")
    + ");"
    for number in range(200)
)

MakeFile = Callable[[str, str], Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes a database file from a script."""

    def make(name: str, script: str) -> Path:
        path = tmp_path / f"{name}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return path

    return make


@pytest.fixture
def odd(make_file: MakeFile) -> Path:
    return make_file("odd", ODD)


@pytest.fixture
def shop(make_file: MakeFile) -> Path:
    return make_file("shop", SHOP)


@pytest.fixture
def wide(make_file: MakeFile) -> Path:
    return make_file("wide", WIDE)


@pytest.fixture
def empty(make_file: MakeFile) -> Path:
    return make_file("empty", "")


OpenSchema = Callable[[Path | None], tuple[sqlite3.Connection, Schema]]


@pytest.fixture
def open_schema() -> Iterator[OpenSchema]:
    """A read-only connection to a file, or to the sample, and its schema."""
    opened: list[sqlite3.Connection] = []

    def open_(path: Path | None = None) -> tuple[sqlite3.Connection, Schema]:
        database = Database(path)
        connection = database.connect()
        opened.append(connection)
        return connection, SchemaCache(database).read(connection)

    yield open_
    for connection in opened:
        connection.close()
