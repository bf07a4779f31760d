"""What a person asks, understood by patterns: a sentence in, a `Question` out. Pure; knows nothing of any database.

Names stay as they were said ("suppliers"); the tools find what is meant. Pronouns stay pronouns (`IT`); who has the
conversation puts the table in their place. What no pattern fits is `Unclear`, and the answer says what would be understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from runcast.scenes.explorer.names import singular

IT = "<it>"
"""Stands for the table that was spoken of last."""

_LONGEST = 600
"""Characters. A longer text is no question that a pattern knows (SQL is looked for before)."""

Kind = Literal["all", "fact", "dimension", "bridge", "table", "view"]
Function = Literal["SUM", "AVG", "MIN", "MAX", "COUNT"]


@dataclass(frozen=True)
class Tables:
    kind: Kind = "all"


@dataclass(frozen=True)
class Describe:
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Relate:
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Find:
    term: str


@dataclass(frozen=True)
class Count:
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    table: str
    rows: int = 10


@dataclass(frozen=True)
class Total:
    """`function` of `measure` for each `per`; the `limit` highest (or lowest) if it asks for a ranking."""

    measure: str
    per: str
    function: Function = "SUM"
    limit: int | None = None
    ascending: bool = False
    year: int | None = None


@dataclass(frozen=True)
class Late:
    per: str = ""
    year: int | None = None


@dataclass(frozen=True)
class Sql:
    text: str


@dataclass(frozen=True)
class Talk:
    about: Literal["hello", "thanks", "help", "bye"]


@dataclass(frozen=True)
class Unclear:
    text: str


Question = Tables | Describe | Relate | Find | Count | Preview | Total | Late | Sql | Talk | Unclear

TIMES = {"day": "day", "date": "day", "week": "week", "month": "month", "quarter": "quarter", "year": "year"}
"""Words after *per* that mean time."""

_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "fifteen": 15, "twenty": 20, "fifty": 50, "hundred": 100,
}  # fmt: skip
_NUMBER = rf"(?P<n>\d+|{'|'.join(_NUMBERS)})"
_BEFORE = rf"(?:{_NUMBER.replace('<n>', '<k>')}\s+)?"
"""The number of "the 3 largest"; `_NUMBER` is that of "top 3"."""
_POLITE = re.compile(
    r"^(?:(?:hi|hello|hey|ok|okay|great|thanks|thank you|please|now|then|so|well|alright|cool|nice)\b[,.! ]*)+(?=\w+\W+\w)|"
    r"^(?:can|could|would|will) you (?:please |kindly )?|^(?:i(?:'d| would) (?:like|love) (?:you )?to|i want (?:you )?to|let(?:'s| us)|"
    r"i need to|help me) |^please ",
    re.IGNORECASE,
)
_ARTICLES = re.compile(
    r"^(?:(?:the|a|an|all|our|my|your|this|that|these|those|some|every|each|any|of|in|from|on|for|with|to|about|me|us)\s+)+",
    re.IGNORECASE,
)
_NOUNS = re.compile(
    r"\s+(?:tables?|views?|entity|entities|please|now|too|as well|again|instead|here|there|exactly|look like)$",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"^(?:it|its|it's|them|their|they|this|that|(?:this|that|the|the same|same) (?:table|one|view)|the same|these|those)$",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"^(?:select\b.+|with\s+(?:recursive\s+)?\S+\s*(?:\([^)]*\)\s*)?as\s+(?:not\s+materialized\s+|materialized\s+)?\(.+|"
    r"(?:delete\s+from|insert\s+(?:or\s+\w+\s+)?into|replace\s+into|update\s+\S+\s+set|drop\s+(?:table|view|index|trigger)|truncate\s+table|"
    r"create\s+(?:temp\w*\s+)?(?:table|view|index|trigger)|alter\s+table|attach\s+|detach\s+|pragma\s+\w+|vacuum\b|reindex\b).*)$",
    re.IGNORECASE | re.DOTALL,
)
_RUN = re.compile(
    r"^(?:run|execute|query|try|do)\s*(?:(?:this|the|following|a|an|my|sql|query|statement)\s*)*:?\s*", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:\w+)?\s*\n?(.*?)```", re.DOTALL)

_RELATION = re.compile(
    r"\b(?:relation(?:ship)?s?|relate[sd]?|connect(?:ed|ion|ions|s)?|link(?:ed|s)?|join(?:ed|s)?|foreign keys?|references?|refer|erd|er[- ]diagram|"
    r"diagram|entity[- ]relationship|data model|hang together|fit together|belong together|path)\b",
    re.IGNORECASE,
)  # fmt: skip
_COUNT = re.compile(
    r"\b(?:how many|count|number of|how (?:big|large)|row counts?|record counts?|size of|sizes)\b", re.IGNORECASE
)
_ROWS = r"(?:rows?|records?|entries|lines|tuples|data ?sets)"
_TIME_WORD = r"(?:day|week|month|quarter|year)"


def understand(text: str) -> Question:
    """What is asked. Never raises; at worst it is `Unclear`."""
    statement = _sql(text)
    if statement:
        return Sql(statement)
    asked = _plain(text)
    if not asked:
        return Talk("help")
    if len(asked) > _LONGEST:
        return Unclear(text.strip())
    for pattern in (_talk, _late, _relate, _rank, _count, _total, _find, _preview, _describe, _tables, _bare):
        found = pattern(asked)
        if found is not None:
            return found
    return Unclear(text.strip())


def follow_up(text: str, before: Question | None) -> Question | None:
    """An elliptic question ("and the plants?") read as the one before with another subject; None if it is none."""
    found = re.match(
        r"^(?:and|what about|how about|and what about|same for|the same for|also|and for|and of|now for|now)\s+(?P<x>.+)$",
        _plain(text, keep_and=True),
        re.IGNORECASE,
    )
    if found is None or before is None:
        return None
    subject = _name(found["x"])
    # "and its columns" or "and how many rows are there" is a whole question; "and the plants" is not.
    whole = understand(found["x"])
    if (
        subject in ("", IT)
        or whole == Describe((IT,))
        or not (isinstance(whole, Unclear) or _bare(found["x"]) == whole)
    ):
        return None
    year = re.fullmatch(r"(?:in |for )?(20\d\d|19\d\d)", subject)
    match before:
        case Total() | Late() if year:
            return replace(before, year=int(year[1]))
        case Total():
            per = re.sub(r"^(?:per|by)\s+", "", subject)
            return replace(before, per=per)
        case Late():
            return replace(before, per=re.sub(r"^(?:per|by)\s+", "", subject))
        case Describe():
            return Describe(_names(found["x"]))
        case Count():
            return Count(_names(found["x"]))
        case Relate():
            return Relate(_names(found["x"]) if len(before.tables) < 2 else (before.tables[0], subject))
        case Preview():
            return replace(before, table=subject)
        case Find():
            return Find(subject)
        case _:
            return None


def _sql(text: str) -> str:
    fenced = _FENCE.search(text)
    candidate = (fenced[1] if fenced else text).strip()
    for attempt in (candidate, _RUN.sub("", _POLITE.sub("", candidate), count=1).strip()):
        attempt = attempt.strip("`").strip()
        if _STATEMENT.match(attempt) and _looks_like_sql(attempt):
            return attempt
    return ""


def _looks_like_sql(text: str) -> bool:
    """ "Select the suppliers for me" is English; SQL has a FROM with a name, an expression, or nothing but symbols."""
    if not text.lower().startswith("select"):
        return True
    return bool(
        re.search(r"\bfrom\b|\bunion\b|[(*;=]", text, re.IGNORECASE)
        or re.match(r"select\s+(?:\d|'|\?|null\b|\w+\s*$)", text, re.IGNORECASE)
    ) and not re.match(
        r"select\s+(?:the|all the|some|a|my|our|me)\s+\w+\s*(?:from the\b|for\b|please)", text, re.IGNORECASE
    )


def _plain(text: str, *, keep_and: bool = False) -> str:
    asked = re.sub(r"[“”„]", '"', text.replace("’", "'"))
    asked = re.sub(r"\s+", " ", asked).strip().rstrip("?!. ").strip()
    while (shorter := _POLITE.sub("", asked, count=1)) != asked:
        asked = shorter
    return asked if keep_and else re.sub(r"^(?:and|but)\s+(?=\w+ \w)", "", asked, flags=re.IGNORECASE)


def _name(text: str) -> str:
    """A table or word as it was said, without articles and nouns around it."""
    text = text.strip().strip("?!.,;: ").strip()
    if len(text) > 1 and text[0] in "\"'`[" and text[-1] in "\"'`]":
        return text[1:-1]
    if _PRONOUN.match(text):
        return IT
    before = None
    while before != text:
        before = text
        text = _NOUNS.sub("", _ARTICLES.sub("", text)).strip("\"'` ")
    return IT if _PRONOUN.match(text) else text


def _names(text: str) -> tuple[str, ...]:
    parts = re.split(r"\s*(?:,|;|&|\band\b|\bto\b|\bwith\b|\bvs\.?(?=\s)|\bversus\b)\s*", text, flags=re.IGNORECASE)
    return tuple(dict.fromkeys(name for name in map(_name, parts) if name))


def _int(text: str | None, default: int) -> int:
    if text is None:
        return default
    return _NUMBERS.get(text.lower()) or (int(text) if text.isdigit() else default)


def _year(text: str) -> tuple[str, int | None]:
    """The text without a year, and the year."""
    found = re.search(r"\s*\b(?:in|for|of|during|since)?\s*(?:the year\s+)?\b((?:19|20)\d\d)\b", text, re.IGNORECASE)
    return (text[: found.start()] + text[found.end() :], int(found[1])) if found else (text, None)


def _talk(asked: str) -> Question | None:
    short = asked.lower().strip(" ,")
    if re.fullmatch(
        r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings|howdy|hallo|moin)(?: there| again| all)?",
        short,
    ):
        return Talk("hello")
    if re.fullmatch(
        r"(?:many )?(?:thanks?(?: you)?(?: a lot| so much| very much)?|cheers|great|perfect|nice|cool|ok|okay|good)(?:,? (?:thanks|thank you))?",
        short,
    ):
        return Talk("thanks")
    if re.fullmatch(r"(?:bye|goodbye|good bye|see you|that's all|that is all)(?: later)?", short):
        return Talk("bye")
    if re.fullmatch(
        r"(?:help(?: me)?|\?|what (?:can|could|do) (?:you|i) (?:do|ask|know)(?: (?:here|you|for me))?|how does this work|what is this|who are you|"
        r"what are you|what can i (?:ask|do)(?: you| here)?|examples?|commands?|options?)", short
    ):  # fmt: skip
        return Talk("help")
    return None


def _late(asked: str) -> Question | None:
    text, year = _year(asked)
    if not re.search(
        r"\b(?:late|lateness|delayed|delays?|overdue|on[- ]time|punctual(?:ity)?|lat(?:er|est) than (?:requested|planned))\b",
        text,
        re.IGNORECASE,
    ):
        return None
    if re.search(r"\b(?:columns?|fields?|run|tables)\b", text, re.IGNORECASE):
        return None
    per = re.search(r"\b(?:per|by|for each|grouped by|each)\s+(?P<x>[\w ]+)$", text, re.IGNORECASE)
    if per:
        return Late(_name(per["x"]), year)
    which = re.match(
        r"^(?:which|what|show(?: me)?(?: the)?)\s+(?P<x>\w+)\s+(?:are|is|deliver|delivers|delivered|have|has|had|were|was|with|often|arrive)\b",
        text,
        re.IGNORECASE,
    )
    subject = _name(which["x"]) if which else ""
    return Late("" if re.match(r"(?:deliver|order|shipment|late|line)", subject, re.IGNORECASE) else subject, year)


def _relate(asked: str) -> Question | None:
    if not _RELATION.search(asked) or re.search(
        r"\bcolumns?\b.*\b(?:named?|called|with|containing)\b", asked, re.IGNORECASE
    ):
        return None
    text = re.sub(
        r",?\s*(?:as|in|with) an? (?:er |erd? |mermaid |entity[- ]relationship )?diagram$",
        "",
        asked,
        flags=re.IGNORECASE,
    )
    for pattern in (
        r"\bbetween\s+(?P<x>.+)$",
        r"\bhow (?:can i|to|do i|would i|could i|should i|do you)\s+(?:join|connect|link|relate)\s+(?P<x>.+)$",
        (r"\bhow (?:are|is|do|does|can i|to|do i|would i|could i|should i)\s+(?P<x>.+?)\s+(?:related|connected|linked|joined|relate|connect|link|join|refer|hang together|fit together|belong together)\b"
        r"(?:\s*(?:to each other|with each other|together))?(?P<y>.*)$"),
        r"^(?:is|are)\s+(?P<x>.+?)\s+(?:related|connected|linked|joined)\s+(?:to|with)\s+(?P<y>.+)$",
        r"\bpath\s+from\s+(?P<x>.+)$",
        r"^(?:join|connect|link|relate)\s+(?P<x>.+)$",
        r"\b(?:which|what)(?: other)? (?:tables?|facts?|views?)\s+(?:are |is |do |does |can )?(?:refer(?:ence)?s?|relate[sd]?|connect(?:ed|s)?|link(?:ed|s)?|join(?:ed|s)?|(?:have|has) (?:a )?(?:foreign keys?|references?|relationships?|links?))\s*(?:to|with|by|from)?\s+(?P<x>.+)$",
        r"^(?:what|who)(?:'s)?\s+(?:is|are)?\s*(?:refer(?:ence)?s?|connect(?:ed|s)?|link(?:ed|s)?|related|joined)\s*(?:to|with|from)?\s+(?P<x>.+)$",
        r"^what(?:'s| is| are)?\s+(?:is |are )?(?P<x>\S+(?: \S+)?)\s+(?:related|connected|linked|joined)\s+(?:to|with)$",
        r"\bforeign keys?\s+(?:does|do|has|have)\s+(?P<x>.+?)(?:\s+have)?$",
        r"\b(?:relation(?:ship)?s?|connections?|links?|foreign keys?|references?|joins?|diagram|erd|data model)\s+(?:does|do)\s+(?P<x>.+?)\s+have$",
        r"\b(?:relation(?:ship)?s?|connections?|links?|foreign keys?|references?|joins?|diagram|erd|data model)\s+(?:of|for|around|from|to|in|with|on|about)\s+(?P<x>.+)$",
        r"^(?:show|draw|display|give|what are|list|find|and|visuali[sz]e)?(?: me| us)?\s*(?P<x>(?:its|their|the [\w ]+?'s|[\w]+'s|[\w]+_[\w]+))\s+(?:relation(?:ship)?s?|connections?|links?|foreign keys?|references?|joins?|diagram)$",
    ):  # fmt: skip
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            given = found.groupdict()
            names = _names(re.sub(r"'s$", "", given["x"]))
            names += tuple(name for name in _names(given.get("y") or "") if name not in names)
            return Relate(_without_whole(names))
    named = re.search(
        r"\b(?:the |an? )?(?P<x>[\w ]+?)\s+(?:er[- ])?(?:diagram|erd|relation(?:ship)?s?|foreign keys?)$",
        text,
        re.IGNORECASE,
    )
    words = (
        _name(
            re.sub(
                r"^(?:show|draw|display|give|list|find|make|create|see|view|what are|visuali[sz]e)\b(?: me| us)?",
                "",
                named["x"],
                flags=re.IGNORECASE,
            )
        )
        if named
        else ""
    )
    generic = r"(?:all|an?|the|any|every|some|complete|er|entity|entity relationship|table|relationship|database|db|schema|whole|complete|full|entire|known|foreign key|what|which|there|are|mermaid)(?: .*)?|"
    return Relate(
        () if not words or re.fullmatch(generic, words, re.IGNORECASE) or len(words.split()) > 3 else (words,)
    )


def _without_whole(names: tuple[str, ...]) -> tuple[str, ...]:
    """ "of all tables", "in the database" is no table's name."""
    whole = re.compile(
        r"(?:tables?|everything|all|each other|others?|it all|whole|(?:whole |entire |complete |full )?(?:database|schema|db|model|data ?mart|mart))",
        re.IGNORECASE,
    )
    return tuple(name for name in names if name and not whole.fullmatch(name))


