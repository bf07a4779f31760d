"""The sample database: a purchasing data mart, `dm_bs_purchase`, made by a seeded generator in memory.

Facts (`fact_bs_*`) refer to dimensions (`dimv_bs_*`, valid rows only) by declared foreign keys; a bridge holds the price
agreements, two views hold what people ask for every week. Every name in it is made up. The same seed gives the same
bytes' worth of rows on every machine: nothing here reads a clock or an environment.

No file is written: `image` gives the database as bytes (`sqlite3_serialize`), and each reader opens its own copy.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from functools import cache

SCHEMA_NAME = "dm_bs_purchase"
AS_OF = "2025-12-31T23:59:59+00:00"
"""The last moment the sample tells of."""

_SEED = 20251231
_FIRST_DAY = date(2024, 1, 1)
_LAST_DAY = date(2025, 12, 31)
_ORDERS = 3_600

DDL = """
CREATE TABLE dimv_bs_date (
    date_key        INTEGER PRIMARY KEY,
    calendar_date   DATE NOT NULL UNIQUE,
    year            INTEGER NOT NULL,
    quarter         INTEGER NOT NULL,
    month           INTEGER NOT NULL,
    month_name      TEXT NOT NULL,
    year_month      TEXT NOT NULL,
    iso_week        INTEGER NOT NULL,
    weekday_name    TEXT NOT NULL,
    is_working_day  BOOLEAN NOT NULL
);
CREATE TABLE dimv_bs_supplier (
    supplier_key        INTEGER PRIMARY KEY,
    supplier_code       TEXT NOT NULL UNIQUE,
    supplier_name       TEXT NOT NULL,
    country_code        TEXT NOT NULL,
    supplier_group      TEXT NOT NULL,
    payment_term_days   INTEGER NOT NULL,
    quality_rating      TEXT NOT NULL,
    is_active           BOOLEAN NOT NULL
);
CREATE TABLE dimv_bs_material_group (
    material_group_key  INTEGER PRIMARY KEY,
    group_code          TEXT NOT NULL UNIQUE,
    group_name          TEXT NOT NULL,
    parent_group_key    INTEGER REFERENCES dimv_bs_material_group (material_group_key)
);
CREATE TABLE dimv_bs_material (
    material_key        INTEGER PRIMARY KEY,
    material_number     TEXT NOT NULL UNIQUE,
    material_name       TEXT NOT NULL,
    material_group_key  INTEGER NOT NULL REFERENCES dimv_bs_material_group (material_group_key),
    base_unit           TEXT NOT NULL,
    standard_price      DECIMAL(12,2) NOT NULL,
    planned_lead_days   INTEGER NOT NULL
);
CREATE TABLE dimv_bs_plant (
    plant_key       INTEGER PRIMARY KEY,
    plant_code      TEXT NOT NULL UNIQUE,
    plant_name      TEXT NOT NULL,
    country_code    TEXT NOT NULL,
    region          TEXT NOT NULL
);
CREATE TABLE dimv_bs_purchasing_group (
    purchasing_group_key   INTEGER PRIMARY KEY,
    group_code             TEXT NOT NULL UNIQUE,
    group_name             TEXT NOT NULL
);
CREATE TABLE bridge_bs_supplier_material (
    supplier_key        INTEGER NOT NULL REFERENCES dimv_bs_supplier (supplier_key),
    material_key        INTEGER NOT NULL REFERENCES dimv_bs_material (material_key),
    agreed_price        DECIMAL(12,2) NOT NULL,
    min_order_quantity  INTEGER NOT NULL,
    is_preferred        BOOLEAN NOT NULL,
    PRIMARY KEY (supplier_key, material_key)
);
CREATE TABLE fact_bs_purchase_order (
    order_line_key          INTEGER PRIMARY KEY,
    order_number            TEXT NOT NULL,
    line_number             INTEGER NOT NULL,
    supplier_key            INTEGER NOT NULL REFERENCES dimv_bs_supplier (supplier_key),
    material_key            INTEGER NOT NULL REFERENCES dimv_bs_material (material_key),
    plant_key               INTEGER NOT NULL REFERENCES dimv_bs_plant (plant_key),
    purchasing_group_key    INTEGER NOT NULL REFERENCES dimv_bs_purchasing_group (purchasing_group_key),
    order_date_key          INTEGER NOT NULL REFERENCES dimv_bs_date (date_key),
    requested_date_key      INTEGER NOT NULL REFERENCES dimv_bs_date (date_key),
    order_quantity          INTEGER NOT NULL,
    net_price               DECIMAL(12,2) NOT NULL,
    order_value             DECIMAL(14,2) NOT NULL,
    currency_code           TEXT NOT NULL,
    order_status            TEXT NOT NULL,
    UNIQUE (order_number, line_number)
);
CREATE TABLE fact_bs_delivery (
    delivery_key        INTEGER PRIMARY KEY,
    delivery_number     TEXT NOT NULL UNIQUE,
    order_line_key      INTEGER NOT NULL REFERENCES fact_bs_purchase_order (order_line_key),
    supplier_key        INTEGER NOT NULL REFERENCES dimv_bs_supplier (supplier_key),
    material_key        INTEGER NOT NULL REFERENCES dimv_bs_material (material_key),
    plant_key           INTEGER NOT NULL REFERENCES dimv_bs_plant (plant_key),
    delivery_date_key   INTEGER NOT NULL REFERENCES dimv_bs_date (date_key),
    delivered_quantity  INTEGER NOT NULL,
    rejected_quantity   INTEGER NOT NULL,
    days_late           INTEGER NOT NULL,
    is_late             BOOLEAN NOT NULL
);
CREATE TABLE fact_bs_invoice (
    invoice_key         INTEGER PRIMARY KEY,
    invoice_number      TEXT NOT NULL UNIQUE,
    order_line_key      INTEGER NOT NULL REFERENCES fact_bs_purchase_order (order_line_key),
    supplier_key        INTEGER NOT NULL REFERENCES dimv_bs_supplier (supplier_key),
    invoice_date_key    INTEGER NOT NULL REFERENCES dimv_bs_date (date_key),
    due_date_key        INTEGER NOT NULL REFERENCES dimv_bs_date (date_key),
    invoice_value       DECIMAL(14,2) NOT NULL,
    price_difference    DECIMAL(14,2) NOT NULL,
    payment_status      TEXT NOT NULL
);
CREATE INDEX ix_purchase_order_supplier ON fact_bs_purchase_order (supplier_key);
CREATE INDEX ix_purchase_order_date ON fact_bs_purchase_order (order_date_key);
CREATE INDEX ix_delivery_order_line ON fact_bs_delivery (order_line_key);
CREATE INDEX ix_delivery_supplier ON fact_bs_delivery (supplier_key);
CREATE INDEX ix_invoice_order_line ON fact_bs_invoice (order_line_key);
CREATE VIEW v_bs_open_order AS
    SELECT o.order_line_key, o.order_number, o.line_number, s.supplier_name, m.material_name, o.order_quantity,
           COALESCE(SUM(d.delivered_quantity), 0) AS delivered_quantity,
           o.order_quantity - COALESCE(SUM(d.delivered_quantity), 0) AS open_quantity, r.calendar_date AS requested_date
    FROM fact_bs_purchase_order AS o
    JOIN dimv_bs_supplier AS s ON s.supplier_key = o.supplier_key
    JOIN dimv_bs_material AS m ON m.material_key = o.material_key
    JOIN dimv_bs_date AS r ON r.date_key = o.requested_date_key
    LEFT JOIN fact_bs_delivery AS d ON d.order_line_key = o.order_line_key
    WHERE o.order_status = 'open'
    GROUP BY o.order_line_key;
