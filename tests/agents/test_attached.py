"""Agents get the files that came with a message: bytes for functions, content for pydantic-ai, now and in history."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

import runcast
from core import ME, OTHER, core, ended, log, new_id, said
from runcast import events as e
from runcast.agents.base import Agent, RunContext
from runcast.agents.function import FunctionAgent
from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.commands import Send
from runcast.errors import AgentError
from runcast.runs import Message, Principal, RunInput
from runcast.service import Service
from runcast.stores.sqlite import SqliteStore
from runcast.uploads import Uploaded

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000


async def upload(
    service: Service, data: bytes = PNG, name: str = "cat.png", mime_type: str = "image/png", who: Principal = ME
) -> Uploaded:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return await service.uploads.upload(who, chunks(), name=name, mime_type=mime_type)


def part(kind: str, source: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "source": source}


def saying(*parts: dict[str, Any] | str, thread: str | None = None) -> Send:
    content: list[dict[str, Any]] = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return Send(id=new_id(), thread=thread, message=Message(id=new_id(), content=content))


def of(file: Uploaded) -> dict[str, Any]:
    return part("image", {"type": "url", "value": file.url})


# --- functions ----------------------------------------------------------------------------------------------------


async def test_a_function_reads_what_came_along() -> None:
    seen: list[Any] = []

    async def agent(prompt: str, run: RunContext) -> AsyncIterator[str]:
        for one in run.input.attachments:
            file = await run.file(one)
            seen.append((one.kind, file.name, file.mime_type, file.size, await file.read()))
        first = run.input.messages[0].content[1]
        assert isinstance(first, dict)
        for same in (first, run.input.attachments[0].file, first["source"]["value"]):
            assert same is not None
            pieces = [piece async for piece in (await run.file(same)).pieces()]
            assert b"".join(pieces) == PNG and len(pieces) > 1
        yield f"Saw {len(seen)}: {prompt}"

    async with core(FunctionAgent(agent, name="f")) as service:
        file = await upload(service)
        inline = part("document", {"type": "data", "value": base64.b64encode(b"hi").decode(), "mimeType": "text/plain"})
        sent = await service.send(ME, saying("look", of(file), inline))
        assert await ended(service, sent) == "done"
        assert said(await log(service, sent.thread)) == "Saw 2: look"
    assert seen == [
        ("image", "cat.png", "image/png", len(PNG), PNG),
        ("document", "", "text/plain", 2, b"hi"),
    ]


async def test_a_function_reads_nobody_elses_file_and_nothing_elsewhere() -> None:
    codes: list[str] = []

    async def agent(prompt: str, run: RunContext) -> str:
        elsewhere = run.input.attachments[0]
        for what in (prompt, f"/v1/files/{prompt}", "../../etc/passwd", elsewhere):
            with pytest.raises(AgentError) as caught:
                await run.file(what)
            codes.append(caught.value.agent_code)
        with pytest.raises(TypeError):
            await run.file(7)  # type: ignore[arg-type]
        return "no"

    async with core(FunctionAgent(agent, name="f")) as service:
        theirs = await upload(service, who=OTHER)
        url = part("image", {"type": "url", "value": "https://elsewhere.example/a.png"})
        assert await ended(service, await service.send(ME, saying(theirs.id, url))) == "done"
    assert codes == ["unknown_file", "unknown_file", "unknown_file", "file_elsewhere"]


# --- pydantic-ai --------------------------------------------------------------------------------------------------


class Seen:
    """A model that keeps what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[list[ModelMessage]] = []
        self._answers = answers or (["I see."],)

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.requests.append(messages)
        for piece in self._answers[min(len(self.requests), len(self._answers)) - 1]:
            yield piece

    def agent(self) -> PydanticAgent[None, str]:
        return PydanticAgent(FunctionModel(stream_function=self.stream), name="p")

    def prompts(self) -> list[Any]:
        """The contents of the person's messages in the newest request."""
        return [
            one.content
            for message in self.requests[-1]
            if isinstance(message, ModelRequest)
            for one in message.parts
            if isinstance(one, UserPromptPart)
        ]


@asynccontextmanager
async def served(agent: Agent, path: Path) -> AsyncGenerator[tuple[Service, SqliteStore]]:
    store = await SqliteStore.open(path)
    try:
        async with core(agent, store=store) as service:
            yield service, store
    finally:
        await store.close()


