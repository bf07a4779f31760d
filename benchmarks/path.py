"""What each stage of a token's way costs by itself, without sockets and processes: a map for whoever makes it faster.

`python path.py [--events 20000] [--rounds 3] [--stages paced,…] [--profile]`. Figures are CPU of this process, all threads,
in µs per event. `--profile` runs the chosen stages (`paced` without a choice) under cProfile, which sees the event loop's
thread only, prints where the time goes and leaves `.bench/path.prof`. With py-spy, which sees every thread:

    py-spy record --threads -o path.svg -- python path.py --stages paced
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import uvloop
from agent import parse, tokens
from installing import PLACE
from rounds import spread
from websockets.protocol import State
from websockets.server import ServerProtocol

import runcast
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.commands import Send, Subscribe
from runcast.events import Event, Record
from runcast.hub import Hub
from runcast.ids import SystemClock, Uuid7Source
from runcast.running.execution import Execution
from runcast.running.recorder import Recorder
from runcast.runs import Message, Principal, RunInput, Thread
from runcast.service import open_service
from runcast.session import Session
from runcast.stores.base import Write
from runcast.stores.sqlite import SqliteStore
from runcast.subscription import Subscription
from runcast.transports.straight import text_frame
from runcast.updates import Events, Update

CLOCK = SystemClock()
NEW_ID = Uuid7Source(CLOCK)
OWNER = Principal()

Stage = Callable[[int], Awaitable[tuple[float, int]]]
"""Takes how many events; gives CPU seconds and how many events were really dealt with."""

STAGES: dict[str, tuple[str, Stage]] = {}


def stage(name: str, title: str) -> Callable[[Stage], Stage]:
    def keep(function: Stage) -> Stage:
        STAGES[name] = (title, function)
        return function

    return keep


@runcast.agent
async def scripted(prompt: str) -> AsyncIterator[str]:
    async for token in tokens(*parse(prompt)):
        yield token


def question(count: int, rate: float = 0) -> RunInput:
    return RunInput(
        thread=NEW_ID(), run=NEW_ID(), agent="scripted", messages=(Message(id=NEW_ID(), content=f"{count} {rate:g}"),)
    )


async def no_history() -> tuple[()]:
    return ()


# --- the run's side ---------------------------------------------------------------------------------------------------


@stage("agent", "the scripted agent alone")
async def agent_alone(count: int) -> tuple[float, int]:
    began = time.process_time()
    async for _ in tokens(count, 0):
        pass
    return time.process_time() - began, count


@stage("adapter", "+ the adapter: strings to events")
async def adapter(count: int) -> tuple[float, int]:
    input = question(count)

    async def emit(event: Event) -> None:
        pass

    context = RunContext(input=input, principal=OWNER, new_id=NEW_ID, emit=emit, history=no_history)
    began = time.process_time()
    async for _ in scripted.run(input, context):
        pass
    return time.process_time() - began, count


@stage("recorder", "the recorder alone")
async def recorder_alone(count: int) -> tuple[float, int]:
    given = [e.TextMessageContent(message_id="m", delta=f"~{number} ") for number in range(count)]
    recorder = Recorder("run")
    began = time.process_time()
    for event in given:
        recorder.take(event, 0.0)
    return time.process_time() - began, count


@stage("drive", "agent + adapter + recorder + buffer, taken in groups")
async def drive(count: int) -> tuple[float, int]:
    execution = Execution(
        scripted,
        question(count),
        OWNER,
        clock=CLOCK,
        new_id=NEW_ID,
        history=no_history,
        app={},
        limit_s=600,
    )
    began = time.process_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(execution.drive)
        while await execution.next_group():
            pass
    return time.process_time() - began, count


# --- the store --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened() -> AsyncIterator[SqliteStore]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        store = await SqliteStore.open(Path(directory) / "path.db", durability="process")
        try:
            yield store
        finally:
            await store.close()


async def made(store: SqliteStore) -> tuple[Thread, int]:
    now = CLOCK.now_ms()
    thread = await store.create_thread(OWNER, NEW_ID(), now=now)
    return thread, await store.acquire(thread.id, "bench", now=now, ttl_ms=3_600_000)


def deltas(run: str, count: int) -> list[Event]:
    return [e.TextMessageContent(message_id=run, run_id=run, delta="~12345678901234 ") for _ in range(count)]


async def appended(threads: int, group: int, count: int) -> tuple[float, int]:
    """`threads` writers at once, each in its own thread, `group` events an append."""
    async with opened() as store:
        places = [await made(store) for _ in range(threads)]

        async def write(thread: Thread, fence: int) -> None:
            head = 0
            run = NEW_ID()
            for _ in range(count // threads // group):
                await store.append(
                    Write(thread=thread.id, fence=fence, expected_seq=head, events=deltas(run, group)),
                    now=CLOCK.now_ms(),
                )
                head += group

        began = time.process_time()
        async with anyio.create_task_group() as tasks:
            for place in places:
                tasks.start_soon(write, *place)
        return time.process_time() - began, count // threads // group * group * threads


@stage("append-1", "append to SQLite, one writer, 1 event each")
async def append_single(count: int) -> tuple[float, int]:
    return await appended(1, 1, count // 4)


@stage("append-100", "append, 100 writers at once, 1 event each")
async def append_many(count: int) -> tuple[float, int]:
    return await appended(100, 1, count)


@stage("append-group", "append, 100 writers at once, 50 events each")
async def append_groups(count: int) -> tuple[float, int]:
    return await appended(100, 50, max(count, 10_000))


# --- the readers' side ------------------------------------------------------------------------------------------------


def records(count: int) -> list[Record]:
    run = NEW_ID()
    now = CLOCK.now_ms()
    events = [e.stamp(event, seq, now) for seq, event in enumerate(deltas(run, count), 1)]
    return [Record(event, e.encode(event)) for event in events]


async def followed(count: int, readers: int) -> tuple[float, int]:
    """Push one record at a time; each reader takes it before the next comes, as one who keeps up does."""
    async with opened() as store:
        thread, _ = await made(store)
        hub = Hub(store)
        given = records(count // readers)
        taken = 0

        async def read(subscription: Subscription) -> None:
            nonlocal taken
            async for update in subscription:
                if isinstance(update, Events):
                    taken += len(update.records)
                    if update.records[-1].seq == len(given):
                        return

        subscriptions = [hub.subscribe(thread, after=0) for _ in range(readers)]
        async with anyio.create_task_group() as tasks:
            for subscription in subscriptions:
                tasks.start_soon(read, subscription)
            await anyio.sleep(0.2)  # they have seen the empty log and wait
            began = time.process_time()
            for record in given:
                hub.push(thread.id, [record])
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
        used = time.process_time() - began
        return used, taken


@stage("follow-1", "push + wake + subscription, 1 reader")
async def follow_one(count: int) -> tuple[float, int]:
    return await followed(count, 1)


@stage("follow-100", "push + wake + subscription, 100 readers, per reader")
async def follow_many(count: int) -> tuple[float, int]:
    return await followed(count, 100)


@stage("short-100", "push handed to 100 readers who sleep: sink, session, frame; per reader")
async def short_many(count: int) -> tuple[float, int]:
    readers = 100
    async with opened() as store:
        thread, _ = await made(store)
        hub = Hub(store)
        given = records(count // readers)
        taken = 0

        async def read(subscription: Subscription) -> None:
            session, sub = session_for(thread.id)

            def take(update: Events) -> bool:
                nonlocal taken
                for data in session.encode(sub, update):
                    text_frame(data)
                taken += 1
                return True

            subscription.deliver_to(take)
            async for _ in subscription:
                pass

        async with anyio.create_task_group() as tasks:
            for _ in range(readers):
                tasks.start_soon(read, hub.subscribe(thread, after=0))
            await anyio.sleep(0.2)  # they have seen the empty log and wait
            began = time.process_time()
            for record in given:
                hub.push(thread.id, [record])
            used = time.process_time() - began
            tasks.cancel_scope.cancel()
        return used, taken


def session_for(thread: str) -> tuple[Session, int]:
    session = Session(clock=CLOCK, new_id=NEW_ID)
    session.receive('{"op":"hello"}')
    command = Subscribe(id="s", thread=thread, after=0)
    session.receive(f'{{"op":"subscribe","id":"s","thread":"{thread}","after":0}}')
    number, _ = session.subscribed(command, thread=thread, epoch="e", head=0, start=0)
    return session, number


@stage("encode", "session: an update to a frame's text")
async def encode(count: int) -> tuple[float, int]:
    given = [Events([record]) for record in records(count)]
    session, sub = session_for("t")
    began = time.process_time()
    for update in given:
        for frame in session.encode(sub, update):
            frame.decode()
    return time.process_time() - began, count


@stage("frame-straight", "WebSocket framing, written straight")
async def frame_straight(count: int) -> tuple[float, int]:
    texts = [b"x" * 190 for _ in range(count)]
    began = time.process_time()
    for text in texts:
        text_frame(text)
    return time.process_time() - began, count


@stage("frame", "WebSocket framing (websockets, as uvicorn uses it)")
async def frame(count: int) -> tuple[float, int]:
    protocol = ServerProtocol(state=State.OPEN)  # without a handshake
    text = "x" * 190
    began = time.process_time()
    for _ in range(count):
        protocol.send_text(text.encode())
        b"".join(protocol.data_to_send())
    return time.process_time() - began, count


# --- the whole way ----------------------------------------------------------------------------------------------------


async def whole(runs: int, each: int, rate: float) -> tuple[float, int]:
    """Service, runner, SQLite, hub, subscription, session: everything but the socket."""
    async with (
        opened() as store,
        open_service(store=store, agents=[scripted], clock=CLOCK, new_id=NEW_ID) as service,
    ):

        async def talk() -> None:
            message = Message(id=NEW_ID(), content=f"{each} {rate:g}")
            sent = await service.send(OWNER, Send(id=NEW_ID(), message=message))
            session, sub = session_for(sent.thread)
            subscription = await service.subscribe(OWNER, Subscribe(id="s", thread=sent.thread, after=0))
            with anyio.CancelScope() as reading:

                def take(update: Update) -> bool:
                    for data in session.encode(sub, update):
                        text_frame(data)
                    if isinstance(update, Events) and isinstance(update.records[-1].event, e.TERMINAL):
                        reading.cancel()
                    return True

                subscription.deliver_to(take)
                async for update in subscription:
                    take(update)
                    if isinstance(update, Events) and len(update.records) > 1:
                        await anyio.lowlevel.checkpoint()  # as the transport does
            subscription.close()

        began = time.process_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(runs):
                tasks.start_soon(talk)
        return time.process_time() - began, runs * each


@stage("paced", "everything but the socket: 100 runs at 100 tokens/s")
async def paced(count: int) -> tuple[float, int]:
    return await whole(100, max(20, count // 100), 100)


@stage("saturated", "everything but the socket: 100 runs, no pace")
async def saturated(count: int) -> tuple[float, int]:
    return await whole(100, max(20, count // 100), 0)


def measure(names: list[str], events: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """µs per event, by stage."""
    found: dict[str, dict[str, list[float]]] = {name: {"us": []} for name in names}
    for name in names:
        uvloop.run(run_stage(name, max(2000, events // 10)))  # caches, imports, the first time of everything
    for _ in range(rounds):
        for name in names:
            used, dealt = uvloop.run(run_stage(name, events))
            found[name]["us"].append(used / dealt * 1e6)
    return found


async def run_stage(name: str, events: int) -> tuple[float, int]:
    return await STAGES[name][1](events)


def text(found: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| stage | CPU, µs per event |", "|---|---|"]
    lines += [f"| {STAGES[name][0]} | {spread(values['us'])} |" for name, values in found.items()]
    return "\n".join(lines)


def profile(names: list[str], events: int) -> None:
    PLACE.mkdir(exist_ok=True)
    profiler = cProfile.Profile()
    for name in names:
        profiler.runcall(uvloop.run, run_stage(name, events))
    profiler.dump_stats(PLACE / "path.prof")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", default="", help=", ".join(STAGES))
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args(arguments)
    names = given.stages.split(",") if given.stages else ["paced"] if given.profile else list(STAGES)
    if given.profile:
        profile(names, given.events)
    else:
        print(text(measure(names, given.events, given.rounds)))


if __name__ == "__main__":
    main()
