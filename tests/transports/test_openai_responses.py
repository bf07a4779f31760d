"""Responses over real sockets, with OpenAI's own client: items, resuming, questions, the background, what went wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import openai
import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from auth.tokens import SECRET, token
from clients.agent import agent as played
from core import DEADLINE_S, Gated
from runcast.agents.context import RunContext
from runcast.agents.function import FunctionAgent
from runcast.errors import AgentError
from serving import Running, serving
from transports.test_openai import forecaster

pytestmark = pytest.mark.anyio

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@asynccontextmanager
async def talking(*agents: Any, **options: Any) -> AsyncGenerator[tuple[AsyncOpenAI, Running]]:
    async with (
        serving(*(agents or (played,)), **options) as running,
        AsyncOpenAI(base_url=f"{running.url}/openai/v1", api_key="any", max_retries=0, timeout=DEADLINE_S) as client,
    ):
        yield client, running


async def threads(running: Running) -> list[str]:
    async with running.http() as http:
        return [thread["id"] for thread in (await http.get("/v1/threads")).json()["threads"]]


def kinds(response: Any) -> list[str]:
    return [item.type for item in response.output]


async def test_streamed_with_the_helper_and_whole() -> None:
    async with talking() as (client, running):
        async with client.responses.stream(model="agent", input="plain") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == "Hello you."
        assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        whole = await client.responses.create(model="agent", input="plain", metadata={"a": "b"})
        assert (whole.status, whole.output_text, whole.metadata) == ("completed", "Hello you.", {"a": "b"})
        assert (await client.responses.retrieve(whole.id)).output_text == "Hello you."
        assert len(await threads(running)) == 2


async def test_reasoning_and_tools_are_items() -> None:
    async with talking() as (client, _):
        async with client.responses.stream(model="agent", input="reason") as stream:
            async for _event in stream:
                pass
            final = await stream.get_final_response()
        assert kinds(final) == ["reasoning", "message"]
        for scene, text in (("parallel", "3 and 7."), ("broken", "It is not there.")):
            async with client.responses.stream(model="agent", input=scene) as stream:
                async for _event in stream:
                    pass
                final = await stream.get_final_response()
            assert final.output_text == text
            whole = await client.responses.create(model="agent", input=scene)
            assert kinds(whole) == kinds(final)
            calls: list[Any] = [item for item in whole.output if item.type == "mcp_call"]
            if scene == "parallel":
                assert [(one.name, one.arguments, one.output) for one in calls] == [
                    ("add", '{"a":1,"b":2}', "3"), ("add", '{"a":3,"b":4}', "7"),
                ]  # fmt: skip
            else:
                assert [(one.error.content[0]["text"], one.status) for one in calls] == [
                    ("There is no file x.", "failed")
                ]
            assert "function_call" not in kinds(whole)  # clients would carry it out


async def test_calls_are_told_as_functions_to_who_asks_for_it() -> None:
    as_functions: Any = {"extra_query": {"calls": "function"}}
    async with talking() as (client, _):
        stream = await client.responses.create(model="agent", input="parallel", stream=True, **as_functions)
        told = [event async for event in stream]
        final: Any = told[-1]
        items = [(one.type, getattr(one, "arguments", None) or one.output) for one in final.response.output[:4]]
        assert sorted(items) == [
            ("function_call", '{"a":1,"b":2}'), ("function_call", '{"a":3,"b":4}'),
            ("function_call_output", "3"), ("function_call_output", "7"),
        ]  # fmt: skip
        again: Any = await client.responses.retrieve(final.response.id, **as_functions)
        assert again.output == final.response.output
        middle = told[len(told) // 2].sequence_number
        rest = await client.responses.retrieve(final.response.id, stream=True, starting_after=middle, **as_functions)
        assert [event async for event in rest] == told[len(told) // 2 + 1 :]
        with pytest.raises(openai.BadRequestError, match="calls: Input should be 'mcp' or 'function'"):
            await client.responses.create(model="agent", input="hi", extra_query={"calls": "no"})


async def test_a_conversation_by_the_previous_response() -> None:
    async with talking() as (client, running):
        first = await client.responses.create(model="agent", input="one")
        second = await client.responses.create(model="agent", input="two", previous_response_id=first.id)
        beside = await client.responses.create(model="agent", input="three", previous_response_id=first.id)
        assert second.previous_response_id == beside.previous_response_id == first.id
        (thread,) = await threads(running)
        async with running.http() as http:
            runs = (await http.get(f"/v1/threads/{thread}")).json()["transcript"]["runs"]
        parents = [run.get("parent") for run in runs]
        assert parents == [None, runs[0]["id"], runs[0]["id"]]
        with pytest.raises(openai.BadRequestError) as error:
            await client.responses.create(model="agent", input="x", previous_response_id="resp_nothing")
        assert (error.value.code, error.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_a_conversation_by_the_clients_own_name() -> None:
    async with talking() as (client, running):
        for text in ("one", "two"):
            whole = await client.responses.create(model="agent", input=text, conversation="mine")
            assert whole.conversation is not None
            assert whole.conversation.id == "mine"
        assert len(await threads(running)) == 1


@pytest.mark.parametrize(("approve", "said"), [(True, "Deleted."), (False, "Kept.")])
async def test_an_approval_is_answered_in_the_next_input(approve: bool, said: str) -> None:
    async with talking() as (client, _):
        async with client.responses.stream(model="agent", input="approve") as stream:
            async for _event in stream:
                pass
            asked: Any = await stream.get_final_response()
        assert kinds(asked) == ["message", "mcp_approval_request"]
        request = asked.output[-1]
        assert (request.name, request.arguments) == ("delete", '{"path":"a.txt"}')
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}
        answered = await client.responses.create(model="agent", input=[answer], previous_response_id=asked.id)
        assert answered.output_text == said
        assert answered.previous_response_id == asked.id
        (call,) = [item for item in answered.output if item.type == "mcp_call"]
        assert (call.name, call.arguments, call.approval_request_id) == ("delete", '{"path":"a.txt"}', request.id)
        assert (call.status, call.output) == (("completed", '{"deleted":1}') if approve else ("failed", None))
        retrieved = await client.responses.retrieve(answered.id)
        assert retrieved.output == answered.output
        events = [event async for event in await client.responses.retrieve(answered.id, stream=True)]
        last: Any = events[-1]
        assert last.response.output == answered.output
        with pytest.raises(openai.ConflictError) as error:
            await client.responses.create(model="agent", input=[answer], previous_response_id=asked.id)
        assert error.value.code == "already_decided"
        assert error.value.response.headers["x-should-retry"] == "false"  # the clients ask thrice otherwise


async def test_saying_something_else_withdraws_the_question() -> None:
    async with talking() as (client, _):
        asked = await client.responses.create(model="agent", input="approve")
        after = await client.responses.create(model="agent", input="plain", previous_response_id=asked.id)
        assert after.output_text == "Hello you."


@pytest.mark.parametrize("stateless", [True, False])
async def test_tools_of_the_request_are_the_clients(stateless: bool) -> None:
    agent = Agent(FunctionModel(stream_function=forecaster), name="forecast")
    async with talking(agent) as (client, running):
        asked = await client.responses.create(model="forecast", input="How?", tools=[TOOL], store=not stateless)
        calls: list[Any] = [item for item in asked.output if item.type == "function_call"]
        assert [one.arguments for one in calls] == ['{"city":"Rome"}', '{"city":"Oslo"}']
        outputs: list[Any] = [
            {"type": "function_call_output", "call_id": one.call_id, "output": text}
            for one, text in zip(calls, ("sun", "snow"), strict=True)
        ]
        if stateless:
            given: Any = [{"role": "user", "content": "How?"}, *(one.model_dump() for one in asked.output), *outputs]
            answered = await client.responses.create(model="forecast", input=given, tools=[TOOL], store=False)
            assert await threads(running) == []
        else:
            answered = await client.responses.create(
                model="forecast", input=outputs, tools=[TOOL], previous_response_id=asked.id
            )
        assert answered.output_text == "sun / snow"
        assert kinds(answered) == ["message"]
        if not stateless:
            asked_of: list[Any] = [one async for one in client.responses.input_items.list(answered.id, order="asc")]
            assert [(one.call_id, one.output) for one in asked_of] == [(o["call_id"], o["output"]) for o in outputs]


@pytest.mark.parametrize("scene", ["parallel", "broken", "draw"])
async def test_another_framework_takes_the_agent_for_a_model(scene: str) -> None:
    """Pydantic AI as the client, with a conversation of two turns: it runs no tool of the server's agent."""
    async with talking() as (client, _):
        outer = Agent(OpenAIResponsesModel("agent", provider=OpenAIProvider(openai_client=client)))
        first = await outer.run(scene)
        async with outer.run_stream(scene, message_history=first.all_messages()) as second:
            assert await second.get_output() == first.output


