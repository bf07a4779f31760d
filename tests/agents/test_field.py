"""A text field of a JSON object that is still arriving."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcast.agents.field import TextField

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["answer", "b", 'q"\\']), inner, max_size=3)
    ),
    max_leaves=8,
)


def read(text: str, pieces: int = 1) -> str:
    field = TextField("answer")
    return "".join(field.feed(text[at : at + pieces]) for at in range(0, len(text), pieces))


@given(before=VALUES, answer=st.text(), after=VALUES, size=st.integers(1, 9), ascii_only=st.booleans())
@settings(max_examples=300, deadline=None)
def test_it_reads_what_a_parser_reads_however_it_is_cut(
    before: object, answer: str, after: object, size: int, ascii_only: bool
) -> None:
    text = json.dumps({"x": before, 'q"': [before], "answer": answer, "after": after}, ensure_ascii=ascii_only)
    assert read(text, size) == answer


def test_each_piece_gives_what_it_adds() -> None:
    field = TextField("answer")
    assert [field.feed(piece) for piece in ('{"ans', 'wer" : "Hel', "lo\\", 'n"', ', "x": "y"}')] == [
        "",
        "Hel",
        "lo",
        "\n",
        "",
    ]
    assert field.found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"answer": 3, "b": "x"}', ""),
        ('{"b": {"answer": "inner"}, "c": ["answer", "x"]}', ""),
        ('["answer", "x"]', ""),
        ('{"answer": "\\ud83d\\ude00"}', "😀"),
        ('{"answer": "\\ud83dx"}', "\ufffdx"),
        ('{"answer": "\\ude00"}', "\ufffd"),
        ('{"answer": "\\ud83d"}', "\ufffd"),
        ('{"answer": "\\ud83d\\n"}', "\ufffd\n"),
        ('{"answer": "cut of', "cut of"),
        ('{"answer": "\\uZZZZ"}', "\ufffd"),
        ("no json at all", ""),
    ],
)
def test_other_shapes(text: str, told: str) -> None:
    assert read(text) == told
