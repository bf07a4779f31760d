"""Pydantic AI agents: `PydanticAIAgent(agent)` serves a `pydantic_ai.Agent` as it is.

Text, thinking, tool calls, progress, approvals, structured output and usage are mapped to events. History is kept per run
(`pydantic_ai_history`). A tool that needs approval ends the run as *waiting*; the answers start a run that goes on from the
saved messages, so waiting needs no process. Stopping closes the model's stream and cancels tools; tools without `async` run
in threads that cannot be stopped.

Importing this module imports pydantic-ai.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, suppress
from typing import Any, Literal, cast, get_args, get_origin

import anyio
from msgspec import UNSET
from pydantic_ai import exceptions as pai
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.messages import (
    EnqueuedMessagesEvent,
    FunctionToolCallEvent,
    ModelMessage,
    ModelResponse,
    PartStartEvent,
    ToolCallPart,
    repair_messages,
)
from pydantic_ai.output import NativeOutput, PromptedOutput
from pydantic_ai.run import AgentRunResultEvent
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDefinition, ToolDenied
from pydantic_ai.usage import UsageLimits

from runcast import events as e
from runcast.agents.asking import approval_schema, args_hash
from runcast.agents.base import Kept, OnCrash, Turn
from runcast.agents.context import RunContext
from runcast.agents.function import NAME
from runcast.agents.pydantic_ai_checkpoint import Steps, kept, recover, unheard
from runcast.agents.pydantic_ai_client import client_toolset, elsewhere, with_state
from runcast.agents.pydantic_ai_client import results as returned
from runcast.agents.pydantic_ai_files import Sent, prompt_of
from runcast.agents.pydantic_ai_guard import Guard
from runcast.agents.pydantic_ai_history import arguments, messages_of, save
from runcast.agents.pydantic_ai_patience import retry_after_s
from runcast.agents.pydantic_ai_steering import Steerer
from runcast.agents.pydantic_ai_stream import Artifact, Stream, ToolProgress, ToolText
from runcast.agents.sheltered import OnCancel
from runcast.errors import AgentError, ConfigError, RunTimeout
from runcast.events import Event
from runcast.forms import BadForm, check_form, inlined
from runcast.jsonvalue import to_json
from runcast.runs import Answer, RunInput
from runcast.transcript import InterruptPart

__all__ = ["Artifact", "PydanticAIAgent", "ToolProgress", "ToolText"]

logger = logging.getLogger("runcast.agents")

RESULT_LIMIT_S = 0.5
"""How long the result of a tool that has ended may take to be told."""

CLOSE_LIMIT_S = 8.0
"""How long a stopped run may take to close its model and tools; under the runner's own deadline of 10 s."""

TEXT_FIELDS = ("response", "answer", "message", "text", "content")
"""Which field of a structured output is its text, if `text_field` does not say so: the first of these that it has."""

ARTIFACT_FIELDS = ("diagram", "canvas_trigger", "metrics")
"""Fields of a structured output that are things to show beside the text."""

CHANGED = "The tool call was denied: its arguments are not the ones that were approved (arguments_changed)."
"""What the model and the person are told when saved messages do not hold what was asked about (I20)."""

Deps = Any
DepsFactory = Callable[[RunContext], Any]


