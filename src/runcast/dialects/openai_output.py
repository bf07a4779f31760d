"""The output of a response: its items as they grow, and what is said of them (OpenAI API, "Responses": streaming events). Pure.

Each method takes what happened and returns the streaming events that tell it, without their sequence numbers. What goes where is
in `openai_items`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.openai_ids import APPROVAL, CALL, MCP_CALL, MESSAGE, REASONING, SERVER_LABEL, call_name, item_name
from runcast.dialects.openai_items import citation_of, filled, given_output, outcome_of
from runcast.events import encode_value as to_bytes

Json = dict[str, Any]
Said = tuple[str, Json]
"""A streaming event: its type, and its fields without `type` and `sequence_number`."""

AT_ONCE = 32
"""Sources that are told with the beginning of one text: an event of the log has only so many sequence numbers."""


class Item:
    """An item of the output that still grows. `head`: the fields of its deltas, encoded, up to the delta's text."""

    def __init__(self, at: int, value: Json, **fields: Any) -> None:
        self.at = at
        self.value = value
        self.pieces: list[str] = []
        self.citations: list[Json] = []
        self._counted = 0
        self._length = 0
        place = {"item_id": value["id"], "output_index": at, **fields, "delta": ""}
        self.head = to_bytes(place).removeprefix(b"{").removesuffix(b'""}')

    @property
    def length(self) -> int:
        """Code points of its text so far."""
        self._length += sum(map(len, self.pieces[self._counted :]))
        self._counted = len(self.pieces)
        return self._length

    @property
    def place(self) -> Json:
        return {"item_id": self.value["id"], "output_index": self.at}


class Call(NamedTuple):
    """A call of a tool that runs here, as later events need it. `request`: the question whether it may run."""

    item: str
    name: str
    arguments: str
    request: str | None = None