def _count(asked: str) -> Question | None:
    if not _COUNT.search(asked) or re.search(
        r"\b(?:per|for each|grouped by)\s+(?!table\b)\w+|\bby\s+(?!table\b)\w+", asked, re.IGNORECASE
    ):
        return None
    if re.search(
        r"\b(?:how many|number of|count(?: the| all)?)\s+(?:\w+ )?(?:tables|views|facts?|dimensions?)\b(?!\s*['\w]*\s*rows)",
        asked,
        re.IGNORECASE,
    ):
        return _tables(asked) or Tables()
    if re.search(r"\b(?:how many|number of|count(?: the)?)\s+(?:columns?|fields?|attributes?)\b", asked, re.IGNORECASE):
        return _describe(asked)
    for pattern in (
        rf"\b(?:how many|number of|count(?: of)?(?: the| all)?(?: the)?)\s+{_ROWS}\s+(?:are |is )?(?:there )?(?:in|of|from|for|inside)\s+(?P<x>.+?)(?: have| has| contain)?$",
        rf"\b(?:how many|number of)\s+{_ROWS}\s+(?:does|do|has|have|did)\s+(?P<x>.+?)(?:\s+(?:have|hold|contain|has))?$",
        r"^(?:show |give |list |get |what are |what is )?(?:me |us )?(?:the )?(?:(?:row|record) counts?|size|sizes)\s+(?:of|for|in|from)\s+(?P<x>.+)$",
        rf"^(?:please )?count\s+(?P<x>.+?)(?:'s)?(?:\s+{_ROWS})?$",
        r"\bhow (?:big|large)\s+(?:is|are)\s+(?P<x>.+)$",
        r"\bhow many\s+(?P<x>[\w ]+?)(?:\s+(?:are there|are in here|do we have|do you have|exist|are in (?:the |this )?\w+|there are|have we got|are stored))?$",
        r"\b(?:number|count) of\s+(?P<x>[\w ]+)$",
    ):
        found = re.search(pattern, asked, re.IGNORECASE)
        if found:
            subject = re.sub(rf"^(?:all |the )*{_ROWS}\s+(?:in|of|from)\s+", "", found["x"], flags=re.IGNORECASE)
            if re.fullmatch(rf"(?:the |all )*{_ROWS}(?: there)?", subject, re.IGNORECASE):
                return Count()
            return Count(_without_whole(_names(re.sub(r"^(?:in |of )", "", subject))))
    return Count()