class PydanticAIAgent:
    """A pydantic-ai agent that can be served.

    Args:
        agent: used as it is; several runs at once share it.
        name: what clients call it; else the agent's own name.
        deps: the same dependencies for every run.
        deps_factory: makes a run's dependencies from its context: a value, an awaitable of one, or a context manager (async
            or not) that is left when the run ends.
        text_field: the field of a structured output that is streamed as the answer's text; None: the first of
            `TEXT_FIELDS` that it has. An output with neither that nor an artifact is shown whole, as JSON.
        tools: sentences for people, by tool; a tool may carry its own as `metadata={"runcast": {"title": …, "summary": …}}`.
        usage_limits, model_settings: handed to each run.
        on_crash: what happens to a run whose process died: `never`, it ends; `restart`, it begins again, unless a tool that
            is not idempotent had begun; `resume`, it goes on after its last complete step, and the model is told of tools
            whose result was lost.
        on_disconnect: what happens to a run when its last watcher is gone; None: what the server's setting says.

    Raises:
        ConfigError: without a usable name, with both `deps` and `deps_factory`, or with a tool that needs approval in an
            agent whose output cannot say so.
    """

    steerable = True
    """A message handed to the run is in the next request to its model, or leads to one more."""

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        name: str | None = None,
        description: str | None = None,
        title: str | None = None,
        starters: Sequence[str] = (),
        deps: Deps = None,
        deps_factory: DepsFactory | None = None,
        text_field: str | None = None,
        tools: Mapping[str, ToolText] | None = None,
        usage_limits: UsageLimits | None = None,
        model_settings: ModelSettings | None = None,
        timeout_s: float | None = None,
        on_crash: OnCrash = "never",
        on_disconnect: Literal["continue", "cancel"] | None = None,
    ) -> None:
        self.agent = agent
        self.name: str = name or agent.name or "agent"
        own = agent.description
        self.description: str = description if description is not None else own if isinstance(own, str) else ""
        self.title = title
        self.starters = tuple(starters)
        self.timeout_s = timeout_s
        self.on_crash: OnCrash = on_crash
        self.on_disconnect = on_disconnect
        self._deps = deps
        self._deps_factory = deps_factory
        self._usage_limits = usage_limits
        self._model_settings = model_settings
        self._tools = {**_tool_texts(agent), **(tools or {})}
        problems: list[str] = []
        if not NAME.match(self.name):
            problems.append(f"{self.name!r} is no name for an agent: give one by name=, 1-64 characters of A-Za-z0-9_-")
        if isinstance(starters, str):
            problems.append(f"starters must be a list of messages, not one: starters=[{starters!r}]")
        if deps is not None and deps_factory is not None:
            problems.append("deps and deps_factory exclude each other: give one")
        if on_crash not in get_args(OnCrash):
            problems.append(f"on_crash must be 'never', 'restart' or 'resume', not {on_crash!r}")
        if on_disconnect not in (None, "continue", "cancel"):
            problems.append(f"on_disconnect must be 'continue' or 'cancel', not {on_disconnect!r}")
        self._output_type = self._with_deferred(problems)
        if problems:
            raise ConfigError(f"The agent {self.name!r} cannot be served: " + "; ".join(problems), problems)
        self._structured: Literal["no", "tool", "text"] = _structured(agent.output_type)
        self._text_field = text_field or _text_field(agent.output_type)

    def __repr__(self) -> str:
        return f"PydanticAIAgent({self.name!r})"

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        turns = await context.history()
        history = await messages_of(turns, context)
        if input.client.history:
            history = [*repair_messages(await elsewhere(input.client.history, context)), *history]
        recovered = None if context.left is None else await recover(context.left, context)
        if recovered is not None:
            # Of a run that an answer began the first message is that answer's results: the calls are not without any.
            answers = input.resumes is not None or bool(input.tool_results)
            history = [*repair_messages(history, repair_last_response=not answers), *recovered.messages]
            results, resumed = recovered.results, recovered.again
        else:
            results, resumed = _results(input, turns, history)
            if input.tool_results:
                results = returned(input.tool_results, _open_calls(history))
                resumed = frozenset[str](results.calls if results is not None else ())
            if results is None:
                history = repair_messages(history)  # a question that was never answered must not block the next message
        before = recovered.messages if recovered else []
        prompt = await prompt_of(input, context)
        steps = Steps(context, recovered, prompt.sent) if self.on_crash == "resume" else None
        guard = self._guard(context)
        stream = Stream(
            new_id=context.new_id,
            resumed=resumed,
            returned=resumed if input.tool_results else frozenset[str](),
            text_field=self._text_field,
            structured=self._structured,
            sentences=lambda name: self._tools.get(name, ToolText()),
        )
        options: dict[str, Any] = {
            "message_history": history or None,
            "deferred_tool_results": results,
            "usage_limits": self._usage_limits,
            "model_settings": self._model_settings,
            "infer_name": False,
        }
        if self._output_type is not None:
            options["output_type"] = self._output_type
        tools = self._client_tools(input)
        if tools is not None:
            options["toolsets"] = [tools]
        async with AsyncExitStack() as stack:
            options["deps"] = with_state(await self._make_deps(context, stack), context)
            again = unheard(context.left, recovered.checkpoint, input.messages) if context.left and recovered else ()
            steerer = Steerer(context, prompt.sent, again)
            options["capabilities"] = [steerer] if guard is None else [guard, steerer]
            said = None if recovered else prompt.content
            running = cast(Any, self.agent.run_stream_events(said, **options))
            try:
                async with running as events:
                    try:
                        async for event in events:
                            if isinstance(event, AgentRunResultEvent):
                                done = cast(AgentRunResultEvent[Any], event).result
                                messages = [*before, *done.new_messages()]
                                save(context, messages, prompt.sent)
                                for end in self._end(input, context, done.output, messages):
                                    yield end
                                continue
                            if isinstance(event, EnqueuedMessagesEvent):
                                await steerer.read(event)
                                continue
                            if steps is not None and isinstance(event, PartStartEvent | FunctionToolCallEvent):
                                steps.take(events.new_messages(), stream.texts, stream.calls, steerer.heard)
                            for mapped in stream.events(event):
                                yield mapped
                            if guard is not None and isinstance(event, FunctionToolCallEvent):
                                guard.announce(event.part.tool_call_id)
                    finally:
                        if guard is not None:
                            guard.stopped = True
                            with anyio.CancelScope(shield=True):  # the runner ends their time
                                await _let_end(context, guard, stream, events)
                        # Under a shield: a cancelled scope would interrupt pydantic-ai's clean-up again and again.
                        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
                            await events.aclose()
                        if context.saved is None:
                            _save_partial(context, before, events, prompt.sent)
            except pai.RunTimedOut as error:
                raise RunTimeout("The agent took too long and was stopped.") from error
            except pai.RunCancelled:
                yield e.RunFinished(
                    thread_id=input.thread, outcome=e.Outcome(type="cancelled"), reason="The agent stopped itself."
                )
            except Exception as error:
                known = explained(error)
                if known is None:
                    raise
                raise known from error

    def _end(
        self, input: RunInput, context: RunContext, output: object, messages: Sequence[ModelMessage]
    ) -> list[Event]:
        """What a finished run says last: artifacts and its result, or the questions it waits for."""
        usage = usage_of(messages)
        if isinstance(output, DeferredToolRequests):
            left = [call.tool_call_id for call in output.calls if input.client.tool(call.tool_name) is not None]
            if len(left) == len(output.calls) and not output.approvals:
                outcome = e.Outcome(type="success", pending_tool_call_ids=left)
                return [e.RunFinished(thread_id=input.thread, outcome=outcome, usage=usage or UNSET)]
            asked = _questions(input, output, dict(_definitions(self.agent.toolsets)))
            outcome = e.Outcome(type="interrupt", interrupts=[one.interrupt for one in asked])
            return [*asked, e.RunFinished(thread_id=input.thread, outcome=outcome, usage=usage or UNSET)]
        events: list[Event] = []
        result: Any = UNSET
        if output is not None and not isinstance(output, str):
            given: Any = to_json(output)
            result = given
            fields = cast(dict[str, Any], given) if isinstance(given, dict) else {}
            events += [
                e.ArtifactSnapshot(artifact_id=context.new_id(), kind=name, content=fields[name])
                for name in ARTIFACT_FIELDS
                if fields.get(name) is not None
            ]
            if not events and self._text_field not in fields:
                events = _shown_whole(cast(object, given), context.new_id())
        outcome = e.Outcome(type="success")
        return [*events, e.RunFinished(thread_id=input.thread, outcome=outcome, result=result, usage=usage or UNSET)]

    def _client_tools(self, input: RunInput) -> Any:
        if not input.client.tools:
            return None
        if self._output_type is None and not _allows_deferred(self.agent.output_type):
            logger.warning(
                "agent %s cannot leave calls to the client: its output type lacks DeferredToolRequests", self.name
            )
            return None
        return client_toolset(input.client, frozenset(name for name, _ in _definitions(self.agent.toolsets)))

    def kept(self, turn: Turn) -> Kept | None:
        """What of an attempt stays if the next one goes on from its last complete step."""
        return kept(turn)

    def _guard(self, context: RunContext) -> Guard | None:
        """Only where something asks for it: every hook costs a little on every tool."""
        policies: dict[str, OnCancel] = {
            name: text.on_cancel for name, text in self._tools.items() if text.on_cancel != "cooperative"
        }
        return Guard(context, policies) if policies or self.on_crash != "never" else None

    async def _make_deps(self, context: RunContext, stack: AsyncExitStack) -> Any:
        if self._deps_factory is None:
            return self._deps
        made = self._deps_factory(context)
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, AbstractAsyncContextManager):
            return await stack.enter_async_context(cast(AbstractAsyncContextManager[Any], made))
        if isinstance(made, AbstractContextManager):
            return stack.enter_context(cast(AbstractContextManager[Any], made))
        return made

    def _with_deferred(self, problems: list[str]) -> Any:
        """The output type of each run: the agent's, and `DeferredToolRequests`, without which a tool cannot be approved."""
        own: Any = self.agent.output_type
        if _allows_deferred(own):
            return None
        if getattr(_innermost(self.agent), "_output_validators", None):
            needs = sorted(name for name, tool in _function_tools(self.agent) if tool.requires_approval)
            if needs:
                problems.append(
                    f"the tool {needs[0]!r} needs approval, but the agent has output validators and its output type "
                    "lacks DeferredToolRequests: add it, output_type=[…, DeferredToolRequests]"
                )
            return None
        kinds: list[Any] = [*own] if isinstance(own, Sequence) and not isinstance(own, str) else [own]
        return [*kinds, DeferredToolRequests]


