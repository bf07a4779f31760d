"""The native WebSocket over a real server and a real client."""

from __future__ import annotations

import itertools
import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import websockets
from websockets.typing import Subprotocol

from core import DEADLINE_S, Gated, Told, echo
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.auth import Credentials, Identity
from runcast.errors import Unauthenticated
from runcast.events import Event
from runcast.ids import SystemClock
from runcast.runs import Principal, RunInput
from serving import NativeClient, Running, said, serving

pytestmark = pytest.mark.anyio
numbers = itertools.count()


async def new_thread(client: NativeClient, text: str = "one two three") -> str:
    """A thread with one finished run."""
    ack = await client.ask("send", message={"id": f"m-{next(numbers)}", "content": text})
    sub = (await client.ask("subscribe", thread=ack["thread"], after=0))["sub"]
    await client.run_to_end(sub)
    await client.ask("unsubscribe", sub=sub)
    return ack["thread"]


# --- the handshake ------------------------------------------------------------------------------------------------


async def test_hello_is_answered_by_welcome() -> None:
    async with serving() as running, running.client() as client:
        assert client.welcome["user"] == "local"
        assert client.welcome["heartbeatMs"] == 15000
        assert client.welcome["maxFrameBytes"] == 65536
        assert client.socket.subprotocol == "runcast.v1"


@pytest.mark.parametrize("offered", [None, [Subprotocol("bearer.abc"), Subprotocol("runcast.v1")]])
async def test_only_our_subprotocol_is_echoed(offered: list[Subprotocol] | None) -> None:
    async with serving() as running, running.client(subprotocols=offered) as client:
        assert client.socket.subprotocol == ("runcast.v1" if offered else None)


async def test_unknown_version_is_accepted_then_closed() -> None:
    async with serving() as running, running.socket(subprotocols=[Subprotocol("runcast.v9")]) as raw:
        assert raw.subprotocol is None
        assert await NativeClient(raw).close_code() == 4005


async def test_first_frame_must_be_hello() -> None:
    async with serving() as running, running.socket() as raw:
        client = NativeClient(raw)
        await client.say({"op": "ping"})
        assert await client.close_code() == 4000
        assert client.heard == []


async def test_no_hello_in_time_is_closed() -> None:
    clock = SystemClock()
    skew = 0.0
    real = clock.monotonic
    clock.monotonic = lambda: real() + skew  # type: ignore[method-assign]
    async with serving(clock=clock) as running:
        skew = 0.0
        started = clock.monotonic()
        async with running.socket() as raw:
            # The session's own clock jumps; the waiting for it is real, so wake it through a drain that says nothing yet.
            skew = 11.0
            running.server.gateway.drain()
            assert await NativeClient(raw).close_code() == 4004
        assert clock.monotonic() - started < 30


async def test_unknown_path_is_not_found() -> None:
    async with serving() as running:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with running.socket("/v1/wss"):
                pass
        assert caught.value.response.status_code == 404


# --- reading ------------------------------------------------------------------------------------------------------


async def test_subscribe_without_cursor_gives_snapshot_then_tail() -> None:
    async with serving() as running, running.client() as client:
        thread = await new_thread(client)
        client.heard.clear()
        ack = await client.ask("subscribe", thread=thread)
        await client.until(lambda frame: frame["op"] == "caught_up")
        ops = [frame["op"] for frame in client.heard]
        assert ops == ["ack", "snapshot", "caught_up"]
        snapshot = client.heard[1]
        assert snapshot["seq"] == ack["head"] == client.heard[2]["seq"]
        assert snapshot["epoch"] == ack["epoch"]
        assert snapshot["thread"]["id"] == thread
        assert snapshot["transcript"]["seq"] == snapshot["seq"]


async def test_resume_gives_exactly_what_follows() -> None:
    """I7: no event twice, none missing."""
    async with serving() as running, running.client() as client:
        thread = await new_thread(client)
        first = await client.ask("subscribe", thread=thread, after=0)
        await client.until(lambda frame: frame["op"] == "caught_up" and frame["sub"] == first["sub"])
        whole = client.events(first["sub"])
        assert whole[0]["seq"] == 1
        for after in range(first["head"] + 1):
            ack = await client.ask("subscribe", thread=thread, after=after, epoch=first["epoch"])
            assert ack["from"] == after
            await client.until(lambda frame, sub=ack["sub"]: frame["op"] == "caught_up" and frame["sub"] == sub)
            last = after
            for event in client.events(ack["sub"]):
                assert event.get("from", event["seq"]) == last + 1
                last = event["seq"]
            assert last == first["head"]


