"""A model's provider on a real socket: OpenAI's streaming chat completions, and endpoints that tools call.

It counts its open streams and the tools at work, so that a test can say what goes on after a Stop (I19). What it answers is
a list of steps per request; it stands still at a `Hold` until that is released or its client goes away.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn

from runcast.transports.listener import listen

DEADLINE_S = 10.0


class Hold:
    """A place where an answer stands still."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.go = anyio.Event()

    async def wait_reached(self) -> None:
        with anyio.fail_after(DEADLINE_S):
            await self.reached.wait()


class Status:
    """The request is refused."""

    def __init__(self, code: int, **headers: str) -> None:
        self.code = code
        self.headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


class Reset:
    """The connection breaks in the middle of the answer."""


class Call:
    """A piece of a tool call: the first has the name."""

    def __init__(self, name: str | None, arguments: str, id: str = "call_1") -> None:
        self.name, self.arguments, self.id = name, arguments, id


class _Broken(Exception):
    pass


Step = str | Call | Hold | Status | Reset


class Provider:
    """`answers[n]` are the steps of the n-th request; the last one serves all that follow."""

    def __init__(self, *answers: Sequence[Step], tool: Hold | None = None) -> None:
        self.answers = answers or (["Hello", " there."],)
        self.tool = tool
        """Where the tools' endpoint stands still."""
        self.requests = 0
        self.open = 0
        self.tools = 0
        self.url = ""
        self._changed = anyio.Event()

    async def quiet(self, deadline_s: float = DEADLINE_S) -> None:
        """Until no stream is open and no tool at work."""
        with anyio.fail_after(deadline_s):
            while self.open or self.tools:
                await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            if scope["path"].startswith("/tools/"):
                await self._serve_tool(send)
            else:
                await self._serve_model(json.loads(body), send)
            tasks.cancel_scope.cancel()

    async def _serve_tool(self, send: Any) -> None:
        self.tools += 1
        try:
            if self.tool is not None:
                self.tool.reached.set()
                await self.tool.go.wait()
            await self._answer(send, 200, b'"worked"')
        finally:
            self.tools -= 1
            self._change()

    async def _serve_model(self, body: dict[str, Any], send: Any) -> None:
        steps = self.answers[min(self.requests, len(self.answers) - 1)]
        self.requests += 1
        self.open += 1
        try:
            await self._stream(body, steps, send)
        finally:
            self.open -= 1
            self._change()

    async def _stream(self, body: dict[str, Any], steps: Sequence[Step], send: Any) -> None:
        begun = False
        reason = "stop"
        for step in steps:
            match step:
                case Status():
                    await self._answer(send, step.code, b'{"error":{"message":"no"}}', step.headers)
                    return
                case Hold():
                    step.reached.set()
                    await step.go.wait()
                    continue
                case Reset():
                    raise _Broken
                case Call():
                    reason = "tool_calls"
                    function: dict[str, Any] = {"arguments": step.arguments}
                    call: dict[str, Any] = {"index": 0, "function": function}
                    if step.name is not None:
                        function["name"] = step.name
                        call |= {"id": step.id, "type": "function"}
                    delta: dict[str, Any] = {"tool_calls": [call]}
                case str():
                    delta = {"role": "assistant", "content": step}
            if not begun:
                begun = True
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._put(send, body, {"index": 0, "delta": delta, "finish_reason": None})
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        await self._put(send, body, {"index": 0, "delta": {}, "finish_reason": reason}, usage=usage)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _put(self, send: Any, body: dict[str, Any], choice: dict[str, Any], **fields: Any) -> None:
        chunk = {
            "id": f"chatcmpl-{self.requests}",
            "object": "chat.completion.chunk",
            "created": 1_767_225_600,
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
            **fields,
        }
        data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def _answer(self, send: Any, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        head = [(b"content-type", b"application/json"), *headers]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def providing(provider: Provider) -> AsyncGenerator[Provider]:
    """The provider, listening."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await provider(scope, receive, send)
        except* _Broken:
            raise ConnectionResetError from None  # uvicorn then drops the connection where it stands

    config = uvicorn.Config(app, lifespan="off", log_config=None, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        provider.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_serve, lambda: server.serve(sockets=[listener]))
            with anyio.fail_after(DEADLINE_S):
                while not server.started:
                    await anyio.sleep(0.01)
            try:
                yield provider
            finally:
                server.should_exit = True


async def _serve(serve: Callable[[], Any]) -> None:
    with anyio.CancelScope(shield=True):  # also after a failed test: `should_exit` ends it
        await serve()
