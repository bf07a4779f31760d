"""Tools that the client runs: a run ends with calls left to it, the results start the run that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from core import ME, OTHER, Gated, Told, core, ended, log, new_id, resolve, send, types
from runcast import RunContext, agent
from runcast import events as e
from runcast.commands import Edit, Retry, Return
from runcast.errors import InvalidRequest, NotFound, RunActive, TooLarge
from runcast.runs import ClientContext, ClientInput, ClientTool, Message, RunInput, ToolMessage
from runcast.service import Sent, Service
from runcast.transcript import ToolPart, Transcript, fold, load

pytestmark = pytest.mark.anyio

CLIENT = ClientInput(
    tools=(ClientTool(name="where", description="Where the person is.", parameters={"type": "object"}),),
    context=(ClientContext(description="time zone", value="Europe/Berlin"),),
    forwarded_props={"theme": "dark"},
    protocol_version="1.0",
)


@agent
async def guide(prompt: str, run: RunContext):
    if run.tool_results:
        yield f"You are in {run.tool_results[0].content}."
        if prompt:
            yield f" And: {prompt}"
    elif run.client_tools:
        yield "One moment. "
        yield {"type": "action", "name": "where", "arguments": {"exact": True}}
    else:
        yield "I cannot know."


def result(call: str, content: str = "Lisbon", error: str | None = None) -> ToolMessage:
    return ToolMessage(id=f"{call}.r", tool_call_id=call, content=content, error=error)


def returned(run: str, *results: ToolMessage, **fields: Any) -> Return:
    return Return(id=fields.pop("id", None) or new_id(), run=run, results=results, **fields)


async def asked(service: Service, thread: str | None = None, **fields: Any) -> tuple[Sent, str]:
    """A run that left one call to the client, and the call."""
    sent = await service.send(ME, send("Where am I?", thread, client=CLIENT, **fields))
    assert await ended(service, sent) == "done"
    end = (await log(service, sent.thread))[-1]
    assert isinstance(end, e.RunFinished) and isinstance(end.outcome, e.Outcome)
    assert end.outcome.type == "success" and isinstance(end.outcome.pending_tool_call_ids, list)
    [call] = end.outcome.pending_tool_call_ids
    return sent, call


async def tools(service: Service, thread: str) -> list[ToolPart]:
    view = load((await service.view(ME, thread)).transcript)
    parts = [part for run in view.runs for message in run.messages for part in message.parts]
    events = await log(service, thread)
    assert fold(Transcript(), events) == view, "live and after a reload the same (I14)"
    return [part for part in parts if isinstance(part, ToolPart)]


async def test_a_call_is_left_to_the_client_and_goes_on_with_its_result(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with core(guide, path=path) as service:
        sent, call = await asked(service)
        events = await log(service, sent.thread)
        assert "TOOL_CALL_RESULT" not in types(events)
        assert isinstance(events[0], e.RunStarted) and events[0].input == {
            "threadId": sent.thread,
            "runId": sent.run,
            "messages": [{"id": events[0].input["messages"][0]["id"], "role": "user", "content": "Where am I?"}],  # type: ignore[index]
            "tools": [{"name": "where", "description": "Where the person is.", "parameters": {"type": "object"}}],
            "context": [{"description": "time zone", "value": "Europe/Berlin"}],
            "forwardedProps": {"theme": "dark"},
            "protocolVersion": "1.0",
        }
        [part] = await tools(service, sent.thread)
        assert (part.status, part.client, part.args, part.ended_at) == ("pending", True, '{"exact":true}', None)
    async with core(guide, path=path) as service:  # no process need wait
        command = returned(sent.run, result(call), client=CLIENT)
        going = await service.return_results(ME, command)
        assert (await service.return_results(ME, command)).replayed
        assert await ended(service, going) == "done"
        row = await service.get_run(ME, going.run)
        assert (row.parent, row.resumes) == (sent.run, None)
        events = [event for event in await log(service, sent.thread) if event.run_id == going.run]
        assert types(events)[:2] == ["RUN_STARTED", "TOOL_CALL_RESULT"]
        assert isinstance(events[0], e.RunStarted) and isinstance(events[0].input, dict)
        assert events[0].input["messages"] == [
            {"id": f"{call}.r", "role": "tool", "toolCallId": call, "content": "Lisbon"}
        ]
        assert isinstance(events[1], e.ToolCallResult) and events[1].tool_call_id == call
        [part] = await tools(service, sent.thread)
        assert (part.status, part.content, part.client) == ("done", "Lisbon", True)
        view = load((await service.view(ME, sent.thread)).transcript)
        assert [message.role for message in view.runs[1].messages] == ["assistant"]
        assert "You are in Lisbon." in str(view.runs[1].messages[0].parts)


async def test_results_may_come_with_a_message_and_an_error() -> None:
    async with core(guide) as service:
        sent, call = await asked(service)
        said = Message(id="m2", content="never mind")
        going = await service.return_results(ME, returned(sent.run, result(call, "", "No GPS."), message=said))
        assert await ended(service, going) == "done"
        [part] = await tools(service, sent.thread)
        assert (part.status, part.error) == ("failed", "No GPS.")
        view = load((await service.view(ME, sent.thread)).transcript)
        assert [(m.id, m.role) for m in view.runs[1].messages] == [("m2", "user"), (going.run, "assistant")]
        assert "And: never mind" in str(view.runs[1].messages[1].parts)


async def test_who_goes_on_without_the_result_gives_the_call_up() -> None:
    async with core(guide) as service:
        sent, call = await asked(service)
        other = await service.send(ME, send("never mind", sent.thread))
        assert await ended(service, other) == "done"
        [part] = await tools(service, sent.thread)
        assert (part.status, part.client) == ("cancelled", True) and part.ended_at is not None
        late = await service.return_results(ME, returned(sent.run, result(call)))
        assert await ended(service, late) == "done"
        assert (await service.get_run(ME, late.run)).parent == sent.run, "a branch beside what was said instead"
        [part] = await tools(service, sent.thread)
        assert (part.status, part.content) == ("done", "Lisbon")


async def test_an_edit_leaves_the_call_where_it_was() -> None:
    async with core(guide) as service:
        sent, _ = await asked(service)
        edited = await service.edit(ME, Edit(id=new_id(), run=sent.run, message=Message(id="m9", content="Who am I?")))
        assert await ended(service, edited) == "done"
        [part] = await tools(service, sent.thread)
        assert part.status == "pending"


async def test_an_answer_made_of_results_can_be_made_again() -> None:
    inputs: list[RunInput] = []

    @agent
    async def noting(prompt: str, run: RunContext):
        inputs.append(run.input)
        async for event in guide.run(run.input, run):
            yield event

    async with core(noting) as service:
        sent, call = await asked(service)
        going = await service.return_results(ME, returned(sent.run, result(call), client=CLIENT))
        assert await ended(service, going) == "done"
        again = await service.retry(ME, Retry(id=new_id(), run=going.run))
        assert await ended(service, again) == "done"
        assert (await service.get_run(ME, again.run)).parent == sent.run
        assert inputs[2].tool_results == inputs[1].tool_results == (result(call),)
        assert inputs[2].client == inputs[1].client == CLIENT
        twice = await service.return_results(ME, returned(sent.run, result(call, "Porto")))
        assert await ended(service, twice) == "done"
        [part] = await tools(service, sent.thread)
        assert part.content == "Lisbon", "the first result is the one that is shown with the call"
        assert inputs[3].tool_results[0].content == "Porto"


async def test_results_wait_their_turn() -> None:
    waiting = Gated()

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        inner = waiting if input.text == "hold" else guide
        async for event in inner.run(input, context):
            yield event

    async with core(Told(script)) as service:
        sent, call = await asked(service)
        busy = await service.send(ME, send("hold", sent.thread))
        await waiting.reached.wait()
        with pytest.raises(RunActive):
            await service.return_results(ME, returned(sent.run, result(call), on_busy="reject"))
        queued = await service.return_results(ME, returned(sent.run, result(call)))
        assert queued.status == "queued"
        waiting.gate.set()
        assert await ended(service, busy) == "done" and await ended(service, queued) == "done"
        events = [event for event in await log(service, sent.thread) if event.run_id == queued.run]
        assert types(events)[:3] == ["RUN_QUEUED", "RUN_STARTED", "TOOL_CALL_RESULT"]
        [part] = await tools(service, sent.thread)
        assert (part.status, part.content) == ("done", "Lisbon")


async def test_what_was_not_left_to_the_client_takes_no_result() -> None:
    async def script(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        async with context.tool("own") as call:
            call.result = "mine"
        context.app["calls"].append(call.id)  # type: ignore[index]
        async for event in guide.run(input, context):
            yield event

    calls: list[str] = []
    app: dict[str, Any] = {"calls": calls}
    async with core(Told(script)) as service:
        service.runner._executions._app = app
        sent, call = await asked(service)
        for bad in (
            returned(sent.run, result(calls[0])),
            returned(sent.run, result("nothing")),
            returned(sent.run),
            returned(sent.run, result(call), result(call)),
            returned(sent.run, ToolMessage(id="a b", tool_call_id=call, content="")),
            returned(sent.run, result(call), run_alias="a/b"),
        ):
            with pytest.raises(InvalidRequest):
                await service.return_results(ME, bad)
        with pytest.raises(TooLarge):
            await service.return_results(ME, returned(sent.run, result(call, "x" * 70_000)))
        for who, run in ((OTHER, sent.run), (ME, new_id())):
            with pytest.raises(NotFound):
                await service.return_results(who, returned(run, result(call)))


async def test_what_a_client_brings_along_has_limits() -> None:
    twice = ClientInput(tools=(ClientTool(name="a"), ClientTool(name="a")))
    async with core(guide) as service:
        with pytest.raises(InvalidRequest, match="different names"):
            await service.send(ME, send("x", client=twice))
        with pytest.raises(TooLarge, match=r"tools, state, context, forwardedProps"):
            await service.send(ME, send("x", client=ClientInput(state="x" * 65_536)))
        assert not (await service.list_threads(ME)).threads
        history = tuple({"id": f"h{n}", "role": "user", "content": "x" * 10_000} for n in range(10))
        sent = await service.send(ME, send("x", client=ClientInput(history=history)))
        assert await ended(service, sent) == "done"
        [started, *_] = await log(service, sent.thread)
        assert isinstance(started, e.RunStarted) and isinstance(started.input, dict)
        assert [message["id"] for message in started.input["history"]] == ["h4", "h5", "h6", "h7", "h8", "h9"]


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
async def test_a_run_that_does_not_end_well_leaves_nothing_to_the_client(ending: str) -> None:
    """I16: what is open is closed; only a run that is done leaves a call without a result."""
    gate = anyio.Event()
    reached = anyio.Event()

    @agent(name="told")
    async def fails(run: RunContext):
        await run.call_client_tool("where", exact=True)
        reached.set()
        if ending == "cancelled":
            await gate.wait()
        raise RuntimeError

    from core import cancel

    async with core(fails) as service:
        sent = await service.send(ME, send("go", client=CLIENT))
        await reached.wait()
        if ending == "cancelled":
            await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == ending
        [part] = await tools(service, sent.thread)
        assert (part.status, part.client) == (ending, False)
        assert "TOOL_CALL_RESULT" in types(await log(service, sent.thread))


async def test_an_agent_may_name_what_it_leaves_itself() -> None:
    """An id that was used before has another name in the log; what has a result, or is not there, is not left."""

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        for _ in range(2):
            yield e.ToolCallStart(tool_call_id="c", tool_call_name="elsewhere")
            yield e.ToolCallEnd(tool_call_id="c")
            if _ == 0:
                yield e.ToolCallResult(message_id="r", tool_call_id="c", content="ok")
        yield e.ToolCallStart(tool_call_id="d", tool_call_name="forgotten")
        outcome = e.Outcome(type="success", pending_tool_call_ids=["c", "nothing"])
        yield e.RunFinished(thread_id=input.thread, outcome=outcome)

    async with core(Told(script)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        end = (await log(service, sent.thread))[-1]
        assert isinstance(end, e.RunFinished) and isinstance(end.outcome, e.Outcome)
        assert end.outcome.pending_tool_call_ids == ["c.2"]
        assert [(part.id, part.status) for part in await tools(service, sent.thread)] == [
            ("c", "done"),
            ("c.2", "pending"),
            ("d", "cancelled"),
        ]


async def test_the_run_that_goes_on_with_an_answer_has_the_clients_tools() -> None:
    inputs: list[RunInput] = []

    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        inputs.append(input)
        if not input.answers:
            one = e.Interrupt(id=f"{input.run}.1", reason="confirmation")
            yield e.InterruptRequested(interrupt=one)
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[one]))

    for given in (None, ClientInput(tools=(ClientTool(name="other"),))):
        inputs.clear()
        async with core(Told(asks)) as service:
            sent = await service.send(ME, send("go", client=CLIENT))
            assert await ended(service, sent) == "waiting"
            answer = resolve(f"{sent.run}.1", {"approved": True}, client=given)
            run = (await service.resolve(ME, answer)).run
            assert run is not None
            await service.wait_run(ME, run, timeout_s=10)
            assert inputs[1].client == (given or CLIENT)


async def test_the_state_as_the_client_has_it_is_where_the_run_begins() -> None:
    seen: list[Any] = []

    @agent
    async def counts(run: RunContext):
        seen.append(run.state)
        await run.set_state({"n": (run.state or {}).get("n", 0) + 1})

    async with core(counts) as service:
        first = await service.send(ME, send("1"))
        await ended(service, first)
        for state in ({"n": 10}, {}, None, {"n": 11}):
            sent = await service.send(ME, send("2", first.thread, client=ClientInput(state=state)))
            assert await ended(service, sent) == "done"
        assert seen == [None, {"n": 10}, {"n": 11}, {"n": 12}, {"n": 11}]
        view = load((await service.view(ME, first.thread)).transcript)
        assert view.state == {"n": 12}
        snapshots = [event for event in await log(service, first.thread) if isinstance(event, e.StateSnapshot)]
        assert len(snapshots) == 7, "each run's own, and the client's where that was another than the thread's"


async def test_all_of_it_survives_in_the_queue(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    gated = Gated()
    async with core(gated, path=path) as service:
        sent = await service.send(ME, send("hold"))
        await gated.reached.wait()
        queued = await service.send(ME, send("next", sent.thread, client=CLIENT))
        assert queued.status == "queued"
    after = Gated()
    after.gate.set()
    async with core(after, path=path) as service:
        assert await ended(service, queued) == "done"
    assert [one.client for one in after.inputs] == [CLIENT]
    assert msgspec.json.decode(msgspec.json.encode(CLIENT), type=ClientInput) == CLIENT
