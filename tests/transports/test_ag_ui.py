"""AG-UI over real sockets: what a POST asks for, how one attaches, what is refused and in which words."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx
import pytest
from pydantic_ai import Agent

from ag_ui_client import Client
from agents.test_pydantic_ai import call as pydantic_call
from agents.test_pydantic_ai import model as pydantic_model
from auth.tokens import SECRET, token
from core import DEADLINE_S, Gated, Told
from runcast import agent
from runcast import events as e
from runcast.agents.asking import Question
from runcast.agents.context import RunContext
from runcast.dialects.base import Frame
from runcast.errors import AgentError, ConfigError
from runcast.runs import RunInput
from runcast.server import Server
from serving import Running, serving
from transports.test_line import until

pytestmark = pytest.mark.anyio

PATH = "/ag-ui/gated"


def user(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "role": "user", "content": text}


def asking(*messages: dict[str, Any], thread: str = "t", run: str = "run 1", **fields: Any) -> dict[str, Any]:
    """A `RunAgentInput` as the newest client sends it."""
    common = {"tools": [], "context": [], "forwardedProps": {}, "state": {}, "protocolVersion": "1.0"}
    return {"threadId": thread, "runId": run, "messages": [*messages], **common, **fields}


class Stream:
    """One response, event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.events: list[dict[str, Any]] = []
        self.client = Client()
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """The next event; None at the end of the body."""
        with anyio.fail_after(DEADLINE_S):
            async for line in self._lines:
                if line.startswith("data: "):
                    self.client.take([Frame(line[6:].encode())])
                    self.events.append(json.loads(line[6:]))
                    return self.events[-1]
        return None

    async def until(self, kind: str) -> dict[str, Any]:
        while (event := await self.next()) is not None:
            if event["type"] == kind:
                return event
        raise AssertionError(f"no {kind} in {[one['type'] for one in self.events]}")

    async def rest(self) -> Stream:
        while await self.next() is not None:
            pass
        return self

    @property
    def texts(self) -> list[str]:
        return [one["content"] for one in self.client.messages if one["role"] == "assistant" and "toolCalls" not in one]


