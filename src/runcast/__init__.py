"""Runcast puts any Python AI agent live in front of people, and never loses a run.

import runcast

@runcast.agent
async def greeter(prompt: str):
    yield f"You said {prompt!r}."

server = runcast.Server(agents=[greeter])  # an ASGI app: run it, or mount it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcast.agents.asking import Approval as Approval
from runcast.agents.asking import Question as Question
from runcast.agents.base import Agent as Agent
from runcast.agents.context import RunContext as RunContext
from runcast.agents.function import agent as agent
from runcast.errors import AgentError as AgentError
from runcast.errors import ConfigError as ConfigError
from runcast.errors import Declined as Declined
from runcast.errors import RuncastError as RuncastError
from runcast.runs import Message as Message
from runcast.runs import RunInput as RunInput

if TYPE_CHECKING:
    from runcast.server import Server as Server

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentError",
    "Approval",
    "ConfigError",
    "Declined",
    "Message",
    "Question",
    "RunContext",
    "RunInput",
    "RuncastError",
    "Server",
    "agent",
]


def __getattr__(name: str) -> Any:
    """`Server` on first use: who writes agents need not load the web framework."""
    if name == "Server":
        from runcast.server import Server

        return Server
    raise AttributeError(f"module 'runcast' has no attribute {name!r}")
