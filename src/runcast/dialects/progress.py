"""The `progress` dialect: a socket per user that only watches what their agents are doing; the message goes by HTTP.

    {"event_type","tool","task_id","count","message","result","error"}      all keys, null where there is nothing to say

    agent_thinking    Processing your request...    once, when a run begins
    tool_starting     the tool's `title`, or        Running {tool}...
    tool_progress     what the tool reports; `count` is how much of it
    tool_complete     the tool's `summary`, or      Completed {tool}
    tool_error        Error in {tool}: …
    agent_done        Done!, or Stopped: …          once, the last of a run

A stream is of a thread, not of one run: a call that a person was asked about is known by its name in the run that goes on.
Text makes no frames, so a reader never lags because an agent talks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Attach, BadFrame, Frame, Options, RecordEncoder, Start
from runcast.dialects.messages import fields_of
from runcast.dialects.run_fold import BETWEEN, Call, RunFold, failure_of, questions_of, to_bytes
from runcast.events import Record

MAX_MESSAGE: Final = 10_000
"""Characters, without the spaces around it."""

EMPTY: Final = "Message is required"
THINKING: Final = "Processing your request..."
CONNECTED: Final = "Connected to real-time updates"
DONE: Final = "Done!"

_TASK_TEXTS: Final = ("description", "due_date", "priority")


class Progress:
    """No options."""

    name: str = "progress"
    attach: Attach = "tail"
    joins: bool = True
    sockets: tuple[str, ...] = ("/ws/{user_id}/chat", "/api/ws/{user_id}/chat")
    """Without a `{user_id}` a path is of whoever comes."""
    posts: tuple[str, ...] = ("/api/{user_id}/chat",)
    sessions: tuple[str, ...] = ("/api/auth/session",)
    """Where a page asks who it is."""

    def __init__(self, options: Options | None = None) -> None:
        if options:
            raise ValueError(f"it has no option {next(iter(options))!r}")

    def encoder(self, start: Start) -> ProgressEncoder:
        return ProgressEncoder()

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        """Nothing: the protocol has no word for what is not a run's."""
        return ()


class _Frames:
    """The frames of the record that was encoded last. All sockets of a user are given the same record, one after the other: its
    frames are made once. Held together with the record, so that nothing else can be taken for it."""

    def __init__(self) -> None:
        self._of: Record | None = None
        self._words: object = None
        self._frames: Sequence[Frame] = ()

    def known(self, record: Record, words: object) -> Sequence[Frame] | None:
        """`words`: what the frames say that is not in the record."""
        return self._frames if record is self._of and words == self._words else None

    def keep(self, record: Record, words: object, frames: Sequence[Frame]) -> Sequence[Frame]:
        self._of, self._words, self._frames = record, words, frames
        return frames


_frames = _Frames()


class ProgressEncoder(RecordEncoder):
    def __init__(self) -> None:
        self._runs: dict[str, RunFold] = {}
        """Runs that go on, by id."""
        self._asking: dict[str, dict[str, Call]] = {}
        """The calls without a result of runs that wait for a person, by run."""

    @property
    def started(self) -> Sequence[str]:
        """The runs that have started and not ended."""
        return [run for run, fold in self._runs.items() if fold.run is not None]

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        run = event.run_id
        if run is UNSET:
            return ()
        fold = self._runs.get(run)
        if fold is None:
            fold = self._runs[run] = RunFold()
        if isinstance(event, e.DELTAS):
            fold.apply(event)
            return ()
        if isinstance(event, e.RunStarted):
            if event.resumes is not UNSET:
                fold.calls.update(self._asking.pop(event.resumes, {}))
            fold.apply(event)
            return _once(record, "", lambda: [line("agent_thinking", THINKING)])
        if isinstance(event, e.ToolCallResult) and fold.call(event.tool_call_id).over:
            return ()  # one call has one end
        fold.apply(event)
        match event:
            case e.ToolCallStart():
                call = fold.calls[event.tool_call_id]
                return _once(record, "", lambda: [starting(call)])
            case e.ToolCallProgress():
                call = fold.call(event.tool_call_id)
                return _once(record, (call.name, call.title), lambda: [reported(call, event)])
            case e.ToolCallResult():
                call = fold.call(event.tool_call_id)
                return _once(record, call.name, lambda: [ended(call)])
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                del self._runs[run]
                questions = questions_of(event)
                if questions:
                    self._asking[run] = {call.id: call for call in fold.open_calls}
                return self._end(record, fold, questions)
            case _:
                return ()

    def _end(self, record: Record, fold: RunFold, questions: Sequence[str]) -> Sequence[Frame]:
        failure = failure_of(record.event)
        if failure is not None:
            lost = [call.name for call in fold.open_calls]
            return _once(record, lost, lambda: stopped(lost, failure[1]))
        response = response_of(fold, questions)
        return _once(record, response, lambda: [done(response)])

    def give_up(self, reason: str, runs: Iterable[str]) -> Sequence[Frame]:
        """The last frames of `runs` when the log will say no more of them: the thread is deleted, or the reader is sent away.
        `reason` is a sentence."""
        frames: list[Frame] = []
        for run in runs:
            fold = self._runs.pop(run, None)
            lost = [] if fold is None else [call.name for call in fold.open_calls]
            said = stopped(lost, reason)
            frames += [Frame(data, ends=place == len(said) - 1) for place, data in enumerate(said)]
        return frames


def _once(record: Record, words: object, make: Callable[[], Sequence[bytes]]) -> Sequence[Frame]:
    frames = _frames.known(record, words)
    if frames is not None:
        return frames
    lines = make()
    last = len(lines) - 1
    ends = isinstance(record.event, e.TERMINAL)
    return _frames.keep(
        record, words, [Frame(data, record.seq, k, k == last, ends=ends and k == last) for k, data in enumerate(lines)]
    )


