"""The scripted model: what stands behind Pydantic AI's model interface when no real one does.

It has no database of its own. Like a model it reads the conversation, thinks, calls the tools, reads what they return and
writes the answer from that, token by token. What it understands is in `questions`; what it does not, it says.

Each model request is answered from the messages alone: the question is read again, and the script goes on where the results
that are there run out. So it resumes after an approval, a restart or a retry without any memory of its own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import anyio
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from runcast.scenes.explorer import answers, composition, questions
from runcast.scenes.explorer.composition import Composed, NotComposable
from runcast.scenes.explorer.names import words
from runcast.scenes.explorer.questions import (
    IT,
    Count,
    Describe,
    Find,
    Late,
    Preview,
    Question,
    Relate,
    Sql,
    Tables,
    Talk,
    Total,
    Unclear,
)
from runcast.scenes.explorer.results import (
    ColumnHit,
    ColumnSearch,
    QueryRows,
    Relationships,
    RowCounts,
    TableDetails,
    TableList,
)

Sleep = Callable[[float], Awaitable[object]]

TOKENS_PER_SECOND = 50.0
_TOKEN = re.compile(r"\s*(?:\|\s*)?\S{1,6}|\s+$", re.DOTALL)


def model(pace: float = 1.0, *, sleep: Sleep = anyio.sleep) -> FunctionModel:
    """The scripted model. `pace` stretches its time: 1 is about 50 tokens a second, 0 does not wait at all."""

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        step = next_step(messages)
        parts: list[ModelResponsePart] = []
        if step.thought:
            parts.append(ThinkingPart(step.thought))
        if step.text:
            parts.append(TextPart(step.text))
        parts.extend(ToolCallPart(call.tool, dict(call.args)) for call in step.calls)
        return ModelResponse(parts)

    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall] | dict[int, DeltaThinkingPart]]:
        step = next_step(messages)
        rng = random.Random(step.thought + step.text)

        async def wait(tokens: float = 1.0) -> None:
            if pace > 0:
                await sleep(pace * tokens * rng.uniform(0.5, 1.5) / TOKENS_PER_SECOND)

        await wait(12)  # a model reads before it writes
        for token in _TOKEN.findall(step.thought):
            yield {0: DeltaThinkingPart(content=token)}
            await wait(0.7)
        for token in _TOKEN.findall(step.text):
            yield token
            await wait()
        for number, call in enumerate(step.calls, 1):
            yield {number: DeltaToolCall(name=call.tool, json_args="")}
            for token in _TOKEN.findall(json.dumps(call.args, ensure_ascii=False)):
                await wait()
                yield {number: DeltaToolCall(json_args=token)}

    return FunctionModel(respond, stream_function=stream, model_name="runcast-explorer-script")


@dataclass(frozen=True)
class Wanted:
    """A tool call to make."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Done:
    """A tool call that was made, and what came of it."""

    tool: str
    args: Mapping[str, Any]
    outcome: str
    """`success`, `failed`, `denied` or another word of the framework's."""
    content: Any

    @property
    def ok(self) -> bool:
        return self.outcome == "success"

    @property
    def reason(self) -> str:
        """Why it has no result, as the tool said it."""
        return self.content if isinstance(self.content, str) else json.dumps(self.content, ensure_ascii=False)


@dataclass(frozen=True)
class Step:
    """One response of the model: a thought, and either calls or the answer."""

    thought: str = ""
    text: str = ""
    calls: tuple[Wanted, ...] = ()


class Need(Exception):
    """The answer needs calls that were not made yet."""

    def __init__(self, thought: str, calls: Sequence[Wanted]) -> None:
        super().__init__()
        self.step = Step(thought=thought, calls=tuple(calls))


