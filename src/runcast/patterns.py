"""Regular expressions of schemas, matched in a time that is linear in the text, whatever the expression.

JSON Schema 2020-12 (Core, section 6.4) wants the common part of ECMA-262's syntax. Python's own `re` goes back over what it has
read: `^(a+)+$` takes 2^n steps to refuse n letters, and nothing else in the process runs meanwhile. What only such an engine can
match, look-around and back-references, is no expression here; except for look-ahead where people use it, directly behind the
`^`: `^(?=.*[0-9])(?!admin).{8,}$` is three expressions that are each looked for at the beginning.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

MAX_LENGTH = 1000
"""Characters of an expression. To look at its structure may take the square of them."""

_END_OF_TEXT = re.compile(r"(?<!\\)((?:\\\\)*)\\Z")


class _Condition(NamedTuple):
    expression: str
    holds: bool
    """Whether it must match, or must not."""


class Pattern:
    """An expression that can be used."""

    def __init__(self, conditions: list[tuple[Any, bool]]) -> None:
        self._conditions = conditions

    def is_in(self, text: str) -> bool:
        """Whether it matches somewhere in `text`: it is not anchored (JSON Schema 2020-12, Validation, section 6.3.3)."""
        return all(engine.isinstance_python(text) is holds for engine, holds in self._conditions)


@lru_cache(maxsize=32)
def pattern_of(text: str) -> Pattern | None:
    """The expression; None if it is none, or cannot be matched in linear time."""
    # Not at the top: loaded only by who asks people something. The engine is Rust's `regex`, which pydantic brings along.
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    if len(text) > MAX_LENGTH:
        return None
    written = _END_OF_TEXT.sub(r"\1\\z", text)  # as Python writes the end
    try:
        return Pattern(
            [
                (SchemaValidator(core_schema.str_schema(pattern=expression, regex_engine="rust-regex")), holds)
                for expression, holds in _conditions(written)
            ]
        )
    except SchemaError:
        return None


def _conditions(text: str) -> list[_Condition]:
    """What has to hold so that `text` matches: look-ahead directly behind a leading `^` by itself, then the rest."""
    found: list[_Condition] = []
    rest = text[1:] if text.startswith("^") else ""
    while rest[:3] in ("(?=", "(?!"):
        end = _end_of_group(rest)
        if end is None:
            break
        found.append(_Condition(f"^(?:{rest[3:end]})", rest[2] == "="))
        rest = rest[end + 1 :]
    if not found or _has_alternatives(rest):
        return [_Condition(text, True)]  # the `^` would belong to the first alternative only
    return [*found, _Condition("^" + rest, True)]


def _end_of_group(text: str) -> int | None:
    """Where the group that `text` begins with is closed."""
    depth = 0
    for place, sign in _signs(text):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth == 0:
            return place
    return None


def _has_alternatives(text: str) -> bool:
    depth = 0
    for _, sign in _signs(text):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "|" and depth == 0:
            return True
    return False


_SIGNS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]", re.DOTALL)
"""Signs with a meaning for the structure; what is escaped or in a class is passed over."""


def _signs(text: str) -> list[tuple[int, str]]:
    return [(found.start(), found[0]) for found in _SIGNS.finditer(text)]
