"""The scene *thoughts*: thinking, action, observation, answer, one by one, about the Python standard library.

A plain async generator with no dependency, no key and no network, that really does what it says: it searches the
documentation inside the modules of the Python it runs on, reads a module or a function, and tells the time anywhere.
It is no language model: it understands a handful of questions, and says so when it does not understand one.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import io
import re
import sys
import tokenize
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from runcast.agents.function import FunctionAgent

TOKENS_PER_S = 30.0
DOCS = "https://docs.python.org/3/library/{}.html"

Piece = str | Mapping[str, Any]


class Module(NamedTuple):
    name: str
    summary: str
    """First sentence of its docstring."""


def make(
    *,
    tokens_per_s: float = TOKENS_PER_S,
    now: Callable[[zoneinfo.ZoneInfo], datetime] = lambda zone: datetime.now(zone),
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> FunctionAgent:
    """The agent, at a pace of its own; 0 tokens a second: as fast as it can."""
    pause = 1 / tokens_per_s if tokens_per_s > 0 else 0.0

    async def thoughts(prompt: str) -> AsyncIterator[Piece]:
        """Thinks aloud about the Python standard library: finds modules, reads their documentation, tells the time."""
        async for piece in _answer(prompt, now):
            for part in _slices(piece):
                if pause:
                    await sleep(pause * (6 if isinstance(part, Mapping) and part["type"] != "thinking" else 1))
                yield part

    return FunctionAgent(thoughts, name="thoughts", title="Thoughts")


async def _answer(prompt: str, now: Callable[[zoneinfo.ZoneInfo], datetime]) -> AsyncIterator[Piece]:
    """Whole thoughts, actions and answers; `make` cuts them up and paces them."""
    question = " ".join(prompt.split())
    words = question.casefold()
    if not words.strip(" ?!."):
        answer = _capabilities("You have not asked anything yet.")
    elif re.search(r"\btime\b.*\b(in|at)\b|\bclock\b|what time", words):
        answer = _time(question, now)
    elif re.search(r"\bzen\b", words):
        answer = _zen()
    elif re.fullmatch(r"(hi|hello|hey|help|what can you do|who are you)\W*", words):
        answer = _capabilities("Hello!")
    elif (name := _named(question)) is not None:
        answer = _read(name)
    else:
        answer = _search(question)
    async for piece in answer:
        yield piece


async def _capabilities(opening: str) -> AsyncIterator[Piece]:
    yield _think("No question about the library in this one. I should say what I can do.")
    yield (
        f"{opening} I know the standard library of Python {sys.version_info.major}.{sys.version_info.minor}, read from the "
        "modules on this machine. I am a small program, not a language model. Try:\n\n"
        "- *Which module compares texts?*\n"
        "- *What does textwrap.shorten do?*\n"
        "- *Tell me about zoneinfo*\n"
        "- *What time is it in Tokyo?*\n"
        "- *Show me the Zen of Python*\n"
    )


async def _time(question: str, now: Callable[[zoneinfo.ZoneInfo], datetime]) -> AsyncIterator[Piece]:
    place = re.sub(r"^.*\b(?:in|at|for)\s+|[?!.]+$", "", question, flags=re.IGNORECASE).strip()
    yield _think(f"Somebody wants the time in {place}. Time zones have cities' names, so I look for one.")
    yield _act("find_zone", {"place": place}, f"Looking for {place} among the time zones…")
    zones = await anyio.to_thread.run_sync(zoneinfo.available_timezones)
    by_city = {zone.rpartition("/")[2].replace("_", " ").casefold(): zone for zone in sorted(zones)}
    near = get_close_matches(place.casefold(), by_city, n=1, cutoff=0.75)
    if not near:
        yield _see({"zones": len(zones), "match": None}, f"None of {len(zones)} zones is called that")
        yield _think("I could guess a zone nearby, but a wrong time is worse than none.")
        yield (
            f"I found no time zone named after **{place}**. They are named after large cities, "
            "such as *Tokyo*, *New York* or *Zurich*."
        )
        return
    zone = by_city[near[0]]
    yield _see({"zones": len(zones), "match": zone}, f"Found {zone}")
    yield _act("read_clock", {"zone": zone}, f"Reading the clock of {zone}…")
    moment = now(zoneinfo.ZoneInfo(zone))
    offset = moment.strftime("%z")
    yield _see({"time": moment.isoformat(timespec="seconds")}, moment.strftime("%H:%M"))
    yield (
        f"In {zone.rpartition('/')[2].replace('_', ' ')} it is **{moment:%H:%M}** on {moment:%A}, {moment.day} {moment:%B} "
        f"({moment.tzname()}, UTC{offset[:3]}:{offset[3:]})."
    )


async def _zen() -> AsyncIterator[Piece]:
    yield _think(
        "The Zen hides in the module `this`, written in ROT13. I read it without importing it: that prints it."
    )
    yield _act("read_source", {"module": "this"}, "Reading the source of this…")
    text = await anyio.to_thread.run_sync(_zen_text)
    yield _see({"lines": len(text.splitlines())}, f"Found {len(text.splitlines())} lines and turned each letter by 13")
    yield "\n".join(f"> {line}" if line else ">" for line in text.splitlines()) + "\n"
    yield {"type": "source", "url": "https://peps.python.org/pep-0020/", "title": "PEP 20: The Zen of Python"}


async def _read(name: str) -> AsyncIterator[Piece]:
    yield _think(f"{name} is a name in the standard library. Its own documentation knows best; I read that.")
    yield _act("read_documentation", {"name": name}, f"Reading about {name}…")
    signature, text = await anyio.to_thread.run_sync(_documentation, name)
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    yield _see({"signature": signature, "paragraphs": len(paragraphs)}, f"Read {len(text.split())} words")
    if not paragraphs:
        yield _think("It is there, but nobody wrote documentation into it. I say that rather than invent some.")
        yield f"`{signature}` exists, but it carries no documentation of its own."
    else:
        yield _think("The first paragraphs say what it is for. The rest is for those who look it up.")
        yield f"```python\n{signature}\n```\n\n"
        for paragraph in paragraphs[:2]:
            yield _markdown(paragraph) + "\n\n"
    module = name.partition(".")[0]
    yield {"type": "source", "url": DOCS.format(module), "title": f"{module} in the Python documentation"}


async def _search(question: str) -> AsyncIterator[Piece]:
    terms = _terms(question)
    if not terms:
        async for piece in _capabilities("I did not find anything in that to look up."):
            yield piece
        return
    yield _think(f"This is about {_listed(terms)}. I search what the modules say about themselves.")
    yield _act("search_modules", {"terms": terms}, f"Searching the standard library for {_listed(terms)}…")
    modules = await anyio.to_thread.run_sync(library)
    found = _rank(modules, terms)[:5]
    result = [{"module": module.name, "summary": module.summary} for module in found]
    if not found:
        yield _see(result, f"Nothing in {len(modules)} modules")
        yield _think("Nothing matches. Better to say so than to name a module that does something else.")
        yield (
            f"No module of the standard library mentions {_listed(terms)} in the first words about itself. "
            "Try other words, or the name of a module."
        )
        return
    yield _see(result, f"Found {len(found)} of {len(modules)} modules")
    best = found[0]
    yield _think(f"`{best.name}` fits best. I read a little of it to be sure.")
    yield _act("read_documentation", {"name": best.name}, f"Reading about {best.name}…")
    _, text = await anyio.to_thread.run_sync(_documentation, best.name)
    yield _see({"module": best.name, "words": len(text.split())}, f"Read {len(text.split())} words")
    yield f"I would start with **`{best.name}`**: {best.summary}\n"
    if len(found) > 1:
        yield "\nAlso worth a look:\n\n"
        for module in found[1:]:
            yield f"- `{module.name}`: {module.summary}\n"
    for module in found[:3]:
        yield {"type": "source", "url": DOCS.format(module.name), "title": f"{module.name} in the Python documentation"}


# --- the four kinds of pieces -----------------------------------------------------------------------------------------


def _think(text: str) -> Piece:
    return {"type": "thinking", "content": text}


def _act(name: str, arguments: Mapping[str, Any], title: str) -> Piece:
    return {"type": "action", "name": name, "arguments": arguments, "title": title}


def _see(result: object, summary: str) -> Piece:
    return {"type": "observation", "result": result, "summary": summary}


def _slices(piece: Piece) -> Iterator[Piece]:
    """Words one by one, as a model would say them; everything else whole."""
    if isinstance(piece, str):
        yield from re.findall(r"\s*\S+\s*?(?=\s|\Z)|\s+", piece)
    elif piece["type"] == "thinking":
        for word in re.findall(r"\s*\S+", piece["content"]):
            yield {"type": "thinking", "delta": word}
    else:
        yield piece


# --- the library ------------------------------------------------------------------------------------------------------


@functools.cache
def library() -> tuple[Module, ...]:
    """Every public module of this Python's standard library that says what it is. Reads files, imports nothing."""
    return tuple(
        Module(name, _sentence(text))
        for name in sorted(sys.stdlib_module_names)
        if not name.startswith("_")
        and name not in ("antigravity", "this", "idlelib", "turtledemo")
        and (text := _docstring(name))
    )