def _rank(asked: str) -> Question | None:
    text, year = _year(asked)
    high = r"top|best|largest|biggest|highest|greatest|most valuable|leading"
    low = r"lowest|smallest|worst|bottom|least"
    found = re.search(
        rf"\b{_BEFORE}(?P<way>{high}|{low})\s+(?:{_NUMBER}\s+)?(?P<x>[\w ]+?)\s+(?:by|according to|in terms of|ranked by|sorted by|ordered by|with the (?:highest|largest|most)|with most)\s+(?P<m>[\w ]+)$",
        text,
        re.IGNORECASE,
    )
    if found:
        ascending = re.fullmatch(low, found["way"], re.IGNORECASE) is not None
        return Total(_name(found["m"]), _name(found["x"]), *_function(found["m"]), limit=_int(found["n"] or found["k"], 10), ascending=ascending, year=year)  # fmt: skip
    found = re.search(
        rf"\b(?:which|what)\s+(?:{_NUMBER}\s+)?(?P<x>\w+(?: \w+)?)\s+(?:has|have|had|with|got|do we order|is|are)\s+(?:the\s+)?(?P<way>{high}|{low}|most|fewest|more)\s+(?P<m>[\w ]+)$",
        text,
        re.IGNORECASE,
    )
    if found:
        ascending = re.fullmatch(rf"{low}|fewest", found["way"], re.IGNORECASE) is not None
        function: Function = "COUNT" if re.fullmatch("most|fewest|more", found["way"], re.IGNORECASE) else "SUM"
        return Total(_name(found["m"]), _name(found["x"]), function, _int(found["n"], 5), ascending, year)
    found = re.search(
        rf"\b{_BEFORE}(?P<way>most expensive|cheapest|priciest|least expensive)\s+(?:{_NUMBER}\s+)?(?P<x>[\w ]+)$",
        text,
        re.IGNORECASE,
    )
    if found:
        ascending = found["way"].lower() in ("cheapest", "least expensive")
        return Total("price", _name(found["x"]), "SUM", _int(found["n"] or found["k"], 10), ascending, year)
    found = re.search(rf"\b(?P<way>{high}|{low})\s+(?:{_NUMBER}\s+)?(?P<x>[\w ]+)$", text, re.IGNORECASE)
    if (
        found
        and found["way"].lower() in ("top", "bottom", "largest", "biggest", "smallest", "best", "leading")
        and not re.search(r"\btables?\b", text, re.IGNORECASE)
    ):
        return Total(
            "", _name(found["x"]), "SUM", _int(found["n"], 10), found["way"].lower() in ("bottom", "smallest"), year
        )
    return None


