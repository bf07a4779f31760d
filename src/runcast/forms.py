"""The form of an answer: JSON Schema (2020-12), checked when a question is asked and when it is answered.

A schema may refer within itself (`#/$defs/…`) and to nothing else: nothing is ever fetched. It may come from elsewhere (a tool
of a remote server), and an answer comes from anybody: what both can make dear is done in linear time here, in place of the
library's ways (`pattern`, `patternProperties`, `uniqueItems`, `enum`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec

from runcast.patterns import Pattern, pattern_of

PAYLOAD_BYTES = 64 * 1024
"""The longest answer, as JSON."""

INLINE_DEPTH = 24
INLINE_VALUES = 20_000
"""The most values that a schema may have when its references are written out: each may double what it refers to."""
SENTENCE_CHARACTERS = 300
FAULTS = 20
"""Among so many, the first, the one that matters most is looked for."""


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

    draft = jsonschema.Draft202012Validator
    nothing_more = jsonschema.FormatChecker(formats=())  # of a `pattern` it would say whether Python's `re` can read it
    try:
        draft.check_schema(dict(schema), format_checker=nothing_more)
    except jsonschema.SchemaError as error:
        raise BadForm(
            f"no JSON Schema (2020-12): {_sentence(error.message)} at {_pointer(error.path) or '/'}"
        ) from None
    except RecursionError:
        raise BadForm("it is nested too deeply") from None
    if unusable := next((one for one in _patterns(schema) if pattern_of(one) is None), None):
        raise BadForm(
            f"the pattern {unusable[:80]!r} cannot be used: it must be one that is matched in linear time, "
            "without back-references, and with look-ahead only directly behind a leading ^"
        )
    if _has(schema, "unevaluatedProperties") and _has(schema, "patternProperties"):
        raise BadForm("`unevaluatedProperties` and `patternProperties` cannot be checked together")
    if foreign := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        raise BadForm(f"it refers to {foreign[:80]!r}; only references within the schema (`#/$defs/…`) can be followed")


def fault_of(schema: Mapping[str, Any], value: Any) -> Fault | None:
    """The fault of `value` that matters most; None if it fits.

    Raises:
        BadForm: the schema itself cannot be used.
    """
    from jsonschema import FormatChecker, SchemaError, exceptions
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # A registry without a way to retrieve: a reference to elsewhere cannot be resolved.
    nothing_else: Registry[Any] = Registry()
    formats = FormatChecker(formats=_FORMATS & FormatChecker.checkers.keys())
    validator: Any = _draft()(dict(schema), registry=nothing_else, format_checker=formats)
    best_match = cast(Any, exceptions).best_match  # its types are only half known
    try:
        error = best_match(islice(validator.iter_errors(value), FAULTS))
    except (Unresolvable, SchemaError, TypeError, ValueError, ArithmeticError, RecursionError) as broken:
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
    form without a resolver. Where it refers to itself in a circle anything is allowed.

    Raises:
        BadForm: it would have more than `INLINE_VALUES` values.
    """
    written_out = 0
    definitions = cast(Mapping[str, Any], schema.get("$defs") or schema.get("definitions") or {})

    def written(value: Any, inside: frozenset[str]) -> Any:
        nonlocal written_out
        written_out += 1
        if written_out > INLINE_VALUES:
            raise BadForm("with its references written out it would be too large")
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


def _patterns(value: Any) -> Iterator[str]:
    """All expressions in a schema."""
    if isinstance(value, list):
        for one in cast(list[Any], value):
            yield from _patterns(one)
    elif isinstance(value, Mapping):
        fields = cast(Mapping[str, Any], value)
        if isinstance(pattern := fields.get("pattern"), str):
            yield pattern
        if isinstance(keyed := fields.get("patternProperties"), Mapping):
            yield from cast(Mapping[str, Any], keyed)
        for one in fields.values():
            yield from _patterns(one)


# --- keywords, each as JSON Schema 2020-12 has it -----------------------------------------------------------------


_FORMATS = frozenset(
    {"email", "idn-email", "ipv4", "ipv6", "date", "time", "date-time", "duration", "uuid", "hostname"}
)
"""What an answer is held to, as far as the library can check it where it is installed. Other formats only say something to
people."""


def _draft() -> Any:
    """The library's validator with our own ways of those keywords whose time would not be bounded."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    allowed: dict[int, frozenset[bytes]] = {}

    def pattern(validator: Any, text: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not _usable(text).is_in(value):
            yield ValidationError("does not match")

    def pattern_properties(validator: Any, keyed: dict[str, Any], value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            for text, under in keyed.items():
                usable = _usable(text)
                for name, one in cast(dict[str, Any], value).items():
                    if usable.is_in(name):
                        yield from validator.descend(one, under, path=name, schema_path=text)

    def additional_properties(validator: Any, under: Any, value: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(value, dict):
            return
        named = schema.get("properties", {})
        keyed = [_usable(text) for text in schema.get("patternProperties", {})]
        for name, one in cast(dict[str, Any], value).items():
            if name in named or any(usable.is_in(name) for usable in keyed):
                continue
            if under is False:
                yield ValidationError("has a field that was not asked for")
                return
            yield from validator.descend(one, under, path=name)

    def unevaluated_properties(validator: Any, under: Any, value: Any, schema: Any) -> Iterator[Any]:
        if _has(schema, "patternProperties"):  # the library would match these by `re`
            raise BadForm("`unevaluatedProperties` and `patternProperties` cannot be checked together")
        yield from Draft202012Validator.VALIDATORS["unevaluatedProperties"](validator, under, value, schema)

    def unique_items(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list):
            items = cast(list[Any], value)
            if len({_canonical(one) for one in items}) < len(items):
                yield ValidationError("has an item twice")

    def enum(validator: Any, options: list[Any], value: Any, schema: Any) -> Iterator[Any]:
        if id(options) not in allowed:
            allowed[id(options)] = frozenset(_canonical(one) for one in options)
        if _canonical(value) not in allowed[id(options)]:
            yield ValidationError("is none of them")

    return cast(Any, validators).extend(
        Draft202012Validator,
        {
            "pattern": pattern,
            "patternProperties": pattern_properties,
            "additionalProperties": additional_properties,
            "unevaluatedProperties": unevaluated_properties,
            "uniqueItems": unique_items,
            "enum": enum,
        },
    )


def _usable(text: str) -> Pattern:
    found = pattern_of(text)
    if found is None:
        raise BadForm(f"the pattern {text[:80]!r}")
    return found


def _has(value: Any, keyword: str) -> bool:
    """Whether a schema has it anywhere."""
    if isinstance(value, list):
        return any(_has(one, keyword) for one in cast(list[Any], value))
    if not isinstance(value, Mapping):
        return False
    fields = cast(Mapping[str, Any], value)
    return keyword in fields or any(_has(one, keyword) for one in fields.values())


def _canonical(value: Any) -> bytes:
    """The same bytes for JSON values that are equal (JSON Schema 2020-12, Core, section 4.2.2: 1 is 1.0, true is not 1)."""
    return msgspec.json.encode(_whole(value), order="sorted")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in cast(list[Any], value)]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in cast(dict[str, Any], value).items()}
    return value


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
        case "uniqueItems":
            return "must not have anything twice"
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
