"""The OpenAPI document is complete and true: schemathesis asks every route what the document says it answers."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import hypothesis
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from core import DEADLINE_S, Told, echo
from runcast import events as e
from runcast.auth import NoAuth
from runcast.ids import SystemClock, Uuid7Source
from runcast.transports.gateway import Gateway
from runcast.transports.http import build_api
from runcast.transports.mounts import Mounts
from serving import Running, serving
from transports.test_http import ask

STREAMS = "a stream has no end to compare: tests/transports/test_sse.py reads them"


class Background:
    """A server in a thread of its own: schemathesis is not async."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self.url = ""
        self.run: dict[str, Any] = {}
        self._started = threading.Event()
        self._stop: Any = None
        self._thread = threading.Thread(target=functools.partial(anyio.run, self._run))

    async def _run(self) -> None:
        self._stop = anyio.Event()
        async with serving(Told(echo, "echo")) as self.running:
            async with self.running.http() as http:
                self.run = await ask(http, "seed")
            self.url = self.running.url
            self._started.set()
            while not self._stop.is_set():
                await anyio.sleep(0.05)

    def __enter__(self) -> Background:
        self._thread.start()
        assert self._started.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


def described() -> dict[str, Any]:
    """The document, made without a running server: so that each operation is a test of its own."""
    clock = SystemClock()
    gateway = Gateway(authenticator=NoAuth(), clock=clock, new_id=Uuid7Source(clock))
    return build_api(gateway, Mounts(gateway, {}).described).openapi()


OPERATIONS = [(path, method) for path, item in described()["paths"].items() for method in item]

LEFT_OUT = ("positive_data_acceptance",)
"""`positive_data_acceptance`: a random id names nothing, so that valid data is rightly answered with 404."""


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_documented(background: Background, path: str, method: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(described())
    schema.config.update(base_url=background.url)
    operation = schema[path][method.upper()]
    checks = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]

    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask_and_compare(case: schemathesis.Case) -> None:
        case.headers.pop("Accept", None)
        case.headers["accept"] = "application/json"  # streams are left out: see STREAMS
        for name in ("wait", "live"):  # nothing is to be waited for
            case.query.pop(name, None)
        for name, known in (("thread", background.run["thread"]), ("run", background.run["id"])):
            if name in case.path_parameters and len(str(case.path_parameters[name])) % 2 and method != "delete":
                case.path_parameters[name] = known
        case.call_and_validate(checks=checks)

    try:
        ask_and_compare()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation without input has no wrong input


@pytest.fixture
async def document() -> AsyncIterator[tuple[dict[str, Any], httpx.AsyncClient]]:
    async with serving() as running, running.http() as http:
        yield (await http.get("/v1/openapi.json")).json(), http