async def whole(running: Running, body: dict[str, Any], path: str = PATH, **options: Any) -> Stream:
    async with running.http() as http, http.stream("POST", path, json=body, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        return await Stream(response).rest()


async def attached(running: Running, **params: str) -> Stream:
    async with (
        running.http() as http,
        http.stream("GET", PATH, params={"protocolVersion": "1.0", **params}) as response,
    ):
        assert response.status_code == 200, await response.aread()
        return await Stream(response).rest()


async def refused(running: Running, body: Any, path: str = PATH, **options: Any) -> tuple[int, str]:
    async with running.http() as http:
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        response = await http.post(path, headers=headers, **given, **options)
    said = response.json()
    assert isinstance(said["detail"], str)
    assert said["detail"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, said["code"]


def opened(*agents: Any, **options: Any) -> Any:
    gated = Gated()
    gated.gate.set()
    return serving(*(agents or (gated,)), **options)


async def test_a_run_and_its_repetition() -> None:
    async with opened() as running:
        first = await whole(running, asking(user("u1", "Hi")))
        assert first.texts == ["before after"]
        assert [one["type"] for one in first.events][:2] == ["RUN_STARTED", "TEXT_MESSAGE_START"]
        again = await whole(running, asking(user("u1", "Hi")))
        assert [one["type"] for one in again.events] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert again.client.messages == [user("u1", "Hi"), *first.client.messages]
        async with running.http() as http:
            [thread] = (await http.get("/v1/threads")).json()["threads"]
            runs = (await http.get(f"/v1/threads/{thread['id']}")).json()["transcript"]["runs"]
        assert len(runs) == 1


async def test_the_history_says_where_a_message_goes() -> None:
    async with opened() as running:
        first = await whole(running, asking(user("u1", "one")))
        said = [user("u1", "one"), *first.client.messages]
        await whole(running, asking(*said, user("u2", "two"), run="run 2"))
        await whole(running, asking(*said, user("u3", "three"), run="run 3"))
        async with running.http() as http:
            [thread] = (await http.get("/v1/threads")).json()["threads"]
            runs = (await http.get(f"/v1/threads/{thread['id']}")).json()["transcript"]["runs"]
        assert [one.get("parent") for one in runs] == [None, runs[0]["id"], runs[0]["id"]]
        same = await whole(running, asking(*said, run="run 4"))
        assert same.events[-1]["runId"] == "run 4", "nothing new was said: it is told how it stands"


async def test_whoever_attaches_reads_along_and_may_do_so_again() -> None:
    gated = Gated()
    async with serving(gated) as running, running.http() as http:
        async with http.stream("POST", PATH, json=asking(user("u1", "Hi"))) as response:
            asker = Stream(response)
            await asker.until("TEXT_MESSAGE_CONTENT")
            params = {"threadId": "t", "runId": "run 1", "protocolVersion": "1.0"}
            async with running.http() as other, other.stream("GET", PATH, params=params) as following:
                watcher = Stream(following)
                await watcher.until("TEXT_MESSAGE_START")
                assert watcher.texts == ["before "]
                gated.gate.set()
                await watcher.rest()
            await asker.rest()
        assert asker.texts == watcher.texts == ["before after"]
        assert watcher.events[-1]["runId"] == "run 1"
        assert (await attached(running, threadId="t")).texts == ["before after"]


async def test_a_message_waits_its_turn() -> None:
    gated = Gated()
    async with serving(gated) as running, running.http() as http:
        async with http.stream("POST", PATH, json=asking(user("u1", "Hi"))) as response:
            first = Stream(response)
            await first.until("TEXT_MESSAGE_CONTENT")
            body = asking(user("u1", "Hi"), *first.client.messages, user("u2", "And?"), run="run 2")
            async with running.http() as other, other.stream("POST", PATH, json=body) as queued:
                assert queued.status_code == 200
                second = Stream(queued)
                gated.gate.set()
                await first.rest()
                await second.rest()
        assert first.texts == second.texts == ["before after"]
        assert [second.events[at]["runId"] for at in (0, -1)] == ["run 2", "run 2"]
        assert [input.text for input in gated.inputs] == ["Hi", "And?"]


async def test_what_was_taken_back_is_told_anew() -> None:
    async def wavering(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        for id, text in (("m1", "Wrong"), ("m2", "Right")):
            yield e.TextMessageStart(message_id=id)
            yield e.TextMessageContent(message_id=id, delta=text)
            if id == "m1":
                yield e.MessageRetracted(message_ids=[id])
                continue
            yield e.TextMessageEnd(message_id=id)

    async with serving(Told(wavering, "gated")) as running:
        stream = await whole(running, asking(user("u1", "Hi")))
        assert "MESSAGES_SNAPSHOT" in [one["type"] for one in stream.events]
        assert stream.texts == ["Right"]


@agent(name="gated")
async def curious(prompt: str, run: RunContext) -> AsyncIterator[str]:
    city, plan = await run.ask_all([Question("Which city?"), Question("Which plan?", options=["small", "large"])])
    yield f"{plan} in {city}"


def entries(asked: Sequence[dict[str, Any]], *payloads: Any) -> list[dict[str, Any]]:
    return [
        {"interruptId": one["id"], "status": "resolved", "payload": payload}
        for one, payload in zip(asked, payloads, strict=False)
    ]


async def test_answers_must_cover_every_question() -> None:
    async with serving(curious) as running:
        waiting = await whole(running, asking(user("u1", "Hi")))
        asked = waiting.events[-1]["outcome"]["interrupts"]
        assert len(asked) == 2
        said = [user("u1", "Hi")]
        assert await refused(running, asking(*said, run="r2", resume=entries(asked, "Bern"))) == (
            422,
            "interrupts_open",
        )
        assert await refused(running, asking(*said, user("u2", "?"), run="r2")) == (422, "interrupts_open")
        wrong = asking(*said, run="r2", resume=entries(asked, "Bern", "huge"))
        assert await refused(running, wrong) == (422, "invalid_request")
        # The first answer was taken; who gives both again, under whatever name, goes on.
        right = asking(*said, run="r3", resume=entries(asked, "Bern", "large"))
        assert (await whole(running, right)).texts == ["large in Bern"]
        again = await whole(running, right)
        assert again.texts == ["large in Bern"]
        assert again.events[-1]["runId"] == "r3"
        late = asking(*said, run="r4", resume=entries(asked, "Bern", "small"))
        assert (await whole(running, late)).events[-1]["type"] == "RUN_FINISHED", "somebody was faster"
        assert (await attached(running, threadId="t")).events[-1]["outcome"] == {"type": "success"}


async def test_a_message_with_all_answers_cancelled_takes_the_questions_back() -> None:
    """As `useAgUiSteerAway` of assistant-ui sends it."""
    async with serving(curious) as running, running.http() as http:
        first = await whole(running, asking(user("u1", "Hi")))
        asked = first.events[-1]["outcome"]["interrupts"]
        away = [{"interruptId": one["id"], "status": "cancelled"} for one in asked]
        said = [user("u1", "Hi"), *first.client.messages, user("u2", "Wait")]
        assert await refused(running, asking(*said, run="r2", resume=away[:1])) == (422, "interrupts_open")
        second = await whole(running, asking(*said, run="r2", resume=away))
        assert second.events[0]["runId"] == second.events[-1]["runId"] == "r2"
        assert second.events[-1]["outcome"]["type"] == "interrupt", "it asks anew"
        [thread] = (await http.get("/v1/threads")).json()["threads"]
        runs = (await http.get(f"/v1/threads/{thread['id']}")).json()["transcript"]["runs"]
        assert [one["status"] for one in runs] == ["cancelled", "waiting"]
        assert runs[1]["parent"] == runs[0]["id"]
        assert (await http.post(f"{PATH}/cancel", json={"threadId": "t"})).status_code == 200
        away = [
            {**one, "interruptId": new["id"]}
            for one, new in zip(away, second.events[-1]["outcome"]["interrupts"], strict=True)
        ]
        third = await whole(running, asking(*said, *second.client.messages, user("u3", "So?"), run="r3", resume=away))
        assert third.events[-1]["outcome"]["type"] == "interrupt", "also if nothing is asked any more"


async def test_an_answer_to_what_is_not_asked_any_more_is_told_how_it_stands() -> None:
    """Clients of 1.0 forget a question at a RUN_FINISHED only, and take no message before they do."""
    fails = True

    @agent(name="gated")
    async def failing(prompt: str, run: RunContext) -> AsyncIterator[str]:
        yield await run.ask("Which city?")
        if fails:
            raise AgentError("There is no map.", code="no_map")

    async with serving(failing) as running:
        for fails in (True, False):
            common: dict[str, Any] = {"thread": f"t {fails}", "resume": None}
            asked = (await whole(running, asking(user("u1", "Hi"), **common))).events[-1]["outcome"]["interrupts"]
            common["resume"] = entries(asked, "Bern")
            first = await whole(running, asking(run="run 2", **common))
            assert first.events[-1]["type"] == ("RUN_ERROR" if fails else "RUN_FINISHED")
            common["resume"] = entries(asked, "Basel")
            late = await whole(running, asking(run="run 3", **common))
            assert [one["type"] for one in late.events][::2] == ["RUN_STARTED", "RUN_FINISHED"]
            assert "interrupts" not in late.events[-1].get("outcome", {})
            assert late.texts == ["Bern"]
            assert (await whole(running, asking(*late.client.messages, run="run 4", thread=f"t {fails}"))).events
        wrong = asking(run="run 5", thread="t False", resume=[{"interruptId": "no", "status": "resolved"}])
        assert (await refused(running, wrong))[0] == 404


async def test_a_question_is_answered_in_its_own_conversation() -> None:
    async with serving(curious) as running:
        asked = (await whole(running, asking(user("u1", "Hi")))).events[-1]["outcome"]
        resume = entries(asked["interrupts"], "Bern", "large")
        for said in ([], [user("x1", "Hello")]):
            elsewhere = {**asking(*said, run="r9", resume=resume), "threadId": "another"}
            assert (await refused(running, elsewhere))[0] in (404, 422)
        open = (await attached(running, threadId="t")).events[-1]["outcome"]["interrupts"]
        assert [one["id"] for one in open] == [one["id"] for one in asked["interrupts"]]


async def test_who_attaches_to_a_question_can_answer_it() -> None:
    async with serving(curious) as running:
        asked = (await whole(running, asking(user("u1", "Hi")))).events[-1]["outcome"]
        assert (await attached(running, threadId="t")).events[-1]["outcome"] == asked


async def test_a_run_is_stopped_by_its_name_or_its_conversations() -> None:
    for named in ({"runId": "run 1"}, {}):
        gated = Gated()
        async with serving(gated) as running, running.http() as http:
            async with http.stream("POST", PATH, json=asking(user("u1", "Hi"))) as response:
                stream = Stream(response)
                await stream.until("TEXT_MESSAGE_CONTENT")
                said = await http.post(f"{PATH}/cancel", json={"threadId": "t", **named, "reason": "Enough."})
                assert said.status_code == 200
                await stream.rest()
            assert stream.events[-1]["outcome"] == {"type": "cancelled"}
            assert stream.events[-1]["metadata"] == {"runcast": {"reason": "Enough."}}
            assert gated.cancelled
            for unknown in ({"threadId": "t", "runId": "no"}, {"threadId": "no"}):
                assert await refused(running, unknown, f"{PATH}/cancel") == (404, "not_found")


async def test_the_setting_says_how_older_clients_are_told_of_a_stop() -> None:
    gated = Gated()
    async with serving(gated, ag_ui_cancelled="error") as running, running.http() as http:
        body = asking(user("u1", "Hi"), protocolVersion=None)
        async with http.stream("POST", PATH, json=body) as response:
            stream = Stream(response)
            await stream.until("TEXT_MESSAGE_CONTENT")
            await http.post(f"{PATH}/cancel", json={"threadId": "t"})
            await stream.rest()
        assert (stream.events[-1]["type"], stream.events[-1]["code"]) == ("RUN_ERROR", "cancelled")


async def test_a_client_that_hangs_up_may_mean_stop() -> None:
    gated = Gated()
    async with serving(gated, disconnect_grace_s=0) as running:
        params = {"onDisconnect": "cancel"}
        async with (
            running.http() as http,
            http.stream("POST", PATH, json=asking(user("u", "Hi")), params=params) as response,
        ):
            await Stream(response).until("TEXT_MESSAGE_CONTENT")
        await until(lambda: gated.cancelled)


async def test_a_stopping_server_never_ends_a_stream_cleanly() -> None:
    """Either the end of the run is told, or the line is cut."""
    async with (
        serving(Gated()) as running,
        running.http() as http,
        http.stream("POST", PATH, json=asking(user("u", "Hi"))) as response,
    ):
        stream = Stream(response)
        await stream.until("TEXT_MESSAGE_CONTENT")
        running.process.should_exit = True
        try:
            await stream.rest()
        except httpx.HTTPError:
            return
        assert stream.events[-1]["type"] == "RUN_ERROR"
        assert stream.events[-1]["code"] == "interrupted"


async def test_what_is_refused_is_said_in_words() -> None:
    async with opened() as running:
        assert await refused(running, asking(user("u", "Hi")), "/ag-ui/nobody") == (404, "not_found")
        assert await refused(running, asking()) == (422, "invalid_request")
        async with running.http() as http:
            assert (await http.get(PATH)).json()["code"] == "invalid_request"
        assert await refused(running, {"threadId": "t"}) == (422, "invalid_request")
        assert await refused(running, b"{") == (400, "invalid_json")
        assert await refused(running, asking(user("u", "Hi"), run="a/b")) == (422, "invalid_request")
        assert await refused(running, asking(user("u", "Hi"), thread="")) == (422, "invalid_request")
        assert await refused(running, asking(user("u", "x" * 40_000))) == (422, "invalid_request")
        long = [
            one
            for n in range(20)
            for one in (user(f"u{n}", "x" * 30_000), {"id": f"a{n}", "role": "assistant", "content": "y"})
        ]
        assert (await whole(running, asking(*long, user("u", "Hi")))).texts == ["before after"]


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100_000)


def images(*parts: dict[str, Any], id: str = "u1") -> dict[str, Any]:
    return {"id": id, "role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}


def inline(data: bytes, mime_type: str = "image/png") -> dict[str, Any]:
    return {
        "source": {"type": "data", "value": base64.b64encode(data).decode(), "mimeType": mime_type},
        "type": "image",
    }


@agent(name="gated")
async def looking(prompt: str, run: RunContext) -> AsyncIterator[str]:
    for one in run.input.attachments:
        file = await run.file(one)
        yield f"{one.kind} {file.mime_type} {len(await file.read())} {file.name}\n"


async def test_images_in_messages_become_attachments() -> None:
    legacy = {"type": "binary", "mimeType": "image/png", "data": base64.b64encode(PNG).decode(), "filename": "a.png"}
    async with serving(looking) as running, running.http() as http:
        body = asking(images(inline(PNG), legacy))
        first = await whole(running, body)
        assert first.texts == [f"image image/png {len(PNG)} image\nimage image/png {len(PNG)} a.png\n"]
        body["messages"] += [*first.client.messages, user("u2", "And?")]
        second = await whole(running, {**body, "runId": "run 2"})
        assert second.events[-1]["type"] == "RUN_FINISHED", "the first message, with its images, is known"
        [thread] = (await http.get("/v1/threads")).json()["threads"]
        runs = (await http.get(f"/v1/threads/{thread['id']}")).json()["transcript"]["runs"]
        assert [one.get("parent") for one in runs] == [None, runs[0]["id"]]
        shown = next(
            one for one in (await attached(running, threadId="t")).events if one["type"] == "MESSAGES_SNAPSHOT"
        )
        url = shown["messages"][0]["content"][1]["source"]["value"]
        assert (await http.get(url)).content == PNG


async def test_what_is_no_image_or_too_large_is_refused_in_words() -> None:
    async with serving(looking, max_file_bytes=50_000) as running, running.http() as http:
        assert await refused(running, asking(images(inline(PNG)))) == (413, "payload_too_large")
        assert await refused(running, asking(images(inline(b"no image")))) == (422, "file_type_mismatch")
        wrong = {"type": "image", "source": {"type": "data", "value": "***", "mimeType": "image/png"}}
        assert await refused(running, asking(images(wrong))) == (422, "invalid_request")
        assert await refused(running, asking(user("u", "x" * 5_000_000))) == (413, "payload_too_large")
        for thread in (await http.get("/v1/threads")).json()["threads"]:
            assert (await http.get(f"/v1/threads/{thread['id']}")).json()["transcript"]["runs"] == []


async def test_pages_of_this_machine_may_ask() -> None:
    async with opened() as running, running.http() as http:
        asks = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
        preflight = await http.options(PATH, headers=asks)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, asks["origin"])
        foreign = {"origin": "https://example.com"}
        assert await refused(running, asking(user("u", "Hi")), headers=foreign) == (403, "origin_not_allowed")


async def test_conversations_are_each_users_own() -> None:
    gated = Gated()
    gated.gate.set()
    async with serving(gated, auth="jwt", jwt_secret=SECRET) as running:
        ada, bob = ({"authorization": f"Bearer {token(name)}"} for name in ("ada", "bob"))
        assert await refused(running, asking(user("u", "Hi"))) == (401, "unauthenticated")
        await whole(running, asking(user("u", "Hi")), headers=ada)
        async with running.http(headers=bob) as http:
            nothing = await http.get(PATH, params={"threadId": "t"})
            assert "MESSAGES_SNAPSHOT" not in nothing.text
            assert "RUN_FINISHED" in nothing.text
            assert (await http.post(f"{PATH}/cancel", json={"threadId": "t"})).status_code == 404
        own = await whole(running, asking(user("u", "Hi")), headers=bob)
        assert own.events[1]["type"] == "TEXT_MESSAGE_START", "a conversation of bob's own"


@agent(name="chat")
async def chat(prompt: str) -> str:
    return "Hi."


async def test_it_can_be_switched_off_whatever_the_agents_name() -> None:
    async with opened(chat) as running:
        assert (await whole(running, asking(user("u", "Hi")), "/ag-ui/chat")).texts == ["Hi."]
    async with opened(chat, dialects={"/ag-ui/{agent}": "off"}) as running:
        assert await refused(running, asking(user("u", "Hi")), "/ag-ui/chat") == (404, "not_found")


async def test_the_agents_can_be_put_elsewhere() -> None:
    moved = {"/ag-ui": "off", "/agents": "ag-ui?cancelled=error", "/bots/{agent}/run": "ag-ui"}
    async with opened(chat, dialects=moved) as running, running.http() as http:
        assert (await http.post("/ag-ui/chat", json=asking(user("u", "Hi")))).status_code == 404
        assert (await http.post("/ag-ui/chat/cancel", json={"threadId": "t"})).status_code == 404
        for path in ("/agents/chat", "/bots/chat/run"):
            body = asking(user("u1", "Hi"), thread=path.replace("/", "-"))
            assert (await whole(running, body, path)).texts == ["Hi."]
            assert (await http.get(path, params={"threadId": body["threadId"]})).text.count("MESSAGES_SNAPSHOT") == 1
            said = await http.post(f"{path}/cancel", json={"threadId": body["threadId"]})
            assert (said.status_code, said.json()["status"]) == (200, "done")
            refusal = await http.put(path)
            assert (refusal.status_code, refusal.headers["allow"]) == (405, "GET, POST")
            assert await refused(running, body, path, params={"onDisconnect": "x"}) == (422, "invalid_request")
    with pytest.raises(ConfigError, match="no-such"):
        Server([chat], dialects={"/agents": "ag-ui?no-such=1"})


async def test_an_agent_of_pydantic_ai_with_approvals_and_tools_of_the_page() -> None:
    """Its real package, with a model that follows a script."""
    calls = [
        [pydantic_call("delete", {"name": "b"}, "c1"), pydantic_call("delete", {"name": "c"}, "c2", 1)],
        [pydantic_call("where", {}, "c3")],
        ["You are in ", "Bern."],
    ]
    gone: list[str] = []
    served = Agent(pydantic_model(*calls), name="gated")

    @served.tool_plain(requires_approval=True)
    def delete(name: str) -> str:
        gone.append(name)
        return f"{name} is gone"

    tools = [{"name": "where", "description": "", "parameters": {"type": "object", "properties": {}}}]
    async with serving(served) as running:
        waiting = await whole(running, asking(user("u1", "Hi"), tools=tools))
        asked = waiting.events[-1]["outcome"]["interrupts"]
        said = [user("u1", "Hi"), *waiting.client.messages]
        resume = entries(asked, {"approved": True}, {"approved": False})
        left = await whole(running, asking(*said, run="r2", resume=resume, tools=tools))
        assert gone == ["b"]
        told = [one for one in left.events if one["type"].startswith("TOOL_CALL")]
        results = {one["toolCallId"]: one for one in told[:2]}
        assert {one["type"] for one in told[:2]} == {"TOOL_CALL_RESULT"}
        assert results["c1"]["content"] == "b is gone"
        assert results["c2"]["metadata"]["runcast"]["status"] == "denied"
        assert {one["toolCallId"] for one in told[2:]} == {"c3"}
        assert left.events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["c3"]}
        brought = {"id": "x", "role": "tool", "toolCallId": "c3", "content": "Bern"}
        history = [*said, *left.client.messages, brought]
        end = await whole(running, asking(*history, run="r3", tools=tools))
        assert end.texts == ["You are in Bern."]
        assert not [one for one in end.events if one["type"].startswith("TOOL_CALL")]
