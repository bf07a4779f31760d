"""Signed tokens as identity: JSON Web Tokens (RFC 7519) with HMAC-SHA256 and one secret, read as RFC 8725 advises.

What is not understood is refused: another algorithm, any critical extension, keys or their addresses inside of the token, a
JSON object with a name in it twice, a time that is no number. A token without end is refused, and so is one that lives longer
than `max_lifetime_s`. Nothing of a token but its user is kept.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final, cast

from runcast.auth.base import LEEWAY_S, Credentials, Identity
from runcast.auth.carriers import token_of
from runcast.errors import ConfigError, Unauthenticated
from runcast.ids import Clock, SystemClock
from runcast.runs import Principal

ALGORITHM: Final = "HS256"
MAX_TOKEN: Final = 8 * 1024
"""Characters; what is longer is not looked at."""
MAX_USER: Final = 256
"""Characters of a user's name."""
MIN_SECRET: Final = 32
"""Bytes (RFC 7518, section 3.2: at least as long as the hash)."""
DAY_S: Final = 86_400

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
"""RFC 7515, section 7.1, with a signature. Anything else, an encrypted token of five parts too, is none of ours."""

_KEYS_IN_TOKEN: Final = frozenset({"jku", "jwk", "x5u", "x5c"})
"""Who believes the key that comes with a token believes everybody (RFC 8725, section 3.10)."""

_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999."""

_PLACEHOLDER = re.compile(
    r"change[-_ ]?(me|this|it|in)|your[-_ ]?(own|super|secret|jwt|256|very)|placeholder|insecure", re.IGNORECASE
)
_WELL_KNOWN: Final = frozenset(
    {
        "a-string-secret-at-least-256-bits-long",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "supersecretkeythatshouldbechangedinproduction",
        "secretsecretsecretsecretsecretsecret",
        "my-32-character-ultra-secure-and-ultra-long-secret",
        "thisisasecretkeythatisatleast32byteslong",
    }
)
"""What tutorials, products and test pages use."""


class JwtAuth:
    """Who holds a token that was signed with the secret is the user that it names.

    `audience`, `issuer`: what `aud` and `iss` must be, exactly; without `audience` a token that has one is refused, for it is
    meant for somebody else (RFC 7519, section 4.1.3). `max_lifetime_s`: from `iat`, or from now, to `exp`.

    Raises:
        ConfigError: a secret that is none.
    """

    is_open = False

    def __init__(
        self,
        secret: str,
        *,
        user_claim: str = "sub",
        audience: str | None = None,
        issuer: str | None = None,
        max_lifetime_s: int = DAY_S,
        cookie_name: str = "auth_token",
        clock: Clock | None = None,
    ) -> None:
        if fault := secret_fault(secret):
            raise ConfigError(f"The secret of the tokens cannot be used: {fault}")
        self._key = secret.encode()
        self._user_claim = user_claim
        self._audience = audience
        self._issuer = issuer
        self._max_lifetime_s = max_lifetime_s
        self._cookie_name = cookie_name
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"JwtAuth(user_claim={self._user_claim!r}, audience={self._audience!r}, issuer={self._issuer!r})"

    async def authenticate(self, credentials: Credentials) -> Identity:
        token = token_of(credentials, cookie_name=self._cookie_name)
        if token is None:
            raise Unauthenticated("Sign in: a token is needed.", reason="no token")
        return self.identity(token)

    def identity(self, token: str) -> Identity:
        """Who holds this token.

        Raises:
            Unauthenticated: it is not valid, or no longer.
        """
        if len(token) > MAX_TOKEN:
            raise _refused(f"it has more than {MAX_TOKEN} characters")
        if _COMPACT.match(token) is None:
            raise _refused("it is no signed JWT")
        header, payload, _ = token.split(".")
        self._check_header(_json_object(header))
        self._check_signature(token)
        claims = _json_object(payload)
        expires_s = self._check_times(claims)
        return Identity(Principal(self._user(claims)), int(expires_s * 1000))

    def _check_header(self, header: dict[str, Any]) -> None:
        if header.get("alg") != ALGORITHM:
            raise _refused(f"its algorithm is not {ALGORITHM}")
        if "crit" in header:
            raise _refused("it has critical extensions")
        if not _KEYS_IN_TOKEN.isdisjoint(header):
            raise _refused("it brings its own key")

    def _check_signature(self, token: str) -> None:
        """Signature, audience and issuer. Times are checked by our own clock."""
        import jwt  # only servers that ask for tokens load it

        try:
            jwt.decode(  # pyright: ignore[reportUnknownMemberType]: keys of other kinds come from an optional package
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp"],
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                    "verify_jti": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise _refused("its signature is not of this secret") from None
        except jwt.InvalidAudienceError:
            raise _refused("its audience is not jwt_audience") from None
        except jwt.InvalidIssuerError:
            raise _refused("its issuer is not jwt_issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused("it cannot be read") from None

    def _check_times(self, claims: dict[str, Any]) -> float:
        """When it ends, in Unix seconds."""
        now = self._clock.now_ms() / 1000
        expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        assert expires is not None  # required
        if expires + LEEWAY_S <= now:
            raise Unauthenticated("The token has expired.", reason="it has expired")
        if max(begins or 0, issued or 0) > now + LEEWAY_S:
            raise _refused("it is not valid yet")
        if expires - min(now, now if issued is None else issued) > self._max_lifetime_s + LEEWAY_S:
            raise _refused("it lives longer than jwt_max_lifetime_s")
        return expires

    def _user(self, claims: dict[str, Any]) -> str:
        user = claims.get(self._user_claim)
        # Control and format characters, surrogates and line separators are all not printable.
        if not isinstance(user, str) or not user.strip() or len(user) > MAX_USER or not user.isprintable():
            raise _refused(f"its {self._user_claim} is no user's name")
        return user


def secret_fault(secret: str) -> str | None:
    """Why this is no secret; None if it may be one. The secret itself is never in the answer."""
    if len(secret.encode("utf-8", "surrogatepass")) < MIN_SECRET:
        return f"it has fewer than {MIN_SECRET} bytes. Make one: openssl rand -base64 48"
    if secret.lower() in _WELL_KNOWN or _PLACEHOLDER.search(secret) or len(set(secret)) < 8:
        return "it is a placeholder or easily guessed. Make one: openssl rand -base64 48"
    if secret.lstrip().startswith("-----BEGIN") or (secret.lstrip().startswith("{") and '"kty"' in secret):
        return f"it is a key of another kind. {ALGORITHM} takes a random text"
    if secret != secret.strip() or any("\ud800" <= c <= "\udfff" for c in secret):
        return "it begins or ends with white space, or is no text"
    return None


def _refused(reason: str) -> Unauthenticated:
    """One sentence for all: who forges tokens is told nothing."""
    return Unauthenticated("The token is not valid.", reason=reason)


def _json_object(segment: str) -> dict[str, Any]:
    try:
        text = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True).decode()
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _refused("it cannot be read") from None
    if not isinstance(value, dict):
        raise _refused("it cannot be read")
    return cast(dict[str, Any], value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519, section 4: parsers may take the last of two claims of one name, or refuse. Those that differ are a way in."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _time(claims: dict[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2)."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise _refused(f"its {name} is no time")
    return float(value)
