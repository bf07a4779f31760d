"""Where a client's whole history belongs: examples that people meet, and any thread at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcast import events as e
from runcast.errors import InvalidRequest
from runcast.events import Event
from runcast.histories import edited_id, newest, place, rendered
from runcast.paths import path_of, path_to
from runcast.transcript import Transcript, TranscriptRun, fold

Message = dict[str, Any]


class Log:
    """A thread's log, written run by run."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, run: str | None, *events: Event) -> None:
        for event in events:
            seq = len(self.events) + 1
            self.events.append(e.stamp(event if run is None else e.of_run(event, run), seq, seq))

    def start(self, run: str, *messages: Message, parent: str | None = None, resumes: str | None = None) -> None:
        self.add(
            run,
            e.RunStarted(
                thread_id="t",
                parent_run_id=parent or e.UNSET,
                resumes=resumes or e.UNSET,
                input={"threadId": "t", "runId": run, "messages": list(messages)},
            ),
            *(
                e.ToolCallResult(message_id=one["id"], tool_call_id=one["toolCallId"], content=one["content"])
                for one in messages
                if one["role"] == "tool"
            ),
        )

    def say(self, run: str, text: str, id: str | None = None) -> None:
        id = id or f"{run}-{len(self.events)}"
        self.add(run, e.TextMessageStart(message_id=id), e.TextMessageContent(message_id=id, delta=text))
        self.add(run, e.TextMessageEnd(message_id=id, text=text))

    def call(self, run: str, id: str, result: str | None = None) -> None:
        self.add(
            run, e.ToolCallStart(tool_call_id=id, tool_call_name="tool"), e.ToolCallEnd(tool_call_id=id, args="{}")
        )
        if result is not None:
            self.add(run, e.ToolCallResult(message_id=f"{id}.r", tool_call_id=id, content=result))

    def end(self, run: str, *pending: str) -> None:
        outcome = e.Outcome(type="success", pending_tool_call_ids=list(pending) or e.UNSET)
        self.add(run, e.RunFinished(thread_id="t", outcome=outcome))

    def turn(self, run: str, message: Message, parent: str | None = None, answer: str = "ok") -> None:
        self.start(run, message, parent=parent)
        self.say(run, answer, f"a{run}")
        self.end(run)

    @property
    def transcript(self) -> Transcript:
        return fold(Transcript(), self.events)


def user(id: str, content: Any = None) -> Message:
    return {"id": id, "role": "user", "content": f"say {id}" if content is None else content}


def assistant(id: str, text: str = "ok", *calls: str) -> Message:
    message: Message = {"id": id, "role": "assistant", "content": text}
    if calls:
        function = {"name": "tool", "arguments": "{}"}
        message["toolCalls"] = [{"id": call, "type": "function", "function": function} for call in calls]
    return message


def tool(call: str, content: str = "result") -> Message:
    return {"id": f"{call}.m", "role": "tool", "toolCallId": call, "content": content}


def two_turns() -> Transcript:
    """r1, then r2, and r3 beside r2: another try of the same message."""
    log = Log()
    log.turn("r1", user("u1"))
    log.turn("r2", user("u2"), "r1")
    log.turn("r3", user("u2"), "r1")
    return log.transcript


def test_an_empty_thread_knows_nothing() -> None:
    placed = place(Transcript(), [user("u1")])
    assert (placed.action, placed.parent_run, placed.edited, placed.new) == ("send", None, None, (user("u1"),))
    assert place(Transcript(), []) == ("nothing", None, None, None, (), (), (), (), 0)


def test_what_was_said_elsewhere_is_taken_along() -> None:
    before = [user("x1"), assistant("y1"), {"id": "s", "role": "system", "content": "Be brief."}]
    placed = place(Transcript(), [*before, user("u1"), user("u2")])
    assert (placed.new, placed.unknown, placed.known) == ((user("u1"), user("u2")), (*before,), 0)
    known = place(two_turns(), [*before, user("u1"), assistant("ar1"), user("u9")])
    assert (known.parent_run, known.new, known.unknown, known.known) == ("r1", (user("u9"),), (*before,), 2)


