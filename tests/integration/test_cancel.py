"""Stop in every phase of a run, against a provider on a real socket: one end, the partial kept, and no work goes on (I16, I19).

The same for a provider that fails: a code that can be shown, and nothing left open.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models import override_allow_model_requests
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import runcast
from core import DEADLINE_S, ME, Reader, cancel, core, ended, log, resolve, send
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.events import Event
from runcast.running import ending
from runcast.running.appender import Appender
from runcast.running.execution import Execution
from runcast.running.recorder import Recorder
from runcast.service import Sent, Service

from .provider import Call, Hold, Provider, Reset, Status, Step, providing

pytestmark = pytest.mark.anyio

KINDS = pytest.mark.parametrize("kind", ["function", "pydantic-ai"])


def pydantic_agent(provider: Provider, client: httpx.AsyncClient) -> PydanticAIAgent:
    openai = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0, http_client=client)
    agent = Agent(OpenAIChatModel("fake", provider=OpenAIProvider(openai_client=openai)), name="agent")

    @agent.tool_plain
    async def work(what: str = "") -> str:
        return (await client.post(f"{provider.url}/tools/work")).json()

    @agent.tool_plain
    def work_in_thread(what: str = "") -> str:
        return httpx.post(f"{provider.url}/tools/work", timeout=DEADLINE_S).json()

    @agent.tool_plain(requires_approval=True)
    async def ask_first(what: str = "") -> str:
        return (await client.post(f"{provider.url}/tools/work")).json()

    return PydanticAIAgent(agent)


def function_agent(provider: Provider, client: httpx.AsyncClient) -> Any:
    @runcast.agent(name="agent")
    async def agent(prompt: str, run: RunContext) -> AsyncIterator[str]:
        """What people write by hand: call the model, make its tool call, call it again."""
        while True:
            called: list[str] = []
            body = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": prompt}]}
            async with client.stream("POST", f"{provider.url}/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        called += [call["function"].get("name") for call in delta.get("tool_calls", ())]
                        if delta.get("content"):
                            yield delta["content"]
            if not called:
                return
            async with run.tool(called[0]) as call:
                call.result = (await client.post(f"{provider.url}/tools/work")).json()

    return agent


class World:
    def __init__(self, provider: Provider, service: Service) -> None:
        self.provider, self.service = provider, service
        self.quiet_s = DEADLINE_S

    async def stop(self, sent: Sent) -> None:
        await self.service.cancel(ME, cancel(sent.run))

    async def judge(self, sent: Sent, status: str = "cancelled") -> list[Event]:
        """It ended once, in time, what it said is kept and closed, nothing works on, and the next message is answered."""
        with anyio.fail_after(DEADLINE_S):
            assert await ended(self.service, sent) == status
        await self.provider.quiet(self.quiet_s)
        requests = self.provider.requests
        events = [event for event in await log(self.service, sent.thread) if event.run_id == sent.run]
        assert sum(isinstance(event, e.TERMINAL) for event in events) == 1
        assert isinstance(events[-1], e.TERMINAL)
        assert self.service.runner.unstoppable == 0
        assert self.provider.requests == requests
        self.provider.answers = (["Fine."],)
        after = await self.service.send(ME, send("next", sent.thread))
        assert await ended(self.service, after) == "done"
        assert self.provider.requests == requests + 1, "the run that was stopped asked no more (I19)"
        return events


@asynccontextmanager
async def world(kind: str, *answers: list[Step], tool: Hold | None = None, **limits: Any) -> AsyncGenerator[World]:
    make = pydantic_agent if kind == "pydantic-ai" else function_agent
    with override_allow_model_requests(True):  # other tests forbid them for the whole process; this provider is our own
        async with (
            providing(Provider(*answers, tool=tool)) as provider,
            httpx.AsyncClient(timeout=DEADLINE_S) as client,
            core(make(provider, client), **limits) as service,
        ):
            yield World(provider, service)


def kept(events: list[Event]) -> list[tuple[str, object]]:
    """The texts as they were closed."""
    return [(str(event.text), event.incomplete) for event in events if isinstance(event, e.TextMessageEnd)]


async def seen(service: Service, sent: Sent, kind: type[Event]) -> None:
    """Until a reader has such an event of the run."""
    reader = Reader()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.follow, service, sent.thread)
        await reader.until(lambda: any(type(event) is kind and event.run_id == sent.run for event in reader.events))
        tasks.cancel_scope.cancel()


async def read(service: Service, sent: Sent, text: str) -> None:
    """Until a reader has this text of the run."""
    reader = Reader()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.follow, service, sent.thread)
        await reader.until(lambda: reader.text == text)
        tasks.cancel_scope.cancel()


# --- Stop -------------------------------------------------------------------------------------------------------------


@KINDS
async def test_while_queued(kind: str) -> None:
    hold = Hold()
    async with world(kind, [hold, "Hello"]) as w:
        first = await w.service.send(ME, send("go"))
        await hold.wait_reached()
        queued = await w.service.send(ME, send("later", first.thread))
        assert (await w.service.cancel(ME, cancel(queued.run))).status == "cancelled"
        hold.go.set()
        assert await ended(w.service, first) == "done"
        await w.judge(queued)


@KINDS
async def test_before_the_first_token(kind: str) -> None:
    hold = Hold()
    async with world(kind, [hold]) as w:
        sent = await w.service.send(ME, send("go"))
        await hold.wait_reached()
        assert w.provider.open == 1
        await w.stop(sent)
        assert kept(await w.judge(sent)) == []


@KINDS
@pytest.mark.parametrize("way", ["stop", "newer message", "time limit", "deleted", "shutdown"])
async def test_while_text_streams(kind: str, way: str) -> None:
    hold = Hold()
    limit = {"run_timeout_s": 0.5} if way == "time limit" else {}
    async with world(kind, ["Hel", "lo", hold], **limit) as w:
        sent = await w.service.send(ME, send("go"))
        await hold.wait_reached()
        await read(w.service, sent, "Hello")
        match way:
            case "stop":
                await w.stop(sent)
                events = await w.judge(sent)
            case "newer message":
                w.provider.answers = (["Fine."],)
                newer = await w.service.send(ME, send("instead", sent.thread, on_busy="interrupt"))
                assert await ended(w.service, newer) == "done"
                events = await w.judge(sent)
            case "time limit":
                events = await w.judge(sent, "failed")
                assert isinstance(events[-1], e.RunError) and events[-1].code == "timeout"
            case "deleted":
                await w.service.delete_thread(ME, sent.thread)
                await w.provider.quiet()
                return
            case _:
                await w.service.runner.stop()
                await w.provider.quiet()
                events = [event for event in await log(w.service, sent.thread) if event.run_id == sent.run]
                assert isinstance(events[-1], e.RunError) and events[-1].code == "interrupted"
        word = {"time limit": "failed", "shutdown": "interrupted"}.get(way, "cancelled")
        assert kept(events) == [("Hello", word)]


async def test_while_arguments_stream() -> None:
    hold = Hold()
    async with world("pydantic-ai", ["I ", Call("work", '{"what"'), hold]) as w:
        sent = await w.service.send(ME, send("go"))
        await hold.wait_reached()
        await seen(w.service, sent, e.ToolCallArgs)
        await w.stop(sent)
        events = await w.judge(sent)
    end = next(event for event in events if isinstance(event, e.ToolCallEnd))
    assert (end.args, end.incomplete) == ('{"what"', "cancelled")
    assert w.provider.tools == 0


@KINDS
async def test_in_a_tool(kind: str) -> None:
    tool = Hold()
    async with world(kind, ["I work. ", Call("work", "{}")], tool=tool) as w:
        sent = await w.service.send(ME, send("go"))
        await tool.wait_reached()
        await w.stop(sent)
        events = await w.judge(sent)
    result = next(event for event in events if isinstance(event, e.ToolCallResult))
    assert result.status == "cancelled"


async def test_in_a_tool_that_no_one_can_stop() -> None:
    """A function without `async` works in a thread: it goes on without its run."""
    tool = Hold()
    async with world("pydantic-ai", [Call("work_in_thread", "{}")], tool=tool, cancel_deadline_s=0.3) as w:
        sent = await w.service.send(ME, send("go"))
        await tool.wait_reached()
        await w.stop(sent)
        with anyio.fail_after(DEADLINE_S):
            assert await ended(w.service, sent) == "cancelled"
        assert (w.provider.open, w.provider.tools) == (0, 1)
        tool.go.set()
        with anyio.fail_after(DEADLINE_S):
            while w.service.runner.unstoppable:
                await anyio.sleep(0.01)
        await w.judge(sent)


@KINDS
async def test_between_a_tool_and_the_next_request(kind: str) -> None:
    again = Hold()
    async with world(kind, [Call("work", "{}")], [again]) as w:
        sent = await w.service.send(ME, send("go"))
        await seen(w.service, sent, e.ToolCallResult)
        await w.stop(sent)
        events = await w.judge(sent)
    result = next(event for event in events if isinstance(event, e.ToolCallResult))
    assert result.content == "worked"


async def test_while_it_waits_for_an_approval() -> None:
    async with world("pydantic-ai", [Call("ask_first", "{}")]) as w:
        sent = await w.service.send(ME, send("go"))
        assert await ended(w.service, sent) == "waiting"
        await w.stop(sent)
        with pytest.raises(runcast.errors.AlreadyDecided):
            await w.service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))
        await w.judge(sent)
    assert w.provider.tools == 0


@KINDS
async def test_at_the_very_end(kind: str) -> None:
    """Whoever is first wins, and there is one end."""
    async with world(kind, ["Hello", " there."]) as w:
        for pause in (0, 0, 1, 2, 4, 8, 16):
            sent = await w.service.send(ME, send("go"))
            await seen(w.service, sent, e.TextMessageContent)
            for _ in range(pause):
                await anyio.lowlevel.checkpoint()
            await w.stop(sent)
            status = await ended(w.service, sent)
            assert status in ("done", "cancelled")
            events = [event for event in await log(w.service, sent.thread) if event.run_id == sent.run]
            assert sum(isinstance(event, e.TERMINAL) for event in events) == 1
            await w.provider.quiet()


@KINDS
async def test_when_it_has_ended(kind: str) -> None:
    async with world(kind) as w:
        sent = await w.service.send(ME, send("go"))
        assert await ended(w.service, sent) == "done"
        assert (await w.service.cancel(ME, cancel(sent.run))).status == "done"
        await w.judge(sent, "done")


async def test_what_it_cost_is_told_although_it_was_stopped() -> None:
    hold = Hold()
    async with world("pydantic-ai", [Call("work", "{}")], ["Hel", hold]) as w:
        sent = await w.service.send(ME, send("go"))
        await hold.wait_reached()
        await seen(w.service, sent, e.TextMessageContent)
        await w.stop(sent)
        end = (await w.judge(sent))[-1]
    assert isinstance(end, e.RunFinished) and end.usage
    assert end.usage[0].input_tokens is not None and int(end.usage[0].input_tokens) >= 7


# --- a provider that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([Status(500)], "model_unavailable", []),
        ([Status(429, retry_after="3600")], "model_rate_limited", []),
        ([Status(401)], "model_error", []),
        (["Hel", "lo", Reset()], "model_unavailable", [("Hello", "failed")]),
        ([Call("work", '{"wh'), Reset()], "model_unavailable", []),
    ],
    ids=["500", "429", "401", "reset-in-text", "reset-in-arguments"],
)
async def test_a_provider_that_fails(answer: list[Step], code: str, said: list[tuple[str, str]]) -> None:
    async with world("pydantic-ai", answer) as w:
        sent = await w.service.send(ME, send("go"))
        events = await w.judge(sent, "failed")
    end = events[-1]
    assert isinstance(end, e.RunError) and end.code == code
    assert kept(events) == said


async def test_a_provider_that_is_busy_says_when_to_come_back() -> None:
    async with world("pydantic-ai", [Status(429, retry_after="20")]) as w:
        sent = await w.service.send(ME, send("go"))
        end = (await w.judge(sent, "failed"))[-1]
    assert isinstance(end, e.RunError) and end.retryable is True and end.retry_after_ms == 20_000


async def test_a_provider_that_fails_after_a_tool_tells_what_it_cost() -> None:
    async with world("pydantic-ai", [Call("work", "{}")], [Status(500)]) as w:
        sent = await w.service.send(ME, send("go"))
        end = (await w.judge(sent, "failed"))[-1]
    assert isinstance(end, e.RunError) and end.usage and end.usage[0].input_tokens


@pytest.mark.parametrize("answer", [[Status(500)], ["Hel", "lo", Reset()]], ids=["500", "reset"])
async def test_an_agent_written_by_hand_fails_without_its_exceptions_text(answer: list[Step]) -> None:
    async with world("function", answer) as w:
        sent = await w.service.send(ME, send("go"))
        end = (await w.judge(sent, "failed"))[-1]
    assert isinstance(end, e.RunError) and end.code == "agent_error" and "127.0.0.1" not in end.message


# --- planted defects --------------------------------------------------------------------------------------------------


@KINDS
async def test_planted_a_stop_that_only_says_so_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has its end in the log, and its agent works on (I19)."""
    hold = Hold()
    async with world(kind, ["Hel", hold], cancel_deadline_s=0.1) as w:
        w.quiet_s = 1.0
        with monkeypatch.context() as planted:
            planted.setattr(Execution, "cancel", lambda self: None)
            sent = await w.service.send(ME, send("go"))
            await hold.wait_reached()
            await w.stop(sent)
            with pytest.raises(TimeoutError):
                await w.judge(sent)
        assert w.provider.open == 1, "the defect is what it says"
        hold.go.set()


@KINDS
async def test_planted_a_run_that_leaves_open_what_it_said_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "close", lambda *_, **__: [])
    with pytest.raises(ExceptionGroup) as noticed:
        await test_while_text_streams(kind, "stop")
    assert noticed.group_contains(AssertionError, match="Hello")


async def test_planted_an_end_before_the_result_of_a_tool_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal event is written first, and what closes the rest behind it (I16)."""
    write = Appender.write

    async def hasty(self: Any, lane: Any, events: Any, **rows: Any) -> Any:
        ends = [event for event in events if isinstance(event, e.TERMINAL)]
        return await write(self, lane, [*ends, *(event for event in events if event not in ends)], **rows)

    monkeypatch.setattr(Appender, "write", hasty)
    with pytest.raises(ExceptionGroup) as noticed:
        await test_in_a_tool("function")
    assert noticed.group_contains(AssertionError, match="TERMINAL")


async def test_planted_an_exception_that_is_told_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ending, "_failed", lambda run, error, new_id: e.RunError(message=str(error), code="agent_error")
    )
    with pytest.raises(AssertionError, match="127.0.0.1"):
        await test_an_agent_written_by_hand_fails_without_its_exceptions_text([Status(500)])