@functools.cache
def _docstring(name: str) -> str:
    """A module's docstring: of a source file its first statement, of a module in C what it carries."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    if spec.origin is not None and spec.origin.endswith(".py"):
        try:
            source = Path(spec.origin).read_bytes()
        except OSError:
            return ""
        return _first_string(source) or ""
    if spec.origin in ("built-in", "frozen") or (spec.origin or "").endswith((".so", ".pyd")):
        return inspect.getdoc(importlib.import_module(name)) or ""
    return ""


def _first_string(source: bytes) -> str | None:
    """The docstring, by its first tokens: parsing the whole library takes seconds, this a tenth of one."""
    skipped = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE}
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type == tokenize.STRING:
                text = ast.literal_eval(token.string)
                return inspect.cleandoc(text) if isinstance(text, str) else None
            if token.type not in skipped:
                return None
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None
    return None


def _documentation(name: str) -> tuple[str, str]:
    """`(signature, text)` of a module, or of a function or class in one. Source is read, not run."""
    module, _, member = name.partition(".")
    if not member:
        return f"import {module}", _docstring(module)
    node = _definition(module, member)
    if node is not None:
        text = inspect.cleandoc(ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            return f"class {name}", text
        return f"{name}({ast.unparse(node.args)})", text
    found = getattr(importlib.import_module(module), member)
    try:
        signature = f"{name}{inspect.signature(found)}"
    except (TypeError, ValueError):
        signature = name
    return signature, inspect.getdoc(found) or ""


def _definition(module: str, member: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None:
    for node in _tree(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == member:
            return node
    return None


@functools.lru_cache(maxsize=16)
def _tree(module: str) -> tuple[ast.stmt, ...]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ()
    return tuple(ast.parse(Path(spec.origin).read_bytes()).body)


def _named(question: str) -> str | None:
    """The module, or member of one, that the question names; None if it names none for certain."""
    for word in re.findall(r"[A-Za-z_][\w.]*\w", question):
        module, _, member = word.partition(".")
        if module not in sys.stdlib_module_names or module in ("antigravity", "this") or module.startswith("_"):
            continue
        if member and "." not in member and _has(module, member):
            return word
    about = re.search(
        r"\b(?:about|module|does|is|explain|with)\s+`?([a-z_][a-z0-9_]*)`?\s*(?:do|work|for|module|\W*$)", question
    )
    alone = re.fullmatch(r"`?(?:import )?([a-z_][a-z0-9_]*)`?\W*", question)
    for match in (about, alone):
        if match is not None and match[1] in {module.name for module in library()}:
            return match[1]
    return None


def _has(module: str, member: str) -> bool:
    if member.startswith("_"):
        return False
    if _definition(module, member) is not None:
        return True
    spec = importlib.util.find_spec(module)
    in_c = spec is not None and (spec.origin in ("built-in", "frozen") or not (spec.origin or "").endswith(".py"))
    return in_c and hasattr(importlib.import_module(module), member)


def _zen_text() -> str:
    for node in _tree("this"):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            turned = {chr(c + base): chr((c + 13) % 26 + base) for base in (65, 97) for c in range(26)}
            return "".join(turned.get(letter, letter) for letter in node.value.value)
    return ""


# --- words ------------------------------------------------------------------------------------------------------------

_STOP = frozenset(
    [
        "a",
        "about",
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "could",
        "do",
        "does",
        "explain",
        "find",
        "for",
        "from",
        "get",
        "give",
        "have",
        "how",
        "i",
        "in",
        "into",
        "is",
        "it",
        "library",
        "like",
        "list",
        "me",
        "module",
        "modules",
        "my",
        "need",
        "of",
        "on",
        "one",
        "or",
        "please",
        "python",
        "show",
        "some",
        "standard",
        "tell",
        "that",
        "the",
        "their",
        "them",
        "there",
        "these",
        "thing",
        "things",
        "this",
        "to",
        "use",
        "used",
        "using",
        "want",
        "way",
        "we",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "with",
        "work",
        "works",
        "would",
        "you",
        "your",
    ]
)


def _terms(question: str) -> list[str]:
    words = re.findall(r"[a-z0-9]{2,}", question.casefold())
    return list(dict.fromkeys(word for word in words if word not in _STOP))[:5]


def _rank(modules: tuple[Module, ...], terms: list[str]) -> list[Module]:
    """Modules that mention the terms, best first: its name counts most, then its summary, then its docstring."""
    stems = [_stem(term) for term in terms]
    scored: list[tuple[int, str, Module]] = []
    for module in modules:
        name, summary, text = (
            module.name.casefold(),
            module.summary.casefold(),
            _docstring(module.name)[:600].casefold(),
        )
        score = sum(
            8 * (name == stem or name == term)
            + 4 * (stem in name)
            + 3 * _mentions(summary, stem)
            + _mentions(text, stem)
            for stem, term in zip(stems, terms, strict=True)
        )
        if score:
            scored.append((-score, module.name, module))
    return [module for _, _, module in sorted(scored)]


def _mentions(text: str, stem: str) -> bool:
    return re.search(rf"\b{re.escape(stem)}", text) is not None


def _stem(word: str) -> str:
    """Enough for English plurals and verbs: dates, parsing, compressed."""
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _sentence(text: str) -> str:
    first = " ".join(re.split(r"\n\s*\n", text.strip())[0].split())
    first = re.split(r"(?<=[.!?])\s", first)[0]
    return first if len(first) <= 160 else first[:157].rsplit(" ", 1)[0] + "…"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _markdown(paragraph: str) -> str:
    """A paragraph of a docstring; what is indented or a table stays as it stands."""
    lines = paragraph.splitlines()
    if any(line.startswith(("    ", ">>>")) or "  " in line.strip() for line in lines):
        return "```text\n" + paragraph.strip("\n") + "\n```"
    return " ".join(paragraph.split())


agent = make()
