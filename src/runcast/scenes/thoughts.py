"""The scene *thoughts*: thinking, action, observation, answer, one by one, about the Python standard library.

A plain async generator with no dependency, no key and no network, that really does what it says: it searches the
documentation inside the modules of the Python it runs on, reads a module or a function, and tells the time anywhere.
It is no language model: it understands a handful of questions, and says so when it does not understand one.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.machinery
import inspect
import io
import math
import re
import sys
import sysconfig
import tokenize
import zoneinfo
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from runcast.agents.function import FunctionAgent

TOKENS_PER_S = 30.0
DOCS = f"https://docs.python.org/{sys.version_info.major}.{sys.version_info.minor}/library/"

_CLOCK = re.compile(r"\btime is it\b|\b(what|which|whats|what's|the) .*\btime in\b|^(time|clock) in\b|\bclock in\b")

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
    elif _CLOCK.search(words):
        answer = _time(question, now)
    elif re.search(r"\bzen\b", words):
        answer = _zen()
    elif re.fullmatch(r"(hi|hello|hey|help|what can you do|who are you)\W*", words):
        answer = _capabilities("Hello!")
    elif (name := await anyio.to_thread.run_sync(_named, question)) is not None:
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
        "- *How do I compress a file?*\n"
        "- *What does textwrap.shorten do?*\n"
        "- *Tell me about graphlib*\n"
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
    module, _, member = name.partition(".")
    yield _think(f"{name} is a name in the standard library. Its own documentation knows best; I read that.")
    yield _act("read_documentation", {"name": name}, f"Reading about {name}…")
    signature, text = await anyio.to_thread.run_sync(_documentation, name)
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
    yield _see({"signature": signature, "paragraphs": len(paragraphs)}, f"Read {len(text.split())} words")
    members: list[tuple[str, str]] = []
    names: list[str] = []
    if not member:
        yield _think("A module is known by what is in it. I look at its functions and classes too.")
        yield _act("list_members", {"module": module}, f"Looking into {module}…")
        members = await anyio.to_thread.run_sync(_members, module)
        names = [what for what, _ in members] or await anyio.to_thread.run_sync(_exported, module)
        yield _see(names[:50], f"Found {len(names)} public names")
    yield f"```python\n{signature}\n```\n\n"
    if not paragraphs:
        yield f"`{name}` carries no documentation of its own.\n\n"
    for paragraph in paragraphs[:2]:
        yield _markdown(paragraph) + "\n\n"
    if members:
        yield "Some of what is in it:\n\n"
        for what, sentence in members[:5]:
            yield f"- `{what}`: {sentence}\n"
    elif not member and names:
        yield "It offers " + _listed([f"`{what}`" for what in names[:12]]) + ".\n"
    yield _documented(module)


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
        yield _documented(module.name)


# --- the four kinds of pieces -----------------------------------------------------------------------------------------


def _think(text: str) -> Piece:
    return {"type": "thinking", "content": text}


def _act(name: str, arguments: Mapping[str, Any], title: str) -> Piece:
    return {"type": "action", "name": name, "arguments": arguments, "title": title}


def _see(result: object, summary: str) -> Piece:
    return {"type": "observation", "result": result, "summary": summary}


def _documented(module: str) -> Piece:
    return {"type": "source", "url": f"{DOCS}{module}.html", "title": f"{module} in the Python documentation"}


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

_NOT_SHOWN = frozenset(
    [
        "antigravity",
        "this",
        "idlelib",
        "turtledemo",
        "lib2to3",
        "aifc",
        "asynchat",
        "asyncore",
        "audioop",
        "cgi",
        "cgitb",
        "chunk",
        "crypt",
        "distutils",
        "imghdr",
        "imp",
        "mailcap",
        "msilib",
        "nis",
        "nntplib",
        "ossaudiodev",
        "pipes",
        "smtpd",
        "sndhdr",
        "spwd",
        "sunau",
        "telnetlib",
        "uu",
        "xdrlib",
    ]
)
"""Jokes, programs, and what has left or is leaving the library (PEP 594): nobody should be sent there."""


@functools.cache
def library() -> tuple[Module, ...]:
    """Every public module of this Python's standard library that says what it is. Reads files, runs none of them."""
    return tuple(
        Module(name, _sentence(text))
        for name in sorted(sys.stdlib_module_names)
        if not name.startswith("_") and name not in _NOT_SHOWN and (text := _docstring(name))
    )


@functools.cache
def _source(name: str) -> Path | None:
    """The file of a module of the library, wherever a program of that name may lie beside us; None: written in C."""
    spec = importlib.machinery.PathFinder.find_spec(name, [sysconfig.get_path("stdlib")])
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.origin.endswith(".py") else None


