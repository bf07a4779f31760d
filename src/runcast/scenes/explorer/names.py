"""Names as people say them and names as databases write them: "suppliers" is `dimv_bs_supplier`.

Matching is done on words: a name is cut at underscores, spaces and camel humps, lower-cased and put into the singular.
Scores are from 0 to 1; `best` gives one name only if it leads clearly, otherwise the caller asks back with what is close.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CUT = re.compile(r"[\W_]+")
_FILLER = frozenset(
    {"the", "a", "an", "table", "tables", "view", "all", "our", "my", "of", "data", "dimension", "fact", "facts"}
)
_SYNONYMS = (
    frozenset({"supplier", "vendor"}),
    frozenset({"material", "product", "article", "item"}),
    frozenset({"customer", "client"}),
    frozenset({"plant", "site", "factory"}),
    frozenset({"date", "calendar"}),
    frozenset({"delivery", "shipment"}),
    frozenset({"employee", "staff"}),
)
_PREFIXES = frozenset({"fact", "fct", "dim", "dimv", "bridge", "brg", "tbl", "v", "vw", "bs", "stg", "rpt"})


@lru_cache(maxsize=20_000)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, lower case: `OrderDetails` and `order details` alike."""
    return tuple(part.lower() for part in _CUT.split(_HUMP.sub(" ", unicodedata.normalize("NFKC", name))) if part)


def singular(word: str) -> str:
    """An English singular, well enough to compare two names."""
    for ending, put in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + put
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


@dataclass(frozen=True)
class Match:
    name: str
    score: float


def rank(asked: str, names: Iterable[str]) -> list[Match]:
    """All names that could be meant, best first; ties go to the shorter name, then to the alphabet."""
    matches = [Match(name, _score(asked, name)) for name in names]
    found = [match for match in matches if match.score >= 0.45]
    return sorted(found, key=lambda match: (-match.score, len(match.name), match.name.lower()))


def best(asked: str, names: Sequence[str]) -> Match | None:
    """The one that is meant, or None if nothing is near enough (see `rank` for what is near)."""
    found = rank(asked, names)
    return found[0] if found and found[0].score >= 0.6 else None


def _score(asked: str, name: str) -> float:
    given, known = asked.strip().strip("\"'`[]").lower(), name.lower()
    if given == known:
        return 1.0
    wanted = [singular(word) for word in words(asked)]
    there = [singular(word) for word in words(name)]
    # "the suppliers table" says no more than "suppliers", but a table may be called `data`.
    wanted = [word for word in wanted if word not in _FILLER or word in there] or wanted
    if not wanted or not there:
        return 0.0
    if wanted == there:
        return 0.97
    if there[: len(wanted)] == wanted:
        return 0.9  # fact_bs_purchase of fact_bs_purchase_order
    core = [word for word in there if word not in _PREFIXES] or there
    if wanted == core:
        return 0.93
    bare = [word for word in wanted if word not in _PREFIXES] or wanted
    hits = sum(_hit(word, core) for word in bare) / len(bare)
    cover = hits * len(bare) / max(len(core), len(bare))
    by_words = hits * (0.62 + 0.26 * cover)
    by_letters = SequenceMatcher(None, "".join(wanted), "".join(core)).ratio()
    # Letters alone must agree well: "orders" is not "others".
    return max(by_words, by_letters * 0.8 if by_letters >= 0.8 else 0.0)


def _hit(word: str, known: Sequence[str]) -> float:
    if word in known:
        return 1.0
    if len(word) >= 4 and any(other.startswith(word) for other in known):
        return 0.9
    if any(word in group and group & set(known) for group in _SYNONYMS):
        return 0.85
    ratio = max((SequenceMatcher(None, word, other).ratio() for other in known), default=0.0)
    return 0.75 if ratio >= 0.84 else 0.0
