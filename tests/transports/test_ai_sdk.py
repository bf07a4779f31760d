"""The AI SDK's routes over a real server: what they ask, refuse, attach to and end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

import runcast
from auth.tokens import SECRET, token
from core import DEADLINE_S, Gated, Told, echo
from runcast.agents.context import RunContext
from runcast.config import Settings
from runcast.errors import AgentError
from runcast.events import Event
from runcast.runs import RunInput
from serving import serving

pytestmark = pytest.mark.anyio

Message = dict[str, Any]


def user(id: str, text: str, *more: Message) -> Message:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}, *more]}


def assistant(id: str, *parts: Message) -> Message:
    return {"id": id, "role": "assistant", "parts": [{"type": "step-start"}, *parts]}


def text(said: str) -> Message:
    return {"type": "text", "text": said, "state": "done"}


def body(*messages: Message, id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"id": id, "messages": list(messages), "trigger": "submit-message", **more}


def chunks_of(stream: str) -> list[Any]:
    """The chunks of a whole stream; `[DONE]` must be its last."""
    lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def post(http: httpx.AsyncClient, given: dict[str, Any], path: str = "/api/chat", **options: Any) -> list[Any]:
    response = await http.post(path, json=given, **options)
    assert response.status_code == 200, response.text
    return chunks_of(response.text)


async def loaded(http: httpx.AsyncClient, chat: str = "c1", **options: Any) -> list[Any]:
    """The messages of a chat that is not active."""
    response = await http.get(f"/api/chat/{chat}/messages", **options)
    assert response.status_code == 200, response.text
    given = response.json()
    assert (given["id"], given["active"]) == (chat, False)
    return given["messages"]


def said(chunks: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def runs_of(http: httpx.AsyncClient, chunks: list[Any]) -> list[Any]:
    thread = chunks[0]["messageMetadata"]["threadId"]
    return (await http.get(f"/v1/threads/{thread}")).json()["transcript"]["runs"]


async def test_an_answer_and_its_headers() -> None:
    async with serving() as running, running.http() as http:
        response = await http.post("/api/chat", json=body(user("u1", "Hi you")))
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.text.startswith(": open\n\n")
        chunks = chunks_of(response.text)
        assert said(chunks) == "Hi you "
        [run] = await runs_of(http, chunks)
        assert chunks[0]["messageId"] == run["id"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("{", 400),
        ("[]", 422),
        ('{"messages": []}', 422),
        ('{"id": "c1", "messages": []}', 422),
        ('{"id": "a/b", "messages": []}', 422),
        ('{"id": "c1", "messages": [7]}', 422),
        (
            '{"id": "c1", "messages": [{"id": "u", "role": "user", "content": "x", "deep": '
            + "[" * 33
            + "]" * 33
            + "}]}",
            422,
        ),
        ('{"id": "c1", "messages": [], "trigger": "other"}', 422),
        ('{"id": "c1", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": " "}]}]}', 422),
        ('{"id": "c1", "messages": [{"id": "u1", "role": "user", "parts": "x"}]}', 422),
        ('{"id": "c1", "messages": [{"id": "a b", "role": "user", "content": "x"}]}', 422),
        ('{"id": "c1", "messages": [{"id": "u", "role": "user", "content": "x"}], "tools": [7]}', 200),
        ('{"id": "c1", "messages": [{"id": "u", "role": "user", "content": "x"}], "tools": {"a": 7}}', 422),
        ('{"id": "c1", "messages": [{"id": "u", "role": "user", "content": "x"}], "agent": "nobody"}', 422),
    ],
)
async def test_what_cannot_be_read_is_refused_in_a_sentence(given: str, status: int) -> None:
    async with serving() as running, running.http() as http:
        response = await http.post("/api/chat", content=given, headers={"content-type": "application/json"})
        assert response.status_code == status
        if status != 200:
            assert isinstance(response.json()["detail"], str)
        assert (await http.get("/v1/threads")).status_code == 200


async def test_methods_versions_and_pages_of_other_origins() -> None:
    async with serving() as running, running.http() as http:
        assert (await http.get("/api/chat")).status_code == 405
        assert (await http.post("/api/chat/c1/stream")).status_code == 405
        assert (await http.get("/api/chat/c1/stop")).status_code == 405
        assert (await http.post("/api/chat/c1/stop")).status_code == 404
        assert (await http.get("/api/chat/c1/stream?v=8")).status_code == 422
        assert (await http.get("/api/chat/c1/stream", headers={"x-ai-sdk-version": "6.0.3"})).status_code == 204
        preflight = await http.options(
            "/api/chat",
            headers={
                "origin": "http://localhost:3000",
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type, x-ai-sdk-version",
            },
        )
        assert preflight.status_code == 204
        assert "x-ai-sdk-version" in preflight.headers["access-control-allow-headers"]
        foreign = await http.post("/api/chat", json={}, headers={"origin": "https://elsewhere.example"})
        assert (foreign.status_code, foreign.headers["content-type"]) == (403, "application/json")


async def test_a_chat_can_be_put_elsewhere_and_switched_off() -> None:
    settings = Settings(dialects={"/api/chat": "off", "/talk": "ai-sdk?v=5"})
    async with serving(settings=settings) as running, running.http() as http:
        for method, path in (("POST", "/api/chat"), ("GET", "/api/chat/c1/stream"), ("POST", "/api/chat/c1/stop")):
            assert (await http.request(method, path, json={})).status_code == 404
        assert said(await post(http, body(user("u1", "Hi")), "/talk")) == "Hi "
        assert (await http.get("/talk/c1/stream")).status_code == 204


async def test_the_history_is_known_and_only_the_new_is_said() -> None:
    agent = Told(echo)
    async with serving(agent) as running, running.http() as http:
        one = await post(http, body(user("u1", "One")))
        history = [user("u1", "One"), assistant(one[0]["messageId"], text("One "))]
        two = await post(http, body(*history, user("u2", "Two")))
        only_the_newest = await post(http, {"id": "c1", "message": user("u3", "Three")})
        first, second, third = await runs_of(http, only_the_newest)
        assert (second["parent"], third["parent"]) == (first["id"], second["id"])
        assert (said(two), said(only_the_newest)) == ("Two ", "Three ")


async def test_the_same_message_has_one_effect() -> None:
    async with serving() as running, running.http() as http:
        one = await post(http, body(user("u1", "One")))
        assert await post(http, body(user("u1", "One"))) == one
        assert len(await runs_of(http, one)) == 1
        # Ids are the application's: the same one in another chat is another message.
        other = await post(http, body(user("u1", "Something else"), id="c2"))
        assert said(other) == "Something else "


async def test_an_edited_message_and_regenerate_make_branches() -> None:
    async with serving() as running, running.http() as http:
        one = await post(http, body(user("u1", "One")))
        edited = await post(http, body(user("u1", "Another"), messageId="u1"))
        assert said(edited) == "Another "
        again = await post(http, body(user("u1", "One"), trigger="regenerate-message", messageId=one[0]["messageId"]))
        assert said(again) == "One "
        by_name = {"id": "c1", "trigger": "regenerate-message", "messageId": one[0]["messageId"]}
        assert said(await post(http, by_name)) == "One "
        runs = await runs_of(http, again)
        assert len(runs) == 4
        assert {run.get("parent") for run in runs} == {None}


async def test_what_was_said_elsewhere_is_known_to_the_agent() -> None:
    inputs: list[RunInput] = []

    async def note(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        inputs.append(input)
        async for event in echo(input, context):
            yield event

    async with serving(Told(note)) as running, running.http() as http:
        await post(http, body(user("x1", "Before"), assistant("x2", text("I was.")), user("u1", "Now")))
        [input] = inputs
        assert input.text == "Now"
        assert [message["role"] for message in input.client.history] == ["user", "assistant"]


async def test_a_watcher_that_comes_late_gets_the_whole_message() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.http() as http:
        told: dict[str, list[Any]] = {}

        async def watch(name: str, version: str) -> None:
            response = await http.get(f"/api/chat/c1/stream?v={version}")
            told[name] = chunks_of(response.text)

        async def asked() -> None:
            told["asked"] = await post(http, body(user("u1", "Hi")))

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(asked)
                await agent.reached.wait()
                tasks.start_soon(watch, "five", "5")
                tasks.start_soon(watch, "seven", "7")
                while running.server.gateway.connections < 3:
                    await anyio.sleep(0.01)
                agent.gate.set()
        assert [said(chunks) for chunks in told.values()] == ["ab"] * 3
        assert [chunks[0] for chunks in told.values()] == [told["asked"][0]] * 3
        assert (await http.get("/api/chat/c1/stream")).status_code == 204
        whole = chunks_of((await http.get("/api/chat/c1/stream?ended=true")).text)
        assert said(whole) == "ab"


async def test_who_hangs_up_may_want_the_run_to_end() -> None:
    agent = Gated("a", "b")
    async with serving(agent, disconnect_grace_s=0) as running, running.http() as http:
        async with http.stream("POST", "/api/chat", json=body(user("u1", "Hi"), onDisconnect="cancel")):
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
        with anyio.fail_after(DEADLINE_S):
            while not agent.cancelled:
                await anyio.sleep(0.01)


async def test_stop_stops_and_says_so() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.http() as http:
        async with http.stream("POST", "/api/chat", json=body(user("u1", "Hi"))) as response:
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
                stopped = await http.post("/api/chat/c1/stop")
                assert stopped.status_code == 200
                chunks = chunks_of((await response.aread()).decode())
        assert [chunk["type"] for chunk in chunks][-2:] == ["data-run-status", "abort"]
        assert agent.cancelled


@runcast.agent(name="doors")
async def doors(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Opens two doors, each with leave."""
    for door in ("left", "right"):
        try:
            async with run.tool("open", door=door) as call:
                await call.approve()
                call.result = door
        except runcast.Declined:
            yield f"Not the {door} one. "
        else:
            yield f"Opened the {door} one. "