class Output:
    """`run`: whose it is. `own`: names of the tools that are the client's. `given`: calls whose results came with the request.
    `known`: calls that may go on here, of this run and of those before it, by their ids in the log. `as_functions`: calls of
    the agent's tools are told like those of the client's, with what came of them."""

    def __init__(
        self, run: str, own: Collection[str], given: Collection[str], known: dict[str, Call], *, as_functions: bool
    ) -> None:
        self._as_functions = as_functions
        self._run = run
        self._own = own
        self._given = given
        self._known = known
        self._items: dict[int, Json] = {}
        self._next = 0
        self._open: dict[tuple[str, str], Item] = {}
        self._cited: list[Json] = []
        self._last_text: int | None = None

    def now(self) -> list[Json]:
        """The items as they stand."""
        return [self._snapshot(at) for at in sorted(self._items)]

    def _snapshot(self, at: int) -> Json:
        for (kind, _), item in self._open.items():
            if item.at == at and item.pieces:
                return filled(kind, item.value, "".join(item.pieces), "in_progress", item.citations)
        return self._items[at]

    def grow(self, kind: str, id: str, delta: str) -> Item | None:
        """Add a piece of text to an open item; None if there is none."""
        item = self._open.get((kind, id))
        if item is not None and delta:
            item.pieces.append(delta)
        return item if delta else None

    def is_own(self, call: str) -> bool:
        """Whether a call that goes on is of a tool that runs here."""
        return ("mcp", call) in self._open

    def clear(self) -> list[Said]:
        """The run began anew."""
        said = [one for kind, id in list(self._open) if kind == "mcp" for one in self._gone(id)]
        self._items.clear()
        self._open.clear()
        self._cited.clear()
        self._last_text = None
        return said

    # --- texts and thoughts ---------------------------------------------------------------------------------------

    def text(self, id: str) -> Sequence[Said]:
        value: Json = {"id": MESSAGE + item_name(self._run, id), "type": "message", "role": "assistant", "content": []}
        item, said = self._add(("text", id), value, content_index=0, logprobs=[])
        part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        said.append(("response.content_part.added", {**item.place, "content_index": 0, "part": part}))
        self._last_text = item.at
        cited, self._cited = self._cited[:AT_ONCE], self._cited[AT_ONCE:]
        return [*said, *[self._annotate(item, one) for one in cited]]

    def thought(self, id: str) -> Sequence[Said]:
        value: Json = {"id": REASONING + item_name(self._run, id), "type": "reasoning", "summary": [], "content": []}
        item, said = self._add(("reasoning", id), value, content_index=0)
        part = {"type": "reasoning_text", "text": ""}
        return [*said, ("response.content_part.added", {**item.place, "content_index": 0, "part": part})]

    def _add(self, key: tuple[str, str], value: Json, **fields: Any) -> tuple[Item, list[Said]]:
        value["status"] = "in_progress"
        item = Item(self._next, value, **fields)
        self._open[key] = item
        self._items[item.at] = value
        self._next += 1
        return item, [("response.output_item.added", {"output_index": item.at, "item": dict(value)})]

    def _put(self, value: Json) -> Sequence[Said]:
        """An item that is whole at once."""
        at, self._next = self._next, self._next + 1
        self._items[at] = value
        return [(f"response.output_item.{kind}", {"output_index": at, "item": value}) for kind in ("added", "done")]

    def ended(self, kind: str, id: str, whole: Any, incomplete: Any) -> Sequence[Said]:
        item = self._open.pop((kind, id), None)
        if item is None:
            return ()
        text: str = "".join(item.pieces) if whole is UNSET else whole
        status = "completed" if incomplete is UNSET else "incomplete"
        value = filled(kind, item.value, text, status, item.citations)
        self._items[item.at] = value
        done: Said = ("response.output_item.done", {"output_index": item.at, "item": value})
        if kind == "call":
            self._known[id] = Call(value["id"], value["name"], text)
            fields = {**item.place, "name": value["name"], "arguments": text}
            return [("response.function_call_arguments.done", fields), done]
        place = {**item.place, "content_index": 0}
        part = value["content"][0]
        if kind == "text":
            said: Said = ("response.output_text.done", {**place, "text": text, "logprobs": []})
        else:
            said = ("response.reasoning_text.done", {**place, "text": text})
        return [said, ("response.content_part.done", {**place, "part": part}), done]

    # --- calls and questions --------------------------------------------------------------------------------------

    def call(self, event: e.ToolCallStart) -> Sequence[Said]:
        id = event.tool_call_id
        name = call_name(self._run, id)
        if self._as_functions or event.tool_call_name in self._own:
            value: Json = {
                "id": CALL + name,
                "type": "function_call",
                "call_id": name,
                "name": event.tool_call_name,
                "arguments": "",
            }
            return self._add(("call", id), value)[1]
        return self._add_own(id, Call(MCP_CALL + name, event.tool_call_name, ""))

    def _add_own(self, id: str, call: Call) -> list[Said]:
        self._known[id] = call
        value: Json = {
            "id": call.item,
            "type": "mcp_call",
            "server_label": SERVER_LABEL,
            "name": call.name,
            "arguments": "",
            "approval_request_id": call.request,
            "output": None,
            "error": None,
        }
        item, said = self._add(("mcp", id), value)
        return [*said, ("response.mcp_call.in_progress", item.place)]

    def called(self, event: e.ToolCallEnd) -> Sequence[Said]:
        """The arguments are whole. The item of a tool that runs here goes on until there is a result."""
        if not self.is_own(event.tool_call_id):
            return self.ended("call", event.tool_call_id, event.args, event.incomplete)
        item = self._open["mcp", event.tool_call_id]
        whole = "".join(item.pieces) if event.args is UNSET else event.args
        said = self._arguments(item, whole)
        known = self._known[event.tool_call_id]
        self._known[event.tool_call_id] = known._replace(arguments=whole)
        return said

    def _arguments(self, item: Item, whole: str) -> list[Said]:
        said: list[Said] = []
        if not item.pieces and whole:  # readers put the whole together from its pieces
            said.append(("response.mcp_call_arguments.delta", {**item.place, "delta": whole}))
        item.pieces = [whole]
        return [*said, ("response.mcp_call_arguments.done", {**item.place, "arguments": whole})]

    def result(self, event: e.ToolCallResult) -> Sequence[Said]:
        id = event.tool_call_id
        if id in self._given:
            return ()
        if event.subagent_run_id is not UNSET and id not in self._known:
            return ()  # its call was not told
        known = self._known.get(id)
        if known is not None and known.item.startswith(CALL):
            return self._put(given_output(event, call_name(self._run, id)))
        said: list[Said] = []
        if ("mcp", id) not in self._open:  # the run before this one asked whether it may run
            known = known or Call(MCP_CALL + call_name(self._run, id), "tool", "{}")
            said += self._add_own(id, known)
            said += self._arguments(self._open["mcp", id], known.arguments)
        outcome = outcome_of(event)
        item = self._open["mcp", id]
        ended = "response.mcp_call.failed" if outcome["error"] else "response.mcp_call.completed"
        return [*said, (ended, item.place), *self._over(id, outcome.pop("status"), **outcome)]

    def _over(self, id: str, status: str, **fields: Any) -> list[Said]:
        item = self._open.pop(("mcp", id))
        value = {**filled("mcp", item.value, "".join(item.pieces), status), **fields}
        self._items[item.at] = value
        return [("response.output_item.done", {"output_index": item.at, "item": value})]

    def _gone(self, id: str) -> list[Said]:
        """End a call of which nothing will be in the output: clients want every item ended that they were told of."""
        at = self._open["mcp", id].at
        said = self._over(id, "incomplete")
        del self._items[at]
        return said

    def left_open(self) -> list[Said]:
        """What is said of calls without a result, and of sources that no text followed, before a run's last word."""
        said = [one for kind, id in list(self._open) if kind == "mcp" for one in self._over(id, "incomplete")]
        self._open.clear()
        value = self._items.get(-1 if self._last_text is None else self._last_text)
        if value is not None and value.get("content"):
            part = value["content"][0]
            item = Item(self._last_text or 0, value)
            item.citations = list(part["annotations"])
            item.pieces = [part["text"]]
            said += [self._annotate(item, one) for one in self._cited]
            self._items[item.at] = {**value, "content": [{**part, "annotations": item.citations}]}
        return said

    def asked(self, interrupt: e.Interrupt) -> Sequence[Said]:
        call = None if interrupt.tool_call_id is UNSET else self._known.get(interrupt.tool_call_id)
        message = interrupt.message if interrupt.message is not UNSET else None
        request: Json = {
            "id": APPROVAL + interrupt.id,
            "type": "mcp_approval_request",
            "server_label": SERVER_LABEL,
            "name": interrupt.reason if call is None else call.name,
            "arguments": to_bytes({"message": message}).decode() if call is None else call.arguments,
            "message": message,
        }
        said: list[Said] = []
        if call is not None and isinstance(interrupt.tool_call_id, str):
            self._known[interrupt.tool_call_id] = call._replace(request=request["id"])
            if ("mcp", interrupt.tool_call_id) in self._open:
                said += self._gone(interrupt.tool_call_id)  # the question takes its place
        return [*said, *self._put(request)]

    # --- sources --------------------------------------------------------------------------------------------------

    def cite(self, event: e.Source) -> Sequence[Said]:
        """A source belongs to the text that is being written, else to the next one, else to the last."""
        citation = citation_of(event)
        if citation is None:
            return ()
        texts = [item for (kind, _), item in self._open.items() if kind == "text"]
        item = texts[-1] if texts else None
        if event.message_id is not UNSET:
            item = self._open.get(("text", event.message_id), item)
        if item is None:
            self._cited.append(citation)
            return ()
        return [self._annotate(item, citation)]

    def _annotate(self, item: Item, citation: Json) -> Said:
        place = item.length
        annotation = {**citation, "start_index": place, "end_index": place}
        fields = {"content_index": 0, "annotation_index": len(item.citations), "annotation": annotation}
        item.citations.append(annotation)
        return "response.output_text.annotation.added", {**item.place, **fields}

    def retract(self, event: e.MessageRetracted) -> list[Said]:
        messages = () if event.message_ids is UNSET else event.message_ids
        calls = () if event.tool_call_ids is UNSET else event.tool_call_ids
        gone = {prefix + item_name(self._run, id) for id in messages for prefix in (MESSAGE, REASONING)}
        gone |= {prefix + call_name(self._run, id) for id in calls for prefix in (CALL, MCP_CALL)}
        said = [one for id in calls if self.is_own(id) for one in self._gone(id)]
        for at, value in list(self._items.items()):
            if value["id"] in gone:
                del self._items[at]
        return said
