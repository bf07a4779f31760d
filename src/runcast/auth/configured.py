"""The Authenticator that the settings ask for."""

from __future__ import annotations

from runcast.auth.base import Authenticator, NoAuth
from runcast.auth.jwt import JwtAuth, secret_fault
from runcast.config import Settings
from runcast.errors import ConfigError
from runcast.ids import Clock


def configured(settings: Settings, clock: Clock | None = None) -> Authenticator:
    """
    Raises:
        ConfigError: what it needs is missing or cannot be used; never with the secret in it.
    """
    if settings.auth == "none":
        return NoAuth()
    if settings.jwt_secret is None:
        raise ConfigError(
            "auth is 'jwt', but there is no secret: set RUNCAST_JWT_SECRET to the one that tokens are signed with."
        )
    secret = settings.jwt_secret.get_secret_value()
    if fault := secret_fault(secret):
        raise ConfigError(f"jwt_secret (RUNCAST_JWT_SECRET): {fault}.")
    return JwtAuth(
        secret,
        user_claim=settings.jwt_user_claim,
        audience=settings.jwt_audience or None,
        issuer=settings.jwt_issuer or None,
        max_lifetime_s=settings.jwt_max_lifetime_s,
        cookie_name=settings.cookie_name,
        clock=clock,
    )