def _function(measure: str) -> tuple[Function]:
    if re.match(r"^(?:the )?(?:number|count|amount) of\b|\bcount$", measure, re.IGNORECASE):
        return ("COUNT",)
    if re.match(r"^(?:the )?(?:average|avg|mean)\b", measure, re.IGNORECASE):
        return ("AVG",)
    return ("SUM",)


def _implied(measure: str) -> Function:
    last = measure.split()[-1].lower()
    return "COUNT" if singular(last) != last and last not in ("sales", "costs", "earnings", "hours", "units") else "SUM"


_FUNCTIONS: dict[str, Function] = {
    "total": "SUM", "sum": "SUM", "sum of": "SUM", "average": "AVG", "avg": "AVG", "mean": "AVG", "maximum": "MAX", "max": "MAX", "highest": "MAX",
    "largest": "MAX", "minimum": "MIN", "min": "MIN", "lowest": "MIN", "smallest": "MIN", "number of": "COUNT", "count": "COUNT", "count of": "COUNT",
    "how many": "COUNT", "how much": "SUM", "monthly": "SUM", "yearly": "SUM", "quarterly": "SUM", "weekly": "SUM",
}  # fmt: skip


def _total(asked: str) -> Question | None:
    text, year = _year(asked)
    text = re.sub(
        r"^(?:show|give|list|get|compute|calculate|what is|what are|what was|what were|what's|tell|plot)\s+(?:me |us )?(?:the )?",
        "",
        text,
        flags=re.IGNORECASE,
    )
    names = "|".join(sorted(_FUNCTIONS, key=len, reverse=True))
    found = re.match(
        rf"^(?:the )?(?:(?P<f>{names})\s+(?:of\s+)?(?:the\s+)?)?(?P<m>[\w ]+?)\s+(?:per|by|for each|for every|grouped by|in each|over|across)\s+(?P<x>[\w ]+)$",
        text,
        re.IGNORECASE,
    )
    if found and not re.match(r"(?:columns?|tables?|rows?)\b", found["m"], re.IGNORECASE):
        # "orders per supplier" counts them; "order value per supplier" adds it up.
        function = _FUNCTIONS[found["f"].lower()] if found["f"] else _implied(found["m"])
        measure = re.sub(
            r"\s+(?:do we have|are there|did we \w+|do we \w+|were there|were placed|was \w+)$", "", found["m"]
        )
        return Total(_name(measure), _time(_name(found["x"])), function, year=year)
    found = re.match(r"^(?P<t>monthly|yearly|annual|quarterly|weekly|daily)\s+(?P<m>[\w ]+)$", text, re.IGNORECASE)
    if found:
        per = {
            "monthly": "month",
            "yearly": "year",
            "annual": "year",
            "quarterly": "quarter",
            "weekly": "week",
            "daily": "day",
        }[found["t"].lower()]
        return Total(_name(found["m"]), per, year=year)
    found = re.match(
        r"^(?:the )?(?P<f>total|sum|average|avg|mean|maximum|max|minimum|min|highest|lowest|how much)\s+(?:of\s+)?(?:the\s+)?(?P<m>[\w ]+?)(?:\s+(?:of|in|for) all.*)?$",
        text,
        re.IGNORECASE,
    )
    if found and not re.search(r"\b(?:tables?|columns?|rows?)\b", found["m"], re.IGNORECASE):
        return Total(_name(found["m"]), "", _FUNCTIONS[found["f"].lower()], year=year)
    return None


