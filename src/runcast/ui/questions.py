"""A question's form, asked line by line: which lines there are to type, and what a typed line stands for.

The server judges the whole answer; here is said at once what could not be sent at all. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

Schema = dict[str, Any]

MISSING: Any = object()
"""Nothing was typed for something that may be left out."""


class Unclear(ValueError):
    """A line that stands for nothing that was asked; the text says what would."""


class Line(NamedTuple):
    """One thing to type."""

    path: tuple[str, ...]
    """Where its value stands in the answer; empty: it is the answer."""
    label: str
    hint: str
    schema: Schema
    required: bool

    @property
    def options(self) -> list[Any]:
        values: list[Any] = [one for one in self.schema.get("enum", []) if one is not None]
        return values

    @property
    def several(self) -> list[Any]:
        """What may be chosen from, for a list of choices."""
        items: Any = self.schema.get("items")
        given = cast(Schema, items) if isinstance(items, Mapping) else Schema()
        return list(given.get("enum", [])) if _type(self.schema) == "array" else []

    @property
    def words(self) -> str:
        """What to type, in brackets behind the label."""
        if self.options or self.several:
            choices = ", ".join(f"{n} {_text(one)}" for n, one in enumerate(self.options or self.several, 1))
            return f"{choices}; {'several with commas' if self.several else 'number or word'}"
        kind = _type(self.schema)
        told = {"boolean": "y/n", "integer": "whole number", "number": "number", "object": "JSON", "array": "JSON"}
        return "YYYY-MM-DD" if self.schema.get("format") == "date" else told.get(kind, "")


def lines_of(schema: Schema) -> list[Line]:
    """What has to be typed for an answer of this form, in order."""
    return _lines((), _unwrapped(schema), required=True)


def value_of(line: Line, typed: str) -> Any:
    """What `typed` stands for; MISSING if nothing was typed and nothing has to be.

    Raises:
        Unclear: it stands for nothing that was asked.
    """
    text = typed.strip()
    kind = _type(line.schema)
    if not text:
        if line.required and line.path == () and kind != "array":
            raise Unclear("An answer is needed.")
        if line.required and kind != "string" and kind != "array":
            raise Unclear("This is needed.")
        if line.required and (line.options or line.schema.get("minLength")):
            raise Unclear("This is needed.")
        return ([] if kind == "array" else "") if line.required else MISSING
    if line.options:
        return _chosen(line.options, text)
    if line.several:
        return [_chosen(line.several, one) for one in text.split(",") if one.strip()]
    if kind == "boolean":
        if text.lower() not in ("y", "yes", "n", "no", "true", "false"):
            raise Unclear("Type y or n.")
        return text.lower() in ("y", "yes", "true")
    if kind in ("integer", "number", "object", "array"):
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise Unclear(f"This must be {'a number' if kind in ('integer', 'number') else 'JSON'}.") from None
        if kind in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Unclear("This must be a number.")
        return value
    if kind == "":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def answer_of(values: Sequence[tuple[Line, Any]]) -> Any:
    """The whole answer from what its lines stand for."""
    if len(values) == 1 and values[0][0].path == ():
        return values[0][1]
    answer: dict[str, Any] = {}
    for line, value in values:
        place = answer
        for step in line.path[:-1]:
            place = place.setdefault(step, {})
        if value is not MISSING:
            place[line.path[-1]] = value
    return answer


def _lines(path: tuple[str, ...], schema: Schema, *, required: bool) -> list[Line]:
    properties: Any = schema.get("properties")
    if isinstance(properties, Mapping) and len(path) < 3 and (required or not path):
        needed: Sequence[str] = schema.get("required", ())
        return [
            line
            for name, inner in cast(Schema, properties).items()
            for line in _lines((*path, name), _unwrapped(inner), required=name in needed)
        ]
    label = str(schema.get("title") or " ".join(path).replace("_", " ") or "Answer")
    return [Line(path, label, str(schema.get("description") or ""), schema, required)]


def _unwrapped(schema: Any) -> Schema:
    """`null or …` is a value that may be left out."""
    fields = cast(Schema, schema) if isinstance(schema, Mapping) else Schema()
    variants: Sequence[Any] = fields.get("anyOf") or fields.get("oneOf") or ()
    given = [cast(Schema, one) for one in variants if isinstance(one, Mapping)]
    real = [one for one in given if one.get("type") != "null"]
    if len(real) != 1:
        return fields
    return {**real[0], **{name: value for name, value in fields.items() if name not in ("anyOf", "oneOf")}}


def _type(schema: Schema) -> str:
    kind: Any = schema.get("type", "")
    if isinstance(kind, list):
        kind = next((one for one in cast(list[Any], kind) if one != "null"), "")
    return str(kind)


def _chosen(options: Sequence[Any], typed: str) -> Any:
    text = typed.strip()
    for option in options:
        if _text(option).lower() == text.lower():
            return option
    if text.isdigit() and 1 <= int(text) <= len(options):
        return options[int(text) - 1]
    raise Unclear("Type one of: " + ", ".join(_text(one) for one in options))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
