"""OpenAI's protocols over real sockets, with OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import openai
import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from clients.agent import agent as played
from core import DEADLINE_S, Gated
from runcast.agents.context import RunContext
from runcast.agents.function import FunctionAgent
from runcast.errors import AgentError
from runcast.ids import SystemClock
from runcast.upkeep import Keep, Upkeep
from serving import Running, serving

pytestmark = pytest.mark.anyio

PLAYED = played


def client_of(running: Running, prefix: str = "/openai/v1") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{running.url}{prefix}", api_key="any", max_retries=0, timeout=DEADLINE_S)


@asynccontextmanager
async def talking(
    *agents: Any, prefix: str = "/openai/v1", **options: Any
) -> AsyncGenerator[tuple[AsyncOpenAI, Running]]:
    async with serving(*(agents or (PLAYED,)), **options) as running, client_of(running, prefix) as client:
        yield client, running


class Clock(SystemClock):
    """Real, and as far ahead as a test says."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def threads(running: Running) -> list[str]:
    async with running.http() as http:
        return [thread["id"] for thread in (await http.get("/v1/threads")).json()["threads"]]


# --- models -----------------------------------------------------------------------------------------------------------


async def test_agents_are_models() -> None:
    async with talking(PLAYED, Gated()) as (client, _):
        assert [model.id async for model in client.models.list()] == ["agent", "gated"]
        assert (await client.models.retrieve("gated")).owned_by == "runcast"
        with pytest.raises(openai.NotFoundError) as error:
            await client.models.retrieve("nobody")
        assert error.value.code == "model_not_found"