async def test_one_message_goes_on_over_several_questions() -> None:
    async with serving(doors) as running, running.http() as http:
        question = user("u1", "Please")
        first = await post(http, body(question))
        whole = [first]
        for approved in (True, False):
            asks = next(chunk for chunk in whole[-1] if chunk["type"] == "tool-approval-request")
            part = {
                "type": "dynamic-tool",
                "toolName": "open",
                "toolCallId": asks["toolCallId"],
                "state": "approval-responded",
                "input": {},
                "approval": {"id": asks["approvalId"], "approved": approved, "reason": "So."},
            }
            answer = body(question, assistant(first[0]["messageId"], part), messageId=first[0]["messageId"])
            whole.append(await post(http, answer))
            assert await post(http, answer) == whole[-1]  # told again, not done again
        assert {chunks[0]["messageId"] for chunks in whole} == {first[0]["messageId"]}
        assert said([chunk for chunks in whole for chunk in chunks]) == "Opened the left one. Not the right one. "
        assert [chunk["type"] for chunk in whole[2] if chunk["type"].startswith("tool-output")] == [
            "tool-output-denied"
        ]
        assert [run["status"] for run in await runs_of(http, first)] == ["done", "done", "done"]
        replay = chunks_of((await http.get("/api/chat/c1/stream?ended=true")).text)
        assert said(replay) == "Opened the left one. Not the right one. "
        assert [chunk["type"] for chunk in replay].count("start") == 1