@functools.cache
def _in_c(name: str) -> ModuleType | None:
    """A module of the library that is written in C: nothing to read, so it is imported; that does nothing else."""
    if name not in sys.stdlib_module_names or name.startswith("_") or _source(name) is not None:
        return None
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED") or ""]
    spec = importlib.machinery.PathFinder.find_spec(name, folders)
    if name not in sys.builtin_module_names and (spec is None or not (spec.origin or "").endswith((".so", ".pyd"))):
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@functools.cache
def _docstring(name: str) -> str:
    """A module's docstring: of a source file its first statement, of a module in C what it carries."""
    path = _source(name)
    if path is None:
        return inspect.getdoc(_in_c(name)) or "" if _in_c(name) is not None else ""
    try:
        return _first_string(path.read_bytes()) or ""
    except OSError:
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
        return _signature(node, f"{module}."), text
    found = getattr(_in_c(module), member, None)
    try:
        signature = f"{name}{inspect.signature(found)}"  # pyright: ignore[reportArgumentType]  # tried, and told if not
    except (TypeError, ValueError):
        signature = name
    return signature, inspect.getdoc(found) or ""


def _members(module: str) -> list[tuple[str, str]]:
    """`(name, first sentence)` of a module's public functions and classes that are documented, as they stand in it."""
    found: list[tuple[str, str]] = []
    for node in _tree(module):
        if isinstance(node, _DEFINITIONS) and not node.name.startswith("_") and (text := ast.get_docstring(node)):
            name = f"class {node.name}" if isinstance(node, ast.ClassDef) else f"{node.name}()"
            found.append((name, _sentence(text)))
    in_c = _in_c(module)
    for name, value in vars(in_c).items() if in_c is not None else ():
        if callable(value) and not name.startswith("_") and (text := inspect.getdoc(value)):
            found.append((name if isinstance(value, type) else f"{name}()", _sentence(text)))
    return found


def _exported(module: str) -> list[str]:
    """What a module says that it offers (`__all__`), where that is written out."""
    for node in _tree(module):
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets
        ):
            try:
                names = ast.literal_eval(node.value)
            except ValueError:
                return []
            return [str(name) for name in names]
    return []


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _signature(node: Definition, prefix: str) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class {prefix}{node.name}"
    return f"{prefix}{node.name}({ast.unparse(node.args)})"


def _definition(module: str, member: str) -> Definition | None:
    return next((node for node in _tree(module) if isinstance(node, _DEFINITIONS) and node.name == member), None)


@functools.lru_cache(maxsize=16)
def _tree(module: str) -> tuple[ast.stmt, ...]:
    path = _source(module)
    if path is None:
        return ()
    try:
        return tuple(ast.parse(path.read_bytes()).body)
    except (OSError, SyntaxError, ValueError):
        return ()


def _named(question: str) -> str | None:
    """The module, or member of one, that the question names; None if it names none for certain."""
    for word in re.findall(r"[A-Za-z_][\w.]*\w", question):
        module, _, member = word.partition(".")
        if _known(module) and member and _has(module, member):
            return word
    quoted = re.search(r"`([a-z_][a-z0-9_]*)`", question)
    about = re.search(
        r"\b(?:about|module|does|is|explain|with|use)\s+([a-z_][a-z0-9_]*)\s*(?:do|work|for|module|good|\W*$)", question
    )
    alone = re.fullmatch(r"(?:import )?([a-z_][a-z0-9_]*)\W*", question)
    for match in (quoted, about, alone):
        if match is not None and _known(match[1]):
            return match[1]
    return None


def _known(module: str) -> bool:
    if module not in sys.stdlib_module_names or module.startswith("_") or module in _NOT_SHOWN:
        return False
    return _source(module) is not None or _in_c(module) is not None


def _has(module: str, member: str) -> bool:
    if member.startswith("_") or "." in member:
        return False
    return _definition(module, member) is not None or hasattr(_in_c(module), member)


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
    """Modules that mention the terms, best first. A name counts more than a summary, that more than the text; a word that
    many modules use counts less than a rare one."""
    scores: dict[Module, float] = {}
    covered: Counter[Module] = Counter()
    for term in terms:
        stem = _stem(term)
        hits = {module: hit for module in modules if (hit := _mentioned(module, term, stem))}
        weight = math.log(1 + len(modules) / (1 + len(hits)))
        for module, hit in hits.items():
            scores[module] = scores.get(module, 0.0) + hit * weight
            covered[module] += 1
    found = [module for module in scores if covered[module] * 2 >= len(terms)]  # one odd word in common is no match
    return sorted(found, key=lambda module: (-scores[module], module.name))


def _mentioned(module: Module, term: str, stem: str) -> int:
    name = module.name.casefold()
    named = 8 if name in (term, stem) else 4 if name.startswith(stem) else 2 * (len(stem) > 3 and name.endswith(stem))
    return named + 3 * _has_word(module.summary, stem) + _has_word(_docstring(module.name)[:4000], stem)


def _has_word(text: str, stem: str) -> bool:
    return re.search(rf"\b{re.escape(stem)}", text, re.IGNORECASE) is not None


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
