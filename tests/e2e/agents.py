"""The agent in front of the browser: the first word of a message says how it behaves, and its text is known.

Every answer leaves one line of JSON in `ended.log` in the working directory: how the generator ended, and of the text that
it yielded the length and the SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import anyio

import runcast
from runcast.agents.context import RunContext
from runcast.errors import AgentError

HERE = Path(__file__).parent
LOG = Path("ended.log")
SENTENCE = 12
PARAGRAPH = 60


def story(count: int) -> list[str]:
    """`count` words that are all different, in sentences and paragraphs; joined they are the answer."""
    words: list[str] = []
    for number in range(1, count + 1):
        end = ".\n\n" if number % PARAGRAPH == 0 else ". " if number % SENTENCE == 0 else " "
        words.append(f"word{number}{end}")
    words[-1] = words[-1].rstrip(" .\n") + "."
    return words


@runcast.agent(steerable=True)
async def agent(prompt: str, run: RunContext) -> AsyncGenerator[str]:
    """Tells stories, uses tools, fails, waits and attacks, as it is told."""
    behaviour, _, rest = prompt.partition(" ")
    said = ""
    how = "cancelled"
    try:
        async for piece in BEHAVIOURS.get(behaviour, echo)(rest, run):
            said += piece
            yield piece
        how = "done"
    except AgentError:
        how = "failed"
        raise
    finally:
        entry = {"prompt": prompt, "how": how, "length": len(said), "sha256": hashlib.sha256(said.encode()).hexdigest()}
        with LOG.open("a") as log:
            log.write(json.dumps(entry) + "\n")


async def echo(rest: str, run: RunContext) -> AsyncIterator[str]:
    yield f"You said {run.input.text!r}."


async def tell(rest: str, run: RunContext) -> AsyncIterator[str]:
    """A story of so many words, about a hundred in a second."""
    for word in story(int(rest.split()[0])):
        yield word
        await anyio.sleep(0.01)


async def hold(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Says a little, and then never ends by itself."""
    yield f"I hold on to {rest}."
    await anyio.sleep_forever()


async def listen(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Repeats what it is told while it runs, until it is told to end."""
    yield "I listen."
    async for message in run.steering():
        yield f"\n\nHeard {message.text}."
        if message.text == "end":
            return


async def work(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Thinks, and holds in the middle of a tool that says how far it is."""
    await run.think("First I look at what there is.")
    async with run.tool("count_things", kind=rest, title="Counting things…") as call:
        await call.progress(3, total=7, message="Three of seven")
        await anyio.sleep_forever()
    yield "Never said."


async def tools(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Two tools, one of which fails, and an answer with everything that Markdown has."""
    await run.think("I look for it, and read it.")
    async with run.tool("search_shelves", query=rest, limit=3) as call:
        call.result = {"found": [{"id": 1, "name": "Atlas"}, {"id": 2, "name": "Zoology"}], "total": 2}
        call.summary = "Found 2 books"
    try:
        async with run.tool("read_book", id=2):
            raise AgentError("The book is lent.")
    except AgentError:
        pass
    yield "## What I found\n\n| id | name |\n|---:|:-----|\n| 1 | Atlas |\n| 2 | Zoology |\n\n"
    yield '- **Atlas** is there\n- `Zoology` is lent, see [the rules](https://rules.example/lending)\n\n```python\nprint("ok")\n```\n'


async def fail(rest: str, run: RunContext) -> AsyncIterator[str]:
    yield "I try. "
    raise AgentError("The library is closed on Sundays.")


async def hostile(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Everything that a model's text and a tool's result must not be able to do."""
    corpus = (HERE / "hostile.md").read_text()
    async with run.tool("fetch_page", url="javascript:attacked('argument')", title=corpus.splitlines()[0]) as call:
        await call.progress(1, total=2, message=corpus)
        call.result = {"page": corpus, corpus.splitlines()[0]: ["<script>attacked('result')</script>"]}
        call.summary = "<img src=x onerror=\"attacked('summary')\">"
    await run.artifact("mermaid", MERMAID, name="<img src=x onerror=\"attacked('name')\">")
    await run.source("javascript:attacked('source')", title="<b onclick=attacked('title')>A source</b>")
    for line in corpus.splitlines(keepends=True):
        yield line
    yield f"\n```mermaid\n{MERMAID}\n```\n\nThis is the end of the corpus."


async def ask(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Asks for an address, then whether to send."""
    yield "I need to know where to. "
    address = await run.ask("Where to?", schema=ADDRESS)
    async with run.tool("send_parcel", **address) as call:
        await call.approve(editable=ADDRESS)
        call.result = call.arguments
    yield f"Sent to {call.arguments['street']} in {call.arguments['city']}."


ADDRESS = {
    "type": "object",
    "required": ["street", "zip", "city"],
    "properties": {
        "street": {"type": "string", "minLength": 3, "pattern": "^(?!Nowhere)"},
        "zip": {"type": "integer", "minimum": 1000, "maximum": 9999},
        "city": {"enum": ["Bern", "Basel"]},
        "days": {"type": "array", "items": {"enum": ["Mon", "Tue"]}},
        "express": {"type": "boolean", "title": "As fast as it goes"},
    },
}


async def look(rest: str, run: RunContext) -> AsyncIterator[str]:
    """Says what came along, by its bytes."""
    for one in run.input.attachments:
        file = await run.file(one)
        digest = hashlib.sha256(await file.read()).hexdigest()
        yield f"I got {file.name}, {file.mime_type}, {file.size} bytes, {digest[:8]}. "


async def huge(rest: str, run: RunContext) -> AsyncIterator[str]:
    """A result that is too big for the log."""
    async with run.tool("read_all") as call:
        call.result = "".join(f"line {number}\n" for number in range(40_000)) + "the very end"
    yield "That was all of it."


MERMAID = """flowchart LR
  a["<img src=x onerror=window.top.attacked('label')>"] --> b["<script>parent.attacked('script')</script>"]
  b --> c[End]
  click a call attacked("callback")
  click b "javascript:attacked('href')"
  click c "https://elsewhere.example/mermaid"
"""

BEHAVIOURS = {
    "tell": tell,
    "listen": listen,
    "hold": hold,
    "work": work,
    "tools": tools,
    "fail": fail,
    "hostile": hostile,
    "ask": ask,
    "look": look,
    "huge": huge,
}
