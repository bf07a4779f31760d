"""One text field of a JSON object, read while the object is still arriving.

    field = TextField("answer")
    field.feed('{"answer": "Hel')  → "Hel"
    field.feed('lo\\\\n')            → "lo\\n"

Only members of the outermost object count. Costs are linear in what is fed; nothing is kept but the state.
"""

from __future__ import annotations

from typing import Literal

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class TextField:
    def __init__(self, name: str) -> None:
        self.name = name
        self.found = False
        """The field's text has begun."""
        self._depth = 0
        self._in: Literal["", "string", "escape", "unicode"] = ""
        self._key: list[str] | None = None
        """The pieces of the outermost object's member name that is being read."""
        self._name: str | None = None
        """The member whose value is being read."""
        self._expect_key = False
        self._hex = ""
        self._high = ""
        """The first half of a surrogate pair, waiting for the second."""

    def feed(self, piece: str) -> str:
        """The text that `piece` adds to the field; "" if none."""
        out: list[str] = []
        for letter in piece:
            if self._in == "":
                self._outside(letter)
            elif self._in == "escape":
                self._escaped(letter, out)
            elif self._in == "unicode":
                self._hex += letter
                if len(self._hex) == 4:
                    self._in = "string"
                    self._code(self._hex, out)
            elif letter == "\\":
                self._in = "escape"
            elif letter == '"':
                self._in = ""
                self._flush(out)
                if self._key is not None:
                    self._name, self._key = "".join(self._key), None
            else:
                self._take(letter, out)
        return "".join(out)

    def _outside(self, letter: str) -> None:
        if letter == '"':
            self._in = "string"
            if self._depth == 1 and self._expect_key:
                self._key, self._expect_key = [], False
            elif self._wanted:
                self.found = True
        elif letter in "{[":
            self._depth += 1
            self._expect_key = letter == "{" and self._depth == 1
        elif letter in "}]":
            self._depth -= 1
        elif letter == "," and self._depth == 1:
            self._expect_key, self._name = True, None

    @property
    def _wanted(self) -> bool:
        return self._depth == 1 and self._key is None and self._name == self.name

    def _escaped(self, letter: str, out: list[str]) -> None:
        if letter == "u":
            self._in, self._hex = "unicode", ""
            return
        self._in = "string"
        self._take(_ESCAPES.get(letter, letter), out)

    def _code(self, digits: str, out: list[str]) -> None:
        try:
            letter = chr(int(digits, 16))
        except ValueError:
            letter = "\ufffd"
        if "\ud800" <= letter <= "\udbff":  # RFC 8259, section 7: the second half follows as another \\u
            self._flush(out)
            self._high = letter
        elif self._high and "\udc00" <= letter <= "\udfff":
            whole = (self._high + letter).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            self._high = ""
            self._take(whole, out)
        else:
            self._take("\ufffd" if "\udc00" <= letter <= "\udfff" else letter, out)

    def _take(self, letter: str, out: list[str]) -> None:
        self._flush(out)
        if self._key is not None:
            self._key.append(letter)
        elif self._wanted:
            out.append(letter)

    def _flush(self, out: list[str]) -> None:
        """A half of a pair whose other half did not come is no character."""
        if self._high:
            self._high = ""
            self._take("\ufffd", out)
