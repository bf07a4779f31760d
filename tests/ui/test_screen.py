"""What a run looks like in a terminal, and in a file."""

from __future__ import annotations

import io

import pytest

from runcast import events as e
from runcast.client.effects import StateChanged
from runcast.events import Event
from runcast.ui.screen import RESET, Screen, harmless, how_it_ended

THOUGHT = [
    e.ReasoningMessageStart(message_id="t", role="reasoning"),
    e.ReasoningMessageContent(message_id="t", delta="hm"),
    e.ReasoningMessageEnd(message_id="t"),
]
TOOL = [
    e.ToolCallStart(tool_call_id="c", tool_call_name="search"),
    e.ToolCallArgs(tool_call_id="c", delta='{"q":'),
    e.ToolCallArgs(tool_call_id="c", delta='"x"}'),
    e.ToolCallEnd(tool_call_id="c"),
    e.ToolCallProgress(tool_call_id="c", progress=1, total=3, message="looking"),
    e.ToolCallProgress(tool_call_id="c", progress=2, total=3, message="looking"),
    e.ToolCallResult(message_id="r", tool_call_id="c", content="[]", summary="Found nothing"),
]
TEXT = [
    e.TextMessageStart(message_id="m"),
    e.TextMessageContent(message_id="m", delta="Hello"),
    e.TextMessageContent(message_id="m", delta=" you"),
    e.TextMessageEnd(message_id="m"),
]


def plain(*events: Event) -> tuple[str, str]:
    answer, aside = io.StringIO(), io.StringIO()
    screen = Screen(answer, aside, colours=False)
    for event in events:
        screen.show(event)
    return answer.getvalue(), aside.getvalue()


def coloured(*events: Event) -> str:
    out = io.StringIO()
    screen = Screen(out, out, colours=True)
    for event in events:
        screen.show(event)
    return out.getvalue()


def test_into_a_file_goes_only_the_answer() -> None:
    answer, aside = plain(*THOUGHT, *TOOL, *TEXT, e.RunFinished(thread_id="t"))
    assert answer == "Hello you\n"
    assert aside == 'hm\n● search {"q":"x"}\n  … looking (1/3)\n  ✓ Found nothing\n'


def test_in_a_terminal_everything_is_there_in_order() -> None:
    text = coloured(*THOUGHT, *TOOL, *TEXT)
    places = [text.index(word) for word in ("hm", "search", "looking (1/3)", "looking (2/3)", "Found nothing", "Hello")]
    assert places == sorted(places)


def test_thinking_is_dim() -> None:
    assert "\x1b[2mhm" + RESET in coloured(*THOUGHT)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (e.RunError(message="No luck.", code="x"), "✗ Failed: No luck.\n"),
        (e.RunError(message="m", code="agent_error", request_id="q7"), "✗ Failed: m (request q7)\n"),
        (e.RunError(message="m", code="interrupted"), "■ Interrupted: the server was restarted.\n"),
        (e.RunFinished(thread_id="t", outcome=e.Outcome(type="cancelled")), "■ Stopped.\n"),
        (e.RunDequeued(), "■ Stopped.\n"),
        (e.RunFinished(thread_id="t"), ""),
        (e.ToolCallResult(message_id="r", tool_call_id="c", content="", status="denied", error="No."), "  ✗ No.\n"),
        (e.Source(source_id="s", url="http://x", title="X"), "↗ X http://x\n"),
        (e.ArtifactSnapshot(artifact_id="a", kind="diagram", name="D", content="graph TD"), "◇ diagram: D\n"),
    ],
)
def test_what_is_said_beside_the_answer(event: Event, words: str) -> None:
    assert plain(event) == ("", words)


def test_a_line_that_was_begun_is_ended_before_something_else() -> None:
    answer, aside = plain(TEXT[0], TEXT[1], e.RunFinished(thread_id="t", outcome=e.Outcome(type="cancelled")))
    assert (answer, aside) == ("Hello\n", "■ Stopped.\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07boo", "[2J]0;titleboo"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("\x9b31mred", "31mred"),
        ("familie 👩‍👩‍👧 ü", "familie 👩‍👩‍👧 ü"),
    ],
)
def test_an_agent_cannot_steer_the_terminal(text: str, shown: str) -> None:
    """An escape sequence in model text, a tool's name or an error is shown without what makes it one."""
    assert harmless(text) == shown
    answer, _ = plain(e.TextMessageContent(message_id="m", delta=text))
    assert answer == shown
    out = coloured(e.RunError(message=text))
    assert out.count("\x1b") == 2  # our own colour and its end


def test_a_lost_connection_is_told() -> None:
    out = io.StringIO()
    screen = Screen(out, out, colours=False)
    screen.state(StateChanged("waiting", "Nothing listens there.", 2.6))
    screen.state(StateChanged("open", "", None))
    assert out.getvalue() == "[connection lost, trying again in 3 s] Nothing listens there.\n"


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (e.RunFinished(thread_id="t"), "done"),
        (e.RunFinished(thread_id="t", outcome=e.Outcome(type="success")), "done"),
        (e.RunFinished(thread_id="t", outcome=e.Outcome(type="interrupt")), "waiting"),
        (e.RunFinished(thread_id="t", outcome=e.Outcome(type="cancelled")), "cancelled"),
        (e.RunError(message=""), "failed"),
        (e.RunError(message="", code="interrupted"), "interrupted"),
        (e.RunDequeued(), "cancelled"),
    ],
)
def test_how_it_ended(event: e.RunFinished | e.RunError | e.RunDequeued, status: str) -> None:
    assert how_it_ended(event) == status
