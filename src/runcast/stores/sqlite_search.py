"""What was said, and how it is asked for: texts out of events, and a query for SQLite's full-text index (FTS5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

from runcast import events as e
from runcast.events import Event

MAX_CHARACTERS = 64 * 1024
"""Of one text, as far as the search knows it."""
MAX_WORDS = 32
"""Of a query; those after are not looked at."""


def said(events: Iterable[Event], queued: Collection[str]) -> Iterator[str]:
    """The texts in these events that a person wrote or was answered.

    `queued` are the runs whose input is in the log already, from when they were queued.
    """
    for event in events:
        match event:
            case e.TextMessageEnd(text=str(text)):
                yield text[:MAX_CHARACTERS]
            case e.RunStarted(run_id=run, input=dict(given)) if run not in queued:
                yield from _inputs(given)
            case e.RunQueued(input=given):
                yield from _inputs(given)
            case e.MessagePosted(message=message) | e.RunSteered(message=message):
                yield from _contents(message)
            case _:
                pass


def words(query: str) -> list[str]:
    """The words of a query, each quoted so that no character in it has a meaning for FTS5, and open at its end."""
    clean = query.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    found = dict.fromkeys(word for word in clean.split() if any(character.isalnum() for character in word))
    return ['"' + word.replace('"', '""') + '" *' for word in list(found)[:MAX_WORDS]]


def matching(owner: int, word: str) -> str:
    """The FTS5 query for one of `words`, in what was said in the owner's threads."""
    return f'owner : "{owner}" AND text : {word}'


def _inputs(given: dict[str, Any]) -> Iterator[str]:
    messages = given.get("messages")
    if isinstance(messages, list):
        for message in cast("list[Any]", messages):
            yield from _contents(message)


def _contents(message: Any) -> Iterator[str]:
    content: Any = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        yield content[:MAX_CHARACTERS]
    elif isinstance(content, list):
        for part in cast("list[Any]", content):
            text: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text[:MAX_CHARACTERS]
