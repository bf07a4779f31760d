"""How a run looks in a terminal: events in, lines of text out. No network; it only writes.

Two streams: `answer` gets what the agent says, `aside` everything about it (thinking, tools, how it ended). In a terminal
both are the same screen, with colours; when the output goes to a file or a pipe, only the answer is on stdout, plain.
"""

from __future__ import annotations

import re
from typing import Literal, Protocol

from runcast import events as e
from runcast.client.effects import StateChanged
from runcast.events import Event
from runcast.runs import RunStatus
from runcast.transcript import TextPart, ToolPart, Transcript

DIM, BOLD, RED, GREEN, YELLOW, CYAN, RESET = (f"\x1b[{n}m" for n in (2, 1, 31, 32, 33, 36, 0))
CLEAR_LINE = "\r\x1b[K"
ARGUMENTS_SHOWN = 120
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Output(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


def harmless(text: str) -> str:
    """`text` without control characters and bidirectional overrides: an agent's words must not steer the terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


class Screen:
    def __init__(self, answer: Output, aside: Output, *, colours: bool) -> None:
        """`colours`: both outputs are one terminal that understands ANSI sequences."""
        self._answer = answer
        self._aside = aside
        self._colours = colours
        self._at_start = True
        """The cursor stands at the beginning of a line."""
        self._writing: Literal["text", "thinking"] | None = None
        self._passing = False
        """The line under the cursor is a progress line that the next one replaces."""
        self._tools: dict[str, str] = {}
        self._arguments: dict[str, str] = {}
        self._titled: set[str] = set()
        self._told: dict[str, str] = {}

    # --- lines --------------------------------------------------------------------------------------------------------

    def line(self, text: str, colour: str = "") -> None:
        """One line beside the answer."""
        self._end_line()
        self._aside.write(self._coloured(harmless(text), colour) + "\n")
        self._aside.flush()

    def prompt(self, text: str) -> None:
        self._end_line()
        self._aside.write(self._coloured(text, BOLD))
        self._aside.flush()

    def entered(self) -> None:
        """The person ended their line: the terminal has moved on by itself."""
        self._at_start = True

    def state(self, change: StateChanged) -> None:
        """How the connection stands, when it is worth a word."""
        if change.state == "waiting" and change.retry_in_s is not None:
            why = f" {change.detail}" if change.detail else ""
            self.line(f"[connection lost, trying again in {change.retry_in_s:.0f} s]{why}", DIM)

    def history(self, transcript: Transcript) -> None:
        """An earlier conversation, before it goes on."""
        for run in transcript.runs:
            for message in run.messages:
                for part in message.parts:
                    if isinstance(part, TextPart) and part.text.strip():
                        sign = "> " if message.role == "user" else ""
                        self.line(sign + part.text.strip(), BOLD if message.role == "user" else "")
                    elif isinstance(part, ToolPart):
                        self._tools[part.id] = part.name
                        said = "waiting for the app" if part.status == "pending" else part.status
                        self.line(f"● {part.title or part.name}: {part.summary or part.error or said}", DIM)
                        if part.status == "waiting":  # a person is asked whether it may run with exactly these
                            self.line(f"  {part.name} {part.args}", DIM)

    # --- events -------------------------------------------------------------------------------------------------------

    def show(self, event: Event) -> None:
        """The next event of a run; those that say nothing to a person are passed over."""
        match event:
            case e.TextMessageContent():
                self._write("text", event.delta)
            case e.ReasoningMessageContent():
                self._write("thinking", event.delta)
            case e.TextMessageEnd() | e.ReasoningMessageEnd():
                self._end_line()
            case e.ToolCallStart():
                self._tools[event.tool_call_id] = event.tool_call_name
                self._arguments[event.tool_call_id] = ""
                if isinstance(event.title, str):
                    self._titled.add(event.tool_call_id)
                    self.line(f"● {event.title}", CYAN)
            case e.ToolCallArgs():
                self._arguments[event.tool_call_id] = self._arguments.get(event.tool_call_id, "") + event.delta
            case e.ToolCallEnd():
                self._called(event)
            case e.ToolCallProgress():
                self._progress(event)
            case e.ToolCallResult():
                self._result(event)
            case e.ArtifactSnapshot():
                self.line(f"◇ {event.kind}: {event.name if isinstance(event.name, str) else event.artifact_id}", CYAN)
            case e.Source():
                words = [word for word in (event.title, event.url) if isinstance(word, str)]
                self.line("↗ " + " ".join(words or [event.source_id]), DIM)
            case e.RunQueued():
                self.line("Queued: another run is going on in this conversation.", DIM)
            case e.RunRestarted():
                self.line(f"Restarted (attempt {event.attempt}).", YELLOW)
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                self._ended(event)
            case _:
                pass

    def _called(self, event: e.ToolCallEnd) -> None:
        name = self._tools.get(event.tool_call_id, "tool")
        arguments = event.args if isinstance(event.args, str) else self._arguments.pop(event.tool_call_id, "")
        if len(arguments) > ARGUMENTS_SHOWN:
            arguments = arguments[:ARGUMENTS_SHOWN] + "…"
        said = f"{name} {arguments}" if arguments not in ("", "{}") else name
        if isinstance(event.incomplete, str):
            return
        if event.tool_call_id in self._titled:
            self.line(f"  {said}", DIM)
        else:
            self.line(f"● {said}", CYAN)

    def _progress(self, event: e.ToolCallProgress) -> None:
        words = [event.message] if isinstance(event.message, str) else []
        if isinstance(event.progress, (int, float)):
            total = f"/{event.total:g}" if isinstance(event.total, (int, float)) else ""
            words.append(f"({event.progress:g}{total})")
        text = harmless("  … " + " ".join(words)).replace("\n", " ")
        if not self._colours:
            sentence = event.message if isinstance(event.message, str) else ""
            if sentence and self._told.get(event.tool_call_id) != sentence:
                self._told[event.tool_call_id] = sentence
                self.line(text)
            return
        self._end_line(keep_passing=True)
        self._aside.write(CLEAR_LINE + self._coloured(text[:ARGUMENTS_SHOWN], DIM))
        self._aside.flush()
        self._passing = True

    def _result(self, event: e.ToolCallResult) -> None:
        name = self._tools.get(event.tool_call_id, "tool")
        if not isinstance(event.status, str) or event.status == "success":
            words = event.summary if isinstance(event.summary, str) else f"{name} is done"
            self.line(f"  ✓ {words}", GREEN)
        else:
            words = event.error if isinstance(event.error, str) else f"{name}: {event.status}"
            self.line(f"  ✗ {words}", RED)

    def _ended(self, event: e.RunFinished | e.RunError | e.RunDequeued) -> None:
        match how_it_ended(event):
            case "cancelled":
                self.line("■ Stopped.", YELLOW)
            case "interrupted":
                self.line("■ Interrupted: the server was restarted.", YELLOW)
            case "failed" if isinstance(event, e.RunError):
                known = f" (request {event.request_id})" if isinstance(event.request_id, str) else ""
                later = ""
                if isinstance(event.retry_after_ms, int) and event.retry_after_ms > 0:
                    later = f" Try again in {-(-event.retry_after_ms // 1000)} s."
                self.line(f"✗ Failed: {event.message}{later}{known}", RED)
            case _:
                self._end_line()

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, kind: Literal["text", "thinking"], text: str) -> None:
        if self._writing != kind:
            self._end_line()
            self._writing = kind
        elif self._passing:
            self._end_line()
        text = harmless(text)
        if not text:
            return
        out = self._answer if kind == "text" else self._aside
        out.write(self._coloured(text, DIM if kind == "thinking" else ""))
        out.flush()
        self._at_start = text.endswith("\n")

    def _end_line(self, *, keep_passing: bool = False) -> None:
        if self._passing and not keep_passing:
            self._aside.write(CLEAR_LINE)
            self._passing = False
            self._at_start = True
        if not self._at_start:
            (self._answer if self._writing == "text" else self._aside).write("\n")
            self._answer.flush()
            self._at_start = True
        self._writing = None

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{RESET}" if self._colours and colour else text


def how_it_ended(event: e.RunFinished | e.RunError | e.RunDequeued) -> RunStatus:
    """The word for a terminal event (`spec/PROTOCOL.md`, the table of run states)."""
    match event:
        case e.RunError():
            return "interrupted" if event.code == "interrupted" else "failed"
        case e.RunDequeued():
            return "cancelled"
        case e.RunFinished():
            outcome = event.outcome.type if isinstance(event.outcome, e.Outcome) else "success"
            return {"success": "done", "interrupt": "waiting", "cancelled": "cancelled"}[outcome]  # type: ignore[return-value]
