"""The explorer behind Runcast's adapter: the events a log gets from it."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import anyio
import pytest
from anyio import from_thread

from runcast import events as e
from runcast.agents.base import Agent
from runcast.errors import ConfigError
from runcast.scenes import explorer
from runcast.scenes.explorer import STARTERS, exploration, runcast_agent
from runcast.testing.agent_suite import AgentSuite, check
from runcast.testing.scripted import Collected, collect

FOREVER = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c"


class TestConformance(AgentSuite):
    prompt = "Show relationships between fact_bs_purchase and suppliers"

    def make_agent(self) -> Agent:
        return runcast_agent(pace=0)


def artifacts(events: Collected) -> dict[str, Any]:
    return {event.kind: event.content for event in events if isinstance(event, e.ArtifactSnapshot)}


def results(events: Collected) -> list[e.ToolCallResult]:
    return [event for event in events if isinstance(event, e.ToolCallResult)]


def test_is_served_under_its_name() -> None:
    agent = explorer.agent
    assert agent is explorer.agent, "made once, when it is first asked for"
    assert (agent.name, agent.starters) == ("explorer", STARTERS)
    assert agent.description
    with pytest.raises(ConfigError):
        runcast_agent("/nowhere/at/all.db")


@pytest.mark.anyio
async def test_tables_bring_metrics_and_the_table_view() -> None:
    events = await collect(runcast_agent(pace=0), "Show me all tables")
    shown = artifacts(events)
    assert shown["metrics"]["total_tables"] == 12 and shown["metrics"]["facts_count"] == 3
    assert shown["canvas_trigger"]["view_type"] == "table_list"
    starts = [event for event in events if isinstance(event, e.ToolCallStart)]
    assert [event.title for event in starts] == ["Listing the tables…"]
    assert [event.summary for event in results(events)] == ["Found 12 tables"]
    assert events.text.startswith("`dm_bs_purchase` has **3 fact tables")
    assert "| Table | Columns | Rows |\n| --- | ---: | ---: |\n| `fact_bs_delivery` | 11 | 8,236 |\n" in events.text


@pytest.mark.anyio
async def test_relationships_bring_a_diagram_that_belongs_to_the_call() -> None:
    events = await collect(runcast_agent(pace=0), "Show relationships between fact_bs_purchase and suppliers")
    shown = artifacts(events)
    assert shown["diagram"].startswith("erDiagram\n")
    assert 'dimv_bs_supplier ||--o{ fact_bs_purchase_order : "supplier_key"' in shown["diagram"]
    assert shown["canvas_trigger"] == {
        "action": "switch_view",
        "view_type": "er_diagram",
        "entity_name": "fact_bs_purchase_order",
        "query": "Show relationships between fact_bs_purchase and suppliers",
        "reason": "A diagram shows the relationships of fact_bs_purchase_order and dimv_bs_supplier",
        "confidence": 0.95,
    }
    assert shown["metrics"]["schema_name"] == "dm_bs_purchase"
    (result,) = results(events)
    diagram = next(event for event in events if isinstance(event, e.ArtifactSnapshot) and event.kind == "diagram")
    assert diagram.tool_call_id == result.tool_call_id
    assert diagram.name == "Relationships: fact_bs_purchase_order and dimv_bs_supplier"
    order = [type(event) for event in events]
    assert order.index(e.ReasoningStart) < order.index(e.ToolCallStart) < order.index(e.ArtifactSnapshot)
    assert order.index(e.ArtifactSnapshot) < order.index(e.ToolCallResult) < order.index(e.TextMessageStart)


@pytest.mark.anyio
async def test_counting_reports_its_progress_in_order() -> None:
    events = await collect(runcast_agent(pace=0), "How many rows are in each table?")
    progress = [event for event in events if isinstance(event, e.ToolCallProgress)]
    assert [event.progress for event in progress] == list(range(13))
    assert {event.total for event in progress} == {12}
    assert progress[0].message == "Counting 12 tables"
    assert progress[8].message == "Counted fact_bs_delivery: 8,236 rows"
    assert progress[8].data == {"table": "fact_bs_delivery", "rows": 8236}
    assert [event.summary for event in results(events)] == ["Counted 27,306 rows in 12 tables"]


@pytest.mark.anyio
async def test_a_query_waits_for_a_person_and_runs_after_the_yes() -> None:
    """I20: never without an approval, at most once with one."""
    agent = runcast_agent(pace=0)
    asked = await collect(agent, "Top 10 suppliers by order value")
    check(asked)
    (interrupt,) = asked.interrupts
    end = asked[-1]
    assert isinstance(end, e.RunFinished) and end.outcome is not None
    assert not any(
        isinstance(one.result, dict) and "rows" in one.result and "sql" in one.result for one in results(asked)
    )
    answered = await collect(agent, resume=asked, answers={interrupt.id: {"approved": True}})
    check(answered)
    (result,) = results(answered)
    assert result.tool_call_id == interrupt.tool_call_id
    assert result.summary == "Found 10 rows"
    assert "has the highest total order value" in answered.text


@pytest.mark.anyio
async def test_a_query_that_was_denied_is_not_run() -> None:
    agent = runcast_agent(pace=0)
    asked = await collect(agent, "Top 10 suppliers by order value")
    (interrupt,) = asked.interrupts
    answered = await collect(agent, resume=asked, answers={interrupt.id: {"approved": False}})
    (result,) = results(answered)
    assert result.status == "denied"
    assert answered.text.startswith("You declined the query")
    after = await collect(agent, "how many plants are there?", history=[asked, answered])
    assert after.text == "`dimv_bs_plant` has **8 rows**."


@pytest.mark.anyio
async def test_edited_sql_is_checked_again() -> None:
    agent = runcast_agent(pace=0)
    asked = await collect(agent, "run SELECT plant_name FROM dimv_bs_plant")
    (interrupt,) = asked.interrupts
    edited = {"approved": True, "editedArgs": {"sql": "DELETE FROM dimv_bs_plant", "purpose": ""}}
    answered = await collect(agent, resume=asked, answers={interrupt.id: edited})
    assert all(result.status == "error" for result in results(answered))
    assert not any(isinstance(result.result, dict) and "rows" in result.result for result in results(answered))


@pytest.mark.anyio
async def test_follow_ups_over_runs() -> None:
    agent = runcast_agent(pace=0)
    first = await collect(agent, "describe suppliers")
    second = await collect(agent, "and its relationships?", history=[first])
    assert "`dimv_bs_supplier` is connected to **5 tables**" in second.text


@pytest.mark.anyio
async def test_stop_stops_a_query_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """I19: the statement is interrupted, and its thread has left it when the run is over."""
    running, ended = anyio.Event(), threading.Event()
    query = exploration.query

    def watched(connection: sqlite3.Connection, sql: str) -> Any:
        from_thread.run_sync(running.set)
        try:
            return query(connection, sql)
        finally:
            ended.set()

    monkeypatch.setattr(exploration, "query", watched)
    agent = runcast_agent(pace=0)
    asked = await collect(agent, FOREVER)
    (interrupt,) = asked.interrupts
    with anyio.fail_after(5):
        stopped = await collect(agent, resume=asked, answers={interrupt.id: {"approved": True}}, cancel_when=running)
    assert stopped.cancelled
    assert ended.is_set()
    assert results(stopped) == []


@pytest.mark.anyio
async def test_a_query_that_takes_too_long_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runcast.scenes.explorer.database.TIME_LIMIT_S", 0.2)
    agent = runcast_agent(pace=0)
    asked = await collect(agent, FOREVER)
    (interrupt,) = asked.interrupts
    answered = await collect(agent, resume=asked, answers={interrupt.id: {"approved": True}})
    (result,) = results(answered)
    assert result.status == "error"
    assert "took too long and was stopped" in answered.text