async def test_a_frameworks_own_tool_comes_back_to_the_run_that_called_it() -> None:
    """It sends the items without their ids: the call's own name says which run left it."""
    inner = Agent(FunctionModel(stream_function=forecaster), name="forecast")
    async with talking(inner) as (client, _):
        outer = Agent(OpenAIResponsesModel("forecast", provider=OpenAIProvider(openai_client=client)))

        @outer.tool_plain
        def weather(city: str) -> str:
            return f"sun in {city}"

        result = await outer.run("How?", usage_limits=UsageLimits(request_limit=3))
        assert result.output == "sun in Rome / sun in Oslo"


async def test_a_client_may_name_our_tools_as_a_server() -> None:
    """Without that OpenAI's Agents SDK takes no question of it; all else of that kind is refused."""
    ours: Any = {
        "type": "mcp",
        "server_label": "runcast",
        "server_url": "http://127.0.0.1",
        "require_approval": "always",
    }
    other: Any = {**ours, "server_label": "other"}
    async with talking() as (client, _):
        asked: Any = await client.responses.create(model="agent", input="approve", tools=[ours])
        given = [{"role": "user", "content": "approve"}, *(one.model_dump(exclude_none=True) for one in asked.output)]
        answer = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
        answered = await client.responses.create(model="agent", input=cast("Any", [*given, answer]), tools=[ours])
        assert answered.output_text == "Deleted."
        with pytest.raises(openai.BadRequestError) as error:
            await client.responses.create(model="agent", input="x", tools=[ours, other])
        assert error.value.param == "tools[1].type"


