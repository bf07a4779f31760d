"""What can be set: one frozen `Settings`. Constructor arguments win over `RUNCAST_*` variables, these over defaults.

There is no configuration file. All problems are reported at once, as one `ConfigError`. Every setting has a name, a default
and one sentence with its unit; `describe_settings` is what the documentation's table is made from.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runcast.errors import ConfigError

PREFIX = "RUNCAST_"
_HOST_NAME = re.compile(r"\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")

_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
"""RFC 6265, section 4.1.1: a token."""

_SECRETS = frozenset({"jwt_secret"})
"""Settings whose value is never told, not even when it is wrong."""

_MEDIA_TYPE = re.compile(r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*\*?)")

Listed = Annotated[tuple[str, ...], NoDecode]
"""From the environment: a JSON array, or words with commas between them."""

Lines = Annotated[tuple[str, ...], NoDecode]
"""From the environment: a JSON array, or one per line."""


Paths = Annotated[dict[str, str], NoDecode]
"""From the environment: a JSON object, or `PATH=NAME` with commas between them."""


class Settings(BaseSettings):
    """The settings of one server."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, validate_default=False
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Anything beyond loopback needs authentication.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    root_path: str = Field(
        "", description="Path under which a proxy serves this server, for example `/chat`, if it strips it."
    )
    database: str = Field("runcast.db", min_length=1, description="Path of the SQLite file; made on first use.")
    durability: Literal["process", "power"] = Field(
        "process",
        description="What an acknowledged event survives: `process` the death of the process, `power` also a power cut.",
    )
    retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Conversations unchanged for so many days are deleted, but pinned ones; 0 keeps them for ever.",
    )
    retention_bytes: int = Field(
        0,
        ge=0,
        description="The longest unchanged conversations are deleted while database and files have more bytes in use; 0: no limit.",
    )
    run_timeout_s: float = Field(
        300, gt=0, le=86_400, description="Longest time one run may take, in seconds of wall clock."
    )
    queue_limit: int = Field(8, ge=0, le=1000, description="Most messages that wait in one thread while a run goes on.")
    answer_timeout_s: float = Field(
        86_400,
        gt=0,
        le=31_536_000,
        description="How long a question to a person stays open, in seconds; then nobody's answer counts as a no.",
    )
    parked_limit: int = Field(
        1000, ge=0, le=1_000_000, description="Most agents that wait in memory for an answer to `run.ask`."
    )
    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue",
        description="What happens to a run when the last one who watched it is gone: it goes on, or it is stopped.",
    )
    disconnect_grace_s: float = Field(
        10, ge=0, le=3600, description="How long nobody may watch before that counts, in seconds."
    )
    drain_timeout_s: float = Field(
        30, ge=0, le=3600, description="How long a stopping server lets runs go on, in seconds."
    )
    send_timeout_s: float = Field(
        45, gt=0, le=3600, description="Longest time one write to a reader may block, in seconds; then it is let go."
    )
    connections_per_user: int = Field(
        20,
        ge=0,
        description="Most WebSockets, event streams and long polls one user may have open at once; 0: any number. "
        "Without authentication: any.",
    )
    messages_per_minute: int = Field(
        60,
        ge=0,
        le=100_000,
        description="Most messages one user may send in a minute, edits and retries included; 0: any number. Without "
        "authentication: any.",
    )
    max_file_bytes: int = Field(
        25 * 1024 * 1024, ge=1, le=1 << 40, description="Largest file that people may upload, in bytes."
    )
    file_types: Listed = Field(
        (
            "image/*",
            "audio/*",
            "video/*",
            "text/*",
            "application/pdf",
            "application/json",
            "application/zip",
            "application/msword",
            "application/rtf",
            "application/vnd.*",
        ),
        min_length=1,
        description="Media types that people may upload: `image/*` stands for all images, `*/*` for everything.",
    )
    upload_timeout_s: float = Field(600, gt=0, le=86_400, description="Longest time one upload may take, in seconds.")
    title: str = Field(
        "", max_length=80, description="Name shown in the web app; empty takes the default agent's title or name."
    )
    welcome: str = Field("", max_length=500, description="One sentence above the empty conversation.")
    starters: Lines = Field((), max_length=8, description="Suggested first messages, at most 8.")
    dialects: Paths = Field(
        {},
        description="Dialects at other paths than their own: `/ws/chat=text`; `off` switches a path off.",
    )
    ag_ui_cancelled: Literal["finished", "error"] = Field(
        "finished",
        description="How an AG-UI client before 1.0, which has no word for it, is told that a run was stopped: as one that "
        "finished, after a CUSTOM event `run_cancelled`, or by RUN_ERROR with the code `cancelled`.",
    )
    web: bool = Field(True, description="Serve the web app.")
    auth: Literal["none", "jwt"] = Field(
        "none",
        description="Who is let in: `none` everybody on this machine, `jwt` who has a token signed with `jwt_secret`.",
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Secret that tokens are signed with (HS256), at least 32 bytes. Keep it in the environment."
    )
    jwt_user_claim: str = Field(
        "sub", min_length=1, max_length=100, description="Claim of a token that names the user."
    )
    jwt_audience: str = Field(
        "", description="What `aud` of a token must be; empty: a token for an audience is refused."
    )
    jwt_issuer: str = Field("", description="What `iss` of a token must be; empty: any, or none.")
    jwt_max_lifetime_s: int = Field(
        86_400,
        ge=60,
        le=31_536_000,
        description="Longest life of a token, in seconds; one that lives longer is refused.",
    )
    cookie_name: str = Field("auth_token", description="Name of the cookie in which a page has its token.")
    sign_in_url: str = Field(
        "",
        max_length=2000,
        description="Where the page sends people who are not signed in: a path of this host, or an URL.",
    )
    query_token: Literal["off", "jwt"] = Field(
        "off",
        description="Whether `?token=` in the address counts in the dialects. It gets into other servers' logs: leave it off.",
    )
    allowed_origins: Listed = Field(
        (), description="Web origins, beside the server's own, that may connect, for example `https://app.example.com`."
    )
    allowed_hosts: Listed = Field(
        (), description="Host names, beside loopback's, under which this server may be addressed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [_problem(dict(detail)) for detail in error.errors(include_url=False, include_context=False)]
            raise ConfigError("These settings cannot be used:\n- " + "\n- ".join(problems), problems) from None

    @field_validator("allowed_origins", "allowed_hosts", "file_types", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return _split(value, ",") if isinstance(value, str) else value

    @field_validator("starters", mode="before")
    @classmethod
    def _split_lines(cls, value: Any) -> Any:
        return _split(value, "\n") if isinstance(value, str) else value

    @field_validator("dialects", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return parse_paths(value) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "null" and (fault := _origin_fault(origin)):
                raise ValueError(f"{origin!r} is no origin: {fault}")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if _HOST_NAME.fullmatch(host) is None or host == "*":
                raise ValueError(f"{host!r} is no host name; write it without scheme, port and path")
        return value

    @field_validator("file_types")
    @classmethod
    def _file_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        types = tuple(word.lower() for word in value)
        for word in types:
            if _MEDIA_TYPE.fullmatch(word) is None:
                raise ValueError(f"{word!r} is no media type; write for example 'image/png', 'image/*' or '*/*'")
        return types

    @field_validator("cookie_name")
    @classmethod
    def _cookie_name(cls, value: str) -> str:
        if _COOKIE_NAME.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no name of a cookie")
        return value

    @field_validator("sign_in_url")
    @classmethod
    def _sign_in_url(cls, value: str) -> str:
        if value and re.fullmatch(r"(https?://[^/\s\\][^\s]*|/([^/\s\\][^\s]*)?)", value) is None:
            raise ValueError("it must be empty, a path such as '/login', or an http(s) address")
        return value

    @field_validator("root_path")
    @classmethod
    def _root_path(cls, value: str) -> str:
        if value and (not value.startswith("/") or re.search(r"[^A-Za-z0-9/._~-]|//", value)):
            raise ValueError("it must be empty or a path such as '/chat'")
        return value.rstrip("/")

    @property
    def on_loopback(self) -> bool:
        """Whether `host` can only be reached from this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only mean this machine (RFC 6761, section 6.3: `localhost` and names under it)."""
    name = host.strip("[]").lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class Described(NamedTuple):
    """One row of the settings table."""

    name: str
    variable: str
    default: str
    description: str


def describe_settings() -> list[Described]:
    """Every setting, in the order in which they are declared."""
    return [
        Described(name, PREFIX + name.upper(), json.dumps(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def parse_paths(text: str) -> dict[str, str]:
    """`PATH=NAME, PATH=NAME`, or the same as a JSON object.

    Raises:
        ValueError: it is neither.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("it begins like a JSON object but is none") from None
    pairs = [pair.partition("=") for part in text.split(",") if (pair := part.strip())]
    if wrong := [path + sep + name for path, sep, name in pairs if not path or not name]:
        raise ValueError(f"{wrong[0]!r} is not PATH=NAME")
    return {path.strip(): name.strip() for path, _, name in pairs}


def _split(text: str, separator: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("it begins like a JSON array but is none") from None
    return [word for part in text.split(separator) if (word := part.strip())]


def _origin_fault(origin: str) -> str | None:
    if "*" in origin:
        return "wildcards are not allowed; list each origin"
    try:
        parts = urlsplit(origin)
        _ = parts.port
    except ValueError:
        return "it cannot be parsed"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "write scheme and host, for example 'https://app.example.com'"
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return "write scheme, host and port only, without a path or a trailing slash"
    return None


def _problem(detail: dict[str, Any]) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else "settings"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        return f"{name}: there is no such setting" + (f"; did you mean {near[0]!r}?" if near else ".")
    message = str(detail["msg"]).removeprefix("Value error, ")
    given = "" if detail["type"] == "value_error" or name in _SECRETS else f" (given: {detail['input']!r})"
    return f"{name} ({PREFIX}{name.upper()}): {message}{given}"
