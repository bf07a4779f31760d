"""The scripted model: it thinks, calls tools for real, and answers from what they return."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolDenied
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)

from runcast.errors import ConfigError
from runcast.scenes.explorer import build, scripted


@dataclass
class Talk:
    """A conversation with the explorer; `decide` answers approvals."""

    database: Path | None = None
    decide: Callable[[ToolCallPart], Any] = lambda call: True
    history: list[ModelMessage] = field(default_factory=list[ModelMessage])
    asked: list[ToolCallPart] = field(default_factory=list[ToolCallPart])

    async def say(self, text: str) -> str:
        agent = build(self.database, pace=0)
        self.new: list[ModelMessage] = []
        result = await agent.run(text, message_history=self.history)
        while isinstance(result.output, DeferredToolRequests):
            self.new += result.new_messages()
            self.asked += result.output.approvals
            answers = DeferredToolResults(
                approvals={call.tool_call_id: self.decide(call) for call in result.output.approvals}
            )
            # Through JSON, as the answer may come after a restart.
            saved = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(result.all_messages()))
            result = await agent.run(message_history=saved, deferred_tool_results=answers)
        self.new += result.new_messages()
        self.history = result.all_messages()
        return str(result.output)

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls of the last turn."""
        parts = [part for message in self.new if isinstance(message, ModelResponse) for part in message.parts]
        return [(part.tool_name, part.args_as_dict()) for part in parts if isinstance(part, ToolCallPart)]

    def returned(self, tool: str) -> list[ToolReturnPart]:
        parts = [part for message in self.new for part in message.parts]
        return [part for part in parts if isinstance(part, ToolReturnPart) and part.tool_name == tool]


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.mark.anyio
async def test_show_me_all_tables(talk: Talk) -> None:
    answer = await talk.say("Show me all tables")
    assert talk.calls() == [("list_tables", {"kind": "all"})]
    assert "**3 fact tables, 6 dimensions, 1 bridge and 2 views**" in answer
    assert "| `fact_bs_purchase_order` | 14 | 7,821 |" in answer
    assert all(name in answer for name in ("dimv_bs_supplier", "bridge_bs_supplier_material", "v_bs_open_order"))
    first = talk.new[1]
    assert isinstance(first, ModelResponse) and isinstance(first.parts[0], ThinkingPart), "it thinks before it acts"


@pytest.mark.anyio
async def test_show_relationships_word_for_word(talk: Talk) -> None:
    answer = await talk.say("Show relationships between fact_bs_purchase and suppliers")
    assert talk.calls() == [("find_relationships", {"tables": ["fact_bs_purchase", "suppliers"]})]
    assert "`fact_bs_purchase_order` and `dimv_bs_supplier` are **directly related**" in answer
    assert "`fact_bs_purchase_order`.`supplier_key` → `dimv_bs_supplier`.`supplier_key` (many to one)" in answer
    assert "JOIN dimv_bs_supplier ON fact_bs_purchase_order.supplier_key = dimv_bs_supplier.supplier_key" in answer
    assert "erDiagram" not in answer, "the diagram is beside the chat, not in it"


@pytest.mark.anyio
async def test_counts(talk: Talk) -> None:
    answer = await talk.say("How many rows are in each table?")
    assert "The 12 tables and views have **27,306 rows** in all; the largest is `fact_bs_delivery`." in answer
    assert (await talk.say("how many suppliers are there?")) == "`dimv_bs_supplier` has **48 rows**."


