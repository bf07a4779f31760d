"""A graph of one node that streams the same scripted agent; served by `langgraph dev`."""

from __future__ import annotations

from typing import TypedDict

from agent import parse, tokens
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph


class State(TypedDict):
    prompt: str


async def answer(state: State) -> dict[str, str]:
    write = get_stream_writer()
    async for token in tokens(*parse(state["prompt"])):
        write({"content": token})
    return {}


graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