@pytest.mark.parametrize(("fields", "reason"), [({"epoch": "other", "after": 1}, "epoch"), ({"after": 10**9}, "ahead")])
async def test_foreign_cursor_is_told_never_skipped(fields: dict[str, Any], reason: str) -> None:
    async with serving() as running, running.client() as client:
        thread = await new_thread(client)
        client.heard.clear()
        ack = await client.ask("subscribe", thread=thread, **fields)
        await client.until(lambda frame: frame["op"] == "caught_up")
        assert [frame["op"] for frame in client.heard] == ["ack", "resync", "snapshot", "caught_up"]
        assert client.heard[1] == {"op": "resync", "sub": ack["sub"], "reason": reason}


async def test_events_go_to_every_subscription_of_every_connection() -> None:
    async with serving() as running, running.client() as one, running.client() as two:
        thread = await new_thread(one)
        subs = [(one, await one.ask("subscribe", thread=thread)), (one, await one.ask("subscribe", thread=thread))]
        subs.append((two, await two.ask("subscribe", thread=thread)))
        await two.ask("send", thread=thread, message={"id": "next", "content": "a b c"})
        for client, ack in subs:
            events = await client.run_to_end(ack["sub"])
            assert said(events) == "a b c "
        assert subs[0][1]["sub"] != subs[1][1]["sub"]


async def test_end_events_are_slim_live_and_whole_after_joining() -> None:
    agent = Gated("before ", "after")
    async with serving(agent) as running, running.client() as early, running.client() as late:
        sent = await early.ask("send", message={"id": "m", "content": "go"})
        ack = await early.ask("subscribe", thread=sent["thread"], after=0)
        await agent.reached.wait()
        head = (await early.until(lambda frame: frame["op"] == "caught_up"))["seq"]
        joined = await late.ask("subscribe", thread=sent["thread"], after=head)
        agent.gate.set()
        ends = [
            next(event for event in await client.run_to_end(sub) if event["type"] == "TEXT_MESSAGE_END")
            for client, sub in ((early, ack["sub"]), (late, joined["sub"]))
        ]
        assert "text" not in ends[0]
        assert ends[1]["text"] == "before after"


async def test_unsubscribe_is_final() -> None:
    agent = Gated()
    async with serving(agent) as running, running.client() as client:
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        ack = await client.ask("subscribe", thread=sent["thread"], after=0)
        await agent.reached.wait()
        watching = await client.ask("subscribe", thread=sent["thread"], after=0)
        answer = await client.ask("unsubscribe", sub=ack["sub"])
        assert answer["op"] == "ack"
        known = len(client.events(ack["sub"]))
        agent.gate.set()
        await client.run_to_end(watching["sub"])
        assert len(client.events(ack["sub"])) == known
        assert (await client.ask("unsubscribe", sub=ack["sub"]))["code"] == "not_found"


async def test_inbox_tells_of_runs_elsewhere() -> None:
    async with serving() as running, running.client() as client:
        ack = await client.ask("subscribe", inbox=True)
        assert ack["op"] == "ack"
        await client.until(lambda frame: frame["op"] == "caught_up")
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        await client.until(
            lambda frame: (
                frame["op"] == "events" and any(event.get("threadId") == sent["thread"] for event in frame["events"])
            )
        )


async def test_deleted_thread_ends_its_subscriptions() -> None:
    async with serving() as running, running.client() as client, running.http() as http:
        thread = await new_thread(client)
        ack = await client.ask("subscribe", thread=thread, after=0)
        await client.until(lambda frame: frame["op"] == "caught_up" and frame["sub"] == ack["sub"])
        assert (await http.delete(f"/v1/threads/{thread}")).status_code == 204
        frame = await client.until(lambda frame: frame["op"] == "resync")
        assert frame == {"op": "resync", "sub": ack["sub"], "reason": "deleted"}
        assert (await client.ask("subscribe", thread=thread))["code"] == "not_found"


