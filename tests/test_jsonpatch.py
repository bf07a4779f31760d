"""RFC 6902 and RFC 6901, by their own examples and at their edges."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.jsonpatch import PatchError, apply, equal

APPENDIX_A: list[tuple[str, Any, list[dict[str, Any]], Any]] = [
    ("A.1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ("A.2", {"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ("A.5", {"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        "A.6",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    ("A.10", {"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
    ("A.11", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        "A.16",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
    ("whole value", {"a": 1}, [{"op": "replace", "path": "", "value": [1]}], [1]),
    ("empty member name", {"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    ("add replaces a member", {"a": 1}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
    (
        "copy",
        {"a": [1]},
        [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/-", "value": 2}],
        {"a": [1], "b": [1, 2]},
    ),
    ("move onto itself", {"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
    ("move to a name that begins alike", {"a": 1}, [{"op": "move", "from": "/a", "path": "/ab"}], {"ab": 1}),
    ("test whole value", [1.0], [{"op": "test", "path": "", "value": [1]}], [1.0]),
    ("no operation", {"a": 1}, [], {"a": 1}),
]


@pytest.mark.parametrize(
    ("value", "patch", "expected"), [row[1:] for row in APPENDIX_A], ids=[row[0] for row in APPENDIX_A]
)
def test_applies(value: Any, patch: list[dict[str, Any]], expected: Any) -> None:
    before = copy.deepcopy((value, patch))
    assert apply(value, patch) == expected
    assert (value, patch) == before, "what is given is never changed"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/baz", "value": "bar"},  # A.9
        {"op": "add", "path": "/baz/bat", "value": "qux"},  # A.12
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "add", "path": "/list/1e0", "value": 1},
        {"op": "add", "path": "/list/٣", "value": 1},
        {"op": "add", "path": "/list/" + "9" * 5000, "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "remove", "path": "/list/2"},
        {"op": "replace", "path": "/baz/0", "value": 1},
        {"op": "move", "from": "/list", "path": "/list/0"},
        {"op": "move", "path": "/x"},
        {"op": "copy", "from": "/none", "path": "/x"},
        {"op": "add", "path": "/x"},
        {"op": "add", "path": "x", "value": 1},
        {"op": "add", "path": "/a~2", "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "test", "path": "/list", "value": {"0": 1, "1": 2}},
        {"op": "merge", "path": "/x", "value": 1},
        {"path": "/x", "value": 1},
    ],
)
def test_refuses(operation: dict[str, Any]) -> None:
    value = {"baz": "qux", "list": [1, 2]}
    with pytest.raises(PatchError, match="operation 1"):
        apply(value, [{"op": "add", "path": "/first", "value": 1}, operation])
    assert value == {"baz": "qux", "list": [1, 2]}, "all or nothing (RFC 6902, section 5)"


def test_equality_is_that_of_json() -> None:
    assert equal({"a": [1, None], "b": True}, {"b": True, "a": [1.0, None]})
    assert not equal(1, True)
    assert not equal(0, False)
    assert not equal([0], [False])
    assert not equal({"a": None}, {})
    assert not equal("1", 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "~", "/", "0"]), inner, max_size=3)
    ),
    max_leaves=8,
)
pointers = st.lists(st.sampled_from(["", "a", "~0", "~1", "0", "1", "-"]), max_size=3).map(
    lambda tokens: "".join(f"/{t}" for t in tokens)
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": pointers},
    optional={"from": pointers, "value": json_values},
)


@given(value=json_values, patch=st.lists(operations, max_size=4))
def test_anything_applies_or_is_refused_and_never_changes_what_is_given(
    value: Any, patch: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy((value, patch))
    try:
        apply(value, patch)
    except PatchError:
        pass
    assert (value, patch) == before