@dataclass(frozen=True)
class Conversation:
    """What the messages say: the question now, and what was done for it so far."""

    question: Question
    done: tuple[Done, ...]
    """The calls since the question, in order."""
    subject: str | None
    """The table that was spoken of last, before the question."""

    def get(self, thought: str, *calls: Wanted) -> list[Done]:
        """The outcome of each call, in order.

        Raises:
            Need: some were not made yet; those are to be made now, together.
        """
        found = [self._find(call) for call in calls]
        missing = [call for call, done in zip(calls, found, strict=True) if done is None]
        if missing:
            raise Need(thought, missing)
        return [done for done in found if done is not None]

    def _find(self, call: Wanted) -> Done | None:
        return next((done for done in self.done if done.tool == call.tool and done.args == call.args), None)


def next_step(messages: Sequence[ModelMessage]) -> Step:
    """What the model says next."""
    conversation = read(messages)
    try:
        return Step(text=_answer(conversation))
    except Need as need:
        return need.step


def read(messages: Sequence[ModelMessage]) -> Conversation:
    """The conversation behind `messages`: follow-ups are resolved against the questions before them."""
    question: Question | None = None
    subject: str | None = None
    done: list[Done] = []
    calls: dict[str, ToolCallPart] = {}
    for message in messages:
        if isinstance(message, ModelResponse):
            calls.update({part.tool_call_id: part for part in message.parts if isinstance(part, ToolCallPart)})
            continue
        for part in message.parts:
            match part:
                case UserPromptPart():
                    subject = _subject(done) or subject
                    done = []
                    text = _prompt(part)
                    question = questions.follow_up(text, question) or questions.understand(text)
                case ToolReturnPart():
                    call = calls.get(part.tool_call_id)
                    done.append(Done(part.tool_name, _args(call), str(part.outcome), part.content))
                case _:
                    pass
    return Conversation(question or Talk("help"), tuple(done), subject)