# --- commands -----------------------------------------------------------------------------------------------------


async def test_every_id_gets_exactly_one_answer() -> None:
    agent = Gated()
    async with serving(agent) as running, running.client() as client:
        await client.say({"op": "send", "id": "1", "message": {"id": "m", "content": "go"}})
        await client.say({"op": "subscribe", "id": "2", "thread": "nowhere"})
        await client.say({"op": "cancel", "id": "3", "run": "nowhere"})
        await client.say({"op": "resolve", "id": "4", "interrupt": "nowhere"})
        await client.say({"op": "steer", "id": "5", "run": "r", "message": {"id": "x", "content": "y"}})
        await client.say({"op": "unsubscribe", "id": "6", "sub": 77})
        await client.say({"op": "auth", "id": "7", "token": "t"})
        await client.say({"op": "edit", "id": "10", "run": "r", "message": {"id": "x", "content": "y"}})
        await client.say({"op": "retry", "id": "11", "run": "r"})
        await client.say({"op": "dance", "id": "8"})
        await client.say({"op": "send", "id": "9"})
        await client.say({"op": "ping", "t": "last"})
        await client.until(lambda frame: frame["op"] == "pong")
        answers = {frame["id"]: frame["op"] for frame in client.heard if "id" in frame}
        assert answers == {
            "1": "ack", "2": "error", "3": "error", "4": "error", "5": "error", "6": "error", "7": "ack", "8": "error", "9": "error",
            "10": "error", "11": "error",
        }  # fmt: skip
        assert len([frame for frame in client.heard if "id" in frame]) == len(answers)


async def test_send_twice_has_one_effect() -> None:
    """I5."""
    async with serving() as running, running.client() as one, running.client() as two:
        message = {"id": "same", "content": "hello"}
        first = await one.ask("send", message=message)
        second = await two.ask("send", id="other-command-id", message=message)
        assert (second["run"], second["thread"]) == (first["run"], first["thread"])
        assert second["replayed"] is True
        conflict = await two.ask("send", message={"id": "same", "content": "something else"})
        assert conflict["code"] == "idempotency_conflict"


async def test_edit_retry_and_steer_twice_have_one_effect() -> None:
    """I5."""
    async with serving() as running, running.client() as one, running.client() as two:
        sent = await one.ask("send", message={"id": "m", "content": "hello"})
        await one.ask("subscribe", thread=sent["thread"], after=0)
        await one.run_to_end()
        for op, fields in (
            ("edit", {"message": {"id": "m2", "content": "hallo"}}),
            ("retry", {}),
            ("steer", {"message": {"id": "m3", "content": "salut"}}),
        ):
            first = await one.ask(op, id=f"{op}-1", run=sent["run"], **fields)
            again = await two.ask(op, id=f"{op}-1", run=sent["run"], **fields)
            assert (again["run"], again["seq"], again["replayed"]) == (first["run"], first["seq"], True)
            assert first["run"] != sent["run"] and first["thread"] == sent["thread"]
            conflict = await two.ask("retry", id=f"{op}-1", run=first["run"])
            assert conflict["code"] == "idempotency_conflict"


async def test_cancel_stops_the_agent() -> None:
    """I19."""
    agent = Gated()
    async with serving(agent) as running, running.client() as client:
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        await client.ask("subscribe", thread=sent["thread"], after=0)
        await agent.reached.wait()
        ack = await client.ask("cancel", run=sent["run"], reason="enough")
        assert (ack["op"], ack["run"]) == ("ack", sent["run"])
        events = await client.run_to_end()
        assert events[-1]["outcome"]["type"] == "cancelled"
        assert agent.cancelled


async def test_a_disconnect_does_not_cancel() -> None:
    agent = Gated()
    async with serving(agent) as running:
        async with running.client() as client:
            sent = await client.ask("send", message={"id": "m", "content": "go"})
            await client.ask("subscribe", thread=sent["thread"], after=0)
            await agent.reached.wait()
        agent.gate.set()
        async with running.client() as client:
            ack = await client.ask("subscribe", thread=sent["thread"], after=0)
            assert said(await client.run_to_end(ack["sub"])) == "before after"
        assert not agent.cancelled


