"""Items of earlier responses that a client names instead of repeating them: `{"type": "item_reference", "id": "msg_…"}`.

The AI SDK's provider for OpenAI does so from the second turn of a conversation on. An item's id says which run it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from runcast.dialects.base import Frame
from runcast.dialects.openai_ids import run_of_item
from runcast.dialects.openai_responses import ResponsesEncoder
from runcast.errors import InvalidRequest, NotFound
from runcast.runs import Principal
from runcast.transports.gateway import Gateway

MAX_RUNS: Final = 256
"""Of how many responses one request may name items: each is read from the log."""


async def with_items(gateway: Gateway, principal: Principal, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a request with the items in place of their names. Those that were taken back after they had been told in a
    stream are left out.

    Raises:
        InvalidRequest: one names no item of the principal's.
    """
    given = body.get("input")
    if not isinstance(given, list):
        return body
    items = cast("list[Any]", given)
    names = {at: name for at, item in enumerate(items) if (name := _name(item)) is not None}
    if not names:
        return body
    runs = {run for name in names.values() if (run := run_of_item(name)) is not None}
    if len(runs) > MAX_RUNS:
        raise InvalidRequest(f"The items of at most {MAX_RUNS} responses may be named.", at="/input")
    known: dict[str, dict[str, Any] | None] = {}
    for run in runs:
        known |= await _items(gateway, principal, run)
    for at, name in names.items():
        if name not in known:
            raise InvalidRequest(f"There is no item {name[:64]!r}.", at=f"/input/{at}/id")
    whole = [known[names[at]] if at in names else item for at, item in enumerate(items)]
    return {**body, "input": [item for at, item in enumerate(whole) if item is not None or at not in names]}


def _name(item: Any) -> str | None:
    """The id in a reference; its `type` may be left out."""
    fields = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    name, kind = fields.get("id"), fields.get("type")
    refers = kind == "item_reference" or (kind is None and fields.keys() <= {"id", "type"})
    return name if refers and isinstance(name, str) else None


async def _items(gateway: Gateway, principal: Principal, run: str) -> Mapping[str, dict[str, Any] | None]:
    """The items of a run, by id; None for those that it took back."""
    encoder = ResponsesEncoder()
    told: list[str] = []
    after = 0
    try:
        while (page := await gateway.service.read_run(principal, run, after=after)).records:
            for record in page.records:
                frames = encoder.encode(record)
                told += [_item_of(frame) for frame in frames if frame.name == "response.output_item.added"]
            after = page.next
    except NotFound:
        return {}
    return dict.fromkeys(told) | {item["id"]: item for item in encoder.response()["output"]}


def _item_of(frame: Frame) -> str:
    return msgspec.json.decode(frame.data)["item"]["id"]
