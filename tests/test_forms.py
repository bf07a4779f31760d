"""Answers against JSON Schemas: what is wrong is said where it is wrong, and nothing is ever fetched."""

from __future__ import annotations

from typing import Any

import pytest

from runcast.forms import BadForm, check_form, fault_of, inlined

OBJECT: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
        "odd/name": {"type": "integer", "maximum": 3},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "at", "why"),
    [
        ({}, "/name", "is required"),
        ({"name": ""}, "/name", "must not be empty"),
        ({"name": 5}, "/name", "must be text"),
        ({"name": "x", "born": "2026-13-01"}, "/born", "is no date"),
        ({"name": "x", "tags": ["a", "c"]}, "/tags/1", "must be one of a, b"),
        ({"name": "x", "tags": []}, "/tags", "must have at least 1"),
        ({"name": "x", "odd/name": 4}, "/odd~1name", "must be at most 3"),
        ({"name": "x", "more": 1}, "", "has a field that was not asked for"),
        (None, "", "must be an object"),
    ],
)
def test_the_fault_is_named_with_its_place(value: Any, at: str, why: str) -> None:
    fault = fault_of(OBJECT, value)
    assert fault is not None and (fault.at, fault.why) == (at, why)


def test_what_fits_has_no_fault() -> None:
    assert fault_of(OBJECT, {"name": "x", "born": "2026-01-02", "tags": ["b"], "odd/name": 3}) is None
    assert fault_of({}, {"anything": [1]}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"properties": {"a": {"$ref": "https://elsewhere.example/s.json"}}},
        {"$dynamicRef": "other.json#x"},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadForm):
        check_form(schema)


def test_a_reference_to_elsewhere_is_not_followed() -> None:
    with pytest.raises(BadForm):
        fault_of({"$ref": "http://127.0.0.1:9/schema"}, 1)


def test_references_are_written_out_and_circles_left_open() -> None:
    schema = {
        "$ref": "#/$defs/Node",
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node", "title": "Next"}}}},
    }
    assert inlined(schema) == {"type": "object", "properties": {"next": {"title": "Next"}}}
