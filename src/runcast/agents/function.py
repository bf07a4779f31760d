"""An agent from a plain function: a generator (async or not) that yields, or a function that returns its answer.

    @runcast.agent
    async def greeter(prompt: str, run: RunContext):
        yield f"You said {prompt!r}."

Parameters are filled by what they are: annotated `RunContext`, `RunInput` or `Principal`, or named `run` / `context`, or
named `prompt` / `message` / `text` / `question`, or the one `str` there is. Functions without `async` run in a worker
thread; they write to the log by yielding.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, cast, get_args, get_type_hints, overload

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from runcast.agents.asking import ASKED
from runcast.agents.base import Kept, OnCrash, Turn
from runcast.agents.context import RunContext
from runcast.agents.recorded import JOURNAL, kept
from runcast.agents.recorded import VERSION as JOURNAL_VERSION
from runcast.agents.replaying import Journal
from runcast.agents.yields import Yields
from runcast.errors import ConfigError
from runcast.events import Event, RunFinished
from runcast.jsonvalue import to_json
from runcast.runs import Principal, RunInput

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""What an agent may be called."""

CLOSE_LIMIT_S = 5.0
"""How long a generator's own clean-up may take when its run is over."""

THREADS = 64
"""How many functions without `async` may run at once; more wait. A limit of their own: slow agents must not hold up others'
threads."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("runcast_agent_threads")

_CONTEXT = ("run", "context", "ctx")
_TEXT = ("prompt", "message", "text", "question", "query")
_END: Any = object()

Filler = Callable[[RunInput, RunContext], Any]


class FunctionAgent:
    """A function that can be served. Calling it calls the function, as if it had not been decorated."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        title: str | None = None,
        starters: Sequence[str] = (),
        timeout_s: float | None = None,
        on_crash: OnCrash = "never",
        on_disconnect: Literal["continue", "cancel"] | None = None,
        resumable: bool = False,
        steerable: bool = False,
    ) -> None:
        """
        Raises:
            ConfigError: the name or the signature cannot be served; `problems` lists everything that is wrong.
        """
        self.function = function
        self.name: str = name if name is not None else _name_of(function)
        self.description: str = description if description is not None else _first_paragraph(function)
        self.title = title
        """What people see instead of the name."""
        self.starters = tuple(starters)
        """Messages that an empty conversation suggests."""
        self.timeout_s = timeout_s
        """The run's wall-clock limit in seconds; None: the server's."""
        self.on_crash: OnCrash = on_crash
        """What happens to a run whose process died: it ends (`never`), or the function runs again, up to three times in all:
        from its beginning, unless a tool that is not idempotent had begun (`restart`); or, of a resumable one, without doing
        again what is recorded, unless a step or a tool that is not idempotent had begun and has no result (`resume`)."""
        self.on_disconnect: Literal["continue", "cancel"] | None = on_disconnect
        """What happens to a run when its last watcher is gone; None: what the server's setting says."""
        self.resumable = resumable
        """A question it asked can still be answered after a restart: see `agent`."""
        self.steerable = steerable
        """Whether it reads what is said while it runs, by `run.steered()` or `run.steering()`."""
        problems: list[str] = []
        if not NAME.match(self.name):
            problems.append(f"{self.name!r} is no name for an agent: use 1-64 characters of A-Za-z0-9_-, by name=…")
        if isinstance(starters, str):
            problems.append(f"starters must be a list of messages, not one: starters=[{starters!r}]")
        if timeout_s is not None and not timeout_s > 0:
            problems.append(f"timeout_s must be more than 0 seconds, not {timeout_s!r}")
        if on_crash not in get_args(OnCrash):
            problems.append(f"on_crash must be 'never', 'restart' or 'resume', not {on_crash!r}")
        if on_crash == "resume" and not resumable:
            problems.append("on_crash='resume' needs resumable=True: its steps and tools are recorded then")
        if on_disconnect not in (None, "continue", "cancel"):
            problems.append(f"on_disconnect must be 'continue' or 'cancel', not {on_disconnect!r}")
        self._positional, self._keywords = _fillers(function, problems)
        if problems:
            raise ConfigError(f"The agent {self.name!r} cannot be served: " + "; ".join(problems), problems)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"FunctionAgent({self.name!r})"

    def renamed(self, name: str) -> FunctionAgent:
        """The same function under another name."""
        return FunctionAgent(
            self.function,
            name=name,
            description=self.description,
            title=self.title,
            starters=self.starters,
            timeout_s=self.timeout_s,
            on_crash=self.on_crash,
            resumable=self.resumable,
            on_disconnect=self.on_disconnect,
            steerable=self.steerable,
        )

    def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        return self._replayed(input, context) if self.resumable else self._run(input, context)

    async def _replayed(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        journal, input = await self._journal(input, context)
        context.replay(journal, input)
        try:
            async with aclosing(self._run(input, context)) as events:
                async for event in events:
                    for one in journal.admitted(event):
                        yield one
            for event in journal.finish():
                yield event
        finally:
            if journal.durable and context.saved is None:  # the run ends: nothing goes on from its journal
                context.save(JOURNAL, JOURNAL_VERSION, b"")

    async def _journal(self, input: RunInput, context: RunContext) -> tuple[Journal, RunInput]:
        """The journal of this call, and the input the function was called with at first."""
        keep = partial(context.checkpoint, JOURNAL, JOURNAL_VERSION) if self.on_crash == "resume" else None
        left = context.left
        if keep is not None and left is not None and left.state is not None:
            journal = Journal.of_checkpoint(left, keep=keep)
            return journal, msgspec.structs.replace(input, messages=journal.messages)
        if input.resumes is not None:
            turns = await context.history()
            state = turns[-1].state if turns and turns[-1].run.id == input.resumes else None
            if state is not None and state.adapter == ASKED:
                journal = Journal.of_state(state, input.answers, keep=keep)
                return journal, msgspec.structs.replace(input, messages=journal.messages)
        return Journal.of_messages(input.messages, input.run, keep=keep, left=left), input

    def kept(self, turn: Turn) -> Kept | None:
        """What of an attempt stays if the function is called again; None if it is called as for the first time."""
        return kept(turn)

    async def _run(self, input: RunInput, context: RunContext) -> AsyncGenerator[Event]:
        yields = Yields(context)
        function = self.function
        args = [fill(input, context) for fill in self._positional]
        kwargs = {name: fill(input, context) for name, fill in self._keywords.items()}
        if _is_async(function) or inspect.isgeneratorfunction(_unwrapped(function)):
            value = function(*args, **kwargs)
        else:
            value = await _in_worker(lambda: function(*args, **kwargs))
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            async with aclosing(_closable(cast(AsyncIterator[object], value))) as items:
                async for item in items:
                    events = yields.events(item)
                    if not events:
                        await anyio.lowlevel.checkpoint()  # nothing else waits here: others want their turn
                    for event in events:
                        yield event
        elif isinstance(value, Iterator):
            async with aclosing(_in_thread(cast(Iterator[object], value))) as items:
                async for item in items:
                    for event in yields.events(item):
                        yield event
        elif isinstance(value, str):
            for event in yields.events(value):
                yield event
        elif value is not None:
            for event in yields.finish():
                yield event
            yield RunFinished(thread_id=input.thread, result=to_json(value))
            return
        for event in yields.finish():
            yield event


@overload
def agent(function: Callable[..., Any], /) -> FunctionAgent: ...
@overload
def agent(
    *,
    name: str | None = None,
    description: str | None = None,
    title: str | None = None,
    starters: Sequence[str] = (),
    timeout_s: float | None = None,
    on_crash: OnCrash = "never",
    on_disconnect: Literal["continue", "cancel"] | None = None,
    resumable: bool = False,
    steerable: bool = False,
) -> Callable[[Callable[..., Any]], FunctionAgent]: ...
def agent(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function an agent: `@runcast.agent`, or `@runcast.agent(name=…, description=…, timeout_s=…)`.
    People see `title` instead of the name, and `starters` in the empty conversation.

    A function that asks (`await run.ask(…)`) waits in memory for the answer. If the server stops meanwhile, the answer
    finds nobody: its run says so and offers to try again. With `resumable=True` it is answered all the same: the function is
    *called again* with the same input; the answers it got, and the results of `run.step(key, …)` and `run.tool(…, key=…)`,
    are returned without executing, and what it had written is not written again. So everything with a side effect belongs
    into a step or a keyed tool: **whatever it does outside of them happens twice**. It must ask, say and do the same things
    in the same order; if it does not, its run fails with the code `nondeterministic`.

    Raises:
        ConfigError: at decoration, when the signature cannot be filled or the name cannot be served.
    """
    if function is None:

        def decorate(function: Callable[..., Any]) -> FunctionAgent:
            return FunctionAgent(function, **options)

        return decorate
    return FunctionAgent(function)


# --- filling parameters -----------------------------------------------------------------------------------------------


def _fillers(function: Callable[..., Any], problems: list[str]) -> tuple[list[Filler], dict[str, Filler]]:
    """What to call `function` with, by position and by keyword; what cannot be filled goes to `problems`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        problems.append("its signature cannot be read")
        return [], {}
    hints = _hints(function)
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    named = any(p.name in _TEXT for p in parameters)
    strings = [p.name for p in required if hints.get(p.name) is str and p.name not in (*_TEXT, *_CONTEXT)]
    texts: set[str] = {*_TEXT, *strings} if len(strings) == 1 and not named else {*_TEXT}
    positional: list[Filler] = []
    keywords: dict[str, Filler] = {}
    for parameter in parameters:
        fill = _filler(parameter.name, hints.get(parameter.name), texts)
        if fill is None:
            if parameter in required:
                problems.append(
                    f"its parameter {parameter.name!r} cannot be filled: annotate it RunContext, RunInput or str, "
                    "call it 'run' or 'prompt', or give it a default"
                )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(fill)
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            keywords[parameter.name] = fill
    return positional, keywords


def _filler(name: str, hint: Any, texts: set[str]) -> Filler | None:
    if _is(hint, RunContext) or (hint is None and name in _CONTEXT):
        return lambda input, context: context
    if _is(hint, RunInput):
        return lambda input, context: input
    if _is(hint, Principal):
        return lambda input, context: context.principal
    if name in texts and (hint is None or hint is str or hint == "str"):
        return lambda input, context: input.text
    return None


def _is(hint: Any, kind: type) -> bool:
    return hint is kind or (isinstance(hint, str) and hint.rpartition(".")[2] == kind.__name__)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by parameter; where a name cannot be resolved (TYPE_CHECKING imports), its text."""
    target = _unwrapped(function)
    try:
        return get_type_hints(target)
    except Exception:
        return dict(getattr(target, "__annotations__", {}))


def _unwrapped(function: Callable[..., Any]) -> Any:
    """What is really called: under a partial, and of an object with `__call__` that method."""
    while isinstance(function, functools.partial):
        function = cast(Callable[..., Any], function.func)
    return function if inspect.isroutine(function) else inspect.getattr_static(type(function), "__call__", function)


def _is_async(function: Callable[..., Any]) -> bool:
    target = _unwrapped(function)
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _first_paragraph(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) if inspect.isroutine(function) else inspect.getdoc(type(function))
    return " ".join((text or "").partition("\n\n")[0].split())


# --- iterating --------------------------------------------------------------------------------------------------------


def _closable(items: AsyncIterator[object]) -> AsyncGenerator[object, None]:
    if isinstance(items, AsyncGenerator):
        return cast(AsyncGenerator[object, None], items)

    async def steps() -> AsyncGenerator[object, None]:
        async for item in items:
            yield item

    return steps()


async def _in_thread(items: Iterator[object]) -> AsyncGenerator[object, None]:
    """The steps of a plain generator, each in a worker thread, in one contextvars context.

    A thread cannot be cancelled: when the run is, the step that is going on finishes, then the generator is closed.
    """
    steps = _Steps(items)
    try:
        while True:
            item = await _in_worker(steps.next)
            if item is _END:
                return
            yield item
    finally:
        if steps.stop():
            with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
                await _in_worker(steps.close)


async def _in_worker(work: Callable[[], Any]) -> Any:
    """`work` in a thread. A cancelled run does not wait for it: what it still does is lost."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)


class _Steps:
    def __init__(self, items: Iterator[object]) -> None:
        self._items = items
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._busy = False
        self._stopped = False

    def next(self) -> object:
        """In a worker thread: one step, or the end."""
        with self._lock:
            if self._stopped:
                return _END
            self._busy = True
        try:
            return self._context.run(next, self._items, _END)
        finally:
            with self._lock:
                self._busy = False
                abandoned = self._stopped
            if abandoned:
                self.close()

    def stop(self) -> bool:
        """No step starts after this. True when the caller has to close; false when the step that is going on will."""
        with self._lock:
            self._stopped = True
            return not self._busy

    def close(self) -> None:
        close: Callable[[], object] | None = getattr(self._items, "close", None)
        if close is not None:
            self._context.run(close)
