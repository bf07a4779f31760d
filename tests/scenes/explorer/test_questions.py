"""The ways to ask that are understood."""

from __future__ import annotations

import pytest

from runcast.scenes.explorer.questions import (
    IT,
    Count,
    Describe,
    Find,
    Late,
    Preview,
    Question,
    Relate,
    Sql,
    Tables,
    Talk,
    Total,
    Unclear,
    follow_up,
    understand,
)  # fmt: skip

ASKED: list[tuple[str, Question]] = [
    # word for word, as the scene promises
    ("Show me all tables", Tables()),
    ("Show relationships between fact_bs_purchase and suppliers", Relate(("fact_bs_purchase", "suppliers"))),
    ("How many rows are in each table?", Count()),
    ("Top 10 suppliers by order value", Total("order value", "suppliers", limit=10)),
    # tables
    ("list tables", Tables()),
    ("LIST ALL TABLES!", Tables()),
    ("what tables are there?", Tables()),
    ("Can you show me the tables please?", Tables()),
    ("hi, show me all tables", Tables()),
    ("how many tables are there?", Tables()),
    ("what's in this database?", Tables()),
    ("Which fact tables exist?", Tables("fact")),
    ("show me the dimensions", Tables("dimension")),
    ("List all views", Tables("view")),
    # one table
    ("describe dimv_bs_supplier", Describe(("dimv_bs_supplier",))),
    ("Describe suppliers and plants", Describe(("suppliers", "plants"))),
    ("columns of the supplier table", Describe(("supplier",))),
    ("what is in fact_bs_delivery?", Describe(("fact_bs_delivery",))),
    ("What columns does fact_bs_invoice have?", Describe(("fact_bs_invoice",))),
    ("how many columns does the supplier table have?", Describe(("supplier",))),
    ("tell me about materials", Describe(("materials",))),
    ("Show me the structure of fact_bs_purchase_order", Describe(("fact_bs_purchase_order",))),
    ("show me the suppliers table", Describe(("suppliers",))),
    ("suppliers", Describe(("suppliers",))),
    ("dimv_bs_plant?", Describe(("dimv_bs_plant",))),
    ('describe "Order Details"', Describe(("Order Details",))),
    ("and its columns?", Describe((IT,))),
    ("describe it", Describe((IT,))),
    # relationships
    ("show all relationships", Relate()),
    ("draw an ER diagram", Relate()),
    ("show me the data model", Relate()),
    ("What are the foreign keys in this database?", Relate()),
    ("how are all tables connected?", Relate()),
    ("ER diagram of deliveries", Relate(("deliveries",))),
    ("relationships of suppliers", Relate(("suppliers",))),
    ("show its relationships", Relate((IT,))),
    ("which tables reference dimv_bs_supplier?", Relate(("dimv_bs_supplier",))),
    ("what's connected to plants?", Relate(("plants",))),
    ("how are deliveries connected to materials?", Relate(("deliveries", "materials"))),
    ("how do orders and invoices relate?", Relate(("orders", "invoices"))),
    ("How do I join invoices with suppliers?", Relate(("invoices", "suppliers"))),
    ("is delivery related to invoice?", Relate(("delivery", "invoice"))),
    ("relationships between orders, deliveries and invoices", Relate(("orders", "deliveries", "invoices"))),
    # columns
    ("find columns for price", Find("price")),
    ('search columns for "price"', Find("price")),
    ("which tables have a price column?", Find("price")),
    ("which columns contain date", Find("date")),
    ("where is the delivery date stored?", Find("delivery date")),
    # counts
    ("how many rows in fact_bs_delivery", Count(("fact_bs_delivery",))),
    ("count the rows of suppliers and plants", Count(("suppliers", "plants"))),
    ("how many suppliers are there?", Count(("suppliers",))),
    ("how many open orders are there?", Count(("open orders",))),
    ("how many rows does it have?", Count((IT,))),
    ("count rows", Count()),
    ("how many rows are there in all tables?", Count()),
    ("row counts", Count()),
    # rows
    ("show me 5 rows of materials", Preview("materials", 5)),
    ("preview fact_bs_invoice", Preview("fact_bs_invoice")),
    ("first three rows of plants", Preview("plants", 3)),
    ("sample of suppliers", Preview("suppliers")),
    # numbers
    ("top five materials by standard price", Total("standard price", "materials", limit=5)),
    ("the 3 largest suppliers by invoice value in 2024", Total("invoice value", "suppliers", limit=3, year=2024)),
    ("bottom 5 plants by order value", Total("order value", "plants", limit=5, ascending=True)),
    ("which supplier has the highest order value?", Total("order value", "supplier", limit=5)),
    ("which suppliers have the most orders?", Total("orders", "suppliers", "COUNT", 5)),
    ("most expensive materials", Total("price", "materials", limit=10)),
    ("total order value per month", Total("order value", "month")),
    ("total order value per month in 2025", Total("order value", "month", year=2025)),
    ("monthly order value", Total("order value", "month")),
    ("average order value by plant", Total("order value", "plant", "AVG")),
    ("orders per supplier", Total("orders", "supplier", "COUNT")),
    ("number of deliveries per plant", Total("deliveries", "plant", "COUNT")),
    ("What's the total order value?", Total("order value", "")),
    # lateness
    ("late deliveries", Late()),
    ("show late deliveries in 2024", Late(year=2024)),
    ("which suppliers deliver late?", Late("suppliers")),
    ("how many late deliveries per plant?", Late("plant")),
    # SQL
    ("run SELECT COUNT(*) FROM dimv_bs_plant", Sql("SELECT COUNT(*) FROM dimv_bs_plant")),
    ("SELECT plant_name FROM dimv_bs_plant", Sql("SELECT plant_name FROM dimv_bs_plant")),
    ("Please run this query:\n```sql\nSELECT 1;\n```", Sql("SELECT 1;")),
    ("with a as (select 1) select * from a", Sql("with a as (select 1) select * from a")),
    ("please run: delete from dimv_bs_plant", Sql("delete from dimv_bs_plant")),
    ("drop table dimv_bs_plant", Sql("drop table dimv_bs_plant")),
    # people
    ("hello", Talk("hello")),
    ("Thanks!", Talk("thanks")),
    ("help", Talk("help")),
    ("What can you do?", Talk("help")),
    ("", Talk("help")),
    ("???", Talk("help")),
    # not understood, and said so
    ("write me a poem about spring", Unclear("write me a poem about spring")),
    ("Which suppliers are in Germany?", Unclear("Which suppliers are in Germany?")),
]


