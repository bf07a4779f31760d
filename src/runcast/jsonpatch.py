"""JSON Patch (RFC 6902) on JSON values, with JSON Pointer (RFC 6901). Pure: what is given is never changed.

All operations of a patch apply, or none does (RFC 6902, section 5). Containers on the path of a change are copied, the
rest is shared with the old value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

_INDEX = re.compile(r"(0|[1-9][0-9]*)\Z", re.ASCII)
_ESCAPE = re.compile(r"~(?![01])")


class PatchError(ValueError):
    """A patch that is malformed or does not fit the value. The message names the operation and the pointer."""


def apply(value: Any, patch: Iterable[Mapping[str, Any]]) -> Any:
    """`value` with all operations of `patch` applied, in order.

    Raises:
        PatchError: an operation is malformed, a path does not exist, or a `test` does not hold. Nothing was applied.
    """
    for number, operation in enumerate(patch):
        try:
            value = _apply_one(value, operation)
        except PatchError as error:
            raise PatchError(
                f"operation {number} ({operation.get('op')!r} at {operation.get('path')!r}): {error}"
            ) from None
    return value


def _apply_one(value: Any, operation: Mapping[str, Any]) -> Any:
    path = _tokens(operation.get("path"), "path")
    match operation.get("op"):
        case "add":
            return _add(value, path, _given(operation))
        case "remove":
            return _remove(value, path)
        case "replace":
            _get(value, path)
            return _put(value, path, _given(operation))
        case "move":
            source = _tokens(operation.get("from"), "from")
            if path == source:
                _get(value, path)
                return value
            if path[: len(source)] == source:  # RFC 6902, section 4.4
                raise PatchError("a value cannot be moved into itself")
            moved = _get(value, source)
            return _add(_remove(value, source), path, moved)
        case "copy":
            return _add(value, path, _get(value, _tokens(operation.get("from"), "from")))
        case "test":
            if not equal(_get(value, path), _given(operation)):
                raise PatchError("the value there is another one")
            return value
        case _:
            raise PatchError("the operation must be add, remove, replace, move, copy or test")


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON values (RFC 6902, section 4.6): numbers by value, true is not 1, members in any order."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        one, other = cast(dict[str, Any], left), cast(dict[str, Any], right)
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(left, list) and isinstance(right, list):
        first, second = cast(list[Any], left), cast(list[Any], right)
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(left == right)


def _tokens(pointer: Any, member: str) -> list[str]:
    """The reference tokens of a JSON Pointer (RFC 6901, section 4)."""
    if not isinstance(pointer, str):
        raise PatchError(f"{member} must be a JSON Pointer")
    if not pointer:
        return []
    if not pointer.startswith("/") or _ESCAPE.search(pointer):
        raise PatchError(f"{pointer!r} is not a JSON Pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _given(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError("value is missing")
    return operation["value"]


def _index(items: list[Any], name: str, *, end: bool) -> int:
    """The place that `name` says; with `end` the place after the last one too, as its number or as `-`."""
    if end and name == "-":
        return len(items)
    # The length bounds the digits, so that a pointer of a million nines costs nothing.
    if not _INDEX.match(name) or len(name) > 10 or int(name) >= len(items) + end:
        raise PatchError(f"the array of {len(items)} has no place {name[:20]!r}")
    return int(name)


def _get(value: Any, path: list[str]) -> Any:
    for token in path:
        value = _child(value, token)
    return value


def _child(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        members = cast(dict[str, Any], value)
        if token not in members:
            raise PatchError(f"there is no member {token[:100]!r}")
        return members[token]
    if isinstance(value, list):
        items = cast(list[Any], value)
        return items[_index(items, token, end=False)]
    raise PatchError(f"{token[:100]!r} is looked for in what is neither object nor array")


def _put(value: Any, path: list[str], new: Any) -> Any:
    """`value` with what stands at `path`, which exists, replaced."""
    if not path:
        return new
    token, rest = path[0], path[1:]
    child = _put(_child(value, token), rest, new)
    if isinstance(value, dict):
        return {**cast(dict[str, Any], value), token: child}
    items = list(cast(list[Any], value))
    items[_index(items, token, end=False)] = child
    return items


def _add(value: Any, path: list[str], new: Any) -> Any:
    if not path:
        return new
    parent, token = _get(value, path[:-1]), path[-1]
    if isinstance(parent, dict):
        return _put(value, path[:-1], {**cast(dict[str, Any], parent), token: new})
    if isinstance(parent, list):
        items = list(cast(list[Any], parent))
        items.insert(_index(items, token, end=True), new)
        return _put(value, path[:-1], items)
    raise PatchError("the parent is neither object nor array")


def _remove(value: Any, path: list[str]) -> Any:
    if not path:  # RFC 6902 does not forbid it; what is left is null
        return None
    parent, token = _get(value, path[:-1]), path[-1]
    _child(parent, token)
    if isinstance(parent, dict):
        return _put(value, path[:-1], {key: item for key, item in cast(dict[str, Any], parent).items() if key != token})
    items = list(cast(list[Any], parent))
    del items[_index(items, token, end=False)]
    return _put(value, path[:-1], items)