def _shown_whole(output: object, id: str) -> list[Event]:
    """A structured output of which nothing else is shown, as a block of JSON: a person must not get an empty answer."""
    text = f"```json\n{json.dumps(output, indent=2, ensure_ascii=False)}\n```"
    return [
        e.TextMessageStart(message_id=id),
        e.TextMessageContent(message_id=id, delta=text),
        e.TextMessageEnd(message_id=id),
    ]


def _save_partial(context: RunContext, before: Sequence[ModelMessage], events: Any, sent: Mapping[str, Sent]) -> None:
    """Keep what a failed or stopped run did, the interrupted answer included, and what it cost."""
    try:
        messages = [*before, *events.new_messages()]
    except pai.UserError:
        return  # it never started
    save(context, messages, sent)
    context.usage = usage_of(messages)


async def _let_end(context: RunContext, guard: Guard, stream: Stream, events: Any) -> None:
    """Wait for the tools that Stop leaves their time, and tell of their results; nothing else goes on meanwhile."""
    if not (context.sheltered.has("finish") or context.sheltered.has("detach")):
        return
    async with anyio.create_task_group() as tasks:

        async def tell() -> None:
            try:
                while any(guard.policy(tool) != "cooperative" for tool in stream.running.values()):
                    emit = context.sheltered.emitter(context.emit, "detach")
                    for event in stream.events(await anext(events)):
                        await emit(event)
            except Exception as error:  # the run fails beside: its end is told by whoever asked for it
                logger.info("a run that was stopped failed meanwhile", exc_info=error)
            tasks.cancel_scope.cancel()

        tasks.start_soon(tell)
        await context.sheltered.wait()
        await anyio.sleep(RESULT_LIMIT_S)
        tasks.cancel_scope.cancel()


