"""JSON-safe values of whatever a tool returns, so that everything an event holds can be encoded.

    to_json(value) -> Json

Deterministic, no I/O, and it never raises: what has no JSON form becomes a short description without addresses. The
result shares nothing with the value. What becomes of what:

    None, bool, int, str            themselves; lone surrogates in text become U+FFFD (RFC 8259, section 8.2)
    int beyond 64 bits              its digits as text: readers would round it
    float                           itself; NaN and the infinities null (JSON has none)
    Decimal, Fraction               a number if a float holds all its digits, else text: `1.10` is 1.1
    datetime, date, time            ISO 8601; a naive one stays without offset
    timedelta                       ISO 8601 duration in seconds, e.g. `PT5400S`
    bytes, bytearray, memoryview    the text if it is UTF-8, else base64
    Enum                            its value
    UUID, Path, IP addresses …      their text
    Mapping, sqlite3.Row …          an object (whatever has `keys` and can be looked up by them); keys that are not text
                                    become the text of what they would be as values
    list, tuple, deque              an array; a namedtuple an object
    set, frozenset                  an array, sorted by its members' JSON
    range, generator, iterator      an array of the first MAX_ITEMS items (this consumes it)
    dataclass, msgspec, attrs       an object of its fields; SimpleNamespace too
    pydantic model                  its fields by alias
    protobuf message                its JSON mapping (ProtoJSON, original field names); Struct, Value, ListValue what they hold
    proto-plus message, composites  the same
    numpy array, scalar             nested arrays, the plain number
    exception                       `ValueError: the text`
    a class, a function, anything   `<object of type module.Name>`

Bounds: MAX_DEPTH levels, MAX_ITEMS members of one container, MAX_NODES values in all; what lies beyond is told by a marker
text. A value that contains itself becomes `<circular reference>` there.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import importlib
import ipaddress
import itertools
import json
import math
import pathlib
import re
import sys
import types
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

import msgspec

Json = Any
"""Any JSON value: None, bool, int, float, str, list or dict with text keys, all the way down."""

MAX_DEPTH = 64
MAX_ITEMS = 10_000
MAX_NODES = 200_000
MAX_TEXT = 200
"""Characters of a description of last resort."""

CIRCULAR = "<circular reference>"
TOO_DEEP = "<nested too deeply>"
UNREADABLE = "<unreadable>"
MORE = "<more>"

_SURROGATES = re.compile("[\ud800-\udfff]")


def to_json(value: Any) -> Json:
    """`value` as a JSON value."""
    return _Conversion().convert(value, 0)


def safe_text(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot hold; a pair of them becomes the character it stands for."""
    if text.isascii() or not _SURROGATES.search(text):
        return str(text)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_portable(value: Json) -> bool:
    """Whether every number in it is one that other readers of JSON have too: an integer that a double cannot even come near
    is infinity to them, or an error (RFC 8259, section 6). What was decoded from JSON only."""
    match value:
        case bool():
            return True
        case int():
            return abs(value) <= sys.float_info.max
        case list():
            return all(is_portable(one) for one in cast("list[Json]", value))
        case dict():
            return all(is_portable(one) for one in cast("dict[str, Json]", value).values())
        case _:
            return True


