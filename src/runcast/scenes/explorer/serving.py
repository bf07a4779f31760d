"""The explorer as it is served: its Pydantic AI agent behind Runcast's adapter, with questions to start from."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent

from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.scenes.explorer import DESCRIPTION, STARTERS


class ExplorerAgent(PydanticAIAgent):
    """Named `explorer`."""

    def __init__(self, agent: Agent[None, Any]) -> None:
        super().__init__(agent, name="explorer", description=DESCRIPTION, title="Explorer", starters=STARTERS)