CREATE VIEW v_bs_supplier_month AS
    SELECT o.supplier_key, s.supplier_name, d.year_month, COUNT(*) AS order_lines, SUM(o.order_value) AS ordered_value
    FROM fact_bs_purchase_order AS o
    JOIN dimv_bs_supplier AS s ON s.supplier_key = o.supplier_key
    JOIN dimv_bs_date AS d ON d.date_key = o.order_date_key
    GROUP BY o.supplier_key, d.year_month;
"""

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_STEMS = [
    "Altarvik",
    "Brennholt",
    "Castorello",
    "Dunmerrow",
    "Elvstrand",
    "Ferrolanda",
    "Grenwalde",
    "Haldorin",
    "Iskarsund",
    "Jorvenna",
    "Kestrupp",
    "Lomberga",
    "Marvessa",
    "Nordhagel",
    "Ostravene",
    "Pellworma",
    "Quinteros",
    "Rosvalden",
    "Silvarese",
    "Tarnwick",
    "Ulmendorp",
    "Valtoria",
    "Westerlohn",
    "Ydreborg",
]
_TRADES = ("Castings", "Fasteners", "Coatings", "Bearings", "Electronics", "Packaging", "Hydraulics", "Plastics")
_COUNTRIES = (
    ("DE", "GmbH"), ("AT", "GmbH"), ("SE", "AB"), ("IT", "S.r.l."), ("NL", "B.V."), ("PL", "Sp. z o.o."), ("CZ", "s.r.o."),
    ("FR", "SARL"),
)  # fmt: skip
_SUPPLIER_GROUPS = ("Strategic", "Preferred", "Approved", "Spot")
_GROUPS: tuple[tuple[str, str, int | None], ...] = (
    ("M10", "Metal parts", None), ("M11", "Castings", 1), ("M12", "Fasteners", 1), ("M13", "Bearings", 1),
    ("E20", "Electrical parts", None), ("E21", "Sensors", 5), ("E22", "Cables", 5), ("E23", "Control units", 5),
    ("C30", "Consumables", None), ("C31", "Lubricants", 9), ("C32", "Coatings", 9), ("C33", "Packaging", 9),
)  # fmt: skip
_GOODS: dict[int, tuple[tuple[str, str, float], ...]] = {
    2: (("Pump housing", "PC", 84.0), ("Valve body", "PC", 46.5), ("Flange", "PC", 18.2)),
    3: (("Hex bolt", "PC", 0.42), ("Lock nut", "PC", 0.18), ("Threaded rod", "PC", 2.35)),
    4: (("Ball bearing", "PC", 12.9), ("Roller bearing", "PC", 27.4), ("Bearing sleeve", "PC", 6.8)),
    6: (("Pressure sensor", "PC", 61.0), ("Flow sensor", "PC", 88.5), ("Limit switch", "PC", 23.1)),
    7: (("Control cable", "M", 3.15), ("Power cable", "M", 5.9), ("Ribbon cable", "M", 1.2)),
    8: (("Motor controller", "PC", 214.0), ("I/O module", "PC", 129.0), ("Relay board", "PC", 37.6)),
    10: (("Gear oil", "L", 7.4), ("Bearing grease", "KG", 11.8), ("Cutting fluid", "L", 4.1)),
    11: (("Powder coating", "KG", 9.6), ("Primer", "L", 6.9), ("Clear lacquer", "L", 8.3)),
    12: (("Carton", "PC", 0.95), ("Pallet", "PC", 14.2), ("Stretch film", "ROL", 5.4)),
}
_VARIANTS = ("S", "M", "L", "XL", "20", "32", "40", "63")
_PLANTS = (
    ("P100", "Northfield Assembly", "DE", "Central"), ("P110", "Riverside Machining", "DE", "Central"),
    ("P120", "Lakeside Foundry", "AT", "Central"), ("P200", "Harbour Works", "NL", "West"),
    ("P210", "Canal Street Depot", "NL", "West"), ("P300", "Pinewood Assembly", "SE", "North"),
    ("P400", "Old Mill Works", "CZ", "East"), ("P410", "Hillside Electronics", "PL", "East"),
)  # fmt: skip
_PURCHASING_GROUPS = (
    ("PG1", "Direct materials"), ("PG2", "Electronics"), ("PG3", "Indirect materials"), ("PG4", "Packaging and logistics"),
    ("PG5", "Maintenance"), ("PG6", "Projects"),
)  # fmt: skip


@cache
def image() -> bytes:
    """The whole sample as the bytes of a SQLite database. Made once per process, in about 0.2 s."""
    with closing(sqlite3.connect(":memory:")) as connection:
        fill(connection)
        return connection.serialize()


def fill(connection: sqlite3.Connection) -> None:
    """Create the sample's tables, views and rows in the empty database behind `connection`, and commit."""
    rng = random.Random(_SEED)
    connection.executescript(DDL)
    _fill_dates(connection)
    _fill_suppliers(connection, rng)
    prices = _fill_materials(connection, rng)
    connection.executemany(
        "INSERT INTO dimv_bs_plant VALUES (?, ?, ?, ?, ?)", [(key, *row) for key, row in enumerate(_PLANTS, 1)]
    )
    connection.executemany(
        "INSERT INTO dimv_bs_purchasing_group VALUES (?, ?, ?)",
        [(key, *row) for key, row in enumerate(_PURCHASING_GROUPS, 1)],
    )
    agreements = _fill_agreements(connection, rng, prices)
    _fill_facts(connection, rng, agreements)
    connection.commit()


