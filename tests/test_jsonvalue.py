"""Whatever a tool returns becomes a JSON value; nothing it does when looked at escapes."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import itertools
import json
import math
import pathlib
import sqlite3
import subprocess
import sys
import types
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import proto
import pydantic
import pytest
from google.protobuf import struct_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from runcast import jsonvalue
from runcast.events import StateSnapshot, decode, encode
from runcast.jsonvalue import to_json


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Task:
    title: str
    due: datetime.date | None = None
    tags: set[str] = dataclasses.field(default_factory=set)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    first_name: str = pydantic.Field(alias="firstName")
    at: datetime.datetime | None = None
    inner: list[Model] = []

    @pydantic.computed_field
    @property
    def shout(self) -> str:
        return self.first_name.upper()


class Struct(msgspec.Struct, rename="camel", tag="point", kw_only=True):
    some_value: int
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class ProtoMessage(proto.Message):
    name = proto.Field(proto.STRING, number=1)
    tags = proto.RepeatedField(proto.STRING, number=2)
    labels = proto.MapField(proto.STRING, proto.STRING, number=3)


def struct(**fields: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


def rows() -> list[sqlite3.Row]:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found = connection.execute("select 1 as id, 'a' as name").fetchall()
    connection.close()
    return found


UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (0, 0),
    (2**60 + 1, 2**60 + 1),
    (2**64, str(2**64)),
    (1.5, 1.5),
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    ("é👩\u200d👧", "é👩\u200d👧"),
    ("a\ud800b", "a\ufffdb"),
    ("\ud83d\ude00", "😀"),
    (Text("x"), "x"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (decimal.Decimal(3), 3),
    (decimal.Decimal("1.10"), 1.1),
    (decimal.Decimal("0.1234567890123456789"), "0.1234567890123456789"),
    (decimal.Decimal("NaN"), None),
    (decimal.Decimal("1E+400"), "1E+400"),
    (fractions.Fraction(1, 2), 0.5),
    (fractions.Fraction(1, 3), "1/3"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001  naive values stay naive
    (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
    (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=EAST), "2026-01-02T03:04:00+05:30"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(hours=1, minutes=30), "PT5400S"),
    (b"caf\xc3\xa9", "café"),
    (b"\xff\xfe", "//4="),
    (bytearray(b"a"), "a"),
    (memoryview(b"a"), "a"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    ((1, "a"), [1, "a"]),
    (Point(1, {2}), {"x": 1, "y": [2]}),
    ({3, 1, 2, 10}, [1, 2, 3, 10]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({"b", 1, None}, [1, "b", None]),
    (collections.deque([1, 2]), [1, 2]),
    (range(3), [0, 1, 2]),
    ((n * n for n in range(3)), [0, 1, 4]),
    (map(str, [1]), ["1"]),
    ({1: "a", None: "b", (1, 2): "d", Colour.RED: "e", 1.5: "f"}, {"1": "a", "null": "b", "[1, 2]": "d", "red": "e", "1.5": "f"}),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (types.MappingProxyType({"a": {1}}), {"a": [1]}),
    (types.SimpleNamespace(a=1), {"a": 1}),
    (Task("milk", datetime.date(2026, 1, 2), {"b", "a"}), {"title": "milk", "due": "2026-01-02", "tags": ["a", "b"]}),
    (Struct(some_value=1), {"type": "point", "someValue": 1}),
    (
        Model(firstName="ana", at=datetime.datetime(2026, 1, 2, tzinfo=UTC), inner=[Model(firstName="ben")]),
        {
            "firstName": "ana", "at": "2026-01-02T00:00:00+00:00", "shout": "ANA",
            "inner": [{"firstName": "ben", "at": None, "inner": [], "shout": "BEN"}],
        },
    ),
    (struct(a=1, b=[True, None], c={"d": "e"}), {"a": 1, "b": [True, None], "c": {"d": "e"}}),
    (struct(a=[1])["a"], [1]),
    (struct_pb2.Value(string_value="x"), "x"),
    (struct_pb2.Value(null_value=struct_pb2.NULL_VALUE), None),
    (timestamp_pb2.Timestamp(seconds=0), "1970-01-01T00:00:00Z"),
    (ProtoMessage(name="n", tags=["a"], labels={"k": "v"}), {"name": "n", "tags": ["a"], "labels": {"k": "v"}}),
    (ProtoMessage(tags=["a", "b"]).tags, ["a", "b"]),
    (ProtoMessage(labels={"k": "v"}).labels, {"k": "v"}),
    (rows(), [{"id": 1, "name": "a"}]),
    (ValueError("bad"), "ValueError: bad"),
    (KeyError(), "KeyError"),
    (Task, f"<class {__name__}.Task>"),
    (len, "<object of type builtins.builtin_function_or_method>"),
    (object(), "<object of type builtins.object>"),
    ({"a": [object()]}, {"a": ["<object of type builtins.object>"]}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[type(value).__name__ for value, _ in VALUES])
def test_becomes(value: Any, expected: Any) -> None:
    made = to_json(value)
    assert made == expected
    assert type(made) is type(expected)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


class Weird:
    """Everything that can fail, fails."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class Failing(collections.abc.Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        if key == "b":
            raise OSError("gone")
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter("abc")

    def __len__(self) -> int:
        return 3


