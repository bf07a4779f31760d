"""What a JSON text holds, found without reading it. How deep it is: `tests/test_session.py`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runcast.dialects.json_texts import MAX_CONTAINERS, MAX_DATA_URLS, too_many, without_data

TEXTS = st.text(alphabet=st.sampled_from('"\\data:,[]{} xé')) | st.text().map(lambda text: f"data:,{text}")
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


@given(VALUES, st.booleans())
def test_without_its_data_a_text_is_what_it_was(value: Any, ascii_only: bool) -> None:
    """Each data URL is empty then, or stands there whole; nothing else changes."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert same(json.loads(without_data(text)), value)


def same(found: Any, value: Any) -> bool:
    if isinstance(value, str):
        return found == value or (found == "" and value.startswith("data:"))
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, dict):
        return all(key in found or key.startswith("data:") for key in value)
    return found == value


def test_files_are_not_counted_and_more_than_files_are() -> None:
    file = "data:image/png;base64," + "A" * 1000
    assert len(without_data(json.dumps([file] * MAX_DATA_URLS))) < 10 * MAX_DATA_URLS
    many = json.dumps([file] * (MAX_DATA_URLS + 1))
    assert without_data(many) == many


def test_many_values() -> None:
    assert not too_many(json.dumps([{}] * (MAX_CONTAINERS - 1)))
    assert too_many(json.dumps([{}] * MAX_CONTAINERS))
    assert not too_many(json.dumps([1] * MAX_CONTAINERS))
