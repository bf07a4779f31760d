"""What people say finds what the database calls it."""

from __future__ import annotations

import pytest

from runcast.scenes.explorer.exploration import CannotAnswer
from runcast.scenes.explorer.names import singular, words


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("fact_bs_purchase", "fact_bs_purchase_order"),
        ("FACT_BS_DELIVERY", "fact_bs_delivery"),
        ("suppliers", "dimv_bs_supplier"),
        ("the supplier dimension", "dimv_bs_supplier"),
        ("vendors", "dimv_bs_supplier"),
        ("orders", "fact_bs_purchase_order"),
        ("purchase orders", "fact_bs_purchase_order"),
        ("open orders", "v_bs_open_order"),
        ("deliveries", "fact_bs_delivery"),
        ("delivry", "fact_bs_delivery"),
        ("invoices", "fact_bs_invoice"),
        ("materials", "dimv_bs_material"),
        ("material groups", "dimv_bs_material_group"),
        ("products", "dimv_bs_material"),
        ("plant", "dimv_bs_plant"),
        ("dates", "dimv_bs_date"),
        ("calendar", "dimv_bs_date"),
        ("purchasing groups", "dimv_bs_purchasing_group"),
        ("supplier material", "bridge_bs_supplier_material"),
        ('"dimv_bs_plant"', "dimv_bs_plant"),
    ],
)
def test_loose_names(open_schema, asked: str, found: str) -> None:
    _, schema = open_schema(None)
    assert schema.resolve(asked)[0].name == found


@pytest.mark.parametrize("asked", ["customers", "weather", "price", "others", "", "???"])
def test_what_is_not_there_is_not_guessed(open_schema, asked: str) -> None:
    _, schema = open_schema(None)
    with pytest.raises(CannotAnswer, match="There is no table like"):
        schema.resolve(asked)


def test_odd_names_are_found_exactly(open_schema, odd) -> None:
    _, schema = open_schema(odd)
    for name in schema.names:
        assert schema.resolve(name)[0].name == name
        assert schema.resolve(name.upper() if name.isascii() else name)[0].name == name
    assert schema.resolve("order details")[0].name == "Order Details"


def test_near_ties_are_told(open_schema) -> None:
    _, schema = open_schema(None)
    assert schema.resolve("orders")[1] == ["v_bs_open_order"]
    assert schema.resolve("suppliers")[1] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OrderDetails", ("order", "details")),
        ("order_details", ("order", "details")),
        ("CustomerID", ("customer", "id")),
        ("HTTPServer", ("http", "server")),
        ("Prix unitaire (€)", ("prix", "unitaire")),
        ("日本", ("日本",)),
        ("__", ()),
    ],
)
def test_words(name: str, expected: tuple[str, ...]) -> None:
    assert words(name) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("suppliers", "supplier"),
        ("deliveries", "delivery"),
        ("boxes", "box"),
        ("status", "status"),
        ("address", "address"),
        ("bus", "bus"),
    ],
)
def test_singular(word: str, expected: str) -> None:
    assert singular(word) == expected