def _prompt(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return " ".join(
        str(getattr(item, "content", item))
        for item in part.content
        if isinstance(item, str) or hasattr(item, "content")
    )


def _args(call: ToolCallPart | None) -> Mapping[str, Any]:
    return call.args_as_dict() if call is not None else {}


def _subject(done: Sequence[Done]) -> str | None:
    """The table that the results were about."""
    for one in reversed(done):
        content = _object(one.content)
        if not one.ok or content is None:
            continue
        match one.tool:
            case "get_table_details":
                return str(content["table"])
            case "find_relationships" if content.get("matched"):
                return str(content["matched"][0])
            case "count_rows" if len(content.get("counts", ())) == 1:
                return str(content["counts"][0]["table"])
            case _:
                continue
    return None


def _object(content: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", content) if isinstance(content, dict) else None


def _answer(turn: Conversation) -> str:
    question = _resolved(turn.question, turn.subject)
    match question:
        case Tables():
            return _tables(turn, question)
        case Describe():
            return _describe(turn, question)
        case Relate():
            return _relate(turn, question)
        case Find():
            return _find(turn, question)
        case Count():
            return _count(turn, question)
        case Preview():
            return _preview(turn, question)
        case Total():
            return _total(turn, question)
        case Late():
            return _late(turn, question)
        case Sql():
            return _sql(turn, question)
        case Talk():
            return TALK[question.about]
        case Unclear():
            return UNCLEAR
        case None:
            return WHICH


def _resolved(question: Question, subject: str | None) -> Question | None:
    """The question with the table in the place of its pronouns; None if nothing was spoken of yet."""
    match question:
        case Describe() | Relate() | Count() if IT in question.tables:
            if subject is None:
                return None
            return replace(question, tables=tuple(subject if name == IT else name for name in question.tables))
        case Preview() if question.table == IT:
            return replace(question, table=subject) if subject is not None else None
        case _:
            return question


def _tables(turn: Conversation, question: Tables) -> str:
    what = (
        "tables"
        if question.kind in ("all", "table")
        else f"{question.kind}s"
        if question.kind == "view"
        else f"{question.kind} tables"
    )
    (done,) = turn.get(
        f"They want to see the {what} of this database. I list them from the catalogue, so that the answer is what is really there.",
        Wanted("list_tables", {"kind": question.kind}),
    )
    return answers.tables(cast(TableList, done.content)) if done.ok else _failed(done)


def _describe(turn: Conversation, question: Describe) -> str:
    names = answers.listed(question.tables)
    many = len(question.tables) > 1
    found = turn.get(
        f"They want to know about {names}. I read {'their descriptions' if many else 'its description'} from the catalogue: columns, keys and references.",
        *(Wanted("get_table_details", {"table": name}) for name in question.tables),
    )
    if not many and not found[0].ok:
        # No such table: it may be a column.
        (search,) = turn.get(
            f"There is no table like {question.tables[0]}. Perhaps it is a column: I search for it.",
            Wanted("search_columns", {"query": question.tables[0]}),
        )
        if search.ok and cast(ColumnSearch, search.content)["hits"]:
            return f"{found[0].reason}\n\nBut there are columns of that name. {answers.columns(cast(ColumnSearch, search.content))}"
        return f"{_failed(found[0])}\n\n{HINT}"
    good = answers.details([cast(TableDetails, one.content) for one in found if one.ok])
    return "\n\n".join([good, *(_failed(one) for one in found if not one.ok)]).strip()


def _relate(turn: Conversation, question: Relate) -> str:
    names = answers.listed(question.tables)
    if len(question.tables) >= 2:
        thought = f"They ask how {names} belong together. I follow the foreign keys between them and draw the tables involved."
    elif question.tables:
        thought = f"They ask what {names} is connected to. I look at the references in both directions and draw them."
    else:
        thought = "They want the whole picture. I collect every foreign key of the schema and draw one diagram of it."
    args: dict[str, Any] = {"tables": list(question.tables)} if question.tables else {}
    (done,) = turn.get(thought, Wanted("find_relationships", args))
    return answers.relationships(cast(Relationships, done.content)) if done.ok else _failed(done)


def _find(turn: Conversation, question: Find) -> str:
    (done,) = turn.get(
        f"They look for columns about {question.term}. I search the column names of all tables.",
        Wanted("search_columns", {"query": question.term}),
    )
    return answers.columns(cast(ColumnSearch, done.content)) if done.ok else _failed(done)


def _count(turn: Conversation, question: Count) -> str:
    names = answers.listed(question.tables)
    thought = f"They want to know how many rows there are in {names or 'every table'}. I count them, an estimate would not do."
    args: dict[str, Any] = {"tables": list(question.tables)} if question.tables else {}
    (done,) = turn.get(thought, Wanted("count_rows", args))
    return answers.counts(cast(RowCounts, done.content)) if done.ok else _failed(done)


def _preview(turn: Conversation, question: Preview) -> str:
    (described,) = turn.get(
        f"They want to see rows of {question.table}. First I find out which table that is.",
        Wanted("get_table_details", {"table": question.table}),
    )
    if not described.ok:
        return _failed(described)
    return _run(turn, composition.preview(cast(TableDetails, described.content), question.rows), question)


def _sql(turn: Conversation, question: Sql) -> str:
    return _run(turn, Composed(question.text, "Run the statement you wrote"), question, own=True)


def _run(turn: Conversation, composed: Composed, question: Question, *, own: bool = False) -> str:
    thought = (
        "They wrote the SQL themselves. I hand it to the query tool, which checks that it only reads and asks for approval."
        if own
        else f"Now I know the tables and how they join. {composed.purpose}: one SELECT does it, and the person approves it first."
    )
    (done,) = turn.get(thought, Wanted("run_query", {"sql": composed.sql, "purpose": composed.purpose}))
    if done.outcome == "denied":
        shown = "" if own else f"\n\nThis is what I would have run:\n\n{answers.sql_block(composed.sql)}"
        return f"You declined the query, so I did not run it and nothing was read.{shown}\n\nTell me what to change, or ask for something else."
    if not done.ok:
        return f"{_failed(done)}" + ("" if own else f"\n\n{answers.sql_block(composed.sql)}")
    text = answers.rows(cast(QueryRows, done.content), question)
    return text if own else f"{text}\n\nThe query behind it:\n\n{answers.sql_block(composed.sql)}"


def _total(turn: Conversation, question: Total) -> str:
    per_time = question.per in composition.TIME_WORDS
    wanted: list[Wanted] = []
    if question.function != "COUNT":
        wanted.append(Wanted("search_columns", {"query": question.measure or "value"}))
    else:
        wanted.append(Wanted("get_table_details", {"table": question.measure}))
    if question.per and not per_time:
        wanted.append(Wanted("get_table_details", {"table": question.per}))
    about = f" per {question.per}" if question.per else ""
    found = turn.get(
        f"They ask for {question.measure or 'a ranking'}{about}. I need the column that holds the number"
        + (f" and the table of {question.per}." if question.per and not per_time else "."),
        *wanted,
    )
    group = cast(TableDetails, found[1].content) if len(found) > 1 and found[1].ok else None
    base: TableDetails | None = None
    measure: str | None = None
    if question.function == "COUNT" and found[0].ok:
        base = cast(TableDetails, found[0].content)
    elif question.function == "COUNT":
        return _total(turn, replace(question, function="SUM"))  # no table of that name: it may be a number
    else:
        hit = (
            _measure(cast(ColumnSearch, found[0].content), group, named=bool(question.measure)) if found[0].ok else None
        )
        if hit is None and question.measure:
            (counted,) = turn.get(
                f"No number is called {question.measure}. It may be a table whose rows are to be counted.",
                Wanted("get_table_details", {"table": question.measure}),
            )
            if not counted.ok:
                return f"I found no number called *{question.measure}* in any table, and no table of that name. Try *search columns for …* to see what there is."
            base = cast(TableDetails, counted.content)
        elif hit is None:
            return "I found no column that holds a value to rank by. Say which one, for example *top 10 … by …*."
        else:
            measure = hit["column"]
            base = group if group is not None and group["table"] == hit["table"] else None
            if base is None:
                (described,) = turn.get(
                    f"The number is `{hit['table']}.{measure}`. Next I look at how that table refers to others.",
                    Wanted("get_table_details", {"table": hit["table"]}),
                )
                if not described.ok:
                    return _failed(described)
                base = cast(TableDetails, described.content)
    column: str | None = None
    note = ""
    if question.per and not per_time and group is None:
        (search,) = turn.get(
            f"There is no table of {question.per}; I look for a column of that name.",
            Wanted("search_columns", {"query": question.per}),
        )
        places = _columns_near(cast(ColumnSearch, search.content), base) if search.ok else []
        if not places:
            return f"I found neither a table nor a column called *{question.per}* that `{base['table']}` could be grouped by."
        place = places[0]
        column = place["column"]
        others = [f"`{one['table']}.{one['column']}`" for one in places[1:4] if one["table"] != place["table"]]
        if others:
            note = f"I took `{place['table']}.{column}`; {answers.listed(others)} would fit as well."
        group = base
        if place["table"] != base["table"]:
            (described,) = turn.get(
                f"`{place['table']}.{column}` is what they mean. I read that table to join it.",
                Wanted("get_table_details", {"table": place["table"]}),
            )
            if not described.ok:
                return _failed(described)
            group = cast(TableDetails, described.content)
    try:
        dates = _dates(turn, base) if per_time or question.year is not None else None
        composed = composition.total(question, measure, base, group, dates, column)
    except NotComposable as error:
        return f"{error} Ask *show relationships between …* to see what connects them."
    return "\n\n".join(filter(None, [_run(turn, composed, question), note]))


def _late(turn: Conversation, question: Late) -> str:
    (search,) = turn.get(
        "They ask about lateness. I look for a column that says whether, or by how many days, something came late.",
        Wanted("search_columns", {"query": "late"}),
    )
    if not search.ok:
        return _failed(search)
    content = cast(ColumnSearch, search.content)
    flags, numbers = composition.flags(content), composition.measures(content)
    if not flags and not numbers:
        return "Nothing in this database says what was late: no column has *late* in its name."
    table = (flags or numbers)[0]["table"]
    flag = flags[0]["column"] if flags else None
    amount = next((hit["column"] for hit in numbers if hit["table"] == table), None)
    wanted = [Wanted("get_table_details", {"table": table})]
    if question.per:
        wanted.append(Wanted("get_table_details", {"table": question.per}))
    found = turn.get(f"`{table}` knows what was late. I read how it refers to other tables.", *wanted)
    for one in found:
        if not one.ok:
            return _failed(one)
    base = cast(TableDetails, found[0].content)
    group = cast(TableDetails, found[1].content) if question.per else _usual_group(turn, base)
    try:
        dates = _dates(turn, base) if question.year is not None else None
        composed = composition.late(question, flag, amount, base, group, dates)
    except NotComposable as error:
        return str(error)
    return _run(turn, composed, question)


def _usual_group(turn: Conversation, base: TableDetails) -> TableDetails | None:
    """Whom lateness is asked of when nobody says: suppliers, vendors, carriers, customers."""
    for one in base["references"]:
        if re.search("supplier|vendor|carrier|customer|shipper", one["target"], re.IGNORECASE):
            (described,) = turn.get(
                f"Lateness is most useful per partner, so I look at `{one['target']}`.",
                Wanted("get_table_details", {"table": one["target"]}),
            )
            return cast(TableDetails, described.content) if described.ok else None
    return None


def _dates(turn: Conversation, base: TableDetails) -> TableDetails | None:
    reference = composition.date_link(base)
    if reference is None:
        return None
    (described,) = turn.get(
        f"The dates are in `{reference['target']}`, over `{reference['columns'][0]}`. I check what it calls its months and years.",
        Wanted("get_table_details", {"table": reference["target"]}),
    )
    return cast(TableDetails, described.content) if described.ok else None


_USUAL = frozenset({"order", "orders", "sales", "sale", "revenue", "total", "turnover", "net"})
"""What people rank by when they do not say."""


def _measure(search: ColumnSearch, group: TableDetails | None, *, named: bool) -> ColumnHit | None:
    """The number that is meant: of the best fits, one that is in the group's table or in a table that refers to it."""
    found = composition.measures(search)
    if not found:
        return None
    best = [hit for hit in found if hit["match"] >= found[0]["match"] - 0.01]
    if group is not None:
        near = {one["table"] for one in group["referenced_by"]}
        best.sort(key=lambda hit: (hit["table"] != group["table"], hit["table"] not in near))
    if not named:
        best.sort(key=lambda hit: not _USUAL & set(words(hit["column"])))
    return best[0] if best[0]["match"] >= 0.6 else None


def _columns_near(search: ColumnSearch, base: TableDetails) -> list[ColumnHit]:
    """The best hits in `base` and in the tables that it refers to, in the order of its references."""
    reach = [base["table"], *(one["target"] for one in base["references"])]
    near = [hit for hit in search["hits"] if hit["table"] in reach and "key" not in hit]
    best = [hit for hit in near if hit["match"] >= near[0]["match"] - 0.01]
    return sorted(best, key=lambda hit: reach.index(hit["table"]))


def _failed(done: Done) -> str:
    return done.reason


HINT = "Ask *show me all tables* to see what there is, or *help* for what I understand."
WHICH = "Which table do you mean? Name one, or ask *show me all tables*."
EXAMPLES = """\
- **Tables**: *Show me all tables*, *which fact tables are there?*
- **One table**: *Describe suppliers*, *columns of fact_bs_delivery*
- **Relationships**: *Show relationships between fact_bs_purchase and suppliers*, *draw an ER diagram*
- **Columns**: *Which tables have a price?*
- **Counts**: *How many rows are in each table?*
- **Queries**, after your approval: *Top 10 suppliers by order value*, *total order value per month in 2025*, *which suppliers deliver late?*, or SQL of your own: *run SELECT …*"""
TALK = {
    "hello": f"Hello! I explore this database with you. You can ask for:\n\n{EXAMPLES}",
    "help": f"I look into this database, live and read only. You can ask for:\n\n{EXAMPLES}",
    "thanks": "You are welcome. Ask on whenever you like.",
    "bye": "Goodbye. The conversation stays here, should you come back.",
}
UNCLEAR = (
    "I did not understand that. I am a script that stands in for a language model, so I know only some ways to ask. "
    f"These work, among others:\n\n{EXAMPLES}"
)