async def test_a_question_that_was_all_of_an_answer_can_be_answered_with_the_whole_history() -> None:
    async def travel(prompt: str, run: RunContext) -> str:
        return f"To {await run.ask('Which city?')}."

    async with talking(FunctionAgent(travel, name="travel")) as (client, _):
        asked: Any = await client.responses.create(model="travel", input="Go")
        (request,) = asked.output
        answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True, "reason": "Rome"}
        given: Any = [{"role": "user", "content": "Go"}, request.model_dump(exclude_none=True), answer]
        assert (await client.responses.create(model="travel", input=given)).output_text == "To Rome."


@pytest.mark.parametrize("with_type", [True, False])
async def test_items_of_earlier_responses_may_be_named(with_type: bool) -> None:
    """As the AI SDK's provider does it."""

    async def recall(prompt: str, run: RunContext) -> str:
        if prompt == "search":
            async with run.tool("search", q="x") as call:
                call.result = "found"
        elif prompt == "break":
            with suppress(AgentError):
                async with run.tool("search", q="x"):
                    raise AgentError("Nothing there.")
        elif prompt == "ask":
            async with run.tool("delete") as call:
                await call.approve()
        return ";".join(f"{one['role']}={one['content']}" for one in run.input.client.history) or "Nothing."

    async with talking(FunctionAgent(recall, name="recall")) as (client, _):
        first: Any = await client.responses.create(model="recall", input="search")
        kind = {"type": "item_reference"} if with_type else {}
        given: Any = [
            {"role": "user", "content": "search"},
            *({**kind, "id": one.id} for one in first.output),
            {"role": "user", "content": "And?"},
        ]
        then = await client.responses.create(model="recall", input=given)
        assert then.output_text == "user=search;assistant=;tool=found;assistant=Nothing."
        stream = await client.responses.create(model="recall", input="ask", stream=True)
        streamed: list[Any] = [event async for event in stream]
        done = [event.item for event in streamed if event.type == "response.output_item.done"]
        assert [one.type for one in done] == [
            "mcp_call",
            "mcp_approval_request",
        ]  # the call is not in the output any more
        given = [*({**kind, "id": one.id} for one in done), {"role": "user", "content": "And?"}]
        assert (await client.responses.create(model="recall", input=given)).output_text == "Nothing."
        for prompt, told in (("break", "assistant=;tool=Nothing there.;assistant=Nothing."), ("ask", "")):
            first = await client.responses.create(model="recall", input=prompt)
            given = [*({**kind, "id": one.id} for one in first.output), {"role": "user", "content": "And?"}]
            then = await client.responses.create(model="recall", input=given)
            assert then.output_text == (told or "Nothing.")  # a call that did not run yet is not in the history
        for name in ("msg_nothing", "x", f"msg_{first.id.removeprefix('resp_')}:x"):
            named: Any = [{"type": "item_reference", "id": name}, {"role": "user", "content": "And?"}]
            with pytest.raises(openai.BadRequestError) as error:
                await client.responses.create(model="recall", input=named)
            assert error.value.param == "input[0].id"


