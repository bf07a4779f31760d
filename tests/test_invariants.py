"""Every numbered guarantee of one node has a test that cites it and a planted bug that a test sees: so that the claim cannot rot.

The table is the claim; the tests below hold it against the sources. What a simulation cannot see (the memory of a
process) names the test that would.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from simulation.mutants import MUTANTS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/concepts/invariants.md"
SUITE = "src/runcast/testing/store_suite.py"


class Kept(NamedTuple):
    tests: tuple[str, ...]
    """`file::function`; each cites the number, in itself or in its file's docstring."""
    mutants: tuple[str, ...] = ()
    """Planted bugs of the simulation, that must break this invariant."""
    elsewhere: tuple[str, ...] = ()
    """Where a simulation cannot see it (the memory of a process, its sockets): the test that fails with the fault."""


TABLE: dict[int, Kept] = {
    1: Kept((f"{SUITE}::test_seqs_are_dense_and_what_was_acked_is_read_back_byte_for_byte",), ("a_seq_that_is_left_out",)),
    2: Kept(("tests/integration/test_kill.py::test_nothing_is_lost_when_the_server_is_killed_again_and_again",), ("deliver_before_commit",)),
    3: Kept((f"{SUITE}::test_seqs_are_dense_and_what_was_acked_is_read_back_byte_for_byte",), ("a_replay_that_differs", "a_blob_that_no_conversation_holds")),
    4: Kept(("tests/stores/test_sqlite.py::test_a_full_disk_fails_the_write_and_nothing_of_it_is_seen",), ("told_although_it_failed",)),
    5: Kept(
        (
            "tests/test_service.py::test_k_deliveries_of_a_send_have_one_effect_and_one_answer",
            "tests/test_service.py::test_a_cancel_that_found_nothing_stops_nothing_newer_either",
            "tests/test_service.py::test_an_answer_delivered_twice_at_once_gets_one_answer",
        ),
        (
            "no_receipts",
            "a_cancel_that_leaves_no_receipt",
            "a_replay_that_acts_before_it_looks",
            "a_retry_that_is_retried",
            "a_steered_message_that_is_read_twice",
            "a_steered_message_that_is_queued_too",
            "an_upload_that_is_kept_twice",
        ),
    ),
    6: Kept(
        (
            f"{SUITE}::test_a_write_is_all_or_nothing",
            "tests/running/test_branching.py::test_what_is_asked_again_follows_nothing_that_was_taken_back",
        ),
        (
            "rows_apart_from_events",
            "a_branch_below_what_was_last",
            "a_retry_that_keeps_the_old_head",
            "a_queue_behind_what_is_not_there",
            "a_file_that_no_conversation_holds",
            "a_file_that_outlives_its_conversation",
        ),
    ),
    7: Kept(
        ("tests/client/test_connection.py::test_a_subscription_goes_on_after_its_cursor_on_the_next_connection",),
        (
            "subscribe_after_replay",
            "no_dedup_at_the_feed",
            "drop_on_overflow",
            "stale_wake_up",
            "a_sink_whose_reader_reads_it_again",
            "a_sink_for_who_is_behind",
            "a_cursor_of_another_log",
        ),
    ),
    8: Kept(("tests/test_subscription.py::test_a_reader_that_does_not_read_holds_nobody_up",), ("an_append_that_waits_for_readers",)),
    9: Kept(("tests/test_subscription.py::test_with_every_wake_up_lost_events_are_late_and_never_lost",), ("no_poll", "stale_wake_up")),
    10: Kept(
        ("tests/transports/test_websocket.py::test_stuck_readers_cost_little_and_hurt_nobody",),
        elsewhere=("tests/transports/test_websocket.py::test_stuck_readers_cost_little_and_hurt_nobody",),
    ),
    11: Kept(("tests/client/test_client.py::test_a_reader_that_is_behind_costs_bounded_memory_and_misses_nothing",), (
            "a_full_buffer_that_drops",
            "a_short_way_that_overtakes",
            "a_restart_without_retraction",
            "a_resumed_run_that_does_not_know_where_it_stood",
        ),
    ),
    12: Kept(("tests/test_updates.py::test_nothing_is_lost_however_the_log_is_cut",), ("a_join_that_loses",)),
    13: Kept((f"{SUITE}::test_reading_the_same_before_and_after_a_run_ends",), ("a_snapshot_that_is_behind_its_seq",)),
    14: Kept(
        ("tests/test_transcript.py::test_snapshot_at_every_prefix_and_the_tail_is_the_whole",),
        ("a_live_end_without_what_no_delta_said",),
    ),
    15: Kept(("tests/client/test_connection.py::test_silence_is_a_dead_line",), ("no_watchdog",)),
    16: Kept(
        ("tests/running/test_unsure_store.py::test_a_write_that_landed_although_it_failed_counts",),
        ("two_terminals", "an_end_by_what_the_feed_knows", "a_restart_that_closes_nothing"),
    ),
    17: Kept(("tests/running/test_runner.py::test_messages_queue_in_the_order_accepted",), ("a_thread_that_is_never_busy",)),
    18: Kept(
        (
            "tests/running/test_runner.py::test_messages_queue_in_the_order_accepted",
            "tests/running/test_unsure_store.py::test_what_is_queued_starts_although_the_store_refused_to_start_it",
        ),
        (
            "a_queued_run_that_is_lost",
            "a_queue_that_is_a_stack",
            "a_queue_that_nobody_looks_at_again",
            "a_steered_message_that_ends_with_the_run",
            "a_steered_message_that_dies_with_its_process",
        ),
    ),
    19: Kept(("tests/agents/test_pydantic_ai.py::test_cancel_in_the_middle_of_a_tool_stops_the_tool",), (
            "a_cancel_that_only_says_so",
            "a_deadline_that_is_none",
            "an_edit_that_lets_the_old_run_go_on",
            "a_grace_that_nobody_ends",
            "watchers_whose_leaving_nobody_notices",
        ),
    ),
    20: Kept(
        ("tests/agents/test_pydantic_ai.py::test_the_answer_decides_and_the_tool_runs_at_most_once",),
        (
            "an_approval_that_is_used_twice",
            "a_no_that_is_taken_for_a_yes",
            "a_tool_that_begins_before_its_call_is_written",
            "a_restart_that_does_not_ask_what_was_done",
        ),
    ),
    21: Kept(
        ("tests/running/test_unsure_store.py::test_a_lease_that_was_given_and_not_told_is_used",),
        ("nobody_looks_for_orphans", "a_failed_write_is_taken_for_none", "a_lease_that_nobody_knows_of", "a_fourth_attempt"),
    ),
    22: Kept((f"{SUITE}::test_nothing_with_an_old_fence_is_ever_visible",), ("a_store_that_does_not_look_at_fences", "a_renewal_that_is_waited_for")),
    23: Kept(("tests/test_transcript.py::test_nothing_is_open_once_every_run_has_ended",), ("nothing_is_closed",)),
    24: Kept(
        ("tests/client/test_client.py::test_a_restarted_server_is_found_again_and_nothing_is_missing_or_doubled",),
        ("a_drain_that_takes_and_forgets",),
    ),
}  # fmt: skip