def _time(word: str) -> str:
    return TIMES.get(re.sub(r"s$", "", word.lower()), word)


def _find(asked: str) -> Question | None:
    for pattern in (
        r"\b(?:search|find|look|looking)\b.*?\b(?:columns?|fields?|attributes?|tables?)\s+(?:for|named|called|with|about|containing|contain|that contain|that have|having|like|matching|that mention|mentioning|where)\s+(?:the (?:word|name|term)\s+)?(?P<x>.+)$",
        r"\b(?:search|look)\s+(?:for\s+)?(?P<x>.+?)\s+(?:columns?|fields?|attributes?)$",
        r"\b(?:which|what|list|show(?: me)?)\s+(?:all\s+|the\s+)?(?:tables?|columns?|fields?)\s+(?:that\s+)?(?:contains?|containing|have|has|having|with|include|mention|mentioning|named|called|about|store|stores|hold|holds|deal with|are about|are called|are named|match|like)\s+(?:an?\s+|the\s+)?(?:columns?\s+(?:named|called|for|with|about)?\s*)?(?P<x>.+)$",
        r"\bwhere\s+(?:is|are|do i find|can i find|do we store|do we keep|would i find)\s+(?P<x>.+?)(?:\s+(?:stored|kept|saved|recorded|located))?$",
        r"^(?:search|find|look)\s+(?:for\s+|up\s+)?(?P<x>.+)$",
        r"^(?:columns?|fields?)\s+(?:for|named|called|with|about|containing|like)\s+(?P<x>.+)$",
        r"\b(?:is|are) there (?:an?|any)\s+(?P<x>.+?)\s+(?:columns?|fields?)$",
        r"\b(?:which|what|all)\s+(?P<x>[\w]+)\s+(?:columns|fields)\b(?! (?:does|do|are in|in|of))",
    ):  # fmt: skip
        found = re.search(pattern, asked, re.IGNORECASE)
        if found:
            term = re.sub(
                r"\s+in (?:their|its|the) names?$|\s+in (?:it|them|the name|any table|all tables|the database)$",
                "",
                _name(found["x"]),
                flags=re.IGNORECASE,
            )
            term = _name(
                re.sub(
                    r"^columns? (?:named|called|for|with|about|like)\s+|\s+(?:columns?|fields?|information|data|values?)$"
                    if " " in term
                    else r"(?!)",
                    "",
                    term,
                    flags=re.IGNORECASE,
                )
            )
            if term and term != IT and term.lower() not in ("columns", "tables", "does", "do"):
                return Find(term)
    return None