@pytest.mark.parametrize("ids", [("ar1", "ar2", "ar3"), ("r1", "r2", "r3")], ids=["texts", "runs"])
def test_the_known_part_says_what_is_followed(ids: tuple[str, str, str]) -> None:
    transcript = two_turns()
    one, two, three = map(assistant, ids)
    said = [user("u1"), one, user("u2")]
    for last, parent in ((two, "r2"), (three, "r3")):
        placed = place(transcript, [*said, last, user("u3")])
        assert (placed.action, placed.parent_run, placed.edited) == ("send", parent, None)
        assert (placed.new, placed.unknown, placed.known) == ((user("u3"),), (), 4)
    assert place(transcript, [*said, three])[:3] == ("nothing", "r3", "r3")


def test_an_unknown_message_in_a_known_ones_place_is_an_edit() -> None:
    transcript = two_turns()
    placed = place(transcript, [user("u1"), assistant("r1"), user("u9")])
    assert (placed.action, placed.parent_run, placed.edited) == ("send", "r1", "r3"), "the one on the head run's path"


def test_a_known_id_with_another_text_is_an_edit_too() -> None:
    log = Log()
    log.turn("r1", user("u1"))
    log.turn("r2", user("u2"), "r1")
    said = [user("u1"), assistant("r1"), user("u2", "otherwise")]
    placed = place(log.transcript, said)
    assert (placed.action, placed.parent_run, placed.edited) == ("send", "r1", "r2")
    [new] = placed.new
    assert new["id"] == edited_id(said[2]) != "u2"
    log.turn("r3", new, "r1")
    again = place(log.transcript, [*said, assistant("r3"), user("u3")])
    assert (again.parent_run, again.known) == ("r3", 4)
    root = place(log.transcript, [user("u1", [{"type": "text", "text": "otherwise"}])])
    assert (root.action, root.parent_run, root.edited, root.known) == ("send", None, "r1", 0)


def test_a_history_that_ends_with_a_known_message_asks_again() -> None:
    transcript = two_turns()
    assert place(transcript, [user("u1"), assistant("r1"), user("u2")])[:3] == ("retry", "r1", "r3")
    assert place(transcript, [user("u1")])[:3] == ("retry", None, "r1")


def test_what_a_client_makes_up_between_is_skipped() -> None:
    made_up = [
        assistant("local-1", "Welcome!"),
        {"id": "e", "role": "activity", "activityType": "error", "content": {}},
    ]
    placed = place(two_turns(), [user("u1"), *made_up, assistant("r1"), user("u2"), assistant("r2"), user("u3")])
    assert (placed.parent_run, placed.unknown, placed.known) == ("r2", (), 4)
    late = place(two_turns(), [user("u1"), assistant("r1"), *made_up, user("u3")])
    assert (late.parent_run, late.unknown) == ("r1", (*made_up,))


def left() -> Log:
    log = Log()
    log.start("r1", user("u1"))
    log.call("r1", "c0", "own")
    log.call("r1", "c1")
    log.call("r1", "c2")
    log.end("r1", "c1", "c2")
    return log


ASKED = [user("u1"), assistant("c0", "", "c0", "c1", "c2"), tool("c0", "own")]


def test_results_of_the_clients_tools_are_returned() -> None:
    transcript = left().transcript
    placed = place(transcript, [*ASKED, tool("c1"), tool("c2")])
    assert (placed.action, placed.run, placed.parent_run) == ("return", "r1", "r1")
    assert (placed.tool_results, placed.new, placed.unknown) == ((tool("c1"), tool("c2")), (), ())
    placed = place(transcript, [*ASKED, tool("c1"), user("u2")])
    assert (placed.action, placed.tool_results, placed.new) == ("return", (tool("c1"),), (user("u2"),))
    placed = place(transcript, [*ASKED, user("u2")])
    assert (placed.action, placed.parent_run, placed.new) == ("send", "r1", (user("u2"),))
    assert place(transcript, ASKED)[:3] == ("nothing", "r1", "r1")