async def test_items_of_another_user_cannot_be_named() -> None:
    async with serving(played, auth="jwt", jwt_secret=SECRET) as running:
        clients = [
            AsyncOpenAI(base_url=f"{running.url}/v1", api_key=token(sub=who), max_retries=0) for who in ("ada", "bob")
        ]
        ada, bob = clients
        first: Any = await ada.responses.create(model="agent", input="plain")
        named: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "plain"}]
        assert (await ada.responses.create(model="agent", input=named)).output_text == "Hello you."
        for asking in (
            bob.responses.create(model="agent", input=named),
            bob.responses.create(model="agent", input="x", previous_response_id=first.id),
        ):
            with pytest.raises(openai.BadRequestError):
                await asking
        for asking in (
            bob.responses.retrieve(first.id),
            bob.responses.delete(first.id),
            bob.responses.cancel(first.id),
            bob.responses.input_items.list(first.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await asking
        assert (await ada.responses.retrieve(first.id)).output_text == "Hello you."
        stranger = AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0)
        for asking in (
            stranger.responses.create(model="agent", input="plain"),
            stranger.responses.retrieve(first.id),
            stranger.responses.delete(first.id),
            stranger.chat.completions.create(model="agent", messages=[{"role": "user", "content": "plain"}]),
        ):
            with pytest.raises(openai.AuthenticationError) as refused:
                await asking
            assert (refused.value.code, refused.value.type) == ("unauthenticated", "authentication_error")
        for client in (*clients, stranger):
            await client.close()


async def test_a_long_tool_result_is_whole() -> None:
    async def dump(prompt: str, run: RunContext) -> str:
        async with run.tool("dump") as call:
            call.result = "xy" * 200_000
        return "Dumped."

    async with talking(FunctionAgent(dump, name="dump")) as (client, _):
        whole: Any = await client.responses.create(model="dump", input="Go")
        assert whole.output[0].output == "xy" * 200_000
        assert (await client.responses.retrieve(whole.id)).output == whole.output
        for stream in (
            await client.responses.create(model="dump", input="Go", stream=True),
            await client.responses.retrieve(whole.id, stream=True),
        ):
            last: Any = [event async for event in stream][-1]
            assert last.response.output[0].output == "xy" * 200_000


async def test_what_was_asked_can_be_listed() -> None:
    async with talking() as (client, _):
        picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        given: Any = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Hello"},
            {"type": "function_call", "call_id": "c9", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c9", "output": "seen"},
            {"role": "assistant", "content": "I saw."},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "plain"}, {"type": "input_image", "image_url": picture}],
            },
        ]
        asked = await client.responses.create(model="agent", input=given, instructions="Be brief.")
        items: list[Any] = [one async for one in client.responses.input_items.list(asked.id, order="asc", limit=2)]
        assert [one.type for one in items] == [
            "message", "message", "function_call", "function_call_output", "message", "message",
        ]  # fmt: skip
        assert (items[0].content[0].text, items[3].output, items[5].content[0].text) == ("One", "seen", "plain")
        assert len({one.id for one in items}) == len(items)
        newest: list[Any] = [one async for one in client.responses.input_items.list(asked.id)]
        assert newest == items[::-1]
        last: Any = items[-1].to_dict()  # says where the picture is, and may be sent again
        said_again: Any = [{"role": "user", "content": last["content"]}]
        again = await client.responses.create(model="agent", input=said_again)
        assert again.output_text == "Hello you."
        for wrong in ({"after": "msg_nothing"}, {"limit": 0}, {"order": cast("Any", "up")}):
            with pytest.raises(openai.BadRequestError):
                await client.responses.input_items.list(asked.id, **cast("Any", wrong))
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list("resp_nothing")