@pytest.mark.anyio
async def test_top_ten_is_composed_from_what_the_tools_tell(talk: Talk) -> None:
    answer = await talk.say("Top 10 suppliers by order value")
    tools = [name for name, _ in talk.calls()]
    assert tools == ["search_columns", "get_table_details", "get_table_details", "run_query"]
    (call,) = talk.asked
    assert call.args_as_dict()["purpose"] == "Find the 10 suppliers with the highest order value"
    (rows,) = [part.content for part in talk.returned("run_query")]
    assert rows["columns"] == ["supplier_name", "total_order_value"] and len(rows["rows"]) == 10
    values = [row[1] for row in rows["rows"]]
    assert values == sorted(values, reverse=True)
    assert answer.startswith(f"**{rows['rows'][0][0]}** has the highest total order value: {values[0]:,.2f}")
    assert all(f"{value:,.2f}" in answer for value in values)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "sql", "rows"),
    [
        ("total order value per month in 2025", "WHERE d.year = 2025", 12),
        ("invoice value per quarter", "GROUP BY 1, 2", 8),
        ("average order value by plant", "ROUND(AVG(p.order_value), 2)", 8),
        ("order value by country", "s.country_code", 8),
        ("orders per supplier", "COUNT(*) AS purchase_orders", 48),
        ("top 5 suppliers", "SUM(p.order_value)", 5),
        ("bottom 3 plants by order value", "ORDER BY total_order_value ASC", 3),
        ("most expensive materials", "m.standard_price", 10),
        ("which suppliers deliver late?", "SUM(d.is_late) AS late", 10),
        ("late deliveries per plant in 2024", "WHERE da.year = 2024", 8),
        ("what is the total order value?", "SUM(p.order_value)", 1),
        ("show me 3 rows of invoices", "LIMIT 3", 3),
        ("run SELECT plant_name FROM dimv_bs_plant", "SELECT plant_name FROM dimv_bs_plant", 8),
    ],
)
async def test_queries_run_after_approval(talk: Talk, text: str, sql: str, rows: int) -> None:
    answer = await talk.say(text)
    (returned,) = talk.returned("run_query")
    assert returned.outcome == "success"
    assert sql in returned.content["sql"]
    assert len(returned.content["rows"]) == rows
    assert answer


@pytest.mark.anyio
async def test_a_denied_query_is_not_run_and_taken_well() -> None:
    talk = Talk(decide=lambda call: ToolDenied("not now"))
    answer = await talk.say("Top 10 suppliers by order value")
    (returned,) = talk.returned("run_query")
    assert returned.outcome == "denied"
    assert answer.startswith("You declined the query, so I did not run it")
    assert "```sql\nSELECT s.supplier_name" in answer
    assert "48" in await talk.say("how many suppliers are there?"), "the conversation goes on"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("drop table dimv_bs_plant", "'DROP' is not"),
        ("run delete from dimv_bs_plant", "'DELETE' is not"),
        ("select 1; select 2", "one statement"),
        ("run select * from nowhere", "no such table: nowhere"),
        ("select * from pragma_table_list", "refused"),
    ],
)
async def test_what_cannot_run_never_asks_for_approval(talk: Talk, text: str, reason: str) -> None:
    answer = await talk.say(text)
    assert reason in answer
    assert talk.asked == []


@pytest.mark.anyio
async def test_follow_ups_know_what_was_spoken_of(talk: Talk) -> None:
    await talk.say("describe suppliers")
    assert await talk.say("how many rows does it have?") == "`dimv_bs_supplier` has **48 rows**."
    assert "`supplier_name`" in await talk.say("and its columns?")
    assert "`dimv_bs_supplier` is connected to **5 tables**" in await talk.say("show its relationships")
    assert "`dimv_bs_plant` is connected to **2 tables**" in await talk.say("what about plants?")
    assert await talk.say("how many rows does it have?") == "`dimv_bs_plant` has **8 rows**."


@pytest.mark.anyio
async def test_without_anything_spoken_of_it_asks_back(talk: Talk) -> None:
    assert (await talk.say("how many rows does it have?")).startswith("Which table do you mean?")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("describe customers", "There is no table like 'customers'"),
        ("how many rows in nowhere", "There is no table like 'nowhere'"),
        ("relationships between suppliers and weather", "There is no table like 'weather'"),
        ("top 10 suppliers by temperature", "no number called *temperature*"),
        ("find columns for temperature", "No column has *temperature* in its name"),
        ("describe price", "`standard_price`"),
        ("write me a poem", "I did not understand that. I am a script"),
        ("hello", "Hello!"),
        ("help", "Show relationships between fact_bs_purchase and suppliers"),
        ("which tables have a price?", "**4 columns** in 4 tables match *price*"),
        ("how are deliveries connected to material groups?", "connected over **2 steps**"),
        ("show all relationships", "**21 relationships** between its tables, 2 of them inferred"),
        ("describe suppliers and plants", "### `dimv_bs_plant`"),
        ("list fact tables", "**3 fact tables**"),
    ],
)
async def test_answers_are_honest(talk: Talk, text: str, part: str) -> None:
    assert part in await talk.say(text)


