"""Diagrams that Mermaid can read, whatever the names; each form here was rendered with Mermaid 12."""

from __future__ import annotations

import re

import pytest

from runcast.scenes.explorer import exploration
from runcast.scenes.explorer.catalogue import Column, Reference, Table
from runcast.scenes.explorer.diagram import MAX_COLUMNS, MAX_ENTITIES, MAX_SOURCE, draw

# The grammar as far as we use it (Mermaid 12, erDiagram.jison): each line is one of these.
LINES = re.compile(
    r"""
    erDiagram
    | \ {4}accTitle:\ [^\n]+
    | \ {4}\w+\ (\|\||\|o)(--|\.\.)(o\{|o\|)\ \w+\ :\ "[^"\\%]+"
    | \ {4}[A-Za-z]\w*(\["[^"\\%\[\]]+"\])?(\ \{)?
    | \ {8}[a-z]\w*\ [A-Za-z]\w*(\ (PK|FK|UK)(,\ (PK|FK|UK))*)?(\ "[^"\\%]+")?
    | \ {4}\}
    """,
    re.VERBOSE,
)


def check(source: str) -> None:
    assert source.startswith("erDiagram\n") and source.endswith("\n")
    for line in source.splitlines():
        assert LINES.fullmatch(line), line


def test_two_tables_of_the_sample(open_schema) -> None:
    _, schema = open_schema(None)
    source = exploration.related(schema, ["fact_bs_purchase", "suppliers"])["diagram"]
    check(source)
    assert '    dimv_bs_supplier ||--o{ fact_bs_purchase_order : "supplier_key"\n' in source
    assert "        integer order_line_key PK\n" in source
    assert "        integer supplier_key FK\n" in source
    assert "        text supplier_code UK\n" in source


def test_two_references_between_the_same_tables_are_both_drawn(open_schema) -> None:
    _, schema = open_schema(None)
    source = exploration.related(schema, ["purchase orders", "dates"])["diagram"]
    assert ': "order_date_key"' in source and ': "requested_date_key"' in source


def test_odd_names_are_made_safe_and_stay_readable(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    source = exploration.related(schema, [])["diagram"]
    check(source)
    assert re.search(r't\d+_Order_Details\["Order Details"\]', source)
    assert re.search(r't\d+\["日本"\]', source)
    assert 'integer order_id PK "order id"' in source
    assert 'text column_1 PK "名前"' in source
    assert "DROP TABLE" not in source.replace('["x__ DROP TABLE employee_ --"]', "")


def test_cardinality_and_inference_show_in_the_line(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    source = exploration.related(schema, ["employee"])["diagram"]
    assert 'employee ||--o| badge : "employee_id"' in source
    assert 'employee |o--o{ employee : "manager_id"' in source
    assert 'employee |o..o{ shipment : "employee_id (inferred)"' in source


def test_200_tables_are_cut_and_said(open_schema, wide) -> None:
    _, schema = open_schema(wide)
    result = exploration.related(schema, [])
    check(result["diagram"])
    assert len(result["tables"]) == MAX_ENTITIES
    assert "40 of 200 tables" in result.get("note", "")
    assert len(result["relationships"]) == 199, "what is not drawn is still told"


def test_a_broad_table_keeps_its_keys() -> None:
    columns = (
        *(Column(f"c{number}", "TEXT") for number in range(50)),
        Column("id", "INTEGER", key=1),
        Column("far_id", "INTEGER"),
    )
    reference = Reference("broad", ("far_id",), "far", ("id",))
    broad = Table("broad", columns=columns, references=(reference,))
    far = Table("far", columns=(Column("id", "INTEGER", key=1),))
    source = draw([broad, far], [reference]).source
    check(source)
    assert "integer id PK" in source and "integer far_id FK" in source
    assert f'"and {52 - MAX_COLUMNS} more"' in source


def test_a_diagram_is_never_too_long() -> None:
    tables = [
        Table(f"{'x' * 120}{number}", columns=tuple(Column("y" * 100 + str(n), "TEXT") for n in range(40)))
        for number in range(40)
    ]
    assert len(draw(tables, []).source) <= MAX_SOURCE


@pytest.mark.parametrize(
    "word",
    [
        "title",
        "direction",
        "style",
        "class",
        "end",
        "one",
        "u",
        "PK",
        "fk",
        "erDiagram",
        "1st",
        "_",
        "",
        "a\nb",
        '"',
        "%%{init}%%",
    ],
)
def test_words_of_mermaid_are_only_names_here(word: str) -> None:
    table = Table(word, columns=(Column(word, word, key=1), Column("x", word)))
    other = Table("other", columns=(Column("x", "INT"),), references=(Reference("other", ("x",), word, (word,)),))
    source = draw([table, other], other.references, title=word).source
    check(source)
    assert not re.search(r"^\s+(pk|fk|uk)\b|\s(PK|FK|UK)\s+(PK|FK|UK)\b", source, re.MULTILINE)