# --- approvals --------------------------------------------------------------------------------------------------------


def _questions(
    input: RunInput, requests: DeferredToolRequests, tools: Mapping[str, ToolDefinition]
) -> list[e.InterruptRequested]:
    """One question per deferred call: approvals first, then the calls whose result a person brings.

    An approval may change the arguments to others that fit the tool's schema. The answer to any other call is the tool's
    result; it has the form of the tool's return schema, if it has one.
    """
    asked: list[e.InterruptRequested] = []
    for call in [*requests.approvals, *requests.calls]:
        args = _args_of(call)
        approval = any(call is one for one in requests.approvals)
        hashed = args_hash(args)
        tool = tools.get(call.tool_name)
        metadata: dict[str, Any] = {
            **(requests.metadata.get(call.tool_call_id) or {}),
            "name": call.tool_name,
            "arguments": args,
            "argsHash": hashed,
        }
        if not approval and tool is not None:
            with suppress(BadForm):  # it only helps the page to draw
                metadata["parameters"] = inlined(tool.parameters_json_schema)
        interrupt = e.Interrupt(
            id=f"{input.run}.{len(asked) + 1}",
            reason="tool_call" if approval else "input_required",
            message=f"Allow {call.tool_name}?" if approval else _question_of(call.tool_name, args),
            tool_call_id=call.tool_call_id,
            response_schema=_form(tool, approval=approval),
            metadata=cast(dict[str, Any], to_json(metadata)),
        )
        asked.append(e.InterruptRequested(interrupt=interrupt, args_hash=hashed))
    return asked