# --- Chat Completions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
async def test_a_completion_streamed_and_whole(prefix: str) -> None:
    async with talking(prefix=prefix) as (client, running):
        stream = await client.chat.completions.create(
            model="agent", messages=user("plain"), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello you."
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        assert len({chunk.id for chunk in chunks}) == 1
        whole = await client.chat.completions.create(model="agent", messages=user("plain"))
        assert whole.choices[0].message.content == "Hello you."
        assert whole.model == "agent"
        assert await threads(running) == []  # nobody comes back to these


async def test_the_stream_helper_and_thoughts() -> None:
    async with talking() as (client, _):
        async with client.chat.completions.stream(model="agent", messages=user("reason")) as stream:
            async for _event in stream:
                pass
            message = (await stream.get_final_completion()).choices[0].message
        assert message.content == "42."
        whole = await client.chat.completions.create(model="agent", messages=user("reason"))
        assert whole.choices[0].message.model_extra == {"reasoning_content": "Let me see. "}


async def test_sources_are_annotations() -> None:
    async with talking() as (client, _):
        whole = await client.chat.completions.create(model="agent", messages=user("draw"))
        async with client.chat.completions.stream(model="agent", messages=user("draw")) as stream:
            async for _event in stream:
                pass
            streamed = (await stream.get_final_completion()).choices[0].message
        for message in (whole.choices[0].message, streamed):
            (one,) = message.annotations or []
            assert (one.type, one.url_citation.url) == ("url_citation", "https://example.com/")


@pytest.mark.parametrize(("scene", "said"), [("parallel", "3 and 7."), ("broken", "It is not there.")])
async def test_tools_of_the_agent_run_on_the_server(scene: str, said: str) -> None:
    async with talking() as (client, _):
        whole = await client.chat.completions.create(model="agent", messages=user(scene))
        assert (whole.choices[0].message.content, whole.choices[0].message.tool_calls) == (said, None)
        assert whole.choices[0].finish_reason == "stop"


async def test_a_run_that_fails() -> None:
    async with talking() as (client, running):
        said: list[str] = []
        with pytest.raises(openai.APIError, match="closed on Sundays") as error:
            async for chunk in await client.chat.completions.create(model="agent", messages=user("fail"), stream=True):
                said.append(chunk.choices[0].delta.content or "")
        assert "".join(said) == "I try. "
        assert error.value.code == "closed"
        with pytest.raises(openai.APIStatusError) as status:
            await client.chat.completions.create(model="agent", messages=user("fail"))
        assert (status.value.status_code, status.value.code) == (502, "closed")
        assert status.value.response.headers["x-should-retry"] == "false"  # the client would run it twice more
        assert await threads(running) == []


@pytest.mark.parametrize("code", ["rate_limited", "model_rate_limited"])
async def test_a_model_that_gets_too_many_requests_is_a_rate_limit(code: str) -> None:
    async def busy(prompt: str) -> str:
        raise AgentError("Too much.", code=code, retryable=True, retry_after_ms=2_400)

    async with talking(FunctionAgent(busy, name="busy")) as (client, _):
        for asking in (
            client.chat.completions.create(model="busy", messages=user("Hi")),
            client.responses.create(model="busy", input="Hi"),
        ):
            with pytest.raises(openai.RateLimitError) as refused:
                await asking
            assert (refused.value.code, refused.value.type) == (code, "rate_limit_error")
            headers = refused.value.response.headers
            assert (headers["retry-after"], headers["x-should-retry"]) == ("3", "false")
        with pytest.raises(openai.APIError) as error:
            async for _ in await client.chat.completions.create(model="busy", messages=user("Hi"), stream=True):
                pass
        assert (error.value.code, error.value.type) == (code, "rate_limit_error")


async def test_the_request_id_of_a_failure_is_the_one_in_the_servers_log(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(prompt: str) -> str:
        raise ValueError("a secret")

    async with talking(FunctionAgent(crash, name="crash")) as (client, _):
        told: list[Any] = []
        for asking in (
            client.chat.completions.create(model="crash", messages=user("Hi")),
            client.responses.create(model="crash", input="Hi"),
        ):
            with pytest.raises(openai.InternalServerError) as failed:
                await asking
            told.append(failed.value.request_id)
        with pytest.raises(openai.APIError) as error:
            async for _ in await client.chat.completions.create(model="crash", messages=user("Hi"), stream=True):
                pass
        told.append(cast("dict[str, Any]", error.value.body)["request_id"])
        events = [event async for event in await client.responses.create(model="crash", input="Hi", stream=True)]
        last: Any = events[-1]
        told.append(last.response.error.request_id)
        assert "secret" not in str(told)
    logged = [
        record.__dict__["request_id"]
        for record in caplog.records
        if "action" in record.__dict__ and record.__dict__["action"] == "run_failed"
    ]
    assert told == logged


async def test_its_conversation_is_in_no_list_while_it_runs() -> None:
    agent = Gated()
    async with talking(agent) as (client, running), running.client() as me:
        await me.ask("subscribe", inbox=True, after=0)
        stream = await client.chat.completions.create(model="gated", messages=user("Hi"), stream=True)
        await agent.reached.wait()
        assert await threads(running) == []
        agent.gate.set()
        async for _chunk in stream:
            pass
        await me.ask("send", message={"id": "m", "content": "Hi"})  # the first thing that the inbox hears of
        await me.until(lambda frame: any(event.get("run") for event in frame.get("events", ())))
        (thread,) = await threads(running)
        assert {event["threadId"] for event in me.events()} == {thread}


async def test_what_is_left_behind_goes_after_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    path = str(tmp_path / "threads.db")
    async with talking(forecasting(), store=path, clock=clock) as (client, running):
        await client.chat.completions.create(model="forecast", messages=user("How?"), tools=[WEATHER])
        service = running.server.gateway.service
        upkeep = Upkeep(service._store, service._hub, service.runner, clock=clock, keep=Keep())  # pyright: ignore[reportPrivateUsage]
        await upkeep.round()
        assert len(await service._store.hidden_threads(before=clock.now_ms() + 1)) == 1  # pyright: ignore[reportPrivateUsage]
        clock.ahead_ms += 3_700_000
        await upkeep.round()
        assert await service._store.hidden_threads(before=clock.now_ms() + 1) == []  # pyright: ignore[reportPrivateUsage]


async def test_deleting_all_of_ones_data_deletes_these_too() -> None:
    async with talking(forecasting()) as (client, running), running.http() as http:
        await client.chat.completions.create(model="forecast", messages=user("How?"), tools=[WEATHER])
        gone = await http.request("DELETE", "/v1/me/data", json={"confirm": "delete all my data"})
        assert (gone.status_code, gone.json()["threads"]) == (200, 1)


async def test_closing_the_request_stops_the_run() -> None:
    agent = Gated()
    async with talking(agent) as (client, running):
        stream = await client.chat.completions.create(model="gated", messages=user("Hi"), stream=True)
        await agent.reached.wait()
        await stream.close()
        with anyio.fail_after(DEADLINE_S):
            while not agent.cancelled or await threads(running):
                await anyio.sleep(0.01)


async def test_hanging_up_before_a_whole_answer_stops_the_run() -> None:
    agent = Gated()
    async with talking(agent) as (client, running):
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                await client.chat.completions.create(model="gated", messages=user("Hi"))

            tasks.start_soon(ask)
            await agent.reached.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(DEADLINE_S):
            while not agent.cancelled or await threads(running):
                await anyio.sleep(0.01)


async def test_the_whole_history_comes_each_time() -> None:
    heard: list[list[str]] = []

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        heard.append([f"{part.part_kind}: {cast(Any, part).content}" for one in messages for part in one.parts])
        yield "Fine."

    async with talking(Agent(FunctionModel(stream_function=model), name="model")) as (client, _):
        messages: Any = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "I am Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "user", "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "are you?"}]},
        ]
        whole = await client.chat.completions.create(model="model", messages=messages)
        assert whole.choices[0].message.content == "Fine."
    assert heard == [
        ["system-prompt: Be brief.", "user-prompt: ['I am Ada.']", "text: Hello Ada.", "user-prompt: How\nare you?"]
    ]


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def forecaster(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Asks for the weather of Rome and of Oslo, which are the client's to say, and then says what it was told."""
    returned = [part.content for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
    if returned:
        yield " / ".join(str(one) for one in returned)
        return
    assert [tool.name for tool in info.function_tools] == ["weather"]
    yield {0: DeltaToolCall(name="weather", json_args='{"city":', tool_call_id="a")}
    yield {0: DeltaToolCall(json_args='"Rome"}')}
    yield {1: DeltaToolCall(name="weather", json_args='{"city":"Oslo"}', tool_call_id="b")}


def forecasting() -> Agent:
    return Agent(FunctionModel(stream_function=forecaster), name="forecast")


@pytest.mark.parametrize("streamed", [True, False])
async def test_tools_of_the_request_are_the_clients(streamed: bool) -> None:
    async with talking(forecasting()) as (client, running):
        messages = user("How is it?")
        if streamed:
            async with client.chat.completions.stream(model="forecast", messages=messages, tools=[WEATHER]) as stream:
                async for _event in stream:
                    pass
                choice: Any = (await stream.get_final_completion()).choices[0]
        else:
            choice = (
                await client.chat.completions.create(model="forecast", messages=messages, tools=[WEATHER])
            ).choices[0]
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls
        assert [one.function.arguments for one in calls] == ['{"city":"Rome"}', '{"city":"Oslo"}']
        messages += [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": one.id, "type": "function", "function": {"name": one.function.name, "arguments": "{}"}}
                    for one in calls
                ],
            },
            {"role": "tool", "tool_call_id": calls[0].id, "content": "sun"},
            {"role": "tool", "tool_call_id": calls[1].id, "content": "snow"},
        ]
        whole = await client.chat.completions.create(model="forecast", messages=messages, tools=[WEATHER])
        assert whole.choices[0].message.content == "sun / snow"
        assert await threads(running) == []
        # Its conversation is gone now; the same results are understood all the same.
        whole = await client.chat.completions.create(model="forecast", messages=messages, tools=[WEATHER])
        assert whole.choices[0].message.content == "sun / snow"