@pytest.mark.parametrize(("text", "question"), ASKED, ids=[text or "(empty)" for text, _ in ASKED])
def test_ways_to_ask(text: str, question: Question) -> None:
    assert understand(text) == question


@pytest.mark.parametrize(
    ("text", "before", "question"),
    [
        ("what about plants?", Describe(("suppliers",)), Describe(("plants",))),
        ("and the materials?", Count(("suppliers",)), Count(("materials",))),
        ("and invoices?", Relate(("suppliers",)), Relate(("invoices",))),
        ("and with plants?", Relate(("orders", "suppliers")), Relate(("orders", "plants"))),
        ("and per plant?", Total("order value", "supplier"), Total("order value", "plant")),
        ("and in 2024?", Total("order value", "month"), Total("order value", "month", year=2024)),
        ("what about discount?", Find("price"), Find("discount")),
        ("and its columns?", Count(("suppliers",)), None),
        ("and how many rows are in each table?", Describe(("suppliers",)), None),
        ("show me all tables", Describe(("suppliers",)), None),
        ("what about plants?", None, None),
        ("and now?", Talk("hello"), None),
    ],
)
def test_follow_ups(text: str, before: Question | None, question: Question | None) -> None:
    assert follow_up(text, before) == question


@pytest.mark.parametrize(
    "text",
    ["a" * 20_000, "show " * 3_000, "how are " + "x and " * 2_000, "(" * 5_000, "\x00", "💥" * 500, "select " * 2000],
)
def test_long_and_strange_texts_come_to_an_end(text: str) -> None:
    understand(text)
