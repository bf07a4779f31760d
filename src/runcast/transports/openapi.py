"""The OpenAPI document: FastAPI's, with bodies, answers and events described by our structs.

It is complete and true: every route of the API is in it, with every answer it gives. The tests hold it to that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import Struct
from starlette.responses import Response

from runcast import events as e
from runcast.runs import Thread
from runcast.service import CancelResult, ResolveResult, Sent
from runcast.transports import bodies
from runcast.transports.problems import Problem

REF: Final = "#/components/schemas/{name}"

_STRUCTS: tuple[type[Struct], ...] = (
    Problem,
    Thread,
    Sent,
    bodies.NewThread,
    bodies.ThreadChange,
    bodies.MessageToSend,
    bodies.Stop,
    bodies.Decision,
    bodies.Forget,
    bodies.Forgotten,
    bodies.ThreadList,
    bodies.ThreadView,
    bodies.EventList,
    bodies.RunAnswer,
    CancelResult,
    ResolveResult,
    bodies.AgentList,
    bodies.Health,
)

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_READING = (400, 401, 403, 404, 405, 421, 422, 429, 500, 503)
_CHANGING = (*_READING, 409, 410, 413, 415)


def answers(
    kind: type[Struct] | None,
    description: str,
    *,
    status: int = 200,
    changes: bool = False,
    streams: str | None = None,
    also: Mapping[int, tuple[type[Struct] | None, str]] | None = None,
) -> dict[str, Any]:
    """Arguments of a route decorator: what it answers. `streams` describes its server-sent events."""
    documented: dict[int | str, dict[str, Any]] = {
        code: {"description": "Problem", "content": _content(Problem, "application/problem+json")}
        for code in (_CHANGING if changes else _READING)
    }
    documented[status] = {"description": description} | ({"content": _content(kind)} if kind else {})
    for code, (other, words) in (also or {}).items():
        documented[code] = {"description": words} | ({"content": _content(other)} if other else {})
    if streams is not None:
        target = documented.setdefault(200, {"description": streams})
        target["content"] = target.get("content", {}) | {
            "text/event-stream": {"schema": {"type": "string", "description": streams}}
        }
    return {"status_code": status, "response_class": Response, "responses": documented, "response_model": None}


def body_of(kind: type[Struct], *, optional: bool = False) -> dict[str, Any]:
    """Arguments of a route decorator: what it takes."""
    return {"openapi_extra": {"requestBody": {"required": not optional, "content": _content(kind)}}}


Operations = Mapping[str, Mapping[str, Any]]
"""What one path takes, by method in lower case: OpenAPI 3.1 operation objects."""


def operation(
    tag: str,
    summary: str,
    done: str,
    *,
    names: tuple[str, ...],
    query: Mapping[str, str] = NOTHING,
    body: type[Struct] | None = None,
    answer: type[Struct] | None = None,
    empty: str | None = None,
) -> dict[str, Any]:
    """One operation of a dialect's path. `names`: the parameters in the path; `query`: those behind it, and what they mean;
    `answer`: what 200 brings as JSON, else server-sent events; `empty`: when it is 204.

    Errors are plain JSON there; `application/problem+json` says that the path is none of this dialect's."""
    problem = _content(Problem, "application/json") | _content(Problem, "application/problem+json")
    codes = _READING if body is None else _CHANGING
    given: dict[str, Any] = {str(code): {"description": "Problem", "content": problem} for code in codes}
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    given["200"] = {"description": done, "content": stream if answer is None else _content(answer)}
    if empty is not None:
        given["204"] = {"description": empty}
    segment = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[^/\x00-\x1f]+$"}
    parameters = [{"name": name, "in": "path", "required": True, "schema": segment} for name in names]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": words, "schema": {"type": "string"}}
        for name, words in query.items()
    ]
    found: dict[str, Any] = {"tags": [tag], "summary": summary, "parameters": parameters, "responses": given}
    return found if body is None else {**found, "requestBody": {"required": True, "content": _content(body)}}


def install(app: FastAPI, dialects: Callable[[], Mapping[str, Operations]], structs: Sequence[type[Struct]]) -> None:
    """Serve the document made from `app`'s routes and our structs; made once, on first use. `dialects`: what is mounted beside
    the routes, by path, and `structs` what that takes and answers."""
    document: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal document
        if document is None:
            document = build(app, dialects(), structs)
        return document

    app.openapi = openapi


def build(app: FastAPI, dialects: Mapping[str, Operations], structs: Sequence[type[Struct]]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description="Threads are ordered, durable logs of events; runs are spans of them. Errors are RFC 9457 problems.",
        routes=app.routes,
    )
    document["paths"].update(dialects)
    _, components = msgspec.json.schema_components((*_STRUCTS, *structs), ref_template=REF)
    _, event_components = msgspec.json.schema_components((*e.AGUI, *e.OWN), ref_template=REF)
    logged = [kind for kind in (*e.AGUI, *e.OWN) if kind not in e.NEVER_LOGGED]
    union = {
        "description": "One event of the log. Types that are not listed here may come from newer versions: skip them.",
        "type": "object",
        "anyOf": [{"$ref": REF.format(name=kind.__name__)} for kind in logged]
        + [{"$ref": REF.format(name="UnknownEvent")}],
    }
    unknown = {
        "title": "UnknownEvent",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}, "seq": {"type": "integer"}},
    }
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components)
    schemas.update(event_components)
    schemas["Event"] = union
    schemas["UnknownEvent"] = unknown
    schemas["EventList"]["properties"]["events"]["items"] = {"$ref": REF.format(name="Event")}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, replaced by problems
        schemas.pop(name, None)
    return document


def telemetry_off() -> dict[str, Any]:
    """FastAPI reports to OpenTelemetry by itself since 0.16x, exception texts included; whoever wants that asks for it."""
    if "telemetry" not in inspect.signature(FastAPI.__init__).parameters:
        return {}
    off = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
    return {"telemetry": off}


def _content(kind: type[Struct] | None, media_type: str = "application/json") -> dict[str, Any]:
    assert kind is not None
    return {media_type: {"schema": {"$ref": REF.format(name=kind.__name__)}}}