async def test_a_question_to_a_person_is_said_and_ends_with_the_answer() -> None:
    async with talking() as (client, running):
        whole = await client.chat.completions.create(model="agent", messages=user("approve"))
        assert (whole.choices[0].message.content or "").startswith("One moment. \n\n")
        assert await threads(running) == []


@pytest.mark.parametrize(("body", "status", "code", "param"),
    [
        ({"model": "nobody", "messages": user("Hi")}, 404, "model_not_found", "model"),
        ({"messages": user("Hi")}, 400, "invalid_request", "model"),
        ({"model": "agent"}, 400, "invalid_request", "messages"),
        ({"model": "agent", "messages": []}, 400, "invalid_request", "messages"),
        ({"model": "agent", "messages": [{"role": "user", "content": 7}]}, 400, "invalid_request", "messages[0].content"),
        ({"model": "agent", "messages": [{"role": "king"}]}, 400, "invalid_request", "messages[0].role"),
        ({"model": "agent", "messages": [{"role": "assistant", "content": "a"}]}, 400, "invalid_request", "messages"),
        ({"model": "agent", "messages": user("Hi"), "n": 2}, 400, "invalid_request", "n"),
        ({"model": "agent", "messages": user("Hi"), "tools": [{"type": "x"}]}, 400, "invalid_request", "tools[0].type"),
        ({"model": "agent", "messages": user(" ")}, 400, "invalid_request", None),
        ([], 400, "invalid_request", None),
    ],
)  # fmt: skip
async def test_errors_have_openais_shape(body: Any, status: int, code: str, param: str | None) -> None:
    async with serving(PLAYED) as running, running.http() as http:
        answer = await http.post("/openai/v1/chat/completions", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert await threads(running) == []


async def test_other_errors_have_it_too() -> None:
    async with serving(PLAYED) as running, running.http() as http:
        for answer in (
            await http.get("/openai/v1/chat/completions"),
            await http.post("/openai/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}),
            await http.get("/openai/v1/nothing"),
            await http.get("/v1/responses/resp_nothing"),
            await http.post("/openai/v1/responses", json={}, headers={"origin": "https://elsewhere.example"}),
        ):
            assert answer.status_code >= 400
            assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


async def test_a_page_of_this_machine_may_use_openais_client() -> None:
    async with serving(PLAYED) as running, running.http() as http:
        asked = {
            "origin": "http://localhost:5173",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-lang,x-stainless-retry-count",
        }
        preflight = await http.options("/openai/v1/chat/completions", headers=asked)
        allowed = preflight.headers["access-control-allow-headers"].split(", ")
        assert set(asked["access-control-request-headers"].split(",")) <= set(allowed)
        refused = await http.post("/openai/v1/chat/completions", json={}, headers={"origin": "http://localhost:5173"})
        assert refused.headers["access-control-allow-origin"] == "http://localhost:5173"


async def test_a_path_that_is_switched_off() -> None:
    async with serving(PLAYED, dialects={"/v1/chat/completions": "off"}) as running, running.http() as http:
        body = {"model": "agent", "messages": user("plain")}
        off = await http.post("/v1/chat/completions", json=body)
        assert (off.status_code, off.json()["error"]["code"]) == (404, "not_found")
        assert (await http.post("/openai/v1/chat/completions", json=body)).status_code == 200


async def test_a_picture_that_comes_as_data_becomes_a_file() -> None:
    seen: list[Any] = []

    async def look(run: RunContext) -> str:
        for attachment in run.input.attachments:
            seen.append((attachment.kind, attachment.mime_type, attachment.file is not None))
        return "A dot."

    dot = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    async with talking(FunctionAgent(look, name="look")) as (client, _):
        content: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": dot}}]
        whole = await client.chat.completions.create(model="look", messages=[{"role": "user", "content": content}])
        assert whole.choices[0].message.content == "A dot."
    assert seen == [("image", "image/png", True)]


async def test_a_stream_has_no_ids_and_ends_with_its_mark() -> None:
    async with serving(PLAYED) as running, running.http() as http:
        body = {"model": "agent", "messages": user("plain"), "stream": True}
        answer = await http.post("/v1/chat/completions", json=body)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith(": open\n\ndata: {")
        assert answer.text.endswith("}\n\ndata: [DONE]\n\n")
        assert all(line.startswith(("data: ", ": ")) for line in answer.text.splitlines() if line)


async def test_a_stop_of_the_server_cuts_the_stream() -> None:
    agent = Gated()
    async with talking(agent) as (client, running):
        stream = await client.chat.completions.create(model="gated", messages=user("Hi"), stream=True)
        await agent.reached.wait()
        running.process.should_exit = True
        with pytest.raises((openai.APIError, httpx.HTTPError)):
            async for _chunk in stream:
                pass