def _preview(asked: str) -> Question | None:
    for pattern in (
        rf"\b(?:first|last|top|any|some|a few|sample|example|{_NUMBER})\s+(?:(?:few|sample|example|random)\s+)?{_ROWS}\s+(?:of|from|in|for)\s+(?P<x>.+)$",
        rf"\b(?:first|top)\s+{_NUMBER}\s+(?:{_ROWS}\s+)?(?:of|from|in)\s+(?P<x>.+)$",
        rf"^(?:show|give|list|get|display|see)\s+(?:me |us )?(?:the )?(?:first |some |a few )?{_NUMBER}\s+(?P<x>[\w ]+)$",
        r"^(?:preview|peek (?:at|into)|sample|browse|look (?:at|into))\s+(?:of\s+|data (?:of|from|in)\s+)?(?P<x>.+)$",
        rf"^(?:show|give|display|get|see)\s+(?:me |us )?(?:the |some |a few |a |all |all the )*(?:data|{_ROWS}|contents?|sample|examples?|sample data|example data|preview)\s+(?:of|from|in|for)\s+(?P<x>.+)$",
        r"^(?:an? )?(?:example|sample|preview)\s+(?:of|from)\s+(?P<x>.+)$",
    ):
        found = re.search(pattern, asked, re.IGNORECASE)
        if found:
            subject = _name(re.sub(rf"^(?:{_ROWS})\s+(?:of|from|in)\s+", "", found["x"], flags=re.IGNORECASE))
            if subject and not re.fullmatch(r"tables?|columns?", subject, re.IGNORECASE):
                return Preview(subject, max(1, min(200, _int(found.groupdict().get("n"), 10))))
    return None


