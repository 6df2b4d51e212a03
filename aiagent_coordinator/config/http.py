"""What a configuration file says about HTTP, and what of it cannot stand together."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiagent_coordinator.config.fields import (
    Duration,
    Expanded,
    FilePath,
    Model,
    PositiveSize,
    Secret,
    setting,
)

#: A token that is shorter can be guessed.
MIN_TOKEN_CHARS = 16


class JwtSettings(Model):
    """Tokens that your own provider gives out (OAuth, OpenID Connect). Without `issuer`: none count."""

    issuer: Expanded | None = setting(
        None, "Who gives them out, exactly as `iss` says it. `${VAR}` is expanded."
    )
    audience: Expanded | None = setting(
        None, "For whom they are, as `aud` says it; `resource` without. `${VAR}` is expanded."
    )
    jwks_url: Expanded | None = setting(
        None,
        "Where the provider's public keys are, `https://` or on this machine. `${VAR}` is expanded.",
    )
    jwks_file: FilePath | None = setting(
        None, "A file with these keys, in place of a URL. `${VAR}` and `~` are expanded."
    )
    role_claim: str = setting(
        "role",
        "The claim that names the role: a text, words, or a list; `a.b` is `b` inside `a`.",
        min_length=1,
    )
    person: str = setting("person", "What stands there for a person.", min_length=1)
    coordinator: str = setting("coordinator", "What stands there for a coordinator.", min_length=1)
    clock_skew: Duration = setting(60.0, "How far its clock and ours may be apart.")


class HttpSettings(Model):
    """Where the board is served over HTTP, and to whom. Without `listen`: nowhere."""

    listen: str | None = setting(
        None,
        "`HOST:PORT`; without, no TCP port is opened. An address that is not this machine's own "
        "(127.0.0.1, [::1], localhost) needs TLS or `trusted_proxies`, a token, and `hosts`.",
    )
    hosts: tuple[str, ...] = setting(
        (),
        "What clients may name as host, with the port where it is not the usual one: `board.example`, "
        "`10.0.0.7:8765`. On this machine its own names are known.",
    )
    origins: tuple[str, ...] = setting(
        (), "Web pages that may call, as `https://board.example`; none beside this machine's own."
    )
    person_token: Secret | None = setting(
        None, "The bearer token of a person on another machine. `${VAR}` is expanded."
    )
    coordinator_token: Secret | None = setting(
        None,
        "A bearer token of coordinators, beside the `coordinator_token` of the top level. `${VAR}` "
        "is expanded.",
    )
    certificate: FilePath | None = setting(
        None, "The certificate chain for TLS, as PEM. `${VAR}` and `~` are expanded."
    )
    certificate_key: FilePath | None = setting(
        None, "Its key, as PEM, without a password. `${VAR}` and `~` are expanded."
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses of programs that end TLS before us; what they forward counts as coming from "
        "another machine. Without TLS of our own nobody else is let in.",
    )
    resource: Expanded | None = setting(
        None,
        "The URL of `/mcp` as your own provider of tokens knows it, for the metadata that tells "
        "clients about it. `${VAR}` is expanded.",
    )
    authorization_servers: tuple[str, ...] = setting((), "URLs of that provider.")
    jwt: JwtSettings = setting(JwtSettings(), "See below.")
    requests_per_second: int = setting(
        100, "Of one caller; twice as many may come at once.", ge=1, le=1_000_000
    )
    max_body: PositiveSize = setting(4 * 1024**2, "A larger request is refused.")
    max_connections: int = setting(512, "At a time.", ge=1, le=100_000)

    def place(self) -> tuple[str, int] | None:
        """Host and port; None for nowhere.

        Raises:
            ValueError: it is neither.
        """
        if self.listen is None:
            return None
        host, colon, port = self.listen.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if is_bracketed else host
        if not colon or not host or (":" in host) != is_bracketed:
            raise ValueError("expected HOST:PORT, an IPv6 address in brackets")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
            raise ValueError("the port is a number from 0 to 65535")
        return ("127.0.0.1" if host == "localhost" else host), int(port)


def contradictions(http: HttpSettings, *, has_token: bool) -> list[tuple[str, str]]:
    """Keys and why they cannot stand so.

    Args:
        http: What is said.
        has_token: Whether the top level names a token of coordinators.
    """
    found: list[tuple[str, str]] = []
    try:
        place = http.place()
    except ValueError as error:
        return [("listen", str(error))]
    if (http.certificate is None) != (http.certificate_key is None):
        found.append(("certificate", "certificate and certificate_key belong together"))
    strange = [address for address in http.trusted_proxies if not _is_address(address)]
    found += [("trusted_proxies", f"{address!r} is no IP address") for address in strange]
    if (http.resource is None) != (not http.authorization_servers):
        found.append(("resource", "resource and authorization_servers belong together"))
    for key in ("person_token", "coordinator_token"):
        token = getattr(http, key)
        if token is not None and len(token.get_secret_value()) < MIN_TOKEN_CHARS:
            found.append((key, f"must have at least {MIN_TOKEN_CHARS} characters"))
    found += [(f"jwt.{key}", reason) for key, reason in _of_tokens(http)]
    if place is not None and not _is_own(place[0]):
        found += _open_to_others(http, has_token)
    return found


def _of_tokens(http: HttpSettings) -> list[tuple[str, str]]:
    """What of the provider of tokens cannot stand so."""
    said = http.jwt
    if said.issuer is None:
        lonely = [
            key for key in ("audience", "jwks_url", "jwks_file") if getattr(said, key) is not None
        ]
        return [(key, "means nothing without issuer") for key in lonely]
    found: list[tuple[str, str]] = []
    if said.audience is None and http.resource is None:
        found.append(("audience", "is required, or resource: else tokens for others would count"))
    if (said.jwks_url is None) == (said.jwks_file is None):
        found.append(("jwks_url", "name one of jwks_url and jwks_file"))
    if said.jwks_url is not None and not _is_safe_url(said.jwks_url):
        found.append(("jwks_url", "expected https://…, or http:// on this machine"))
    if said.person == said.coordinator:
        found.append(("coordinator", "is the same as person"))
    return found


def _is_safe_url(url: str) -> bool:
    """Whether nobody on the way can put other keys there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    is_own = host == "localhost" or _is_own(host)
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_own))


def _open_to_others(http: HttpSettings, has_token: bool) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    where = "is reached from other machines: "
    if http.certificate is None and not http.trusted_proxies:
        found.append(("listen", where + "set certificate and certificate_key, or trusted_proxies"))
    tokens = (http.person_token, http.coordinator_token, http.jwt.issuer)
    if not any(tokens) and not has_token:
        found.append(("listen", where + "set person_token, coordinator_token or jwt"))
    if not http.hosts:
        found.append(("listen", where + "set hosts to the names under which clients know it"))
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_own(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback
