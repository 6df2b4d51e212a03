"""Tokens that the user's own provider gave out: who issued them, for whom, until when, and which role.

Loaded only where the settings name an issuer. Only signatures with public keys count, and only keys of
the provider's own set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import anyio
import jwt
from anyio import to_thread

from aiagent_coordinator.errors import UnauthorizedError
from aiagent_coordinator.server.auth import COORDINATOR, PERSON, Identity
from aiagent_coordinator.server.http.settings import JwtTerms
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Never those where who can check can also sign, and never none.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
#: What the token may call itself; an encrypted one is none that we can read.
_TYPES: Final = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
_REQUIRED: Final = ["exp", "iss", "aud", "sub"]
MAX_TOKEN_CHARS: Final = 8192
#: Keys are read again after this time, whatever happens.
KEEP_SECONDS: Final = 600.0
#: Reading them over the network.
FETCH_SECONDS: Final = 5.0
MAX_FILE_BYTES: Final = 1024 * 1024


class Provider:
    """Decides whether a token is the provider's, and who shows it."""

    def __init__(self, terms: JwtTerms, monotonic: Callable[[], float]) -> None:
        self._terms = terms
        self._keys = _Keys(terms, monotonic)

    async def identity(self, token: str) -> tuple[Identity, str]:
        """Who shows a token, and the provider's name for them.

        Raises:
            UnauthorizedError: it does not count here, and why.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise UnauthorizedError("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            kind = header.get("typ")
            if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
                raise UnauthorizedError("the token is of another kind")
            key = await self._keys.get(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._terms.issuer,
                audience=self._terms.audience,
                leeway=self._terms.skew_seconds,
                options={"require": _REQUIRED},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise UnauthorizedError(f"the token does not count: {str(error)[:200]}") from None
        return self._role(claims), str(claims["sub"])

    def _role(self, claims: Mapping[str, Any]) -> Identity:
        terms = self._terms
        said = _words(_at(claims, terms.role_claim))
        found = [
            identity
            for word, identity in ((terms.person, PERSON), (terms.coordinator, COORDINATOR))
            if word in said
        ]
        if len(found) != 1:
            what = "no role of ours" if not found else "two roles"
            raise UnauthorizedError(f"the token names {what} in {terms.role_claim}")
        return found[0]


class _Keys:
    """The provider's public keys, read when they are wanted and kept for a while."""

    def __init__(self, terms: JwtTerms, monotonic: Callable[[], float]) -> None:
        self._terms = terms
        self._monotonic = monotonic
        self._known: dict[str | None, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._reading = anyio.Lock()

    async def get(self, name: object) -> jwt.PyJWK:
        """The key of this name; a token without one means the only key.

        Raises:
            UnauthorizedError: there is none.
        """
        if name is not None and not isinstance(name, str):
            raise UnauthorizedError("the token does not say which key signed it")
        if self._is_old(KEEP_SECONDS) or self._find(name) is None:
            async with self._reading:
                # a stranger makes us ask as often as this, and no more
                if self._is_old(self._terms.refresh_seconds):
                    await self._read()
        found = self._find(name)
        if found is None:
            raise UnauthorizedError(
                "the token is signed with a key that the provider does not have"
            )
        return found

    def _find(self, name: str | None) -> jwt.PyJWK | None:
        if name is None:
            return next(iter(self._known.values())) if len(self._known) == 1 else None
        return self._known.get(name)

    def _is_old(self, seconds: float) -> bool:
        return self._read_at is None or self._monotonic() - self._read_at >= seconds

    async def _read(self) -> None:
        """Read them anew; those that are known stay when that fails."""
        self._read_at = self._monotonic()
        try:
            found = await to_thread.run_sync(_load, self._terms, abandon_on_cancel=True)
        except (jwt.PyJWTError, OSError, ValueError) as error:
            log_event(
                logger,
                logging.WARNING,
                "server.keys_missing",
                "the keys of the provider of tokens cannot be read",
                error=str(error)[:300],
            )
            return
        # keys for secrecy sign nothing
        self._known = {key.key_id: key for key in found.keys if key.public_key_use in {None, "sig"}}


def _load(terms: JwtTerms) -> jwt.PyJWKSet:
    """Read the set of keys. Blocks."""
    if terms.jwks_url is not None:
        client = jwt.PyJWKClient(
            terms.jwks_url, cache_jwk_set=False, cache_keys=False, timeout=FETCH_SECONDS
        )
        return client.get_jwk_set()
    if terms.jwks_file is None:
        raise ValueError("no keys are named")
    with terms.jwks_file.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{terms.jwks_file} is too large")
    return jwt.PyJWKSet.from_json(data.decode())


def _at(claims: Mapping[str, Any], path: str) -> object:
    """A claim by its name, or by the names on the way to it with dots between them."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = cast("dict[str, object]", found).get(name)
    return found


def _words(value: object) -> frozenset[str]:
    """What a claim lists: a list of texts, or one text with blanks between its words."""
    if isinstance(value, str):
        return frozenset(value.split())
    items = cast("list[object]", value) if isinstance(value, list) else []
    return frozenset(item for item in items if isinstance(item, str))
