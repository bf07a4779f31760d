"""What the two OpenAI dialects call things, and what a run cost, in their words.

A response is a run: `resp_<run>`; so is a completion: `chatcmpl-<run>`. An item says which run it is of: `msg_<run>:<message>`. A call that is left to the client is told by a name that
says which run left it, because Chat Completions has nothing else that comes back: `<run>:<call>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from runcast import events as e

RESPONSE = "resp_"
COMPLETION = "chatcmpl-"
MESSAGE = "msg_"
REASONING = "rs_"
CALL = "fc_"
OUTPUT = "fco_"
MCP_CALL = "mcp_"
APPROVAL = "mcpr_"

SERVER_LABEL = "runcast"
"""The server that an approval names: the agent's own tools are on no other."""


RATE_LIMITED = frozenset({"rate_limited", "model_rate_limited"})
"""Codes of runs that failed because of too many requests, here or at the model's provider: OpenAI's status for it is 429."""


def run_of(response: str) -> str | None:
    """The run that a response's id names; None if it is no such id."""
    return response.removeprefix(RESPONSE) if response.startswith(RESPONSE) and response != RESPONSE else None


def run_of_item(item: str) -> str | None:
    """The run whose output an item is in; None if it is no id of ours."""
    prefix, _, name = item.partition("_")
    run = name.rpartition(".")[0] if prefix + "_" == APPROVAL else name.partition(":")[0]
    return run or None


def item_name(run: str, id: str) -> str:
    """What follows the prefix in the id of an item."""
    return f"{run}:{id}"


def call_name(run: str, call: str) -> str:
    """A call that `run` left to the client, as the client calls it."""
    return f"{run}:{call}"


def called(name: str) -> tuple[str, str] | None:
    """The run and the call in such a name; None for a name that another server made."""
    run, colon, call = name.partition(":")
    return (run, call) if run and colon and call else None


class Cost:
    """Token counts of one run, summed over its model calls. All are 0 where the agent reports none."""

    def __init__(self, usage: Sequence[e.TokenUsage] = ()) -> None:
        def total(name: str) -> int:
            return sum(count for one in usage if (count := getattr(one, name)) is not UNSET)

        self.input = total("input_tokens")
        self.output = total("output_tokens")
        self.total = total("total_tokens") or self.input + self.output
        self.cached = total("cached_input_tokens")
        self.reasoning = total("reasoning_tokens")

    def of_completion(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.total,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def of_response(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": 0},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total,
        }


def cost_of(event: e.Event) -> Cost:
    """What the run cost that `event` ends."""
    usage = event.usage if isinstance(event, e.RunFinished | e.RunError) else UNSET
    return Cost(() if usage is UNSET else usage)


def failing_request(event: e.Event) -> str | None:
    """The id under which the server's log tells why a run failed; None if there is none."""
    id = event.request_id if isinstance(event, e.RunError) else UNSET
    return None if id is UNSET else id


def created_of(event: e.Event) -> int:
    """When it happened, in Unix seconds."""
    return 0 if event.timestamp is UNSET else event.timestamp // 1000
