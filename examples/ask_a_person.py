"""An agent that asks: a form, then an approval of exactly what it is about to do. It survives a restart in between.

    runcast serve examples/ask_a_person.py:agent

Answer in the page, or in a terminal: `runcast chat`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

import runcast
from runcast import Declined, RunContext


class Table(BaseModel):
    name: str = Field(min_length=1, description="For whom?")
    people: int = Field(ge=1, le=12)
    on: date
    room: Literal["inside", "terrace"] = "inside"


async def free_tables(room: str) -> int:
    """Stands for a request to somebody's computer."""
    return {"inside": 7, "terrace": 2}[room]


@runcast.agent(resumable=True)
async def agent(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Books a table for you."""
    yield "I book a table. "
    table: Table = await run.ask("What shall I book?", schema=Table)
    left = await run.step("look", free_tables, table.room)  # not asked again after a restart
    yield f"There are {left} left {table.room}. "
    try:
        async with run.tool("book_table", table.model_dump(mode="json"), title="Booking…") as call:
            await call.approve(f"Book a table for {table.people} on {table.on:%d %B}?", editable=Table)
            booked = Table.model_validate(call.arguments)  # a person may have changed them
            call.result = {"number": 4711}
            call.summary = f"Table for {booked.people}"
    except Declined as no:
        yield f"Then I leave it{f': {no.reason}' if no.reason else ''}."
    else:
        yield f"Done: {booked.people} people, {booked.room}, in the name of {booked.name}."