@pytest.mark.anyio
async def test_every_route_is_there_with_its_problems(document: tuple[dict[str, Any], httpx.AsyncClient]) -> None:
    paths = document[0]["paths"]
    assert {(method.upper(), path) for path, item in paths.items() for method in item} == {
        ("GET", "/healthz"),
        ("GET", "/v1/me/export"),
        ("DELETE", "/v1/me/data"),
        ("GET", "/readyz"),
        ("GET", "/v1/threads"),
        ("POST", "/v1/threads"),
        ("GET", "/v1/threads/{thread}"),
        ("PATCH", "/v1/threads/{thread}"),
        ("DELETE", "/v1/threads/{thread}"),
        ("POST", "/v1/threads/{thread}/messages"),
        ("GET", "/v1/threads/{thread}/events"),
        ("POST", "/v1/messages"),
        ("GET", "/v1/runs/{run}"),
        ("GET", "/v1/runs/{run}/events"),
        ("POST", "/v1/runs/{run}/cancel"),
        ("POST", "/v1/runs/{run}/edit"),
        ("POST", "/v1/runs/{run}/retry"),
        ("POST", "/v1/runs/{run}/steer"),
        ("POST", "/v1/interrupts/{interrupt}"),
        ("GET", "/v1/agents"),
        ("GET", "/v1/inbox/events"),
        ("GET", "/v1/stream/threads/{thread}"),
        ("GET", "/v1/stream/runs/{run}"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/{file}"),
        ("POST", "/ag-ui/{agent}"),
        ("GET", "/ag-ui/{agent}"),
        ("POST", "/ag-ui/{agent}/cancel"),
        ("POST", "/api/chat"),
        ("GET", "/api/chat/{chat_id}/stream"),
        ("GET", "/api/chat/{chat_id}/messages"),
        ("POST", "/api/chat/{chat_id}/stop"),
    }
    for path, item in paths.items():
        for method, operation in item.items():
            problem = operation["responses"]["500"]["content"]["application/problem+json"]
            assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
            # The dialects' own ids are their keys.
            assert method != "post" or not path.startswith("/v1/") or "Idempotency-Key" in str(operation), path


@pytest.mark.anyio
async def test_what_is_mounted_elsewhere_is_described_there() -> None:
    async with serving(dialects={"/chats": "ai-sdk", "/api/chat": "off", "/agents": "ag-ui"}) as running:
        async with running.http() as http:
            paths = (await http.get("/v1/openapi.json")).json()["paths"]
    assert {"/chats", "/chats/{chat_id}/messages", "/agents/{agent}", "/agents/{agent}/cancel"} <= set(paths)
    assert not [path for path in paths if path.startswith("/api/")]


@pytest.mark.anyio
async def test_every_event_type_is_described(document: tuple[dict[str, Any], httpx.AsyncClient]) -> None:
    schemas = document[0]["components"]["schemas"]
    described = {ref["$ref"].rsplit("/", 1)[1] for ref in schemas["Event"]["anyOf"]} - {"UnknownEvent"}
    assert described == {kind.__name__ for kind in (*e.AGUI, *e.OWN) if kind not in e.NEVER_LOGGED}
    assert described <= set(schemas)


@pytest.mark.anyio
async def test_what_is_really_answered_fits(document: tuple[dict[str, Any], httpx.AsyncClient]) -> None:
    described, http = document
    run = await ask(http)
    for url, name in (
        (f"/v1/threads/{run['thread']}", "ThreadView"),
        (f"/v1/threads/{run['thread']}/events", "EventList"),
        (f"/v1/runs/{run['id']}", "RunAnswer"),
        ("/v1/threads", "ThreadList"),
        ("/v1/agents", "AgentList"),
    ):
        wanted = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema.validate((await http.get(url)).json(), wanted)


@pytest.mark.anyio
async def test_a_durable_stream_is_described_with_its_ways_of_reading(
    document: tuple[dict[str, Any], httpx.AsyncClient],
) -> None:
    described, http = document
    run = await ask(http)
    for kind, id in (("thread", run["thread"]), ("run", run["id"])):
        operation = described["paths"][f"/v1/stream/{kind}s/{{{kind}}}"]["get"]
        asked = {one["name"]: one["schema"] for one in operation["parameters"] if one["in"] == "query"}
        assert set(asked) == {"offset", "live", "cursor"}
        assert asked["live"]["enum"] == ["long-poll", "sse"]
        page = operation["responses"]["200"]
        assert set(page["content"]) == {"application/json", "text/event-stream"}
        answer = await http.get(f"/v1/stream/{kind}s/{id}")
        wanted = {**page["content"]["application/json"]["schema"], "components": described["components"]}
        jsonschema.validate(answer.json(), wanted)
        given = {name.lower() for name in page["headers"]}
        assert {name for name in answer.headers if name.startswith("stream-")} <= given
        offset = answer.headers["stream-next-offset"]
        jsonschema.validate(offset, asked["offset"])
        jsonschema.validate("-1", asked["offset"])
        assert {"204", "304", "410"} <= set(operation["responses"])


@pytest.mark.anyio
async def test_no_page_that_loads_from_elsewhere() -> None:
    async with serving() as running, running.http() as http:
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await http.get(path)).status_code == 404
