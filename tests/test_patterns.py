"""Expressions mean what Python's `re` says they mean, but cannot be made to go back."""

from __future__ import annotations

import re

import pytest

from runcast.patterns import MAX_LENGTH, pattern_of

TEXTS = [
    "",
    "Nowhere",
    "Somewhere",
    "abc1defg)",
    "a",
    "b",
    "c",
    "d",
    "ab",
    "x",
    "ax",
    ")xy",
    "y",
    "\\Z",
    "abcdefg1]",
    "é",
    "7",
]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a",
        r"^a$",
        r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$",
        r"^\d{1,3}(\.\d+)?$",
        r"^(?!Nowhere)",
        r"^(?!Nowhere$)[A-Z]\w*$",
        r"^(?=.*\d)(?=.*[a-z])(?=.*[)\]]).{8,}$",
        r"^(?=a)(b|c)$",
        r"^(?=(a|b)+)a",
        r"^(?!\)x)y",
        r"^(?![)\]]).",
        r"a\Z",
        r"\\Z",
        r"(?P<letter>[a-c])",
    ],
)
def test_it_matches_what_it_says(expression: str) -> None:
    pattern = pattern_of(expression)
    assert pattern is not None
    assert [text for text in TEXTS if pattern.is_in(text)] == [text for text in TEXTS if re.search(expression, text)]


@pytest.mark.parametrize(
    "expression",
    [
        "(",
        r"(.)\1",
        "(?<=a)b",
        "a(?=b)",
        "^(?!a|b)c|d",
        "^(?:a)(?!b)",
        "^(?=",
        "a{1000}{1000}{1000}",
        "a" * (MAX_LENGTH + 1),
    ],
)
def test_what_could_take_for_ever_is_none(expression: str) -> None:
    assert pattern_of(expression) is None


@pytest.mark.parametrize("expression", ["^(a+)+$", "^(a|a)*$", r"^(\w*)*$", "^(?=(a+)+$)", "^(?!(a|aa)+$)a*$"])
def test_nothing_is_looked_at_twice(expression: str) -> None:
    """With Python's `re` each of these takes 2^40 steps."""
    pattern = pattern_of(expression)
    assert pattern is not None and not pattern.is_in("a" * 40 + "!")