class Tokens:
    """Knows who presents which token."""

    is_open = False

    async def authenticate(self, credentials: Credentials) -> Identity:
        if credentials.token is None and "x-user" in credentials.headers:
            return Identity(Principal(credentials.headers["x-user"]))
        if credentials.token not in ("ada", "eve"):
            raise Unauthenticated("No such token.")
        return Identity(Principal(credentials.token))


async def test_not_yours_and_not_there_are_the_same_bytes() -> None:
    async with serving(authenticator=Tokens()) as running, running.socket() as a, running.socket() as b:
        ada, eve = NativeClient(a), NativeClient(b)
        for client, name in ((ada, "ada"), (eve, "eve")):
            await client.say({"op": "hello", "token": name})
            assert (await client.hear())["user"] == name
        sent = await ada.ask("send", message={"id": "m", "content": "secret"})
        for op, field in (("subscribe", "thread"), ("cancel", "run"), ("cancel", "thread")):
            answers = [await eve.ask(op, **{field: id}) for id in (sent[field], "01a1fa7b-ab34-7183-bd3c-000000000000")]
            for answer in answers:
                assert answer["code"] == "not_found"
                del answer["id"], answer["requestId"]
            assert json.dumps(answers[0]) == json.dumps(answers[1])


async def test_bad_token_is_accepted_then_closed_4001() -> None:
    async with serving(authenticator=Tokens()) as running, running.socket() as raw:
        client = NativeClient(raw)
        await client.say({"op": "hello", "token": "wrong"})
        assert await client.close_code() == 4001
        assert client.heard == []


async def test_another_users_token_ends_the_connection() -> None:
    async with serving(authenticator=Tokens()) as running, running.socket() as raw:
        client = NativeClient(raw)
        await client.say({"op": "hello", "token": "ada"})
        await client.hear()
        assert (await client.ask("auth", token="ada"))["op"] == "ack"
        await client.say({"op": "auth", "id": "x", "token": "eve"})
        assert await client.close_code() == 4001


# --- bad frames ---------------------------------------------------------------------------------------------------


async def test_three_unreadable_frames_close_4000() -> None:
    async with serving() as running, running.client() as client:
        for bad in ("{", b"\x00\x01", "[" * 1000):
            await client.say(bad)
        assert await client.close_code() == 4000
        assert [frame["op"] for frame in client.heard[1:]] == ["error"] * 3


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024 + 1])
async def test_too_big_a_frame_closes_1009(size: int) -> None:
    async with serving() as running, running.client() as client:
        await client.say("x" * size)
        assert await client.close_code() == 1009


async def test_a_fragmented_frame_counts_whole() -> None:
    async with serving() as running, running.client() as client:
        await client.socket.send(["x" * 1000 for _ in range(70)])
        assert await client.close_code() == 1009


async def test_deflate_is_not_negotiated() -> None:
    async with serving() as running, running.client(compression="deflate") as client:
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers  # type: ignore[union-attr]


async def test_a_broken_service_is_an_internal_error_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as running, running.client() as client:

        async def broken(*args: object) -> None:
            raise RuntimeError("canary")

        monkeypatch.setattr(running.server.gateway.service, "send", broken)
        answer = await client.ask("send", message={"id": "m", "content": "x"})
        assert answer["code"] == "internal"
        assert "canary" not in json.dumps(answer)
        await client.say({"op": "ping"})
        await client.until(lambda frame: frame["op"] == "pong")


# --- time and slow readers ----------------------------------------------------------------------------------------


async def test_stop_tells_then_closes_1012() -> None:
    agent = Gated()
    async with serving(agent, drain_timeout_s=DEADLINE_S) as running, running.client() as client:
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        await client.ask("subscribe", thread=sent["thread"], after=0)
        await agent.reached.wait()
        running.process.should_exit = True
        frame = await client.until(lambda frame: frame["op"] == "drain")
        assert frame["retryMs"] == [500, 8000]
        refused = await client.ask("send", message={"id": "m2", "content": "more"})
        assert refused["code"] == "unavailable"
        agent.gate.set()
        assert await client.close_code() == 1012
        assert said(client.events()) == "before after"