def _question_of(name: str, args: Mapping[str, Any]) -> str:
    """What a deferred call asks, in the model's own words if it has an argument for them."""
    asked = next((args[word] for word in ("question", "prompt", "message") if isinstance(args.get(word), str)), "")
    return asked or f"{name} waits for an answer."


def _form(tool: ToolDefinition | None, *, approval: bool) -> Any:
    """The form of an answer; one that could not be checked is left out rather than that nobody can answer."""
    try:
        if approval:
            form = approval_schema(True if tool is None else tool.parameters_json_schema)
        elif tool is not None and tool.return_schema:
            form = inlined(tool.return_schema)
        else:
            return UNSET
        check_form(form)
    except BadForm:
        return approval_schema(True) if approval else UNSET
    return form


def _results(
    input: RunInput, turns: Sequence[Turn], history: Sequence[ModelMessage]
) -> tuple[DeferredToolResults | None, frozenset[str]]:
    """The answers, by tool call. A call that got no answer is denied: a tool never runs without one (I20).

    Raises:
        AgentError: code `stale_answer`, the messages that asked are no longer there.
    """
    if input.resumes is None:
        return None, frozenset()
    asked = {
        part.id: part
        for turn in turns
        if turn.run.id == input.resumes
        for message in turn.run.messages
        for part in message.parts
        if isinstance(part, InterruptPart)
    }
    answers = {answer.interrupt_id: answer for answer in input.answers}
    calls = {
        part.tool_call_id: part
        for message in history
        if isinstance(message, ModelResponse)
        for part in message.parts
        if isinstance(part, ToolCallPart)
    }
    results = DeferredToolResults()
    for id, part in asked.items():
        call = part.tool_call_id
        if call is None:
            continue
        answer = answers.get(id)
        if part.reason == "tool_call":
            known = (part.metadata or {}).get("argsHash")
            same = known is None or (call in calls and args_hash(_args_of(calls[call])) == known)
            results.approvals[call] = _decision(answer) if same else ToolDenied(CHANGED)
        elif answer is not None and answer.status == "resolved":
            results.calls[call] = answer.payload
        else:
            late = answer is not None and answer.expired
            results.calls[call] = pai.ToolFailed("Nobody answered in time." if late else "Nobody answered.")
    given = {*results.approvals, *results.calls}
    if not given or not given <= _open_calls(history):
        raise AgentError(
            "The question that was answered is no longer open: what the agent was doing could not be recovered. "
            "Please ask again.",
            code="stale_answer",
        )
    return results, frozenset(given)


def _decision(answer: Answer | None) -> ToolApproved | ToolDenied:
    """Only an explicit `approved: true` approves."""
    payload = answer.payload if answer is not None and answer.status == "resolved" else None
    fields = cast(dict[str, Any], payload) if isinstance(payload, dict) else {}
    if payload is True or fields.get("approved") is True:
        edited = fields.get("editedArgs")
        return ToolApproved(override_args=cast(dict[str, Any], edited) if isinstance(edited, dict) else None)
    reason = fields.get("reason")
    if answer is not None and answer.expired:
        return ToolDenied("Nobody allowed the tool call in time.")
    return ToolDenied(reason) if isinstance(reason, str) and reason else ToolDenied()