def _key(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _fill_dates(connection: sqlite3.Connection) -> None:
    days = [_FIRST_DAY + timedelta(days=n) for n in range((_LAST_DAY - _FIRST_DAY).days + 1)]
    connection.executemany(
        "INSERT INTO dimv_bs_date VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                _key(day), day.isoformat(), day.year, (day.month + 2) // 3, day.month, _MONTHS[day.month - 1],
                f"{day.year}-{day.month:02d}", day.isocalendar().week, _WEEKDAYS[day.weekday()], int(day.weekday() < 5),
            )
            for day in days
        ],
    )  # fmt: skip


def _fill_suppliers(connection: sqlite3.Connection, rng: random.Random) -> None:
    rows: list[tuple[object, ...]] = []
    for key in range(1, 49):
        country, form = _COUNTRIES[rng.randrange(len(_COUNTRIES))]
        trade = _TRADES[rng.randrange(len(_TRADES))]
        name = f"{_STEMS[(key - 1) % len(_STEMS)]} {trade} {form}"
        group = rng.choices(_SUPPLIER_GROUPS, weights=(2, 4, 5, 2))[0]
        rating = rng.choices("ABC", weights=(5, 4, 1))[0]
        rows.append(
            (
                key,
                f"S{10_000 + key * 7}",
                name,
                country,
                group,
                rng.choice((14, 30, 45, 60)),
                rating,
                int(key % 16 != 0),
            )
        )
    connection.executemany("INSERT INTO dimv_bs_supplier VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _fill_materials(connection: sqlite3.Connection, rng: random.Random) -> dict[int, float]:
    connection.executemany(
        "INSERT INTO dimv_bs_material_group VALUES (?, ?, ?, ?)", [(key, *row) for key, row in enumerate(_GROUPS, 1)]
    )
    prices: dict[int, float] = {}
    rows: list[tuple[object, ...]] = []
    for group, goods in _GOODS.items():
        for name, unit, price in goods:
            for variant in rng.sample(_VARIANTS, 6):
                key = len(rows) + 1
                prices[key] = round(price * rng.uniform(0.7, 1.8), 2)
                rows.append(
                    (
                        key,
                        f"MAT-{100_000 + key * 13}",
                        f"{name} {variant}",
                        group,
                        unit,
                        prices[key],
                        rng.randint(5, 45),
                    )
                )
    connection.executemany("INSERT INTO dimv_bs_material VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return prices


def _fill_agreements(
    connection: sqlite3.Connection, rng: random.Random, prices: dict[int, float]
) -> list[tuple[int, int, float, int]]:
    """Which supplier sells which material at what price: `(supplier, material, price, least quantity)`."""
    agreements: list[tuple[int, int, float, int]] = []
    rows: list[tuple[object, ...]] = []
    for material, price in prices.items():
        for rank, supplier in enumerate(rng.sample(range(1, 49), rng.randint(2, 4))):
            agreed = round(price * rng.uniform(0.88, 1.12), 2)
            least = rng.choice((1, 10, 25, 50, 100)) if price > 5 else rng.choice((100, 250, 500))
            agreements.append((supplier, material, agreed, least))
            rows.append((supplier, material, agreed, least, int(rank == 0)))
    connection.executemany("INSERT INTO bridge_bs_supplier_material VALUES (?, ?, ?, ?, ?)", rows)
    return agreements


def _fill_facts(
    connection: sqlite3.Connection, rng: random.Random, agreements: list[tuple[int, int, float, int]]
) -> None:
    lines: list[tuple[object, ...]] = []
    deliveries: list[tuple[object, ...]] = []
    invoices: list[tuple[object, ...]] = []
    by_supplier: dict[int, list[tuple[int, int, float, int]]] = {}
    for agreement in agreements:
        by_supplier.setdefault(agreement[0], []).append(agreement)
    suppliers = sorted(by_supplier)
    weights = [rng.paretovariate(1.3) for _ in suppliers]
    lateness = {supplier: rng.choice((0.05, 0.1, 0.15, 0.3)) for supplier in suppliers}
    span = (_LAST_DAY - _FIRST_DAY).days
    for order in range(1, _ORDERS + 1):
        supplier = rng.choices(suppliers, weights=weights)[0]
        ordered = _FIRST_DAY + timedelta(days=min(span, int(span * order / _ORDERS) + rng.randint(0, 2)))
        offers = by_supplier[supplier]
        chosen = rng.sample(offers, min(len(offers), rng.choice((1, 1, 2, 2, 3, 4))))
        plant, group = rng.randint(1, 8), rng.randint(1, 6)
        for position, (_, material, agreed, least) in enumerate(chosen, 1):
            line = len(lines) + 1
            quantity = least * rng.randint(1, 12)
            price = round(agreed * rng.uniform(0.97, 1.05), 2)
            requested = min(_LAST_DAY, ordered + timedelta(days=rng.randint(7, 40)))
            open_quantity = quantity
            for part in range(rng.choice((1, 1, 1, 2))):
                late = rng.random() < lateness[supplier]
                arrived = requested + timedelta(days=rng.randint(1, 21) if late else -rng.randint(0, 4))
                if arrived > _LAST_DAY or arrived < ordered:
                    break
                amount = open_quantity if part or rng.random() < 0.75 else max(1, open_quantity // 2)
                if amount == 0:
                    break
                open_quantity -= amount
                days = max(0, (arrived - requested).days)
                rejected = rng.randint(1, max(1, amount // 20)) if rng.random() < 0.06 else 0
                key = len(deliveries) + 1
                deliveries.append(
                    (key, f"DN{500_000 + key}", line, supplier, material, plant, _key(arrived), amount, rejected, days,
                     int(days > 0))
                )  # fmt: skip
                billed = round(amount * price, 2)
                difference = round(billed * rng.uniform(-0.02, 0.04), 2) if rng.random() < 0.08 else 0.0
                due = arrived + timedelta(days=30)
                if rng.random() < 0.97 and due <= _LAST_DAY:
                    number = len(invoices) + 1
                    paid = "paid" if rng.random() < 0.93 else "blocked"
                    invoices.append(
                        (number, f"IV{700_000 + number}", line, supplier, _key(arrived), _key(due),
                         round(billed + difference, 2), difference, paid)
                    )  # fmt: skip
            status = "open" if open_quantity else "delivered"
            lines.append(
                (line, f"PO{4_500_000 + order}", position * 10, supplier, material, plant, group, _key(ordered),
                 _key(requested), quantity, price, round(quantity * price, 2), "EUR", status)
            )  # fmt: skip
    connection.executemany(f"INSERT INTO fact_bs_purchase_order VALUES ({', '.join('?' * 14)})", lines)
    connection.executemany(f"INSERT INTO fact_bs_delivery VALUES ({', '.join('?' * 11)})", deliveries)
    connection.executemany(f"INSERT INTO fact_bs_invoice VALUES ({', '.join('?' * 9)})", invoices)