async def test_the_model_gets_the_bytes_now_and_later_and_they_are_saved_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    seen = Seen()
    async with served(PydanticAIAgent(seen.agent()), path) as (service, store):
        file = await upload(service)
        sent = await service.send(ME, saying("what is it?", of(file)))
        assert await ended(service, sent) == "done"
        image = BinaryContent(PNG, media_type="image/png")
        assert seen.prompts() == [["what is it?", image]]
        (state,) = await store.agent_states([sent.run])
        assert len(state.data) < 5000 and file.url.encode() in state.data
    seen = Seen()
    async with served(PydanticAIAgent(seen.agent()), path) as (service, store):
        again = await service.send(ME, saying("and now?", thread=sent.thread))
        assert await ended(service, again) == "done"
        assert seen.prompts()[0] == ["what is it?", image]
        assert seen.prompts()[1] == "and now?"


async def test_history_is_rebuilt_with_its_files_and_says_which_are_gone(tmp_path: Path) -> None:
    seen = Seen()
    async with served(PydanticAIAgent(seen.agent()), tmp_path / "a.db") as (service, store):
        kept, lost = await upload(service), await upload(service, b"gone", "gone.txt", "text/plain")
        sent = await service.send(ME, saying("look", of(kept), of(lost)))
        assert await ended(service, sent) == "done"
        second = Seen()
        states = await store.agent_states([sent.run])
        assert states and lost.id.encode() in states[0].data
        await store.files.delete_all(ME)
        kept = await upload(service)
        service.runner._executions.agents["p"] = PydanticAIAgent(second.agent())  # pyright: ignore[reportPrivateUsage]
        again = await service.send(ME, saying("and?", of(kept), thread=sent.thread))
        assert await ended(service, again) == "done"
        before, now = second.prompts()
        assert before[0] == "look" and all("no longer there" in text for text in before[1:])
        assert now == ["and?", BinaryContent(PNG, media_type="image/png")]


async def test_a_transcript_without_saved_state_is_rebuilt_with_files_and_whole_results(tmp_path: Path) -> None:
    rows = [{"id": number, "text": "x" * 50} for number in range(6000)]

    async def foreign(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        async with context.tool("list_all") as call:
            call.result = rows
        yield e.TextMessageContent(message_id="m", delta="Many.")

    class Foreign:
        name = "p"
        description = ""

        def run(self, input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
            return foreign(input, context)

    seen = Seen()
    async with served(Foreign(), tmp_path / "a.db") as (service, _):
        file = await upload(service)
        sent = await service.send(ME, saying("look", of(file)))
        assert await ended(service, sent) == "done"
        service.runner._executions.agents["p"] = PydanticAIAgent(seen.agent())  # pyright: ignore[reportPrivateUsage]
        assert await ended(service, await service.send(ME, saying("and?", thread=sent.thread))) == "done"
        assert seen.prompts()[0] == ["look", BinaryContent(PNG, media_type="image/png")]
        (returned,) = [one for message in seen.requests[-1] for one in message.parts if isinstance(one, ToolReturnPart)]
        assert json.loads(str(returned.content)) == rows


async def test_the_models_history_has_a_big_result_whole() -> None:
    text = "word " * 100_000
    seen = Seen([{0: DeltaToolCall(name="read", json_args="{}", tool_call_id="c")}], ["Read."], ["Again."])
    agent = seen.agent()

    @agent.tool_plain
    def read() -> str:
        return text

    async with core(PydanticAIAgent(agent)) as service:
        sent = await service.send(ME, saying("read"))
        assert await ended(service, sent) == "done"
        (result,) = [one for one in await log(service, sent.thread) if isinstance(one, e.ToolCallResult)]
        assert isinstance(result.blob, e.Blob) and result.blob.size == len(text)
        assert await ended(service, await service.send(ME, saying("again", thread=sent.thread))) == "done"
        (returned,) = [one for message in seen.requests[-1] for one in message.parts if isinstance(one, ToolReturnPart)]
        assert returned.content == text


async def test_what_is_elsewhere_is_named_to_the_model_and_not_fetched() -> None:
    seen = Seen()
    async with core(PydanticAIAgent(seen.agent())) as service:
        sent = await service.send(
            ME,
            saying(
                part("image", {"type": "url", "value": "https://elsewhere.example/a.png"}),
                part(
                    "document", {"type": "url", "value": "https://elsewhere.example/b", "mimeType": "application/pdf"}
                ),
                part("document", {"type": "file", "value": "file-1", "provider": "openai", "mimeType": "text/plain"}),
                part("document", {"type": "file", "value": "file-2"}),
            ),
        )
        assert await ended(service, sent) == "done"
        image, document, uploaded, unknown = seen.prompts()[0]
        assert isinstance(image, ImageUrl) and image.url == "https://elsewhere.example/a.png"
        assert isinstance(document, DocumentUrl) and document.media_type == "application/pdf"
        assert isinstance(uploaded, UploadedFile) and uploaded.file_id == "file-1"
        assert isinstance(unknown, str)


def test_the_context_is_what_the_package_exports() -> None:
    assert runcast.RunContext is RunContext
