"""Forms typed line by line."""

from __future__ import annotations

from typing import Any

import pytest

from runcast.ui.questions import MISSING, Unclear, answer_of, lines_of, value_of

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["name", "size", "place"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "size": {"enum": ["small", "large"]},
        "count": {"type": "integer"},
        "since": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "days": {"type": "array", "items": {"enum": ["Mon", "Tue", "Wed"]}},
        "express": {"type": "boolean"},
        "place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}


def test_an_object_is_typed_field_by_field() -> None:
    lines = lines_of(FORM)
    assert [(line.path, line.words, line.required) for line in lines] == [
        (("name",), "", True),
        (("size",), "1 small, 2 large; number or word", True),
        (("count",), "whole number", False),
        (("since",), "YYYY-MM-DD", False),
        (("days",), "1 Mon, 2 Tue, 3 Wed; several with commas", False),
        (("express",), "y/n", False),
        (("place", "city"), "", True),
    ]
    typed = [" Ada ", "2", "", "2026-01-02", "Mon, 3", "y", "Bern"]
    answer = answer_of([(line, value_of(line, text)) for line, text in zip(lines, typed, strict=True)])
    assert answer == {
        "name": "Ada",
        "size": "large",
        "since": "2026-01-02",
        "days": ["Mon", "Wed"],
        "express": True,
        "place": {"city": "Bern"},
    }


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "string", "minLength": 1}, "Rome", "Rome"),
        ({}, '{"a": 1}', {"a": 1}),
        ({}, "plain", "plain"),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "boolean"}, "no", False),
        ({"type": "array"}, "[1]", [1]),
        ({"enum": [1, 2, "two"]}, "TWO", "two"),
    ],
)
def test_what_a_line_stands_for(schema: dict[str, Any], typed: str, value: Any) -> None:
    [line] = lines_of(schema)
    assert answer_of([(line, value_of(line, typed))]) == value


@pytest.mark.parametrize(
    ("schema", "typed"),
    [
        ({"type": "string"}, " "),
        ({"type": "integer"}, "x"),
        ({"type": "number"}, "true"),
        ({"type": "boolean"}, "maybe"),
        ({"enum": ["a", "b"]}, "3"),
        ({"type": "object"}, "{"),
    ],
)
def test_what_stands_for_nothing_is_said(schema: dict[str, Any], typed: str) -> None:
    [line] = lines_of(schema)
    with pytest.raises(Unclear):
        value_of(line, typed)


def test_what_may_be_left_out_is_left_out() -> None:
    assert value_of(lines_of(FORM)[2], "") is MISSING
