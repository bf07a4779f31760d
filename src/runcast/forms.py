"""The form of an answer: JSON Schema (2020-12), checked when a question is asked and when it is answered.

A schema may refer within itself (`#/$defs/…`) and to nothing else: nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

PAYLOAD_BYTES = 64 * 1024
"""The longest answer, as JSON."""

INLINE_DEPTH = 24
SENTENCE_CHARACTERS = 300


class Fault(NamedTuple):
    """What is wrong with an answer. `at` is a JSON Pointer (RFC 6901); "" is the answer itself."""

    at: str
    why: str


class BadForm(ValueError):
    """A schema that no answer could be checked against."""


def check_form(schema: Mapping[str, Any]) -> None:
    """
    Raises:
        BadForm: it is no JSON Schema of 2020-12, or refers to something outside itself.
    """
    import jsonschema  # not at the top: who only writes or serves agents that never ask need not load it

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        raise BadForm(
            f"no JSON Schema (2020-12): {_sentence(error.message)} at {_pointer(error.path) or '/'}"
        ) from None
    if foreign := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        raise BadForm(f"it refers to {foreign[:80]!r}; only references within the schema (`#/$defs/…`) can be followed")


def fault_of(schema: Mapping[str, Any], value: Any) -> Fault | None:
    """The fault of `value` that matters most; None if it fits.

    Raises:
        BadForm: the schema itself cannot be used.
    """
    import jsonschema
    from jsonschema import exceptions
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    draft = jsonschema.Draft202012Validator
    # A registry without a way to retrieve: a reference to elsewhere cannot be resolved.
    nothing_else: Registry[Any] = Registry()
    validator: Any = draft(dict(schema), registry=nothing_else, format_checker=draft.FORMAT_CHECKER)
    best_match = cast(Any, exceptions).best_match  # its types are only half known
    try:
        error = best_match(validator.iter_errors(value))
    except (Unresolvable, jsonschema.SchemaError, TypeError, ValueError, RecursionError) as broken:
        raise BadForm(f"{type(broken).__name__}") from None
    if error is None:
        return None
    path = list(error.absolute_path)
    if error.validator == "required":
        missing = next((name for name in error.validator_value if name not in error.instance), None)
        if missing is not None:
            return Fault(_pointer([*path, missing]), "is required")
    return Fault(_pointer(path), _why(error))


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its own references (`#/$defs/…`) written out, so that it can stand inside another, or be drawn as a
    form without a resolver. Where it refers to itself in a circle anything is allowed."""
    definitions = cast(Mapping[str, Any], schema.get("$defs") or schema.get("definitions") or {})

    def written(value: Any, inside: frozenset[str]) -> Any:
        if isinstance(value, list):
            return [written(one, inside) for one in cast(list[Any], value)]
        if not isinstance(value, Mapping):
            return value
        fields = cast(Mapping[str, Any], value)
        name = str(fields.get("$ref", "")).rpartition("/")[2]
        if isinstance(fields.get("$ref"), str) and name in definitions:
            beside = {key: one for key, one in fields.items() if key not in ("$ref", "$defs", "definitions")}
            if name in inside or len(inside) > INLINE_DEPTH:
                return beside
            return {**written(definitions[name], inside | {name}), **beside}
        return {key: written(one, inside) for key, one in fields.items() if key not in ("$defs", "definitions")}

    return cast(dict[str, Any], written(schema, frozenset()))


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [ref for one in cast(list[Any], value) for ref in _references(one)]
    if not isinstance(value, Mapping):
        return []
    fields = cast(Mapping[str, Any], value)
    own = [one for key in ("$ref", "$dynamicRef") if isinstance(one := fields.get(key), str)]
    return own + [ref for one in fields.values() for ref in _references(one)]


def _pointer(path: Any) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _why(error: Any) -> str:
    """What is wrong, in words for the person at the form; the library's own where they are plain."""
    expected: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = cast(list[str], expected) if isinstance(expected, list) else [str(expected)]
            return f"must be {' or '.join(_ARTICLES.get(kind, kind) for kind in kinds)}"
        case "enum":
            return "must be one of " + ", ".join(str(one) for one in cast(list[Any], expected))[:200]
        case "const":
            return f"must be {str(expected)[:100]}"
        case "minLength":
            return "must not be empty" if expected == 1 else f"must have at least {expected} characters"
        case "maxLength":
            return f"must have at most {expected} characters"
        case "minimum":
            return f"must be at least {expected}"
        case "maximum":
            return f"must be at most {expected}"
        case "exclusiveMinimum":
            return f"must be more than {expected}"
        case "exclusiveMaximum":
            return f"must be less than {expected}"
        case "pattern":
            return "does not have the form that is asked for"
        case "format":
            return f"is no {expected}"
        case "minItems":
            return f"must have at least {expected}"
        case "maxItems":
            return f"must have at most {expected}"
        case "additionalProperties":
            return "has a field that was not asked for"
        case _:
            return _sentence(error.message)


_ARTICLES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "yes or no",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def _sentence(text: str) -> str:
    return text if len(text) <= SENTENCE_CHARACTERS else text[: SENTENCE_CHARACTERS - 1] + "…"