class _Conversion:
    """One call of `to_json`: what it is inside of, and how much it has made."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.nodes = 0

    def convert(self, value: Any, depth: int) -> Json:
        self.nodes += 1
        kind = cast(Any, type(value))
        if value is None or kind is bool:
            return value
        if kind is str:
            return safe_text(value)
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self.inside:
            return CIRCULAR
        self.inside.add(id(value))
        try:
            return self.plain(value, depth)
        except RecursionError:
            return TOO_DEEP
        except Exception:  # whatever a foreign class does when it is looked at
            return describe(value)
        finally:
            self.inside.discard(id(value))

    def plain(self, value: Any, depth: int) -> Json:
        match value:
            case enum.Enum():
                return self.convert(value.value, depth + 1)
            case int():
                return _integer(int.__index__(value))
            case float():
                number = float.__float__(value)
                return number if math.isfinite(number) else None
            case str():
                return safe_text(str.__str__(value))
            case decimal.Decimal() | fractions.Fraction():
                return _number(value)
            case datetime.datetime() | datetime.date() | datetime.time():
                return value.isoformat()
            case datetime.timedelta():
                return msgspec.to_builtins(value)
            case bytes() | bytearray() | memoryview():
                return _bytes(bytes(cast("bytes", value)))
            case uuid.UUID() | pathlib.PurePath() | ipaddress.IPv4Address() | ipaddress.IPv6Address():
                return safe_text(str(value))
            case BaseException():
                text = safe_text(str(value))
                return f"{type(value).__name__}: {text}" if text else type(value).__name__
            case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType() | types.ModuleType():
                return describe(cast(Any, value))
            case _:
                return self.container(value, depth)

    def container(self, value: Any, depth: int) -> Json:
        kind = cast(Any, type(value))
        if isinstance(value, Mapping):
            return self.object(cast(Mapping[Any, Any], value).items(), depth)
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            names = cast(Sequence[str], kind._fields)
            return self.object(zip(names, cast(tuple[Any, ...], value), strict=False), depth)
        if isinstance(value, AbstractSet):
            return sorted(self.array(cast(AbstractSet[Any], value), depth), key=_sort_key)
        if isinstance(value, (list, tuple, deque, range, Iterator)):
            return self.array(cast(Iterable[Any], value), depth)
        for reader in (_fields, _pydantic, _protobuf, _proto_plus, _numpy):
            found = reader(value)
            if found is not None:
                return self.convert(found[0], depth)
        if callable(getattr(value, "keys", None)) and hasattr(kind, "__getitem__"):  # sqlite3.Row and its like
            return self.object(((key, value[key]) for key in value.keys()), depth)  # noqa: SIM118  not a dict
        if isinstance(value, Sequence):
            return self.array(cast(Sequence[Any], value), depth)
        return describe(value)

    def object(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Json]:
        made: dict[str, Json] = {}
        try:
            for key, item in items:
                if len(made) >= MAX_ITEMS or self.nodes > MAX_NODES:
                    made["…"] = MORE
                    break
                made[self.key(key, depth)] = self.convert(item, depth + 1)
        except Exception:  # what was read so far is kept
            made["…"] = UNREADABLE
        return made

    def key(self, key: Any, depth: int) -> str:
        if type(key) is str:
            return safe_text(key)
        converted = self.convert(key, depth + 1)
        return converted if isinstance(converted, str) else json.dumps(converted, ensure_ascii=False)

    def array(self, items: Iterable[Any], depth: int) -> list[Json]:
        made: list[Json] = []
        try:
            for item in itertools.islice(items, MAX_ITEMS + 1):
                if len(made) >= MAX_ITEMS or self.nodes > MAX_NODES:
                    made.append(MORE)
                    break
                made.append(self.convert(item, depth + 1))
        except Exception:  # what was read so far is kept
            made.append(UNREADABLE)
        return made


def _integer(value: int) -> Json:
    return value if -(1 << 63) <= value < 1 << 64 else str(value)


def _number(value: decimal.Decimal | fractions.Fraction) -> Json:
    if isinstance(value, fractions.Fraction):
        near = float(value)
        return _whole(near) if near == value else str(value)
    if not value.is_finite():
        return None
    near = float(value)
    return _whole(near) if decimal.Decimal(repr(near)) == value and math.isfinite(near) else str(value)


def _whole(value: float) -> Json:
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _bytes(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


# --- what other libraries make: each gives the value to go on with, in a tuple, or None if it is not one of theirs ---


def _fields(value: Any) -> tuple[Any] | None:
    kind = cast(Any, type(value))
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        made: dict[str, Any] = {} if config.tag is None else {str(config.tag_field): config.tag}
        for name, wire in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            if (item := getattr(value, name)) is not msgspec.UNSET:
                made[wire] = item
        return (made,)
    if dataclasses.is_dataclass(kind):
        return ({field.name: _read(value, field.name) for field in dataclasses.fields(kind)},)
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return ({attribute.name: _read(value, attribute.name) for attribute in attributes},)
    if kind is types.SimpleNamespace:
        return (dict(cast("dict[str, Any]", vars(value))),)
    return None


def _pydantic(value: Any) -> tuple[Any] | None:
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(value, pydantic.BaseModel):
        return None
    model: Any = value
    return (model.model_dump(by_alias=True, warnings=False),)


def _protobuf(value: Any) -> tuple[Any] | None:
    message: Any = sys.modules.get("google.protobuf.message")
    if message is None or not isinstance(value, message.Message):
        return None
    json_format: Any = importlib.import_module("google.protobuf.json_format")
    return (json_format.MessageToDict(value, preserving_proto_field_name=True),)


def _proto_plus(value: Any) -> tuple[Any] | None:
    proto: Any = sys.modules.get("proto")
    if proto is None or not isinstance(value, proto.Message):
        return None
    return _protobuf(cast(Any, type(value)).pb(value))


def _numpy(value: Any) -> tuple[Any] | None:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    return (value.tolist(),)


def _read(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception:  # a field that was deleted, a property that fails
        return UNREADABLE


def _sort_key(value: Json) -> tuple[str, float, str]:
    text = json.dumps(value, sort_keys=True)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return ("number" if is_number else "other", float(value) if is_number else 0.0, text)


def describe(value: Any) -> str:
    """What a value is, when it has no JSON form: its type, never its address."""
    kind = cast(Any, value if issubclass(type(value), type) else type(value))  # isinstance asks the value itself
    try:
        name = f"{kind.__module__}.{kind.__qualname__}"[:MAX_TEXT]
    except Exception:
        return "<object>"
    return f"<class {name}>" if kind is value else f"<object of type {name}>"
