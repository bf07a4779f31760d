"""Settings: precedence, and every problem told at once."""

from __future__ import annotations

import pytest

from runcast.config import Settings, describe_settings, is_loopback
from runcast.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("RUNCAST_"):
            monkeypatch.delenv(name)


def test_defaults_are_valid() -> None:
    settings = Settings()
    assert (settings.host, settings.run_timeout_s, settings.web) == ("127.0.0.1", 300, True)
    assert settings.on_loopback


def test_constructor_wins_over_environment_wins_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCAST_PORT", "9001")
    monkeypatch.setenv("RUNCAST_TITLE", "From outside")
    settings = Settings(title="From code")
    assert (settings.port, settings.title, settings.queue_limit) == (9001, "From code", 8)


def test_settings_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCAST_RUN_TIMEOUT_S", "soon")
    with pytest.raises(ConfigError) as caught:
        Settings(port=70000, titel="x", allowed_origins=["https://*.example.com"])
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "RUNCAST_RUN_TIMEOUT_S" in problems and "'soon'" in problems
    assert "70000" in problems
    assert "did you mean 'title'" in problems
    assert "wildcards" in problems
    assert problems.replace("\n", "\n- ") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://a.example, https://b.example:8443", ("https://a.example", "https://b.example:8443")),
        ('["https://a.example"]', ("https://a.example",)),
        ("null", ("null",)),
        ("", ()),
    ],
)
def test_lists_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, value: tuple[str, ...]) -> None:
    monkeypatch.setenv("RUNCAST_ALLOWED_ORIGINS", text)
    assert Settings().allowed_origins == value


def test_starters_may_hold_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCAST_STARTERS", "Show tables, all of them\nDraw a diagram")
    assert Settings().starters == ("Show tables, all of them", "Draw a diagram")


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://a.example/",
        "https://a.example/path",
        "a.example",
        "ftp://a.example",
        "https://u@a.example",
        "https://a:b",
        "https://",
    ],
)
def test_origins_are_checked(origin: str) -> None:
    with pytest.raises(ConfigError, match="origin"):
        Settings(allowed_origins=[origin])


@pytest.mark.parametrize("host", ["*", "http://a.example", "a.example/x", "a example", ""])
def test_hosts_are_checked(host: str) -> None:
    with pytest.raises(ConfigError, match="host name"):
        Settings(allowed_hosts=[host])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_every_setting_is_described() -> None:
    rows = describe_settings()
    assert {row.name for row in rows} == set(Settings.model_fields)
    for row in rows:
        assert row.variable == "RUNCAST_" + row.name.upper()
        assert row.description.endswith(".")
        assert not row.name.endswith("_s") or "seconds" in row.description


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//evil.test", "/\\evil.test", "login", "data:text/html,x", "https://"]
)
def test_where_people_sign_in_is_a_place(url: str) -> None:
    with pytest.raises(ConfigError, match="sign_in_url"):
        Settings(sign_in_url=url)
    assert Settings(sign_in_url="/login?next=/").sign_in_url == "/login?next=/"
    assert Settings(sign_in_url="https://id.example/in").sign_in_url


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "ä"])
def test_names_of_cookies(name: str) -> None:
    with pytest.raises(ConfigError, match="cookie_name"):
        Settings(cookie_name=name)