def _open_calls(history: Sequence[ModelMessage]) -> set[str]:
    """Calls of the last answer in the history that have no result yet."""
    asked: set[str] = set()
    for message in history:
        if isinstance(message, ModelResponse):
            asked = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
        else:
            asked -= {getattr(part, "tool_call_id", "") for part in message.parts}
    return asked


def _args_of(call: ToolCallPart) -> dict[str, Any]:
    return arguments(call.args) if isinstance(call.args, str) else cast(dict[str, Any], to_json(call.args or {}))


# --- what it cost, and why it failed ----------------------------------------------------------------------------------


def usage_of(messages: Sequence[ModelMessage]) -> list[e.TokenUsage]:
    """Tokens of the model's answers, summed by provider and model, in the order of first use."""
    sums: dict[tuple[str | None, str | None], dict[str, int]] = {}
    for message in messages:
        if not isinstance(message, ModelResponse):
            continue
        usage = message.usage
        total = sums.setdefault((message.provider_name, message.model_name), {})
        for name, value in (
            ("input_tokens", usage.input_tokens),
            ("output_tokens", usage.output_tokens),
            ("cached_input_tokens", usage.cache_read_tokens),
            ("cache_write_input_tokens", usage.cache_write_tokens),
            ("reasoning_tokens", usage.details.get("reasoning_tokens", 0)),
        ):
            if value:
                total[name] = total.get(name, 0) + value
    return [
        e.TokenUsage(
            provider=provider or UNSET,
            model=model or UNSET,
            **cast(Any, total),
            total_tokens=total.get("input_tokens", 0) + total.get("output_tokens", 0),
        )
        for (provider, model), total in sums.items()
        if total
    ]


_EXPLANATIONS: tuple[tuple[str, str, str, bool], ...] = (
    ("UsageLimitExceeded", "usage_limit", "The run reached the limit of what it may use.", False),
    ("ConcurrencyLimitExceeded", "model_busy", "Too many requests to the model at once; try again in a moment.", True),
    ("ContentFilterError", "content_filtered", "The model's provider refused to answer this.", False),
    (
        "ModelContextWindowExceededError",
        "context_too_long",
        "This conversation has become too long for the model.",
        False,
    ),
    ("ModelQuotaExceededError", "model_quota", "The account with the model's provider is used up.", False),
    ("ModelRateLimitError", "model_rate_limited", "The model gets too many requests; try again in a moment.", True),
    ("ModelUnavailableError", "model_unavailable", "The model is not available at the moment; try again.", True),
    ("ModelServerError", "model_unavailable", "The model's provider had an internal error; try again.", True),
    ("ModelConnectionError", "model_unavailable", "The model could not be reached; try again.", True),
    ("ModelRequestTimeout", "model_unavailable", "The model did not answer in time; try again.", True),
    ("ModelRequestRejectedError", "model_error", "The model's provider refused the request.", False),
    ("OutputTokenLimitExceeded", "output_too_long", "The model's answer was cut off at its length limit.", False),
    ("UnexpectedModelBehavior", "model_error", "The model answered in a way the agent could not use.", True),
)
"""By the name of the exception's class or of a base, the more special first; names that a version lacks do not matter."""


def explained(error: BaseException) -> AgentError | None:
    """A model's failure in words for the person in the chat, without the text of the exception, and with the time after which
    its provider wants to be asked again; None if it is none."""
    if isinstance(error, AgentError):
        return None
    if isinstance(error, BaseExceptionGroup):
        for one in cast(BaseExceptionGroup[BaseException], error).exceptions:
            if (known := explained(one)) is not None:
                return known
        return None
    found = _explanation(error)
    if found is None:
        return None
    sentence, code, retryable = found
    wait_s = retry_after_s(error) if retryable else None
    return AgentError(
        sentence, code=code, retryable=retryable, retry_after_ms=None if wait_s is None else math.ceil(wait_s * 1000)
    )