@cache
def parsed(file: str) -> tuple[str, str, dict[str, str]]:
    """Source, docstring and the sources of the test functions of a file."""
    source = (ROOT / file).read_text("utf-8")
    tree = ast.parse(source)
    tests = {
        node.name: ast.get_source_segment(source, node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }
    return source, ast.get_docstring(tree) or "", tests


def cited(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\bI(\d{1,2})\b", text)}


def test_every_number_is_in_the_table_and_on_the_page() -> None:
    assert list(TABLE) == list(range(1, 25))
    rows = re.findall(r"^\| I(\d+) \| \S.*\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number in rows] == list(TABLE)


@pytest.mark.parametrize("number", TABLE)
def test_its_tests_are_there_and_cite_it(number: int) -> None:
    assert TABLE[number].tests
    for name in (*TABLE[number].tests, *TABLE[number].elsewhere):
        file, _, function = name.partition("::")
        _, docstring, tests = parsed(file)
        assert function in tests, f"{name} is not there"
        assert number in cited(tests[function]) | cited(docstring), f"{name} does not cite I{number}"


@pytest.mark.parametrize("number", TABLE)
def test_a_planted_bug_breaks_it(number: int) -> None:
    """That each mutant is caught, and by one of its numbers, is `tests/simulation/test_mutants.py`."""
    kept = TABLE[number]
    assert kept.mutants or kept.elsewhere
    for name in kept.mutants:
        assert name in MUTANTS, f"there is no mutant {name}"
        assert f"I{number}" in MUTANTS[name].breaks, f"{name} says that it breaks {MUTANTS[name].breaks}"


@pytest.mark.parametrize(
    "kind",
    [
        "kill", "pause", "restart", "disk", "room", "clock", "chaos", "stuck", "half_open", "vanish",
        "on_crash", "ask_kill", "files_kill", "cancel", "frames",
    ],
)  # fmt: skip
def test_every_kind_of_fault_has_a_planted_defect(kind: str) -> None:
    _, _, tests = parsed(f"tests/integration/test_{kind}.py")
    assert any(name.startswith("test_planted_") for name in tests)


def test_no_planted_bug_is_left_out() -> None:
    assert {name for kept in TABLE.values() for name in kept.mutants} == set(MUTANTS)
    for found in MUTANTS.values():
        assert found.why.strip(), f"{found.name} does not say what kind of mistake it is"


def test_every_number_that_is_cited_exists() -> None:
    for file in sorted((ROOT / "src").rglob("*.py")):
        assert cited(file.read_text("utf-8")) <= set(range(1, 28)), file