async def test_the_answer_to_a_question_is_input_as_well() -> None:
    async with talking() as (client, _):
        asked: Any = await client.responses.create(model="agent", input="approve")
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": False}
        given: Any = [{**answer, "reason": "Too early"}]
        answered = await client.responses.create(model="agent", input=given, previous_response_id=asked.id)
        (item,) = [one async for one in client.responses.input_items.list(answered.id)]
        said: Any = item
        assert (said.type, said.approval_request_id) == ("mcp_approval_response", asked.output[-1].id)
        assert (said.approve, said.reason) == (False, "Too early")


async def test_a_response_that_is_alone_can_be_deleted() -> None:
    agent = Gated()
    async with talking(agent, played) as (client, running):
        done = await client.responses.create(model="agent", input="plain")
        held = await client.responses.create(model="gated", input="Hi", background=True)
        await agent.reached.wait()
        for one in (done, held):
            await client.responses.delete(one.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(one.id)
            with pytest.raises(openai.NotFoundError):
                await client.responses.delete(one.id)
        assert agent.cancelled
        assert await threads(running) == []


async def test_a_response_of_a_longer_conversation_is_not_deleted() -> None:
    """A log is deleted whole: what cannot be gone is not said to be."""
    async with talking() as (client, running):
        first = await client.responses.create(model="agent", input="plain")
        second = await client.responses.create(model="agent", input="plain", previous_response_id=first.id)
        for one in (first, second):
            with pytest.raises(openai.ConflictError) as error:
                await client.responses.delete(one.id)
            assert error.value.code == "conflict"
            assert error.value.response.headers["x-should-retry"] == "false"
            assert (await client.responses.retrieve(one.id)).output_text == "Hello you."
        assert len(await threads(running)) == 1


async def test_a_dropped_stream_goes_on_where_it_was() -> None:
    agent = Gated()
    async with talking(agent) as (client, _):
        stream = await client.responses.create(model="gated", input="Hi", stream=True, background=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        agent.gate.set()
        id = seen[0].response.id
        rest = [
            event
            async for event in await client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
        ]
        whole = [event async for event in await client.responses.retrieve(id, stream=True)]
        assert [one.model_dump() for one in seen + rest] == [one.model_dump() for one in whole]
        assert whole[-1].type == "response.completed"


async def test_a_reader_that_has_everything_is_told_nothing_and_not_cut_off() -> None:
    """It cannot know that what it had was the end, or its line broke right behind it."""
    async with talking() as (client, _):
        whole = [event async for event in await client.responses.create(model="agent", input="approve", stream=True)]
        first: Any = whole[0]
        for number in (whole[-1].sequence_number, whole[-1].sequence_number + 1_000):
            stream = await client.responses.retrieve(first.response.id, stream=True, starting_after=number)
            assert [event async for event in stream] == []
        stream = await client.responses.retrieve(
            first.response.id, stream=True, starting_after=whole[-2].sequence_number
        )
        assert [event.type async for event in stream] == ["response.completed"]


async def test_closing_the_request_cancels_unless_it_is_in_the_background() -> None:
    agent = Gated()
    async with talking(agent, disconnect_grace_s=0.05) as (client, _):
        stream = await client.responses.create(model="gated", input="Hi", stream=True)
        first = await anext(aiter(stream))
        assert first.type == "response.created"
        await agent.reached.wait()
        await stream.close()
        with anyio.fail_after(DEADLINE_S):
            while (await client.responses.retrieve(first.response.id)).status == "in_progress":
                await anyio.sleep(0.01)
        assert (await client.responses.retrieve(first.response.id)).status == "cancelled"


async def test_two_watch_one_response() -> None:
    agent = Gated()
    async with talking(agent) as (client, _):
        begun = await client.responses.create(model="gated", input="Hi", background=True)
        assert begun.status in ("queued", "in_progress")
        told: list[list[Any]] = [[], []]

        async def watch(events: list[Any]) -> None:
            async for event in await client.responses.retrieve(begun.id, stream=True):
                events.append(event.model_dump())

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                for events in told:
                    tasks.start_soon(watch, events)
                await agent.reached.wait()
                agent.gate.set()
        assert told[0] == told[1]
        assert told[0][-1]["response"]["output"][0]["content"][0]["text"] == "before after"


async def test_the_background_and_cancel() -> None:
    agent = Gated()
    async with talking(agent) as (client, _):
        begun = await client.responses.create(model="gated", input="Hi", background=True)
        await agent.reached.wait()
        assert (await client.responses.retrieve(begun.id)).status == "in_progress"
        cancelled = await client.responses.cancel(begun.id)
        assert cancelled.status == "cancelled"
        assert cancelled.output_text == "before "
        assert agent.cancelled
        last: Any = [event async for event in await client.responses.retrieve(begun.id, stream=True)][-1]
        assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
        assert (await client.responses.cancel(begun.id)).status == "cancelled"


async def test_a_second_message_of_a_conversation_is_queued() -> None:
    agent = Gated()
    async with talking(agent) as (client, _):
        first = await client.responses.create(model="gated", input="Hi", background=True, conversation="mine")
        second = await client.responses.create(model="gated", input="And?", background=True, conversation="mine")
        assert second.status == "queued"
        agent.gate.set()
        events = [event async for event in await client.responses.retrieve(second.id, stream=True)]
        assert [event.type for event in events][:3] == ["response.created", "response.queued", "response.in_progress"]
        assert events[-1].type == "response.completed"
        assert (await client.responses.retrieve(first.id)).status == "completed"


async def test_a_run_that_fails() -> None:
    async with talking() as (client, _):
        events = [event async for event in await client.responses.create(model="agent", input="fail", stream=True)]
        last: Any = events[-1]
        assert last.type == "response.failed"
        assert (last.response.error.code, last.response.status) == ("closed", "failed")
        assert (await client.responses.retrieve(last.response.id)).status == "failed"
        with pytest.raises(openai.APIStatusError) as error:
            await client.responses.create(model="agent", input="fail")
        assert (error.value.status_code, error.value.code) == (502, "closed")


async def test_a_response_that_is_not_stored_leaves_nothing() -> None:
    async with talking() as (client, running):
        whole = await client.responses.create(model="agent", input="plain", store=False)
        assert whole.output_text == "Hello you."
        assert await threads(running) == []
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(whole.id)


async def test_an_approval_of_a_response_that_is_not_stored_can_be_answered() -> None:
    async with talking() as (client, running):
        asked: Any = await client.responses.create(model="agent", input="approve", store=False)
        assert await threads(running) == []
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
        answered = await client.responses.create(model="agent", input=[answer], store=False)
        assert answered.output_text == "Deleted."
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answered.id)


async def test_a_server_that_died_in_the_middle(tmp_path: Path) -> None:
    """The stream is cut; after the restart it goes on to the end that the run came to."""
    agent = Gated()
    path = str(tmp_path / "threads.db")
    seen: list[Any] = []
    async with talking(agent, store=path) as (client, running):
        stream = await client.responses.create(model="gated", input="Hi", stream=True, background=True)
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        running.process.should_exit = True
    async with talking(Gated(), store=path) as (client, _):
        id = seen[0].response.id
        rest = [
            event
            async for event in await client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
        ]
        last: Any = rest[-1]
        assert (last.type, last.response.error.code) == ("response.failed", "interrupted")
        assert last.response.output[0].content[0].text == "before "


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "agent"}, 400, "input"),
        ({"model": "agent", "input": []}, 400, "input"),
        ({"input": "Hi"}, 400, "model"),
        ({"model": "nobody", "input": "Hi"}, 404, "model"),
        ({"model": "agent", "input": [{"type": "teapot"}]}, 400, "input[0].type"),
        ({"model": "agent", "input": [{"type": "mcp_approval_response"}]}, 400, "input[0].approval_request_id"),
        ({"model": "agent", "input": "Hi", "tools": [{"type": "web_search"}]}, 400, "tools[0].type"),
        ({"model": "agent", "input": "Hi", "store": False, "background": True}, 400, "store"),
    ],
)
async def test_errors_have_openais_shape(body: Any, status: int, param: str | None) -> None:
    async with serving(played) as running, running.http() as http:
        answer = await http.post("/v1/responses", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
