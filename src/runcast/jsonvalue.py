"""JSON-safe values of whatever a tool returns, so that everything an event holds can be encoded.

    to_json(value) -> Json

Deterministic, no I/O, and it never raises: what has no JSON form becomes a short description without addresses. The
result shares nothing with the value. What becomes of what:

    None, bool, int, str            themselves; lone surrogates in text become U+FFFD (RFC 8259, section 8.2)
    float                           itself; NaN and the infinities null (JSON has none)
    Decimal, Fraction               a number if it is whole or exactly a float, else text
    datetime, date, time            ISO 8601; a naive one stays without offset
    timedelta                       ISO 8601 duration, e.g. `PT1H30M`
    bytes, bytearray, memoryview    the text if it is UTF-8, else base64
    Enum                            its value
    UUID, Path, IP addresses …      their text
    Mapping                         an object; keys that are not text become what they would be as values, as text
    list, tuple, deque              an array; a namedtuple an object
    set, frozenset                  an array, sorted by its members' JSON
    range, generator, iterator      an array of the first MAX_ITEMS items (this consumes it)
    dataclass, msgspec, attrs       an object of its fields
    pydantic model                  its fields by alias
    protobuf message                its JSON mapping (ProtoJSON, original field names); Struct, Value, ListValue what they hold
    proto-plus message, composites  the same
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
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, cast

import msgspec

from runcast.events import Json

MAX_DEPTH = 64
MAX_ITEMS = 10_000
MAX_NODES = 200_000
MAX_TEXT = 200
"""Characters of a description of last resort."""

CIRCULAR = "<circular reference>"
TOO_DEEP = "<nested too deeply>"
UNREADABLE = "<unreadable>"

_SURROGATES = re.compile("[\ud800-\udfff]")


def to_json(value: Any) -> Json:
    """`value` as a JSON value: None, bool, int, float, str, list or dict with text keys, all the way down."""
    return _Conversion().convert(value, 0)


def safe_text(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot hold; a pair of them becomes the character it stands for."""
    if text.isascii() or not _SURROGATES.search(text):
        return str(text)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class _Conversion:
    """One call of `to_json`: what it is inside of, and how much it has made."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.nodes = 0

    def convert(self, value: Any, depth: int) -> Json:
        self.nodes += 1
        kind: Any = type(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is str:
            return safe_text(value)
        if kind is float:
            return value if math.isfinite(value) else None
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self.inside:
            return CIRCULAR
        self.inside.add(id(value))
        try:
            return self.other(value, depth)
        except RecursionError:
            return TOO_DEEP
        except Exception:
            return describe(value)
        finally:
            self.inside.discard(id(value))

    def other(self, value: Any, depth: int) -> Json:
        scalar = _scalar(value)
        if scalar is not None:
            return scalar[0]
        match value:
            case Mapping():
                return self.object(cast(Mapping[Any, Any], value).items(), depth)
            case tuple() if hasattr(cast(Any, type(value)), "_fields"):
                names = cast(Sequence[str], cast(Any, type(value))._fields)
                return self.object(zip(names, cast(tuple[Any, ...], value), strict=False), depth)
            case Set():
                return sorted(self.array(cast(Set[Any], value), depth), key=_sort_key)
            case list() | tuple() | deque() | range() | Iterator() | types.GeneratorType():
                return self.array(cast(Iterable[Any], value), depth)
            case _:
                pass
        for reader in (_fields, _pydantic, _protobuf, _proto_plus):
            found = reader(value)
            if found is not None:
                return (
                    self.convert(found[0], depth + 1)
                    if not isinstance(found[0], dict)
                    else self.object(cast(dict[Any, Any], found[0]).items(), depth)
                )
        if isinstance(value, (Sequence, Mapping)):
            return self.array(cast(Iterable[Any], value), depth)
        return describe(value)

    def object(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Json]:
        made: dict[str, Json] = {}
        for key, item in items:
            if len(made) >= MAX_ITEMS or self.nodes > MAX_NODES:
                made["…"] = "<more members>"
                break
            made[self.key(key, depth)] = self.convert(item, depth + 1)
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
                    made.append("<more items>")
                    break
                made.append(self.convert(item, depth + 1))
        except Exception:
            made.append(UNREADABLE)
        return made


def _scalar(value: Any) -> tuple[Json] | None:
    match value:
        case enum.Enum():
            return (to_json(value.value),)
        case bool() | int():
            return (int(value),)
        case str():
            return (safe_text(str.__str__(value)),)
        case float():
            return (float(value) if math.isfinite(value) else None,)
        case decimal.Decimal() | fractions.Fraction():
            return (_number(value),)
        case datetime.datetime() | datetime.date() | datetime.time():
            return (value.isoformat(),)
        case datetime.timedelta():
            return (msgspec.to_builtins(value),)
        case bytes() | bytearray() | memoryview():
            return (_bytes(bytes(cast(Any, value))),)
        case uuid.UUID() | pathlib.PurePath() | ipaddress.IPv4Address() | ipaddress.IPv6Address():
            return (safe_text(str(value)),)
        case BaseException():
            text = safe_text(str(value))
            return (f"{type(value).__name__}: {text}" if text else type(value).__name__,)
        case type() | types.FunctionType() | types.BuiltinFunctionType() | types.MethodType() | types.ModuleType():
            return (describe(value),)
        case _:
            return None


def _number(value: decimal.Decimal | fractions.Fraction) -> Json:
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        if value.adjusted() > 300:
            return str(value)
    if value == int(value):
        return int(value)
    near = float(value)
    return near if near == value else str(value)


def _bytes(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _fields(value: Any) -> tuple[Any] | None:
    kind: Any = type(value)
    if isinstance(value, msgspec.Struct):
        names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        made = {wire: getattr(value, name) for name, wire in names.items()}
        return ({wire: item for wire, item in made.items() if item is not msgspec.UNSET},)
    if dataclasses.is_dataclass(kind):
        return ({field.name: _read(value, field.name) for field in dataclasses.fields(kind)},)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return ({attribute.name: _read(value, attribute.name) for attribute in attributes},)
    return None


def _pydantic(value: Any) -> tuple[Any] | None:
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(value, pydantic.BaseModel):
        return None
    return (cast(Any, value).model_dump(by_alias=True),)


def _protobuf(value: Any) -> tuple[Any] | None:
    message = sys.modules.get("google.protobuf.message")
    if message is None or not isinstance(value, message.Message):
        return None
    from google.protobuf import json_format  # pyright: ignore  # there if its message module is

    return (cast(Any, json_format).MessageToDict(value, preserving_proto_field_name=True),)


def _proto_plus(value: Any) -> tuple[Any] | None:
    kind = type(value)
    if not any(base.__module__.split(".")[0] == "proto" for base in kind.__mro__):
        return None
    inner = getattr(value, "pb", None)
    return None if inner is None else _protobuf(inner)


def _read(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception:
        return UNREADABLE


def _sort_key(value: Json) -> str:
    return json.dumps(value, sort_keys=True)


def describe(value: Any) -> str:
    """What a value is, when it has no JSON form: its type, never its address."""
    kind: Any = type(value)
    try:
        if isinstance(value, type):
            return f"<class {value.__module__}.{value.__qualname__}>"[:MAX_TEXT]
        return f"<object of type {kind.__module__}.{kind.__qualname__}>"[:MAX_TEXT]
    except Exception:
        return "<object>"