def _explanation(error: BaseException) -> tuple[str, str, bool] | None:
    """The sentence, the code, and whether the same may succeed later."""
    names = {kind.__name__ for kind in type(error).__mro__}
    for name, code, sentence, retryable in _EXPLANATIONS:
        if name in names:
            return sentence, code, retryable
    if isinstance(error, pai.ModelHTTPError):
        status = error.status_code
        if status == 429:
            return "The model gets too many requests; try again in a moment.", "model_rate_limited", True
        if status >= 500:
            return "The model is not available at the moment; try again.", "model_unavailable", True
        return "The model's provider refused the request.", "model_error", False
    if isinstance(error, pai.ModelAPIError):
        return "The model could not be reached; try again.", "model_unavailable", True
    return None


# --- reading an agent -------------------------------------------------------------------------------------------------


def _structured(output: Any) -> Literal["no", "tool", "text"]:
    """How the answer comes: as text, as the arguments of a call, or as text that is JSON."""
    kinds: list[Any] = [*output] if isinstance(output, list | tuple) else [output]
    kinds = [kind for kind in kinds if kind is not DeferredToolRequests]
    if any(isinstance(kind, NativeOutput | PromptedOutput) for kind in kinds):
        return "text"
    return "no" if all(kind is str for kind in kinds) else "tool"


def _text_field(output: Any) -> str | None:
    kinds = cast(list[Any], [*output] if isinstance(output, list | tuple) else [output])
    for kind in kinds:
        inner: Any = getattr(kind, "outputs", None) or getattr(kind, "output", None) or kind
        found = _text_field(inner) if isinstance(inner, list | tuple) else _own_text_field(inner)
        if found is not None:
            return found
    return None


def _own_text_field(kind: Any) -> str | None:
    if not isinstance(kind, type):
        return None
    fields = getattr(kind, "__annotations__", {}) if not hasattr(kind, "model_fields") else kind.model_fields  # pyright: ignore
    return next((name for name in TEXT_FIELDS if name in fields), None)


def _allows_deferred(output: Any) -> bool:
    if output is DeferredToolRequests:
        return True
    if isinstance(output, list | tuple):
        return any(_allows_deferred(one) for one in cast(Sequence[Any], output))
    return get_origin(output) is not None and any(_allows_deferred(one) for one in get_args(output))


def _innermost(agent: Any) -> Any:
    while (wrapped := getattr(agent, "wrapped", None)) is not None:
        agent = wrapped
    return agent


def _function_tools(agent: AbstractAgent[Any, Any]) -> list[tuple[str, Any]]:
    """The function tools that are known without running anything."""
    found: list[tuple[str, Any]] = []
    for toolset in agent.toolsets:
        tools = getattr(toolset, "tools", None)
        if isinstance(tools, Mapping):
            found += list(cast(Mapping[str, Any], tools).items())
    return found


def _definitions(toolsets: Sequence[Any]) -> list[tuple[str, ToolDefinition]]:
    """The tools' definitions that are known without running anything, also in wrapped and combined toolsets."""
    found: list[tuple[str, ToolDefinition]] = []
    for toolset in toolsets:
        own: Any = getattr(toolset, "tool_defs", None)
        tools: Any = getattr(toolset, "tools", None)
        if isinstance(own, Sequence):
            found += [(one.name, one) for one in cast(Sequence[ToolDefinition], own)]
        elif isinstance(tools, Mapping):
            found += [(name, tool.tool_def) for name, tool in cast(Mapping[str, Any], tools).items()]
        inner: list[Any] = list(getattr(toolset, "toolsets", None) or [])
        if (wrapped := getattr(toolset, "wrapped", None)) is not None:
            inner.append(wrapped)
        if inner:
            found += _definitions(inner)
    return found


def _tool_texts(agent: AbstractAgent[Any, Any]) -> dict[str, ToolText]:
    texts: dict[str, ToolText] = {}
    for name, tool in _function_tools(agent):
        metadata: Any = getattr(tool, "metadata", None)
        own = cast(Mapping[str, Any], metadata).get("runcast") if isinstance(metadata, Mapping) else None
        if isinstance(own, ToolText):
            texts[name] = own
        elif isinstance(own, Mapping):
            given = cast(Mapping[str, Any], own)
            texts[name] = ToolText(
                title=given.get("title"),
                summary=given.get("summary"),
                idempotent=given.get("idempotent") is True,
                on_cancel=given.get("on_cancel", "cooperative"),
            )
    return texts
