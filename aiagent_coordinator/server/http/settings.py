"""What the HTTP side is told. Standard library only: it is read where nothing is served yet."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class HttpLimits:
    """What one listener takes at most."""

    body_bytes: int = 4 * 1024 * 1024
    #: Per caller: whoever shows one token, or without a token one address.
    requests_per_second: float = 100.0
    burst: int = 200
    connections: int = 512
    sessions: int = 1000
    #: A request's head, and its body, arrive within this time.
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    #: A connection without a request, and a session without one, are closed after this time.
    keep_alive_seconds: int = 75
    session_idle_seconds: float = 1800.0


@dataclass(frozen=True)
class OwnFile:
    """What the server's own file says that coordinators of another make begin with."""

    #: Secrets, by agent.
    passkeys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    #: Command and arguments of programs, by provider; they may hold secrets too.
    programs: Mapping[str, Sequence[str]] = field(
        default_factory=dict[str, "Sequence[str]"], repr=False
    )
    polling_seconds: float = 10.0
    max_concurrent: int = 3


@dataclass(frozen=True)
class JwtTerms:
    """Which tokens of the user's own provider count, and as whom."""

    issuer: str
    audience: str
    #: Where the provider's public keys are: one of the two.
    jwks_file: Path | None = None
    jwks_url: str | None = None
    role_claim: str = "role"
    #: What stands there for each role.
    person: str = "person"
    coordinator: str = "coordinator"
    #: How far its clock and ours may be apart.
    skew_seconds: float = 60.0
    #: A key that is not known makes us look for it at most so often.
    refresh_seconds: float = 30.0


@dataclass(frozen=True)
class HttpSettings:
    """Where HTTP is served and to whom. The tokens are secrets and never shown."""

    host: str
    port: int
    #: Names and ports under which clients reach us, beside the place we listen at.
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    #: Addresses of programs that end TLS for us.
    trusted_proxies: tuple[str, ...] = ()
    person_token: str | None = field(default=None, repr=False)
    coordinator_token: str | None = field(default=None, repr=False)
    #: What the tokens are for, as an own provider of tokens calls it, and where it is.
    resource: str | None = None
    authorization_servers: tuple[str, ...] = ()
    #: None: only tokens of ours count.
    jwt: JwtTerms | None = None
    own: OwnFile = field(default_factory=OwnFile)
    limits: HttpLimits = field(default_factory=HttpLimits)

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; names are, when they are `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_port(host: str, port: int) -> str:
    """`HOST:PORT`, as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