@dataclasses.dataclass
class Deleted:
    kept: int
    gone: int


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class OfMeta(metaclass=Meta):
    pass


def test_what_fails_when_looked_at() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    deleted = Deleted(1, 2)
    del deleted.gone
    assert to_json(breaks()) == [1, jsonvalue.UNREADABLE]
    assert to_json(Failing()) == {"a": 1, "…": jsonvalue.UNREADABLE}
    assert to_json(deleted) == {"kept": 1, "gone": jsonvalue.UNREADABLE}
    assert to_json([Weird()]) == [f"<object of type {__name__}.Weird>"]
    assert to_json(OfMeta()) == "<object>"


def test_what_cancels_passes() -> None:
    """Only errors are caught: a stop is none."""

    def stops() -> Iterator[int]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        to_json(stops())


def test_what_contains_itself() -> None:
    items: list[Any] = [1]
    items.append(items)
    mapping: dict[str, Any] = {"items": items}
    mapping["self"] = mapping
    assert to_json(items) == [1, jsonvalue.CIRCULAR]
    assert to_json(mapping) == {"items": [1, jsonvalue.CIRCULAR], "self": jsonvalue.CIRCULAR}
    shared = [1]
    assert to_json([shared, shared]) == [[1], [1]], "twice is not in itself"


def test_bounds() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    made = json.dumps(to_json(deep))
    assert jsonvalue.TOO_DEEP in made
    assert made.count("[") == jsonvalue.MAX_DEPTH

    endless = to_json(itertools.count())
    assert len(endless) == jsonvalue.MAX_ITEMS + 1
    assert endless[-1] == jsonvalue.MORE
    assert len(to_json({n: n for n in range(20_000)})) == jsonvalue.MAX_ITEMS + 1

    wide = [list(range(1000)) for _ in range(1000)]
    assert sum(len(row) for row in to_json(wide) if isinstance(row, list)) < jsonvalue.MAX_NODES + 2000
    assert len(to_json(type("N" * 500, (), {})())) < 300


def test_the_result_shares_nothing_with_the_value() -> None:
    value = {"a": [1]}
    made = to_json(value)
    value["a"].append(2)
    assert made == {"a": [1]}


def test_sets_come_in_the_same_order_in_every_process() -> None:
    """Text hashes differ from process to process."""
    program = "from runcast.jsonvalue import to_json; print(to_json({'a', 'b', 'c', ('d', 1), None, 2.5, 7}))"
    out = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            timeout=30,
        ).stdout
        for seed in "123"
    }
    assert len(out) == 1


def test_no_framework_is_imported() -> None:
    program = "import sys; from runcast.jsonvalue import to_json; to_json({'a': object()}); print([m for m in ('pydantic', 'google.protobuf', 'proto', 'numpy', 'attrs') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=30,
    )
    assert done.stdout.strip() == "[]"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=4)
    | st.decimals()
    | st.datetimes()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(), max_size=3) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(anything)
def test_the_result_can_always_be_encoded_and_is_stable(value: Any) -> None:
    made = to_json(value)
    assert to_json(value) == made
    assert to_json(made) == made
    assert decode(encode(StateSnapshot(snapshot=made))) == StateSnapshot(snapshot=made)
