"""Finds agents by name: `load("my_module:agent", "path/to/file.py:agents")`, and makes agents of what stands there.

An attribute may be: an agent, a pydantic-ai `Agent`, a generator function or another function, a class of one of these
with no arguments to it, or a list or a mapping (by name) of any of them. Frameworks are recognised by what is already
imported, so none is imported here.

Messages are for the operator who wrote the name: they may hold paths and the text of exceptions.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from runcast.agents.base import Agent
from runcast.agents.function import NAME, FunctionAgent
from runcast.errors import ConfigError

DEFAULT_ATTRIBUTES = ("agent", "agents")
"""What is looked for in a module when no attribute is named."""


def load(*targets: str) -> list[Agent]:
    """The agents behind `module:attribute` or `path/to/file.py:attribute`; without an attribute, `agent` or `agents`.

    Raises:
        ConfigError: `problems` lists everything that is wrong with all of them, two agents of one name included.
    """
    problems: list[str] = []
    found: list[tuple[str, Agent]] = []
    for target in targets:
        try:
            found += [(target, agent) for agent in _load_one(target)]
        except ConfigError as error:
            problems += error.problems
    if not targets:
        problems.append("no agent was named: give 'module:attribute' or 'path/to/file.py:attribute'")
    names: dict[str, str] = {}
    for target, agent in found:
        if agent.name in names:
            problems.append(
                f"two agents are called {agent.name!r}, from {names[agent.name]} and {target}: give one another name, "
                'with @runcast.agent(name="…") or that of its function'
            )
        names[agent.name] = target
    if problems:
        raise ConfigError("The agents cannot be served: " + "; ".join(problems), problems)
    return [agent for _, agent in found]


def adapt(value: object, name: str | None = None) -> Agent:
    """`value` as an agent, called `name` if that is given.

    Raises:
        ConfigError: it is none, and nothing that one can be made of.
    """
    if isinstance(value, type):
        raise _unfit(value, "it is a class: make one of it")
    if isinstance(value, FunctionAgent):
        return value if name in (None, value.name) else value.renamed(name)
    pydantic_ai = sys.modules.get("pydantic_ai.agent")
    if pydantic_ai is not None and isinstance(value, pydantic_ai.AbstractAgent):
        from runcast.agents.pydantic_ai import PydanticAIAgent

        return PydanticAIAgent(cast(Any, value), name=name)
    if isinstance(value, Agent) and not inspect.ismodule(value):
        return _checked(value, name)
    if inspect.iscoroutine(value) or inspect.isasyncgen(value) or inspect.isgenerator(value):
        raise _unfit(value, "it has been called already: name the function itself")
    if inspect.isroutine(value) or isinstance(value, functools.partial):
        return FunctionAgent(cast(Callable[..., Any], value), name=name)
    raise _unfit(value, "an agent has `name`, `description` and `run(input, context)`, or is a function")


def adapt_all(values: Iterable[object]) -> list[Agent]:
    """Every one of `values` as an agent.

    Raises:
        ConfigError: `problems` lists everything that is wrong with all of them.
    """
    agents: list[Agent] = []
    problems: list[str] = []
    for value in values:
        try:
            agents.append(adapt(value))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError("The agents cannot be served: " + "; ".join(problems), problems)
    if not agents:
        raise ConfigError("There is no agent to serve.")
    return agents


def _load_one(target: str) -> list[Agent]:
    module, attribute = _import(target)
    if attribute is None:
        attribute = next((item for item in DEFAULT_ATTRIBUTES if hasattr(module, item)), None)
        if attribute is None:
            raise ConfigError(f"{target}: it has no `agent` or `agents`; name the attribute, e.g. {target}:my_agent")
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            near = difflib.get_close_matches(part, [item for item in dir(value) if not item.startswith("_")], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{target}: there is no {part!r} in {_label(value)}{hint}")
        value = getattr(value, part)
    return _all(value, target, attribute.rpartition(".")[2])


def _all(value: object, target: str, attribute: str) -> list[Agent]:
    items: Iterable[tuple[str | None, object]]
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in cast(Mapping[Any, object], value).items()]
    elif isinstance(value, list | tuple):
        items = [(None, item) for item in cast(Sequence[object], value)]
    else:
        items = [(_own_name(value, attribute), value)]
    agents: list[Agent] = []
    problems: list[str] = []
    for name, item in items:
        try:
            agents.append(adapt(item, name))
        except ConfigError as error:
            problems += [f"{target}: {problem}" for problem in error.problems]
    if not agents and not problems:
        problems.append(f"{target}: the collection is empty")
    if problems:
        raise ConfigError("; ".join(problems), problems)
    return agents


def _own_name(value: object, attribute: str) -> str | None:
    """The attribute's name for a framework's agent that has none of its own."""
    named = isinstance(value, FunctionAgent) or inspect.isroutine(value) or getattr(value, "name", None)
    return None if named else attribute


def _import(target: str) -> tuple[ModuleType, str | None]:
    place, _, attribute = target.rpartition(":") if _names_attribute(target) else (target, "", "")
    if not place:
        raise ConfigError(f"{target!r} names no module: write 'module:attribute' or 'path/to/file.py:attribute'")
    path = Path(place)
    try:
        if place.endswith(".py") or "/" in place or "\\" in place:
            return _import_file(target, path), attribute or None
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that `my_agent:agent` beside you is found
        return importlib.import_module(place), attribute or None
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise ConfigError(
                f"{target}: there is no module {error.name!r} in {Path.cwd()} or on the Python path"
            ) from error
        raise ConfigError(f"{target}: importing it failed: {error}. Is the package installed?") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}:{last.lineno}"
        raise ConfigError(f"{target}: importing it failed: {type(error).__name__}: {error} ({where})") from error


def _names_attribute(target: str) -> bool:
    """Whether the last colon parts module and attribute: not that of a drive, `C:\\agents\\mine.py`."""
    attribute = target.rpartition(":")[2]
    return ":" in target and "\\" not in attribute and "/" not in attribute


def _import_file(target: str, path: Path) -> ModuleType:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [item.name for item in path.parent.glob("*.py")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"{target}: there is no file {path.absolute()}{hint}")
    if path.suffix != ".py":
        raise ConfigError(f"{target}: {path.name} is not a Python file")
    full = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(full):
            return module
    folder = str(full.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python file.py` does: its neighbours can be imported
    taken = full.stem in sys.modules or full.stem in sys.stdlib_module_names or not full.stem.isidentifier()
    name = f"runcast_agent_{abs(hash(full))}" if taken else full.stem
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{target}: {full} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Renamed:
    """An agent under another name: that of its key in a mapping."""

    def __init__(self, agent: Agent, name: str) -> None:
        self.name = name
        self.description = agent.description
        self.run = agent.run
        self._agent = agent

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._agent, attribute)


def _checked(agent: Agent, name: str | None) -> Agent:
    wanted = agent.name if name is None else name
    if not NAME.match(wanted):
        raise ConfigError(f"{wanted!r} is no name for an agent: use 1-64 characters of A-Za-z0-9_-")
    return agent if wanted == agent.name else _Renamed(agent, wanted)


def _unfit(value: object, why: str) -> ConfigError:
    return ConfigError(f"{_label(value)} cannot be served as an agent: {why}")


def _label(value: object) -> str:
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("a builtins.", "a ")
