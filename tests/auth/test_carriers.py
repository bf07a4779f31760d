"""Where a token is looked for, and which one counts (attacks 15, 20)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.auth import Credentials, read_offer, token_of
from runcast.errors import Forbidden

COOKIE = "auth_token"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln"
ALL: dict[str, Any] = {
    "headers": {"authorization": "Bearer h", "origin": "https://a.example"},
    "subprotocols": ("chat.v1", "bearer.s"),
    "cookies": {COOKIE: "c", "other": "x"},
    "token": "f",
    "query_token": "q",
}


def counts(**presented: Any) -> str | None:
    presented.setdefault("headers", {"origin": "https://a.example"})
    return token_of(Credentials("websocket", **presented), cookie_name=COOKIE)


def test_the_first_in_the_order_counts() -> None:
    """Whether the others are the same or not."""
    left = dict(ALL)
    found = [counts(**left)]
    left["headers"] = {"origin": "https://a.example"}
    for carrier in ("subprotocols", "cookies", "token", "query_token"):
        found.append(counts(**left))
        del left[carrier]
    assert found == ["h", "s", "c", "f", "q"]
    assert counts(**left) is None


@pytest.mark.parametrize(("value", "token"), [("bearer  x", "x"), ("BEARER x", "x"), ("Bearer ", ""), ("Bearer", "")])
def test_the_scheme_is_not_case_sensitive(value: str, token: str) -> None:
    """RFC 9110, section 11.1. An empty token is a wrong one, not none."""
    assert counts(headers={"authorization": value}, token="f") == token


def test_another_scheme_is_none_of_ours() -> None:
    assert counts(headers={"authorization": "Basic YTpi"}, token="f") == "f"


def test_a_cookie_of_another_name_is_no_token() -> None:
    assert counts(cookies={"session": "c"}) is None


@pytest.mark.parametrize(
    ("kind", "method", "refused"),
    [
        ("websocket", "GET", True),
        ("http", "POST", True),
        ("http", "DELETE", True),
        ("http", "PATCH", True),
        ("http", "PROPFIND", True),
        ("http", "GET", False),
        ("http", "HEAD", False),
    ],
)
def test_a_cookie_needs_an_origin_where_it_may_do_harm(kind: Any, method: str, refused: bool) -> None:
    """Attack 15."""
    cookie = Credentials(kind, {}, {COOKIE: "c"}, token="f", method=method)
    if refused:
        with pytest.raises(Forbidden, match="Origin"):
            token_of(cookie, cookie_name=COOKIE)
    else:
        assert token_of(cookie, cookie_name=COOKIE) == "c"
    assert token_of(cookie._replace(headers={"origin": "https://a.example"}), cookie_name=COOKIE) == "c"
    assert token_of(cookie._replace(headers={"authorization": "Bearer b"}), cookie_name=COOKIE) == "b"


@pytest.mark.parametrize(
    ("offered", "protocols", "token", "echo"),
    [
        ([], (), None, None),
        (["chat.v1"], ("chat.v1",), None, "chat.v1"),
        (["chat.v1", "bearer.t"], ("chat.v1",), "t", "chat.v1"),
        (["bearer.t", "chat.v1"], ("chat.v1",), "t", "chat.v1"),
        (["bearer.t"], (), "t", None),
        (["bearer", "t"], (), "t", "bearer"),
        (["Bearer", "t"], (), "t", "Bearer"),
        (["bearer", "t", "chat.v1"], ("chat.v1",), "t", "chat.v1"),
        (["bearer"], (), None, None),
        (["bearer", "bearer", "t"], (), "t", "bearer"),
        (["bearer.t", "bearer", "u", "t"], (), "t", "bearer"),
        ([JWT, "chat.v1"], ("chat.v1",), None, "chat.v1"),
        (["bearer.one", "bearer.two"], (), "one", None),
        (["bearer.t", ""], (), "t", None),  # a comma too many
        (["bearer.", "chat.v1"], ("chat.v1",), "", "chat.v1"),
    ],
)
def test_tokens_among_subprotocols(
    offered: list[str], protocols: tuple[str, ...], token: str | None, echo: str | None
) -> None:
    offer = read_offer(offered)
    assert (offer.protocols, offer.token, offer.echo) == (protocols, token, echo)


@given(
    st.lists(
        st.sampled_from(["bearer", "Bearer", "bearer.secret", "BEARER.secret", "secret", JWT, "chat.v1", "x"]),
        max_size=6,
    )
)
def test_a_token_is_never_echoed(offered: list[str]) -> None:
    """Attack 20."""
    offer = read_offer(offered)
    assert offer.echo is None or offer.echo in offered
    assert offer.echo is None or offer.echo != offer.token
    assert offer.echo not in ("bearer.secret", "BEARER.secret", JWT)
    if any(before.lower() == "bearer" and after == "secret" for before, after in pairwise(offered)):
        assert offer.echo != "secret"
