"""Client secrets: short-lived keys for browsers, signed so that the server need not remember them.

A secret names its visitor, so that every browser has sessions and limits of its own. Renewing a secret keeps the visitor.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from time import time

PREFIX = "ek_"
SEPARATOR = "."
"""Separates the parts of a secret, and account and visitor in the id of an owner. It may occur in WebSocket subprotocols."""
MAX_RENEWAL_SECONDS = 24 * 3600.0
"""How long after its creation a secret can be renewed, so that a stolen one does not last for ever."""


@dataclass(frozen=True)
class ClientSecret:
    """A secret, when it expires (Unix time in seconds), and the id of its owner."""

    value: str
    expires_at: int
    owner: str


def account_of(owner: str) -> str:
    """Return the account of an owner: the id of the key that has created its secret, or that the owner is."""
    return owner.partition(SEPARATOR)[0]


class ClientSecrets:
    """Create, renew and verify the secrets of a server.

    ``signing_key`` must stay the same for as long as secrets are to be valid. ``clock`` returns the Unix time in seconds.
    """

    def __init__(self, signing_key: bytes, lifetime_seconds: float, clock: Callable[[], float] = time) -> None:
        self._signing_key, self._lifetime_seconds, self._clock = signing_key, lifetime_seconds, clock

    def create(self, account: str) -> ClientSecret:
        """Return a secret for a new visitor of this account."""
        return self._issue(account, secrets.token_hex(8), int(self._clock()))

    def renew(self, secret: str, accounts: Iterable[str]) -> ClientSecret | None:
        """Return a new secret for the visitor of a valid one; None if it is not valid or too old to be renewed."""
        verified = self._verify(secret, accounts)
        if verified is None:
            return None
        account, visitor, created_at, _ = verified
        renewed = self._issue(account, visitor, created_at)
        return renewed if renewed.expires_at > self._clock() else None

    def owner_of(self, secret: str, accounts: Iterable[str], *, allow_expired: bool = False) -> str | None:
        """Return the owner of a secret that was created for one of the accounts; None if it is not valid."""
        verified = self._verify(secret, accounts, allow_expired=allow_expired)
        return None if verified is None else f"{verified[0]}{SEPARATOR}{verified[1]}"

    def _issue(self, account: str, visitor: str, created_at: int) -> ClientSecret:
        now = self._clock()
        latest = created_at + max(MAX_RENEWAL_SECONDS, self._lifetime_seconds)
        expires_at = ceil(min(now + self._lifetime_seconds, latest))
        parts = (self._account_tag(account), visitor, str(created_at), str(expires_at))
        value = f"{PREFIX}{SEPARATOR.join((*parts, self._sign(*parts)))}"
        return ClientSecret(value, expires_at, f"{account}{SEPARATOR}{visitor}")

    def _verify(
        self, secret: str, accounts: Iterable[str], *, allow_expired: bool = False
    ) -> tuple[str, str, int, int] | None:
        """Return account, visitor, and the times of creation and expiry."""
        parts = secret.removeprefix(PREFIX).split(SEPARATOR)
        if not secret.startswith(PREFIX) or len(parts) != 5:
            return None
        *signed, signature = parts
        if not hmac.compare_digest(signature.encode(), self._sign(*signed).encode()):
            return None
        tag, visitor, created_at, expires_at = signed
        account = next((name for name in accounts if hmac.compare_digest(self._account_tag(name), tag)), None)
        if account is None or (int(expires_at) <= self._clock() and not allow_expired):
            return None
        return account, visitor, int(created_at), int(expires_at)

    def _account_tag(self, account: str) -> str:
        """Return a name for the account that reveals nothing about its key, not even to somebody who guesses keys."""
        return self._sign("account", account)[:12]

    def _sign(self, *parts: str) -> str:
        digest = hmac.digest(self._signing_key, SEPARATOR.join(parts).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:24]).decode()