def _describe(asked: str) -> Question | None:
    noun = r"(?:columns?|fields?|attributes?|structure|schema|details?|definition|layout|description|primary keys?|keys?|ddl|metadata|indexes|indices|types)"
    for pattern in (
        r"^(?:describe|desc|explain|inspect|detail|open(?= (?:the|table)\b))\s+(?P<x>.+)$",
        rf"\b{noun}\s+(?:and \w+ )?(?:of|in|from|for|on|about)\s+(?P<x>.+)$",
        rf"\b(?:what|which|how many)\s+{noun}\s+(?:are|is|does|do|has|have)\s+(?:there )?(?:in |of |on )?(?P<x>.+?)(?:\s+(?:have|has|contain|got|hold))?$",
        r"^(?:what(?:'s| is| are)|what does)\s+(?:inside|in|stored in|contained in)\s+(?P<x>.+)$",
        r"^what\s+(?:does|do)\s+(?P<x>.+?)\s+(?:contain|look like|hold|have|store|consist of|mean)(?: in it)?$",
        r"^(?:tell|teach) (?:me|us)(?: more| something| everything)? (?:about|of)\s+(?P<x>.+)$",
        r"^(?:more|info|information)\s+(?:about|on|of)\s+(?P<x>.+)$",
        rf"^(?:show|give|list|get|display|see|what are|and)?\s*(?:me |us )?(?P<x>(?:the )?[\w]+(?:'s)?(?: table)?(?:'s)?|its|their)\s+{noun}$",
        r"^(?:what is|what's|what are)\s+(?P<x>.+)$",
        r"^(?:show|give|display|see|view)\s+(?:me |us )?(?P<x>.+?)(?:\s+in detail| details)?$",
        r"^(?:go to|take me to)\s+(?P<x>.+)$",
    ):
        found = re.search(pattern, asked, re.IGNORECASE)
        if found:
            names = _without_whole(_names(re.sub(r"'s$", "", found["x"])))
            generic = r"(?:facts?|dimensions?|bridges?|views?|tables?|columns?|data|here|there|you|the time|.*\b(?:tables|views))"
            names = tuple(name for name in names if not re.fullmatch(generic, name, re.IGNORECASE))
            if (
                names
                and all(len(name.split()) <= 4 for name in names)
                and not re.search(r"\b(?:all|every|which|what)\b.*\b(?:tables|views)\b", found["x"], re.IGNORECASE)
            ):
                return Describe(names[:4])
            return None
    return None


def _tables(asked: str) -> Question | None:
    if not re.search(
        r"\b(?:tables?|views?|facts?|dimensions?|bridges?|schema|database|db|catalogu?e?|data ?mart|entities)\b",
        asked,
        re.IGNORECASE,
    ):
        return None
    for word, kind in (
        ("fact", "fact"),
        ("dimension", "dimension"),
        ("dim", "dimension"),
        ("bridge", "bridge"),
        ("view", "view"),
    ):
        if re.search(rf"\b{word}s?\b", asked, re.IGNORECASE) and not re.search(
            r"\btables and views\b", asked, re.IGNORECASE
        ):
            return Tables(kind)  # pyright: ignore[reportArgumentType]
    return Tables()


def _bare(asked: str) -> Question | None:
    name = _name(asked)
    if name == IT:
        return Describe((IT,))
    if re.fullmatch(r"(?:its |their )?(?:columns|fields)", asked, re.IGNORECASE):
        return Describe((IT,))
    if re.fullmatch(r"\w*_\w+", name) or (len(name.split()) <= 2 and re.fullmatch(r"[\w ]{3,}", name)):
        return Describe((name,))
    return None