@pytest.mark.anyio
async def test_any_other_schema(shop: Path) -> None:
    talk = Talk(shop)
    assert "**Acme** has the highest total: 300.5" in await talk.say("top 3 customers by total")
    assert "| 2024-02 | 3.5 |" in await talk.say("freight per month")
    assert "| DE | 2 |" in await talk.say("orders per country")
    assert "no column has *late*" in await talk.say("late orders")
    assert "inferred from the name" in await talk.say("show relationships between orders and customers")


@pytest.mark.anyio
async def test_odd_databases_do_not_break_it(odd: Path, empty: Path, wide: Path) -> None:
    talk = Talk(odd)
    tables = await talk.say("show me all tables")
    assert "``back`tick``" in tables and "`broken` cannot be read: no such table: main.gone." in tables
    assert "| 2 | \\<b\\>x\\</b\\> \\| \\*y\\* | 1 |" in await talk.say("show 5 rows of employee")
    assert '"x""; DROP TABLE employee; --"' in await talk.say('preview x"; DROP TABLE employee; --')
    assert "- `broken`: no such table" in await talk.say("count rows")
    talk = Talk(empty)
    assert await talk.say("show me all tables") == "`empty` has no tables."
    assert await talk.say("show all relationships") == "`empty` has no tables, so there is nothing to relate."
    assert await talk.say("count rows") == "There are no tables to count."
    talk = Talk(wide)
    assert "**200 tables**" in await talk.say("show me all tables")
    assert "40 of 200 tables" in await talk.say("draw an ER diagram")


@pytest.mark.anyio
async def test_the_same_question_gets_the_same_answer() -> None:
    text = "total order value per month"
    assert await Talk().say(text) == await Talk().say(text)


def shape(messages: Sequence[ModelMessage]) -> str:
    return "".join(part.content for message in messages for part in message.parts if isinstance(part, TextPart))


@pytest.mark.anyio
async def test_it_paces_its_tokens_like_a_model() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    agent = build(sleep=sleep)
    pieces: list[str] = []
    async with agent.run_stream("help") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            pieces.append(text)
    answer = "".join(pieces)
    assert answer == scripted.TALK["help"]
    assert len(pieces) > 100, "token by token"
    rate = len(pieces) / sum(waits[1:])
    assert 40 <= rate <= 60
    first = list(waits)
    waits.clear()
    async with agent.run_stream("help") as result:
        await result.get_output()
    assert waits == first, "the jitter is seeded"


@pytest.mark.anyio
async def test_pace_0_never_waits() -> None:
    async def sleep(seconds: float) -> None:
        raise AssertionError("it waited")

    agent = build(pace=0, sleep=sleep)
    async with agent.run_stream("count rows") as result:
        assert "27,306" in str(await result.get_output())


def test_a_model_that_cannot_be_had_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCAST_MODEL", "nobody:no-such-model")
    with pytest.raises(ConfigError, match="nobody:no-such-model"):
        build()


def test_runcast_model_swaps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCAST_MODEL", "test")
    assert type(build().model).__name__ == "TestModel"
    assert type(build(model=scripted.model(0)).model).__name__ == "FunctionModel", (
        "an argument goes before the environment"
    )
    assert "RUNCAST_MODEL" in os.environ


def test_importing_the_scene_imports_no_framework() -> None:
    import subprocess
    import sys

    code = "import sys, runcast.scenes.explorer; print(any(name.startswith('pydantic_ai') for name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "False"


def test_examples_in_the_help_are_understood() -> None:
    from runcast.scenes.explorer import STARTERS
    from runcast.scenes.explorer.questions import Sql, Unclear, understand

    examples = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", scripted.EXAMPLES)
    assert len(examples) >= 10
    for text in (*examples, *STARTERS):
        question = understand(text)
        assert not isinstance(question, Unclear) or text == "run SELECT …", text
        assert not isinstance(question, Sql)
