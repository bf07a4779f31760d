"""Who is behind a connection: the Authenticator seam, its implementations, and where tokens are looked for."""

from runcast.auth.base import LEEWAY_S, Authenticator, Credentials, Identity, NoAuth
from runcast.auth.carriers import Offer, read_offer, token_of
from runcast.auth.jwt import JwtAuth

__all__ = [
    "LEEWAY_S",
    "Authenticator",
    "Credentials",
    "Identity",
    "JwtAuth",
    "NoAuth",
    "Offer",
    "read_offer",
    "token_of",
]