async def test_a_message_instead_of_an_answer_withdraws_the_question() -> None:
    async with serving(doors) as running, running.http() as http:
        asked = await post(http, body(user("u1", "Delete them")))
        message = assistant(asked[0]["messageId"], text("Which?"))
        with anyio.fail_after(DEADLINE_S):
            told = await post(http, body(user("u1", "Delete them"), message, user("u2", "Wait")))
        assert told[0]["messageId"] != message["id"]
        assert [run["status"] for run in await runs_of(http, asked)] == ["cancelled", "waiting"]
        states = [part["state"] for part in (await loaded(http))[1]["parts"] if part["type"] == "dynamic-tool"]
        assert "approval-requested" not in states


async def test_a_foreign_approval_answers_nothing() -> None:
    async with serving(doors) as running, running.http() as http:
        first = await post(http, body(user("u1", "Please")))
        part = {"type": "dynamic-tool", "toolCallId": "x", "state": "approval-responded", "approval": {"id": "nope.1"}}
        response = await post(http, body(user("u1", "Please"), assistant(first[0]["messageId"], part)))
        assert response[0]["messageId"] == first[0]["messageId"]
        assert [run["status"] for run in await runs_of(http, first)] == ["waiting"]


@runcast.agent(name="phone")
async def phone(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Asks the page where it is."""
    if run.tool_results:
        yield f"You are in {run.tool_results[0].content}."
    else:
        yield "Where are you? "
        await run.call_client_tool("place", precise=True)


async def test_a_tool_in_the_page_brings_its_result() -> None:
    async with serving(phone) as running, running.http() as http:
        tools = {"place": {"description": "Where it is", "inputSchema": {"type": "object"}}}
        question = user("u1", "Where am I?")
        first = await post(http, body(question, tools=tools))
        call = next(chunk for chunk in first if chunk["type"] == "tool-input-available")
        assert "providerExecuted" not in call
        assert first[-1] == {"type": "finish", "finishReason": "tool-calls"}
        part = {
            "type": "dynamic-tool",
            "toolName": "place",
            "toolCallId": call["toolCallId"],
            "state": "output-available",
            "input": call["input"],
            "output": "Bern",
        }
        id = first[0]["messageId"]
        answer = body(question, assistant(id, text("Where are you? "), part), messageId=id, tools=tools)
        second = await post(http, answer)
        assert (second[0]["messageId"], said(second)) == (id, "You are in Bern.")
        assert await post(http, answer) == second
        assert len(await runs_of(http, first)) == 2


async def test_files_come_as_data_urls_and_as_addresses() -> None:
    seen: list[Any] = []

    async def look(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        seen.extend(input.attachments)
        async for event in echo(input, context):
            yield event

    async with serving(Told(look)) as running, running.http() as http:
        parts = [
            {"type": "file", "mediaType": "text/plain", "filename": "a.txt", "url": "data:text/plain,A%20file."},
            {"type": "file", "mediaType": "image/png", "url": "https://example.com/a.png"},
        ]
        given = body(user("u1", "Look", *parts))
        first = await post(http, given)
        assert await post(http, given) == first
        assert [(one.kind, one.name, one.url) for one in seen] == [
            ("document", "a.txt", None),
            ("image", "", "https://example.com/a.png"),
        ]
        assert (await http.get(f"/v1/files/{seen[0].file}")).content == b"A file."
        [question, _] = await loaded(http)
        file = {"type": "file", "mediaType": "text/plain", "url": f"/v1/files/{seen[0].file}", "filename": "a.txt"}
        assert question == {**given["messages"][0], "parts": [{"type": "text", "text": "Look"}, file, parts[1]]}
        answer = body(question, *(await loaded(http))[1:], user("u2", "And?"))
        assert len(await runs_of(http, await post(http, answer))) == 2, "what was loaded is known"
        broken = {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,***"}
        refused = await http.post("/api/chat", json=body(user("u2", "Look", broken), id="c2"))
        assert refused.status_code == 422


async def test_a_large_history_is_read() -> None:
    async with serving() as running, running.http() as http:
        one = await post(http, body(user("u1", "One")))
        part = {"type": "data-table", "data": "x" * 2_000_000}
        two = await post(http, body(user("u1", "One"), assistant(one[0]["messageId"], part), user("u2", "Two")))
        assert said(two) == "Two "


@runcast.agent(name="large")
async def large(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """A tool that returns more than the log holds of it."""
    async with run.tool("read") as call:
        call.result = "x" * 400_000
    yield "Read."


async def test_a_long_result_comes_whole() -> None:
    async with serving(large) as running, running.http() as http:
        chunks = await post(http, body(user("u1", "Read")))
        [output] = [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"]
        assert output == "x" * 400_000
        [_, message] = await loaded(http)
        assert [part["output"] for part in message["parts"] if part["type"] == "dynamic-tool"] == [output]


async def test_a_chat_is_loaded_by_its_own_user_as_far_as_it_was_answered() -> None:
    gated = Gated()
    async with serving(gated, auth="jwt", jwt_secret=SECRET) as running:
        ada, bob = ({"authorization": f"Bearer {token(name)}"} for name in ("ada", "bob"))
        async with running.http(headers=ada) as http, running.http(headers=bob) as other:
            gated.gate.set()
            await post(http, body(user("u1", "One")))
            [one, answer] = await loaded(http)
            gated.gate = anyio.Event()
            told = body(one, answer, user("u2", "Two"))
            async with http.stream("POST", "/api/chat", json=told) as response, anyio.create_task_group() as tasks:
                tasks.start_soon(response.aread)
                with anyio.fail_after(DEADLINE_S):
                    while not (given := (await http.get("/api/chat/c1/messages")).json())["active"]:
                        await anyio.sleep(0.01)
                assert [message["id"] for message in given["messages"]] == ["u1", answer["id"], "u2"]
                waiting = body(user("u3", "Three"), id="c1")
                async with http.stream("POST", "/api/chat", json=waiting):
                    assert (await http.get("/api/chat/c1/messages")).json() == given, "what waits its turn is not in it"
                gated.gate.set()
            assert await loaded(other) == []
            async with running.http() as nobody:
                assert (await nobody.get("/api/chat/c1/messages")).status_code == 401
                assert (await nobody.post("/api/chat/c1/messages")).headers["allow"] == "GET"


async def test_a_failure_is_told_and_ends() -> None:
    async def fail(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async for event in echo(input, context):
            yield event
        raise AgentError("The library is closed.", code="closed")

    async with serving(Told(fail)) as running, running.http() as http:
        chunks = await post(http, body(user("u1", "Hi")))
        assert chunks[-2:] == [
            {"type": "error", "errorText": "The library is closed."},
            {"type": "finish", "finishReason": "error"},
        ]
        [_, message] = await loaded(http)
        assert message["parts"][-1] == {k: v for k, v in chunks[-3].items() if k != "transient"}


async def test_a_stream_that_the_server_leaves_is_cut() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.http() as http:
        with pytest.raises(httpx.RemoteProtocolError), anyio.fail_after(DEADLINE_S):
            async with http.stream("POST", "/api/chat", json=body(user("u1", "Hi"))) as response:
                await agent.reached.wait()
                await running.server.gateway.stop(timeout_s=DEADLINE_S)
                await response.aread()
