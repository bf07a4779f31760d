"""`spec/PROTOCOL.md` says what the code does: every type, field, code and frame is in it, and nothing that is gone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from runcast import commands, errors, parts
from runcast.errors import RuncastError
from runcast.events import AGUI, NEVER_LOGGED, OWN, Event
from runcast.runs import RunStatus
from runcast.session import CloseCode
from runcast.updates import ResyncReason

PAGE = (Path(__file__).parents[1] / "spec" / "PROTOCOL.md").read_text(encoding="utf-8")
ENVELOPE = {field.name for field in msgspec.structs.fields(Event)}


def section(number: str) -> str:
    found = re.search(rf"^##+ {re.escape(number)} .*?(?=^##+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {number}"
    return found[0]


def tag(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


def test_it_is_short_enough_to_be_read() -> None:
    assert PAGE.count("\n") <= 700


@pytest.mark.parametrize("kind", OWN, ids=tag)
def test_own_types_are_told_with_their_fields(kind: type[Event]) -> None:
    row = re.search(rf"^\| `{tag(kind)}` \| (.*?) \| (.*) \|$", section("4.2"), re.MULTILINE)
    assert row, "no row"
    told = set(re.split(r", | or ", row[1]))
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in ENVELOPE]
    assert told == {field.encode_name + ("*" if field.required else "") for field in fields}


def test_no_row_tells_of_a_type_that_is_gone() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", section("4.2"), re.MULTILINE)) == {tag(kind) for kind in OWN}


def test_standard_types_are_told() -> None:
    told: set[str] = set()
    never: set[str] = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \| .*? \| (yes|no) \|$", section("4.1"), re.MULTILINE):
        stem = ""
        for word in re.findall(r"`([A-Z_]+)`", row[0]):
            if not word.startswith("_"):
                stem = word.rsplit("_", 1)[0]
            name = stem + word if word.startswith("_") else word
            told.add(name)
            if row[1] == "no":
                never.add(name)
    assert told == {tag(kind) for kind in AGUI}
    assert never == {tag(kind) for kind in NEVER_LOGGED}


def test_shapes_of_the_transcript() -> None:
    block = re.search(r"```text\n(.*?)```", section("7"), re.DOTALL)
    assert block
    told: dict[str, set[str]] = {}
    name = ""
    for line in block[1].splitlines():
        found = re.match(r"(?:(\w+(?: \(all\))?)|  (\w+))? {2,}(.*)", line)
        assert found, line
        name = found[1] or found[2] or name
        told.setdefault(name, set()).update(found[3].replace("(1)", "").split())
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (parts.Transcript, parts.TranscriptRun, parts.TranscriptMessage, parts.Failure, parts.RunFeedback, parts.Progress)}  # fmt: skip
    kinds |= {tag(kind): kind for kind in get_args(parts.AnyPart)}
    assert set(told) == {*kinds, "Part (all)"}
    assert told["Part (all)"] == {"type!", "subagentRunId"}
    for each, kind in kinds.items():
        expected = {
            field.encode_name
            + ("!" if field.required or field.default_factory not in (msgspec.NODEFAULT, list) else "")
            for field in msgspec.structs.fields(kind)
        }
        assert told[each] == expected - {"subagentRunId"}, each


def test_frames_of_clients() -> None:
    for kind in get_args(commands.AnyCommand):
        assert f'C {{"op":"{tag(kind)}"' in section("8") or f'{{"op":"{tag(kind)}"' in PAGE, tag(kind)


@pytest.mark.parametrize(
    "op",
    [
        "welcome",
        "ack",
        "error",
        "events",
        "caught_up",
        "snapshot",
        "resync",
        "heartbeat",
        "drain",
        "token_expiring",
        "pong",
    ],
)
def test_frames_of_the_server(op: str) -> None:
    assert f'S {{"op":"{op}"' in PAGE


def test_words() -> None:
    runs, tools = section("2").split("How a tool call stands")
    assert re.findall(r"^\| `(\w+)` \|", runs, re.MULTILINE) == list(get_args(RunStatus))
    named = re.findall(r"^\| ((?:`\w+` )+)\|", tools, re.MULTILINE)
    assert " ".join(named).replace("`", "").split() == list(get_args(parts.ToolStatus))
    assert re.findall(r"^\| `(\w+)` \|", section("12"), re.MULTILINE) == list(get_args(ResyncReason))
    classes = dict(re.findall(r"^\| (\d{4}) \| .* \| ([\w ]+)[^|]* \|$", section("8.5"), re.MULTILINE))
    assert {int(code) for code in classes} == {int(code) for code in CloseCode}
    cases = json.loads((Path(__file__).parents[1] / "spec" / "cases" / "close-codes.json").read_text("utf-8"))
    assert {code: cases.get(code) for code in classes} == classes
    assert {kind for code, kind in cases.items() if code not in classes} == {"reconnect"}
    assert re.findall(r"^\| \*\*(I\d+)\*\*", section("14"), re.MULTILINE) == [f"I{n}" for n in range(1, 28)]


def descendants(kind: type[RuncastError]) -> set[type[RuncastError]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


def test_every_code_a_client_can_get() -> None:
    ours = {
        errors.ConfigError,
        errors.SequenceConflict,
        errors.LeaseLost,
        errors.StoreLocked,
        errors.StoreCorrupt,
        errors.Conflict,
        errors.Declined,
    }
    seen = {kind.code for kind in descendants(RuncastError) if kind.__module__ == "runcast.errors" and kind not in ours}
    table = section("9")
    assert {code for code in seen if f"`{code}`" not in table} == set()