# --- frames -------------------------------------------------------------------------------------------------------


def line(
    event_type: str,
    message: str,
    *,
    tool: str | None = None,
    task_id: int | str | None = None,
    count: int | None = None,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> bytes:
    """One frame."""
    return to_bytes(
        {
            "event_type": event_type,
            "tool": tool,
            "task_id": task_id,
            "count": count,
            "message": message,
            "result": result,
            "error": error,
        }
    )


def established(user: str) -> bytes:
    """What a socket says first."""
    return to_bytes({"event_type": "connection_established", "message": CONNECTED, "user_id": user})


def starting(call: Call) -> bytes:
    return line("tool_starting", call.title or f"Running {call.name}...", tool=call.name)


def reported(call: Call, event: e.ToolCallProgress) -> bytes:
    """What a tool says of how far it is. `count`: `data.count`, else how far it counted."""
    progress, data = event.progress, event.data
    count = _whole(cast("dict[str, Any]", data).get("count")) if isinstance(data, dict) else None
    if count is None and progress is not UNSET:
        count = int(progress)
    message = event.message if event.message is not UNSET and event.message else None
    if message is None and progress is not UNSET:
        of = "" if event.total is UNSET else f" of {event.total:g}"
        message = f"{call.name}: {progress:g}{of}"
    return line("tool_progress", message or call.title or f"Running {call.name}...", tool=call.name, count=count)


def ended(call: Call) -> bytes:
    """How a call ended. `task_id`: the result's own, or that of its `task`; `count`: the result's own, or its length."""
    if call.failed:
        return failed(call.name, call.error or "The tool failed.")
    value = call.result
    task_id: Any = None
    count: int | None = None
    result: dict[str, Any] = {"result": value}
    if isinstance(value, dict):
        result = fields = cast("dict[str, Any]", value)
        task = fields.get("task")
        task_id = _id(fields.get("task_id"))
        if task_id is None and isinstance(task, dict):
            task_id = _id(cast("dict[str, Any]", task).get("id"))
        count = _whole(fields.get("count"))
    elif isinstance(value, list):
        count = len(cast("list[Any]", value))
    message = call.summary or f"Completed {call.name}"
    return line("tool_complete", message, tool=call.name, task_id=task_id, count=count, result=result)


def failed(tool: str, error: str) -> bytes:
    return line("tool_error", f"Error in {tool}: {error}", tool=tool, error=error)


def done(response: str) -> bytes:
    return line("agent_done", DONE, result={"response": response})


def stopped(lost: Iterable[str], reason: str) -> list[bytes]:
    """The end of a run that came to no answer; `lost` are the tools that had not ended."""
    return [*(failed(tool, reason) for tool in lost), line("agent_done", f"Stopped: {reason}", error=reason)]


def response_of(fold: RunFold, questions: Sequence[str]) -> str:
    """The whole answer; what a waiting run asks is part of it."""
    return BETWEEN.join(part for part in (fold.text, "\n".join(questions)) if part)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id(value: Any) -> int | str | None:
    return value if isinstance(value, str) else _whole(value)


# --- the answer of a POST -----------------------------------------------------------------------------------------


def message_of(body: str) -> tuple[str, str | None]:
    """What a POST says: the message without the spaces around it, and the conversation's id. One that is no text is none.

    Raises:
        BadFrame: no JSON object, or a message that is missing, no text, empty or too long.
    """
    fields = fields_of(body)
    message = fields.get("message")
    if message is not None and not isinstance(message, str):
        raise BadFrame("`message` must be a text.")
    text = (message or "").strip()
    if not text:
        raise BadFrame(EMPTY)
    if len(text) > MAX_MESSAGE:
        raise BadFrame(f"A message has at most {MAX_MESSAGE} characters, this one {len(text)}.")
    conversation = fields.get("conversation_id")
    return text, conversation if isinstance(conversation, str) and conversation else None


def answer_of(records: Sequence[Record], conversation: str) -> bytes:
    """The JSON of a whole run that did not fail; `records` are its events, the last one terminal."""
    fold = RunFold()
    for record in records:
        fold.apply(record.event)
    response = response_of(fold, questions_of(records[-1].event))
    return to_bytes({"response": response, "conversation_id": conversation, "tasks": tasks_of(fold)})


def tasks_of(fold: RunFold) -> list[dict[str, Any]]:
    """The tasks that the agent reported as touched, each once, as it said them last, in the order of their first mention.

    They are what the newest artifact of kind `tasks` lists (or the one of kind `task`); without one, what tools returned as
    `task` or `tasks`. A task is an object with `id` (a whole number or a text) and `title`.
    """
    told: list[Any] = []
    if "tasks" in fold.artifacts or "task" in fold.artifacts:
        told += [fold.artifacts.get("task"), fold.artifacts.get("tasks")]
    else:
        for call in fold.calls.values():
            result: Any = call.result
            if call.status == "success" and isinstance(result, dict):
                fields = cast("dict[str, Any]", result)
                told += [fields.get("task"), fields.get("tasks")]
    found: dict[int | str, dict[str, Any]] = {}
    for one in told:
        for value in cast("list[Any]", one) if isinstance(one, list) else [one]:
            task = _task(value)
            if task is not None:
                found[task["id"]] = task
    return list(found.values())


def _task(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    id, title = _id(fields.get("id")), fields.get("title")
    if id is None or not isinstance(title, str):
        return None
    more = {name: fields[name] for name in _TASK_TEXTS if fields.get(name) is not None}
    return {"id": id, "title": title, **more, "completed": fields.get("completed") is True}