def test_results_that_were_returned_are_known() -> None:
    log = left()
    log.start("r2", tool("c1"), tool("c2"), parent="r1")
    log.say("r2", "there", "a2")
    log.end("r2")
    said = [*ASKED, tool("c1"), tool("c2")]
    placed = place(log.transcript, [*said, assistant("a2"), user("u2")])
    assert (placed.action, placed.parent_run, placed.known) == ("send", "r2", 6)
    assert place(log.transcript, [*said, user("u2")])[:2] == ("send", "r2"), "an answer that the client did not get"
    assert place(log.transcript, said)[:3] == ("retry", "r1", "r2"), "the same results, another answer"


@pytest.mark.parametrize(
    "end",
    [e.RunError(message="No.", code="interrupted"), e.RunFinished(thread_id="t", outcome=e.Outcome(type="cancelled"))],
    ids=["interrupted", "cancelled"],
)
def test_what_clients_make_of_a_call_that_was_cut_short_is_no_result(end: Event) -> None:
    """Protocols that have no word for it tell it as a failed call, and their clients send that back as its result."""
    log = Log()
    log.start("r1", user("u1"))
    log.call("r1", "c1")
    log.add("r1", end)
    said = [user("u1"), assistant("r1", "", "c1"), tool("c1"), user("u2")]
    assert place(log.transcript, said)[:2] == ("send", "r1")
    log.start("r2", user("u2"), parent="r1")
    log.say("r2", "Yes.", "a2")
    log.end("r2")
    placed = place(log.transcript, [*said, assistant("a2"), user("u3")])
    assert (placed.action, placed.parent_run, placed.known, placed.unknown) == ("send", "r2", 5, ())


def test_results_that_an_interrupt_asks_for_answer_it() -> None:
    log = Log()
    log.start("r1", user("u1"))
    log.call("r1", "c1")
    log.call("r1", "c2")
    asked = [
        e.Interrupt(id="r1.1", reason="input_required", tool_call_id="c1"),
        e.Interrupt(id="r1.2", reason="tool_call", tool_call_id="c2"),
    ]
    log.add("r1", *(e.InterruptRequested(interrupt=one) for one in asked))
    log.add("r1", e.RunFinished(thread_id="t", outcome=e.Outcome(type="interrupt", interrupts=asked)))
    said = [user("u1"), assistant("x", "", "c1", "c2"), tool("c1"), tool("c2")]
    placed = place(log.transcript, said)
    assert (placed.action, placed.run, placed.answers) == ("resolve", "r1", (("r1.1", tool("c1")),))
    log.add(None, *(e.InterruptResolved(interrupt_id=one.id, status="resolved", payload="x") for one in asked))
    log.start("r2", parent="r1", resumes="r1")
    log.add("r2", e.ToolCallResult(message_id="m", tool_call_id="c1", content="x"))
    log.end("r2")
    assert place(log.transcript, [*said[:3], user("u2")])[:2] == ("send", "r2"), (
        "a run that said nothing is followed too"
    )


def test_an_id_that_runs_use_again_is_the_nearest_ones() -> None:
    log = Log()
    for run, parent in (("r1", None), ("r2", "r1")):
        log.start(run, user(f"u{run}"), parent=parent)
        log.call(run, "call_0")
        log.end(run, "call_0")
    first = [user("ur1"), assistant("call_0", "", "call_0")]
    assert place(log.transcript, [*first, tool("call_0")])[:3] == ("return", "r1", "r1")
    second = [*first, user("ur2"), assistant("call_0", "", "call_0"), tool("call_0")]
    assert place(log.transcript, second)[:3] == ("return", "r2", "r2")