async def test_stop_ends_what_does_not_finish_in_time_as_interrupted() -> None:
    agent = Gated()
    async with serving(agent, drain_timeout_s=0.1) as running, running.client() as client:
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        await client.ask("subscribe", thread=sent["thread"], after=0)
        await agent.reached.wait()
        running.process.should_exit = True
        assert await client.close_code() == 1012
        assert client.events()[-1]["type"] == "RUN_ERROR"
        assert client.events()[-1]["code"] == "interrupted"


CHUNK = "x" * 10_000


async def flood(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    """10 MB in 1000 pieces."""
    message = context.new_id()
    yield e.TextMessageStart(message_id=message)
    for _ in range(1000):
        yield e.TextMessageContent(message_id=message, delta=CHUNK)
    yield e.TextMessageEnd(message_id=message)


async def stuck_reader(running: Running, thread: str) -> socket.socket:
    """A client that subscribes and then never reads again."""
    raw = socket.create_connection(("127.0.0.1", running.port))
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri

    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{running.port}/v1/ws"))
    protocol.send_request(protocol.connect())
    raw.sendall(b"".join(protocol.data_to_send()))
    await anyio.wait_readable(raw)
    protocol.receive_data(raw.recv(4096))
    protocol.send_text(b'{"op":"hello"}')
    protocol.send_text(json.dumps({"op": "subscribe", "id": "s", "thread": thread, "after": 0}).encode())
    raw.sendall(b"".join(protocol.data_to_send()))
    return raw


@pytest.mark.slow
async def test_stuck_readers_cost_little_and_hurt_nobody(tmp_path: Path) -> None:
    """I8, I10, I11: what they do not read is not kept for them; others get everything at once."""
    store = str(tmp_path / "log.db")
    async with serving(Told(echo, "echo"), Told(flood, "flood"), store=store) as running, running.client() as client:

        async def read_flood(thread: str) -> int:
            """How far this process has grown beyond its largest so far, in KiB: server, store and this client together."""
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            ack = await client.ask("subscribe", thread=thread)
            await client.ask("send", thread=thread, agent="flood", message={"id": f"f-{thread}", "content": "go"})
            assert len(said(await client.run_to_end(ack["sub"]))) == 10_000_000
            await client.ask("unsubscribe", sub=ack["sub"])
            client.heard.clear()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

        await read_flood(await new_thread(client))
        alone_kib = await read_flood(await new_thread(client))  # what it costs without them
        thread = await new_thread(client)
        stuck = [await stuck_reader(running, thread) for _ in range(20)]
        try:
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections < 21:
                    await anyio.sleep(0.01)
            assert await read_flood(thread) - alone_kib < 80_000  # twenty copies of 10 MB would be 200 000 and more
        finally:
            for raw in stuck:
                raw.close()


async def test_a_reader_that_makes_no_progress_is_let_go() -> None:
    async with serving(Told(flood, "flood"), send_timeout_s=0.5) as running, running.client() as client:
        sent = await client.ask("send", message={"id": "flood", "content": "go"})
        raw = await stuck_reader(running, sent["thread"])
        with anyio.fail_after(DEADLINE_S * 3):
            while running.server.gateway.connections < 2:
                await anyio.sleep(0.01)
            while running.server.gateway.connections > 1:
                await anyio.sleep(0.01)
        raw.close()


async def test_heads_come_when_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from runcast.session import SessionLimits
    from runcast.transports.websocket import NativeSocket

    async with serving() as running:
        socket_app = NativeSocket(running.server.gateway, SessionLimits(heartbeat_s=0.05))
        monkeypatch.setattr(running.server, "_native", socket_app)  # pyright: ignore[reportPrivateUsage]
        async with running.client() as client:
            thread = await new_thread(client)
            ack = await client.ask("subscribe", thread=thread)
            frame = await client.until(lambda frame: frame["op"] == "heartbeat" and frame["heads"] != {})
            assert frame["heads"] == {str(ack["sub"]): ack["head"]}


class Named:
    """Lets everybody in who says a name."""

    is_open = False

    async def authenticate(self, credentials: Credentials) -> Identity:
        return Identity(Principal(credentials.token or credentials.headers.get("x-name") or "nobody"))


async def test_a_user_has_so_many_connections_and_no_more() -> None:
    async with serving(authenticator=Named(), connections_per_user=2) as running:

        async def come(name: str, stack: AsyncExitStack) -> NativeClient:
            client = NativeClient(await stack.enter_async_context(running.socket()))
            await client.say({"op": "hello", "token": name})
            return client

        async with AsyncExitStack() as stack:
            first, second, third = [await come("ada", stack) for _ in range(3)]
            assert (await first.hear())["op"] == (await second.hear())["op"] == "welcome"
            assert await third.close_code() == 4009
            other = await come("bob", stack)
            assert (await other.hear())["op"] == "welcome"
            await first.socket.close()
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections > 2:
                    await anyio.sleep(0.01)
            assert (await (await come("ada", stack)).hear())["op"] == "welcome"


async def test_requests_that_wait_count_as_connections() -> None:
    async with serving(authenticator=Named(), connections_per_user=2) as running, AsyncExitStack() as stack:
        http = await stack.enter_async_context(running.http(headers={"x-name": "ada"}))
        sent = (await http.post("/v1/messages", params={"wait": 10}, json={"message": "hi"})).json()
        stream = f"/v1/stream/threads/{sent['thread']}"
        poll = {"offset": "now", "live": "long-poll"}
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(partial(http.get, stream, params=poll, timeout=60))
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections < 2:
                    await anyio.sleep(0.01)
            refused = await http.get(stream, params=poll)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
            async with running.http(headers={"x-name": "bob"}) as other:
                assert (await other.get("/v1/inbox/events", params={"wait": 0.1})).status_code == 200
            assert (await http.get(stream)).status_code == 200, "what does not wait is answered"
            tasks.cancel_scope.cancel()


async def test_event_streams_count_as_connections() -> None:
    async with serving(authenticator=Named(), connections_per_user=2) as running, AsyncExitStack() as stack:
        gateway = running.server.gateway
        http = await stack.enter_async_context(running.http(headers={"x-name": "ada"}))
        socket = NativeClient(await stack.enter_async_context(running.socket()))
        await socket.say({"op": "hello", "token": "ada"})
        await socket.hear()
        stream = {"accept": "text/event-stream"}
        async with http.stream("GET", "/v1/inbox/events", headers=stream) as first:
            assert first.status_code == 200
            refused = await http.get("/v1/inbox/events", headers=stream)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
            assert refused.headers["retry-after"] == "5"
            post = await http.post("/v1/messages", headers={**stream, "idempotency-key": "c1"}, json={"message": "hi"})
            assert post.json()["code"] == "too_many_connections"
            assert (await http.get("/v1/threads")).json()["threads"] == [], "nothing was sent"
            assert (await http.get("/v1/inbox/events", params={"wait": 0})).status_code == 200
            third = NativeClient(await stack.enter_async_context(running.socket()))
            await third.say({"op": "hello", "token": "ada"})
            assert await third.close_code() == 4009
        with anyio.fail_after(DEADLINE_S):
            while gateway.connections > 1:
                await anyio.sleep(0.01)
        missing = await http.get("/v1/threads/nope/events", headers=stream)
        assert missing.status_code == 404
        async with http.stream("POST", "/v1/messages", headers=stream, json={"message": "hi"}) as sent:
            assert sent.status_code == 200
            run = sent.headers["runcast-run"]
            async for _ in sent.aiter_raw():
                pass
        last = (await http.get(f"/v1/runs/{run}")).json()["lastSeq"]
        over = await http.get(f"/v1/runs/{run}/events", params={"after": last}, headers=stream)
        assert over.status_code == 204
        async with http.stream("GET", "/v1/inbox/events", headers=stream) as again:
            assert again.status_code == 200


async def test_a_revoked_user_is_sent_away_at_once() -> None:
    async with serving(authenticator=Named()) as running, running.socket() as one, running.socket() as two:
        ada, bob = NativeClient(one), NativeClient(two)
        await ada.say({"op": "hello", "token": "ada"})
        await bob.say({"op": "hello", "token": "bob"})
        await ada.hear()
        await bob.hear()
        running.server.gateway.revoke(Principal("ada"))
        assert await ada.close_code() == 4010
        await bob.say({"op": "ping", "t": 1})
        assert (await bob.hear())["op"] == "pong"
