"""Answers against JSON Schemas: what is wrong is said where it is wrong, and nothing is ever fetched."""

from __future__ import annotations

from typing import Any

import pytest

from runcast.forms import INLINE_VALUES, BadForm, Fault, check_form, fault_of, inlined

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
        {"pattern": "("},
        {"properties": {"a": {"items": [{"pattern": r"(.)\1"}]}}},
        {"patternProperties": {"a(?=b)": {}}},
        {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
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


def test_a_schema_that_doubles_with_each_reference_is_not_written_out() -> None:
    """Thirty lines would become 2^24 objects, and the process would die of them."""
    levels = {
        f"L{i}": {"properties": {"a": {"$ref": f"#/$defs/L{i + 1}"}, "b": {"$ref": f"#/$defs/L{i + 1}"}}}
        for i in range(24)
    }
    with pytest.raises(BadForm, match="too large"):
        inlined({"$ref": "#/$defs/L0", "$defs": {**levels, "L24": {}}})
    assert len(inlined({"enum": list(range(INLINE_VALUES // 2))})["enum"]) == INLINE_VALUES // 2


# --- what an answer can make dear -------------------------------------------------------------------------------------
# Each of these took from seconds to years, in the one thread that serves everybody: a failure is a test that never ends.


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "array", "items": {"pattern": "^(a|a)*$"}},
        {"type": "object", "propertyNames": {"pattern": "^(a+)+$"}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
    ],
)
def test_no_answer_makes_a_pattern_go_back(schema: dict[str, Any]) -> None:
    evil = "a" * 60 + "!"
    check_form(schema)
    value: Any = evil if schema.get("type") == "string" else [evil] if schema.get("type") == "array" else {evil: 1}
    assert fault_of(schema, value) is not None
    assert fault_of({"patternProperties": {"^(a+)+$": False}}, {evil: 1}) is None


def test_items_are_compared_once() -> None:
    many: list[Any] = [{"a": i} for i in range(5000)]
    assert fault_of({"uniqueItems": True}, many) is None
    assert fault_of({"uniqueItems": True}, [*many, {"a": 7.0}]) == Fault("", "must not have anything twice")
    assert fault_of({"uniqueItems": True}, [1, True, "1", [1], 0, False, None]) is None
    assert fault_of({"uniqueItems": True}, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]) is not None
    assert fault_of({"uniqueItems": False}, [1, 1]) is None


def test_options_are_looked_up() -> None:
    schema = {"items": {"enum": [f"option {i}" for i in range(3000)]}}
    assert fault_of(schema, ["option 2999"] * 4000) is None
    assert fault_of(schema, ["option 3000"]) is not None
    assert fault_of({"enum": [1, {"a": [1]}]}, {"a": [1.0]}) is None
    assert fault_of({"enum": [1]}, True) is not None


def test_of_many_faults_an_early_one_is_told() -> None:
    fault = fault_of({"items": {"type": "string"}}, [1] * 20_000)
    assert fault is not None and fault.why == "must be text" and int(fault.at[1:]) < 100


def test_a_field_is_asked_for_by_its_name_or_a_pattern() -> None:
    schema = {"properties": {"a": {}}, "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert fault_of(schema, {"a": 1, "x-b": 2}) is None
    assert fault_of(schema, {"x-b": "2"}) == Fault("/x-b", "must be a whole number")
    assert fault_of(schema, {"y-b": 2}) == Fault("", "has a field that was not asked for")
    assert fault_of({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, {"b": 1}) == Fault(
        "/b", "must be null"
    )


def test_a_number_beyond_all_doubles_is_no_crash() -> None:
    with pytest.raises(BadForm):
        fault_of({"multipleOf": 0.01}, 10**400)