def test_the_newest_that_fit_are_kept() -> None:
    messages = [user(f"u{n}", "é" * 100) for n in range(10)]
    size = len(str(messages[0]).encode()) + 20
    assert newest(messages, size * 3)[-1] == messages[-1] and 1 < len(newest(messages, size * 3)) < 10
    assert newest(messages, 10) == () and newest(messages, 1 << 20) == tuple(messages)


# --- any thread -------------------------------------------------------------------------------------------------------


@st.composite
def threads(draw: st.DrawFn) -> Transcript:
    """Threads of any shape: retries, edits, other roots, runs that say nothing, that wait and go on, that leave calls to the client."""
    log = Log()
    asked: dict[str, tuple[Message, str | None]] = {}
    waiting: list[str] = []
    pending: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 9))):
        run = f"r{number}"
        kinds = ["send", "root"]
        kinds += ["retry"] if asked else []
        kinds += ["resume"] if waiting else []
        kinds += ["return"] if pending else []
        kind = draw(st.sampled_from(kinds)) if number else "root"
        if kind == "resume":
            before = draw(st.sampled_from(waiting))
            waiting.remove(before)
            log.add(None, e.InterruptResolved(interrupt_id=f"{before}.1", status="resolved"))
            log.start(run, parent=before, resumes=before)
        elif kind == "return":
            before = draw(st.sampled_from(sorted(pending)))
            log.start(run, *(tool(call) for call in pending.pop(before)), parent=before)
        else:
            parent = draw(st.sampled_from([f"r{n}" for n in range(number)])) if kind == "send" else None
            message = user(f"u{number}")
            if kind == "retry":
                message, parent = asked[draw(st.sampled_from(sorted(asked)))]
            asked[run] = (message, parent)
            log.start(run, message, parent=parent)
        calls: list[str] = []
        for step in draw(st.lists(st.sampled_from(["text", "tool", "left"]), max_size=4)):
            if step == "text":
                log.say(run, "words")
            else:
                # Two tries of one message with the same ids could not be told apart by them.
                call = draw(
                    st.sampled_from(["call_0", "call_1", f"{run}-c"] if kind in ("send", "root") else [f"{run}-c"])
                )
                if any(call == used for used in calls):
                    continue
                calls.append(call)
                log.call(run, call, "own" if step == "tool" else None)
                if step == "left":
                    pending.setdefault(run, []).append(call)
        end = draw(st.sampled_from(["done", "wait", "failed"])) if run not in pending else "done"
        if end == "wait":
            asks = [e.Interrupt(id=f"{run}.1", reason="confirmation")]
            log.add(run, e.RunFinished(thread_id="t", outcome=e.Outcome(type="interrupt", interrupts=asks)))
            waiting.append(run)
        elif end == "failed":
            log.add(run, e.RunError(message="no", code="c"))
        else:
            log.end(run, *pending.get(run, []))
    return log.transcript


def by_run(runs: Sequence[TranscriptRun]) -> list[Message]:
    """As clients have it that know one assistant message a run, by the run's id."""
    messages: list[Message] = []
    for run in runs:
        made = rendered([run])
        messages += [message for message in made if message["role"] == "user"]
        calls = [call["id"] for message in made for call in message.get("toolCalls", ())]
        messages.append(assistant(run.id, "".join(str(m.get("content", "")) for m in made), *calls))
        messages += [message for message in made if message["role"] == "tool"]
    return messages


