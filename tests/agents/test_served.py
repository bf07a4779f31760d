"""Agents behind the real runner and store: what the adapters promise, seen in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from core import ME, cancel, core, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents.function import FunctionAgent
from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.scenes import thoughts
from runcast.transcript import ToolPart, Transcript, fold


class Cleaner:
    """A scripted model and a tool that needs approval; `deleted` and `asked` say what really happened."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.asked: list[list[str]] = []
        self.open_streams = 0
        self.waiting = anyio.Event()
        agent: Agent[None, str] = Agent(FunctionModel(stream_function=self._stream), name="cleaner")

        @agent.tool_plain(requires_approval=True)
        def delete(name: str) -> str:
            self.deleted.append(name)
            return f"{name} is gone"

        self.served = PydanticAIAgent(agent)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        prompts = [str(p.content) for m in messages for p in m.parts if isinstance(p, UserPromptPart)]
        self.asked.append(prompts)
        last = messages[-1]
        asked_now = isinstance(last, ModelRequest) and any(isinstance(part, UserPromptPart) for part in last.parts)
        self.open_streams += 1
        try:
            if "wait" in prompts[-1]:
                yield "I think "
                self.waiting.set()
                await anyio.sleep_forever()
            elif "delete" in prompts[-1] and asked_now:
                yield "I will. "
                yield {1: DeltaToolCall(name="delete", json_args='{"name": "pod-1"}', tool_call_id="call")}
            else:
                yield "Done."
        finally:
            self.open_streams -= 1


@pytest.mark.anyio
async def test_an_approval_survives_the_process_and_runs_the_tool_once(tmp_path: Path) -> None:
    """I20: asked in one process, answered in another."""
    before, after = Cleaner(), Cleaner()
    async with core(before.served, path=tmp_path / "log.db") as service:
        sent = await service.send(ME, send("delete it"))
        assert await ended(service, sent) == "waiting"
    async with core(after.served, path=tmp_path / "log.db") as service:
        answered = await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))
        assert answered.run is not None
        run = await service.wait_run(ME, answered.run, timeout_s=10)
        assert run.status == "done"
        assert (before.deleted, after.deleted) == ([], ["pod-1"])
        events = await log(service, sent.thread)
        assert types(events).count("TOOL_CALL_START") == 1
        assert said(events) == "I will. Done."
        transcript = fold(Transcript(), events)
        tools = [p for r in transcript.runs for m in r.messages for p in m.parts if isinstance(p, ToolPart)]
        assert [(tool.id, tool.status, tool.result) for tool in tools] == [("call", "done", "pod-1 is gone")]
        again = await service.send(ME, send("thanks", sent.thread))
        assert await ended(service, again) == "done"
    assert after.asked[-1] == ["delete it", "thanks"]
    assert after.deleted == ["pod-1"]


@pytest.mark.anyio
async def test_a_new_message_withdraws_the_question() -> None:
    cleaner = Cleaner()
    async with core(cleaner.served) as service:
        sent = await service.send(ME, send("delete it"))
        assert await ended(service, sent) == "waiting"
        await service.cancel(ME, cancel(sent.run))
        other = await service.send(ME, send("never mind", sent.thread))
        assert await ended(service, other) == "done"
        assert cleaner.deleted == [] and cleaner.asked[-1] == ["delete it", "never mind"]


@pytest.mark.anyio
async def test_stop_closes_the_model_and_the_next_run_knows_what_was_said() -> None:
    """I19."""
    cleaner = Cleaner()
    async with core(cleaner.served) as service:
        sent = await service.send(ME, send("wait"))
        await cleaner.waiting.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        assert cleaner.open_streams == 0
        events = await log(service, sent.thread)
        (end,) = [event for event in events if isinstance(event, e.TextMessageEnd)]
        assert (end.text, end.incomplete) == ("I think ", "cancelled")
        again = await service.send(ME, send("and now?", sent.thread))
        assert await ended(service, again) == "done"
        assert cleaner.asked[-1] == ["wait", "and now?"]


@pytest.mark.anyio
async def test_what_is_invalid_ends_the_run_with_a_code() -> None:
    async def odd() -> AsyncIterator[object]:
        yield "so far"
        yield 3

    async with core(FunctionAgent(odd)) as service:
        sent = await service.send(ME, send("Hi"))
        assert await ended(service, sent) == "failed"
        last = (await log(service, sent.thread))[-1]
        assert isinstance(last, e.RunError) and last.code == "invalid_yield" and "int" in last.message


@pytest.mark.anyio
async def test_thoughts_in_the_log() -> None:
    async with core(thoughts.make(tokens_per_s=0)) as service:
        sent = await service.send(ME, send("How do I compress a file?"))
        assert await ended(service, sent) == "done"
        run = fold(Transcript(), await log(service, sent.thread)).runs[0]
        kinds = [part.__struct_config__.tag for part in run.messages[1].parts]
        assert kinds[:4] == ["reasoning", "tool", "reasoning", "tool"] and "source" in kinds
        assert not any(getattr(part, "open", False) for part in run.messages[1].parts)
