"""Which dialects there are: our own, and those that other packages bring by the entry point `runcast.dialects`.

A dialect is named in settings as `NAME`, or with options as `NAME?option=value` (a URL's query: `text?end=%0A[DONE]`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import parse_qsl

from runcast.dialects.ag_ui import AgUi
from runcast.dialects.ai_sdk import AiSdk
from runcast.dialects.base import Dialect, Options
from runcast.dialects.chat_stream import ChatStream
from runcast.dialects.partials import Partials
from runcast.dialects.progress import Progress
from runcast.dialects.text import Text
from runcast.dialects.thoughts import Thoughts
from runcast.dialects.tool_calls import ToolCalls
from runcast.errors import ConfigError

GROUP: Final = "runcast.dialects"

Factory = Callable[[Options], Dialect]
"""Makes a dialect from its options; raises ValueError, with a sentence, for options that it does not know."""

BUILTIN: Mapping[str, Factory] = {
    "ag-ui": AgUi,
    "ai-sdk": AiSdk,
    "chat-stream": ChatStream,
    "partials": Partials,
    "progress": Progress,
    "text": Text,
    "thoughts": Thoughts,
    "tool-calls": ToolCalls,
}

NO_DEFAULTS: Final[Mapping[str, Options]] = MappingProxyType({})


@cache
def known() -> Mapping[str, Factory]:
    """All dialects by name; our own names cannot be taken by others.

    Raises:
        ConfigError: an installed package's dialect cannot be loaded.
    """
    found: dict[str, Factory] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = cast(Factory, point.load())
        except Exception as error:
            raise ConfigError(
                f"The dialect {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
            ) from error
    return {**found, **BUILTIN}


def dialect_named(text: str, defaults: Mapping[str, Options] = NO_DEFAULTS) -> Dialect:
    """The dialect that a setting names. `defaults`: options by the dialect's name, where the text does not say otherwise.

    Raises:
        ConfigError: there is none of this name, or it does not know an option.
    """
    name, _, query = text.partition("?")
    factory = known().get(name)
    if factory is None:
        raise ConfigError(f"There is no dialect {name!r}; there are: {', '.join(sorted(known()))}.")
    try:
        return factory({**defaults.get(name, {}), **dict(parse_qsl(query, keep_blank_values=True))})
    except ValueError as error:
        raise ConfigError(f"The dialect {name!r} cannot be used as {text!r}: {error}") from None
