"""Tokens that are believed and those that are not (attacks 2-9)."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from auth.tokens import SECRET, encoded, signed
from runcast.auth import Credentials, JwtAuth
from runcast.auth.configured import configured
from runcast.auth.jwt import MAX_TOKEN, secret_fault
from runcast.config import Settings
from runcast.errors import ConfigError, Unauthenticated
from runcast.runs import Principal

NOW = 1_800_000_000
DAY = 86_400
PEM = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""
JWK = '{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs","e":"AQAB"}'


class Fixed:
    def now_ms(self) -> int:
        return NOW * 1000

    def monotonic(self) -> float:
        return 0.0


def auth(**options: Any) -> JwtAuth:
    return JwtAuth(SECRET, clock=Fixed(), **options)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ada", "exp": NOW + 600} | more


def reason(token: str, **options: Any) -> str:
    """Why it is refused; in words for the log, that have nothing of the token."""
    with pytest.raises(Unauthenticated) as refused:
        auth(**options).identity(token)
    assert refused.value.message in ("The token is not valid.", "The token has expired.")
    assert refused.value.__cause__ is None
    return refused.value.reason


def test_a_good_token_names_its_user_and_its_end() -> None:
    assert auth().identity(signed(claims(iat=NOW, nbf=NOW))) == (Principal("ada"), (NOW + 600) * 1000)
    assert auth(user_claim="user_id").identity(signed(claims(user_id="u-7", sub=7))).principal == Principal("u-7")
    assert auth().identity(signed(claims(exp=NOW + 600.5))).expires_at == NOW * 1000 + 600_500


@pytest.mark.parametrize("alg", ["none", "nOnE", "None", "", "HS384", "RS256", "hs256", None, 256, ["HS256"], {}])
def test_one_algorithm_and_no_other(alg: Any) -> None:
    """Attack 2."""
    assert "algorithm" in reason(signed(claims(), {"alg": alg, "typ": "JWT"}))
    assert "algorithm" in reason(signed(claims(), {"typ": "JWT"}))


def test_without_signature() -> None:
    """Attack 2."""
    for header in ({"alg": "none"}, {"alg": "HS256"}):
        start = f"{encoded(header)}.{encoded(claims())}"
        assert reason(start + ".")
        assert reason(start)
        assert reason(start + ".AAAA")


@pytest.mark.parametrize("secret", [PEM, JWK, json.loads(JWK)["n"], "", "\0" * 32, SECRET + " "])
def test_signed_with_something_that_is_public(secret: str) -> None:
    """Attack 3."""
    assert "signature" in reason(signed(claims(), secret=secret))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../dev/null"},
        {"kid": "x' UNION SELECT 'k"},
        {"kid": "https://evil.test/key"},
    ],
)
def test_the_name_of_a_key_is_not_looked_at(header: dict[str, Any]) -> None:
    """Attack 4: /dev/null, a row and an address would all give a key that the attacker knows."""
    for secret in ("", "k", "\0"):
        assert "signature" in reason(signed(claims(), {"alg": "HS256", **header}, secret=secret))


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c"])
def test_a_token_that_brings_its_key(name: str) -> None:
    """Attack 4."""
    assert "key" in reason(signed(claims(), {"alg": "HS256", name: "https://evil.test/"}))


def test_a_huge_kid() -> None:
    """Attack 4."""
    assert "characters" in reason(signed(claims(), {"alg": "HS256", "kid": "k" * 10_240}))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], ["x"], "x", None])
def test_critical_extensions(crit: Any) -> None:
    """Attack 5."""
    assert "critical" in reason(signed(claims(), {"alg": "HS256", "crit": crit, "b64": True, "x": 1}))


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c.d.e",  # encrypted (RFC 7516, section 7.1)
        signed(signed(claims()), {"alg": "HS256", "cty": "JWT"}),  # one in another
        signed(f'{{"sub":"ada","exp":{NOW + 600},"sub":"eve"}}'),
        signed(f'{{"sub":"ada","exp":{NOW + 600},"exp":{NOW + 601}}}'),
        signed(f'{{"sub":"ada","exp":{NOW + 600},"x":{{"a":1,"a":2}}}}'),
        signed(claims(), '{"alg":"none","alg":"HS256"}'),
        signed("[1]"),
        signed("null"),
        signed("{"),
        signed(b"\xff\xfe"),
        signed("[" * 3000),
        signed('{"sub":"ada","exp":' + "1" * 5000 + "}"),
    ],
)
def test_what_is_no_plain_set_of_claims(token: str) -> None:
    """Attack 5."""
    assert reason(token) in ("it cannot be read", "it is no signed JWT")


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [f'"{NOW + 60}"', "NaN", "Infinity", "-1", "true", "null", "[]", "1e999", "1" * 400])
def test_times_that_are_none(name: str, value: str) -> None:
    """Attack 6."""
    rest = {key: claim for key, claim in claims().items() if key != name}
    assert reason(signed(json.dumps(rest)[:-1] + f',"{name}":{value}}}')) in (
        f"its {name} is no time",
        f"it has no {name}",
        "it cannot be read",
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": 0}, "expired"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"iat": NOW + 3600}, "not valid yet"),
        ({"exp": 253_370_764_800}, "lives longer"),  # the year 9999
        ({"exp": NOW + DAY + 31}, "lives longer"),
        ({"iat": NOW - DAY, "exp": NOW + 60}, "lives longer"),
    ],
)
def test_times_that_do_not_fit(more: dict[str, Any], why: str) -> None:
    """Attack 6."""
    assert why in reason(signed(claims(**more)))


def test_a_token_must_end() -> None:
    """Attack 6."""
    assert reason(signed({"sub": "ada"})) == "it has no exp"


@pytest.mark.parametrize("more", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}, {"exp": NOW + DAY + 29}])
def test_clocks_may_differ_by_half_a_minute(more: dict[str, Any]) -> None:
    assert auth().identity(signed(claims(**more))).principal == Principal("ada")


def test_a_longer_life_may_be_allowed() -> None:
    week = auth(max_lifetime_s=7 * DAY)
    assert week.identity(signed(claims(exp=NOW + 7 * DAY))).principal == Principal("ada")
    assert "lives longer" in reason(signed(claims(exp=NOW + 8 * DAY)), max_lifetime_s=7 * DAY)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"aud": "chat", "iss": "https://id.example"}, None),
        ({"aud": "other", "iss": "https://id.example"}, "audience"),
        ({"aud": ["chat"], "iss": "https://id.example"}, "audience"),
        ({"aud": ["chat", "other"], "iss": "https://id.example"}, "audience"),
        ({"aud": None, "iss": "https://id.example"}, "aud"),
        ({"iss": "https://id.example"}, "it has no aud"),
        ({"aud": "chat"}, "it has no iss"),
        ({"aud": "chat", "iss": "https://id.example/"}, "issuer"),
        ({"aud": "chat", "iss": "https://evil.example"}, "issuer"),
        ({"aud": "chat", "iss": ["https://id.example"]}, "issuer"),
    ],
)
def test_audience_and_issuer(more: dict[str, Any], why: str | None) -> None:
    """Attack 7."""
    options = {"audience": "chat", "issuer": "https://id.example"}
    if why is None:
        assert auth(**options).identity(signed(claims(**more))).principal == Principal("ada")
    else:
        assert why in reason(signed(claims(**more)), **options)


def test_a_token_for_an_audience_is_not_for_a_server_without_one() -> None:
    """Attack 7."""
    assert "audience" in reason(signed(claims(aud="elsewhere")))


@pytest.mark.parametrize(
    "user",
    ["", " ", 7, None, True, ["ada"], {"a": 1}, "a" * 257, "a\0", "a\nb", "a\x1b[2J", "\u202eada", "a\u2028", "\ud800"],
)
def test_users_that_are_none(user: Any) -> None:
    """Attack 8."""
    assert reason(signed(claims(sub=user))) == "its sub is no user's name"


def test_a_token_without_a_user() -> None:
    """Attack 8."""
    assert reason(signed({"exp": NOW + 60})) == "its sub is no user's name"
    assert reason(signed(claims()), user_claim="user_id") == "its user_id is no user's name"


@pytest.mark.parametrize("user", ["a" * 256, "ana@example.com", "Ünï", "日本", "auth0|507f1f77"])
def test_users_of_all_kinds(user: str) -> None:
    assert auth().identity(signed(claims(sub=user))).principal == Principal(user)


@pytest.mark.parametrize(
    "token", ["a" * 5_000_000, "." * 1000, "", "a.b", "ä.b.c", "a.b.c\n", "a b.c.d", signed(claims()) + "="]
)
def test_what_does_not_look_like_one_is_not_decoded(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 9."""

    def never(*args: object, **options: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("base64.b64decode", never)
    assert reason(token) in (f"it has more than {MAX_TOKEN} characters", "it is no signed JWT")


@pytest.mark.anyio
async def test_no_token_at_all() -> None:
    with pytest.raises(Unauthenticated) as refused:
        await auth().authenticate(Credentials("http", {}))
    assert refused.value.reason == "no token"


# --- the secret ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "x" * 31,
        "your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "your-super-secret-key-change-in-production",
        "please_change_me_please_change_me_1234567",
        "a" * 64,
        "0123" * 16,
        PEM,
        JWK,
        SECRET + "\n",
    ],
)
def test_secrets_that_are_none(secret: str) -> None:
    assert secret_fault(secret)
    with pytest.raises(ConfigError) as refused:
        configured(Settings(auth="jwt", jwt_secret=secret))
    with pytest.raises(ConfigError):
        JwtAuth(secret)
    assert "RUNCAST_JWT_SECRET" in str(refused.value)
    assert secret not in str(refused.value)


def test_a_secret_is_needed() -> None:
    with pytest.raises(ConfigError, match="RUNCAST_JWT_SECRET"):
        configured(Settings(auth="jwt"))


def test_the_secret_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("RUNCAST_AUTH", "jwt")
    monkeypatch.setenv("RUNCAST_JWT_SECRET", SECRET)
    settings = Settings()
    with caplog.at_level(logging.DEBUG):
        made = configured(settings)
        logging.getLogger("x").debug("%r %s %r", settings, settings.model_dump_json(), made)
    assert isinstance(made, JwtAuth)
    assert SECRET not in caplog.text
    with pytest.raises(ConfigError) as wrong:
        Settings(jwt_secret=[SECRET], port="x")
    assert SECRET not in str(wrong.value)
