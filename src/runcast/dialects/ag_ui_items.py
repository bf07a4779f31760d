"""What one client of AG-UI has open, so that each item is opened once, goes on only while it is open, and is closed once.

The published clients take everything else for an error that ends the run (`verifyEvents`; 0.0.59 strictest). Each method takes
one event in and gives the events that a client may be told for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ag_ui_events import owner_of, plain, result_id, text_of, with_ours
from runcast.events import Event


@dataclass
class Items:
    """What a client has open, by id; the value says which subagent's it is, None: the agent's own."""

    rich: bool
    """The client takes results that are lists of content parts."""

    texts: dict[str, str | None] = field(default_factory=dict[str, str | None])
    thoughts: dict[str, str | None] = field(default_factory=dict[str, str | None])
    silent: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Thoughts that are open and of which nothing was said; maybe only spans of thinking. They are opened with their first piece."""
    spans: dict[str, str | None] = field(default_factory=dict[str, str | None])
    calls: dict[str, bool] = field(default_factory=dict[str, bool])
    """Whether any of its arguments were given."""
    steps: list[tuple[str | None, str]] = field(default_factory=list[tuple[str | None, str]])
    subagents: list[str] = field(default_factory=list[str])
    named: set[str] = field(default_factory=set[str])
    """All subagents of this run."""
    told: set[str] = field(default_factory=set[str])
    """All calls of this run, and of those that it goes on with."""
    group: str | None = None
    """The message that holds the calls in a row."""
    artifacts: dict[str, tuple[str, Any]] = field(default_factory=dict[str, tuple[str, Any]])
    """Kind and content."""
    brought: set[str] = field(default_factory=set[str])
    """Calls whose results the client brought: it has them."""

    def takes(self, event: Event) -> bool:
        match event:
            case e.TextMessageContent():
                return bool(event.delta) and event.message_id in self.texts
            case e.ReasoningMessageContent():
                return bool(event.delta) and event.message_id in self.thoughts
            case e.ToolCallArgs():
                if not event.delta or event.tool_call_id not in self.calls:
                    return False
                self.calls[event.tool_call_id] = True
                return True
            case _:
                return False

    def text(self, event: e.TextMessageStart | e.TextMessageEnd) -> list[Event]:
        open = self.texts
        if isinstance(event, e.TextMessageEnd):
            if event.message_id not in open:
                return []
            del open[event.message_id]
            return [plain(event, text=UNSET, incomplete=UNSET, metadata=with_ours(event, incomplete=event.incomplete))]
        if event.message_id in open:
            return []
        open[event.message_id] = owner_of(event)
        if event.role in (UNSET, "assistant"):
            self.group = None
        return [*self.of_subagent(event), plain(event)]

    def thought(self, event: Event) -> list[Event]:
        match event:
            case e.ReasoningStart() if event.message_id not in self.spans:
                self.spans[event.message_id] = owner_of(event)
                return [*self.of_subagent(event), plain(event)]
            case e.ReasoningMessageStart() if event.message_id not in self.thoughts:
                self.thoughts[event.message_id] = owner_of(event)
                self.silent.pop(event.message_id, None)
                return [*self.of_subagent(event), plain(event)]
            case e.ReasoningMessageEnd() if event.message_id in self.thoughts:
                del self.thoughts[event.message_id]
                return [
                    plain(event, text=UNSET, incomplete=UNSET, metadata=with_ours(event, incomplete=event.incomplete))
                ]
            case e.ReasoningEnd() if event.message_id in self.spans:
                del self.spans[event.message_id]
                return [plain(event)]
            case e.ReasoningEnd() if (
                event.message_id in self.thoughts
            ):  # opened anew from a snapshot, which knows no spans
                del self.thoughts[event.message_id]
                return [e.ReasoningMessageEnd(message_id=event.message_id, timestamp=event.timestamp)]
            case _:
                return []

    def call(self, event: e.ToolCallStart | e.ToolCallEnd | e.ToolCallResult) -> list[Event]:
        id = event.tool_call_id
        match event:
            case e.ToolCallStart():
                if id in self.told:  # also one that a run goes on with: only its result is new
                    return []
                self.told.add(id)
                self.calls[id] = False
                self.group = self.group or id
                said = with_ours(event, title=event.title)
                told = plain(event, parent_message_id=self.group, title=UNSET, idempotent=UNSET, metadata=said)
                return [*self.of_subagent(event), told]
            case e.ToolCallEnd():
                if id not in self.calls:
                    return []
                had_args = self.calls.pop(id)
                missing = [] if had_args else [e.ToolCallArgs(tool_call_id=id, delta=event.args or "{}")]
                said = with_ours(event, incomplete=event.incomplete)
                return [*missing, plain(event, args=UNSET, incomplete=UNSET, metadata=said)]
            case e.ToolCallResult():
                if id in self.brought:
                    return []
                opened = [e.ToolCallEnd(tool_call_id=id)] if self.calls.pop(id, None) is not None else []
                return [*opened, *self.of_subagent(event), self._result(event)]

    def _result(self, event: e.ToolCallResult) -> Event:
        failed = event.status not in (UNSET, "success")
        return e.ToolCallResult(
            message_id=result_id(event.tool_call_id),
            tool_call_id=event.tool_call_id,
            content=event.content if self.rich else text_of(event.content),
            role="tool",
            timestamp=event.timestamp,
            subagent_run_id=event.subagent_run_id,
            metadata=with_ours(
                event,
                status=event.status if failed else UNSET,
                error=event.error,
                summary=event.summary,
                blob=event.blob,
            ),
        )

    def step(self, event: e.StepStarted | e.StepFinished) -> list[Event]:
        step = (owner_of(event), event.step_name)
        if isinstance(event, e.StepStarted):
            if step in self.steps:
                return []
            self.steps.append(step)
            return [*self.of_subagent(event), plain(event)]
        if step not in self.steps:
            return []
        self.steps.remove(step)
        return [plain(event)]

    def subagent(self, event: e.SubagentStarted | e.SubagentFinished | e.SubagentError) -> list[Event]:
        id = event.subagent_run_id
        if isinstance(event, e.SubagentStarted):
            if id in self.named:
                return []
            self.named.add(id)
            self.subagents.append(id)
            return [plain(event)]
        if id not in self.subagents:
            return []
        self.subagents.remove(id)
        return [*self._close_of(id), plain(event)]

    def of_subagent(self, event: Event) -> list[Event]:
        """The start of the subagent whose item this is, if the client was not told: a run may go on with one of the run before."""
        id = event.subagent_run_id
        if id is UNSET or id in self.named:
            return []
        self.named.add(id)
        self.subagents.append(id)
        return [e.SubagentStarted(subagent_run_id=id, name=id, timestamp=event.timestamp)]

    def _close_of(self, owner: str | None) -> list[Event]:
        """What ends the items of one owner."""
        closing: list[Event] = []
        for id in [id for id, of in self.texts.items() if of == owner]:
            del self.texts[id]
            closing.append(e.TextMessageEnd(message_id=id))
        for id in [id for id, of in self.thoughts.items() if of == owner]:
            del self.thoughts[id]
            closing.append(e.ReasoningMessageEnd(message_id=id))
        for id in [id for id, of in self.spans.items() if of == owner]:
            del self.spans[id]
            closing.append(e.ReasoningEnd(message_id=id))
        for step in [step for step in self.steps if step[0] == owner]:
            self.steps.remove(step)
            closing.append(e.StepFinished(step_name=step[1]))
        return [one if owner is None else plain(one, subagent_run_id=owner) for one in closing]

    def close(self, outcome: e.Outcome | msgspec.UnsetType = UNSET) -> list[Event]:
        """What ends everything that is open, the innermost first."""
        closing: list[Event] = [e.ToolCallEnd(tool_call_id=id) for id in self.calls]
        self.calls.clear()
        waits = [] if outcome is UNSET or outcome.interrupts is UNSET else [one.id for one in outcome.interrupts]
        how = e.SubagentOutcome(type="suspended", interrupt_ids=waits) if waits else UNSET
        for id in reversed(self.subagents):
            closing += self._close_of(id)
            closing.append(e.SubagentFinished(subagent_run_id=id, outcome=how))
        self.subagents.clear()
        return [*closing, *self._close_of(None)]