@pytest.mark.parametrize("render", [rendered, by_run])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_threads_own_rendering_and_one_message_follow_the_end_of_its_path(
    render: Callable[[Sequence[TranscriptRun]], list[Message]], data: st.DataObject
) -> None:
    transcript = data.draw(threads())
    run = data.draw(st.sampled_from([one.id for one in transcript.runs]))
    path = path_of(transcript, run)
    said = render(path)
    lead = [assistant("hello", "Welcome!")] if data.draw(st.booleans()) else []
    placed = place(transcript, [*lead, *said, user("new")])
    assert (placed.action, placed.new, placed.unknown) == ("send", (user("new"),), (*lead,))
    assert placed.known == len(said) and placed.tool_results == ()
    assert placed.parent_run is not None
    found = path_to(transcript, placed.parent_run)
    if render is by_run:
        assert found == path
    else:  # a run that said nothing looks like another try of its message whose answer the client did not get
        assert rendered(found)[: len(said)] == said
    assert not [one for one in transcript.runs if one.parent == placed.parent_run and not rendered([one])]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_cut_of_a_rendering_is_placed_on_its_path(data: st.DataObject) -> None:
    transcript = data.draw(threads())
    path = path_of(transcript, data.draw(st.sampled_from([one.id for one in transcript.runs])))
    said = by_run(path)
    cut = said[: data.draw(st.integers(0, len(said)))]
    placed = place(transcript, cut)
    assert placed.new == () and placed.unknown == ()
    if placed.action == "retry":
        assert placed.run is not None and cut[-1]["role"] in ("user", "tool")
    else:
        assert placed.action in ("nothing", "return")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_nothing_that_clients_send_breaks_it(data: st.DataObject) -> None:
    transcript = data.draw(threads())
    ids = st.sampled_from([*(f"r{n}" for n in range(9)), *(f"u{n}" for n in range(9)), "call_0", "call_1", "x", "r0-c"])
    odd = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.none(), max_size=2)
    message = st.fixed_dictionaries(
        {},
        optional={
            "id": ids | odd,
            "role": st.sampled_from(["user", "assistant", "tool", "system"]) | odd,
            "content": odd | st.just("say u1") | st.just([{"type": "text", "text": "say u2"}]),
            "toolCallId": ids | odd,
            "toolCalls": odd | st.lists(st.fixed_dictionaries({"id": ids}) | odd, max_size=2),
        },
    )
    messages = data.draw(st.lists(message, max_size=8))
    placed = place(transcript, messages)
    runs = {run.id for run in transcript.runs} | {None}
    assert {placed.parent_run, placed.run, placed.edited} <= runs
    assert placed.known + len(placed.new) + len(placed.tool_results) + len(placed.unknown) <= len(messages)


# --- hostile ones -----------------------------------------------------------------------------------------------------


class Counting(str):
    """An id that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counting.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_many_results_of_one_call_are_looked_at_once_each() -> None:
    log = Log()
    log.start("r1", user("u1", "Where?"))
    log.call("r1", "c1")
    log.end("r1", "c1")
    results = [{"id": Counting(f"x{i}"), "role": "tool", "toolCallId": "c1", "content": "here"} for i in range(2_000)]
    placed = place(log.transcript, [user("u1", "Where?"), *results])
    assert (placed.action, len(placed.tool_results), placed.unknown) == ("return", 2_000, ())
    assert Counting.compared < 10 * len(results)


def test_a_history_that_jumps_to_and_fro_is_refused() -> None:
    """Each jump is a way over the whole thread; a history of the thread itself goes it once."""
    log = Log()
    log.start("other", user("o", "Other"))
    log.end("other")
    parent: str | None = None
    for at in range(300):
        log.start(f"r{at}", user(f"u{at}", "Go"), parent=parent)
        log.say(f"r{at}", "Yes", id=f"a{at}")
        log.end(f"r{at}")
        parent = f"r{at}"
    transcript = log.transcript
    whole = [message for at in range(300) for message in (user(f"u{at}", "Go"), {"id": f"a{at}", "role": "assistant"})]
    assert place(transcript, [*whole, user("new", "More")]).parent_run == "r299"
    with pytest.raises(InvalidRequest):
        place(transcript, [user("o", "Other"), *([{"id": "a299", "role": "assistant"}] * 9_000)])
