"""Bearer tokens of the user's own provider: which count, as whom, and with which keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aiagent_coordinator.errors import UnauthorizedError
from aiagent_coordinator.runs import Purpose, ShimIdentity
from aiagent_coordinator.server.auth import Identity, Role
from aiagent_coordinator.server.boards import tools_of
from aiagent_coordinator.server.http.settings import HttpSettings, JwtTerms
from aiagent_coordinator.server.http.tokens import Provider
from aiagent_coordinator.wire import process
from support.board import serving
from support.web import LOCAL, body_of, browsing

ISSUER = "https://login.example/realm"
AUDIENCE = "https://board.example/mcp"


@cache
def key(name: str) -> Any:
    """A private key; its name says of which kind."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if name.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


ALGORITHM = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}


def public(name: str, **more: str) -> dict[str, Any]:
    """Its public half, as a provider shows it."""
    algorithm = ALGORITHM[name.rstrip("0123456789")]
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key(name).public_key(), as_dict=True)
    return {**dict(made), "kid": name, "use": "sig", "alg": algorithm, **more}


def token(name: str = "rsa", *, kid: str | None = None, typ: str = "at+jwt", **claims: Any) -> str:
    """A token; claims that are None are left out."""
    now = int(time.time())
    said = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": now, "exp": now + 300,
        "role": "person", **claims,
    }  # fmt: skip
    said = {one: value for one, value in said.items() if value is not None}
    algorithm = ALGORITHM[name.rstrip("0123456789")]
    return jwt.encode(said, key(name), algorithm, headers={"kid": kid or name, "typ": typ})


def settings(folder: Path, *names: str, **terms: Any) -> HttpSettings:
    """Settings that take tokens signed with these keys."""
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": [public(name) for name in names or ("rsa", "ec", "ed")]}))
    return replace(LOCAL, jwt=JwtTerms(ISSUER, AUDIENCE, jwks_file=file, **terms))


@pytest.mark.parametrize("name", ["rsa", "ec", "ed"])
@pytest.mark.parametrize("role", ["person", "coordinator"])
async def test_a_token_of_the_provider_has_the_role_that_it_names(
    short_dir: Path, name: str, role: str
) -> None:
    async with (
        serving(short_dir, http=settings(short_dir)) as board,
        browsing(board, token(name, role=role)) as web,
    ):
        listed = body_of(await web.post("tools/list"))["result"]["tools"]
        stranger = Identity(Role.AGENT, purpose=Purpose.TASK)
        also = tools_of(stranger) if role == "coordinator" else {}
        may = tools_of(Identity(Role(role)))
        assert {tool["name"] for tool in listed} == {*may, *also}
        other = "list_tasks" if role == "coordinator" else "list_managed_agents"
        assert "FORBIDDEN" in str(await web.tool(other))


@pytest.mark.parametrize(
    ("path", "claims", "counts"),
    [
        ("role", {"role": ["dev", "boss"]}, True),
        ("scope", {"scope": "openid boss"}, True),
        ("realm_access.roles", {"realm_access": {"roles": ["boss"]}}, True),
        ("https://board.example/role", {"https://board.example/role": "boss"}, True),
        ("role", {"role": "bossy"}, False),
        ("role", {"role": None}, False),
        ("role", {"role": {"boss": True}}, False),
        ("role", {"role": 7}, False),
        ("role", {"role": ["boss", "bot"]}, False),
        ("realm_access.roles", {"realm_access": "boss"}, False),
        ("role", {"role": "person"}, False),
    ],
)
async def test_the_role_is_found_where_the_settings_say(
    short_dir: Path, path: str, claims: dict[str, Any], *, counts: bool
) -> None:
    here = settings(short_dir, role_claim=path, person="boss", coordinator="bot")
    said: dict[str, Any] = {"role": None, **claims}
    shown = token("rsa", kid=None, typ="JWT", **said)
    async with serving(short_dir, http=here) as board, browsing(board, shown) as web:
        assert (await web.post("tools/list")).status_code == (200 if counts else 401)


def forged(**changes: Any) -> str:
    """A token whose header was made to suit who forges it."""
    pem = key("rsa").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = {"alg": "HS256", "kid": "rsa", "typ": "JWT", **changes}
    _, body, _ = token().split(".")
    signed = f"{part(head)}.{body}"
    mac = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    return f"{signed}.{'' if head['alg'] == 'none' else signature}"


def bad_tokens() -> dict[str, str]:
    now = int(time.time())
    good = token()
    head, body, signature = good.split(".")
    return {
        "expired": token(exp=now - 120),
        "not yet": token(nbf=now + 120),
        "another issuer": token(iss=ISSUER + "/"),
        "for somebody else": token(aud="https://other.example"),
        "for nobody": token(aud=None),
        "for ever": token(exp=None),
        "of nobody": token(sub=None),
        "without issuer": token(iss=None),
        "signed by another": token("rsa2", kid="rsa"),
        "unknown key": token("rsa2"),
        "key of another kind": token("ec", kid="rsa"),
        "a signed claim changed": f"{head}.{body[:-6]}AAAAAA.{signature}",
        "no signature": f"{head}.{body}.",
        "none": forged(alg="none"),
        "public key as a secret": forged(),
        "strange type": token(typ="dpop+jwt"),
        "key by address": forged(jku="http://127.0.0.1:9/jwks"),
        "too long": token(padding="x" * 9000),
        "dots": "a.b.c",
        "more dots": "..",
        "no text": "é.é.é".encode().decode("latin-1"),
    }


async def test_every_other_token_is_refused(short_dir: Path) -> None:
    """And with a reason that holds nothing of it; asked without HTTP, where guessing is slowed."""
    terms = settings(short_dir, "rsa", "ec").jwt
    assert terms is not None
    provider = Provider(terms, time.monotonic)
    assert (await provider.identity(token()))[1] == "user-1"
    for what, shown in bad_tokens().items():
        with pytest.raises(UnauthorizedError) as caught:
            await provider.identity(shown)
        assert shown not in str(caught.value), what
    for what in ("expired", "none", "public key as a secret"):
        async with (
            serving(short_dir, http=settings(short_dir)) as board,
            browsing(board, bad_tokens()[what]) as web,
        ):
            assert (await web.post("tools/list")).status_code == 401, what


async def test_clocks_may_be_a_little_apart(short_dir: Path) -> None:
    now = int(time.time())
    terms = settings(short_dir, skew_seconds=60.0).jwt
    assert terms is not None
    provider = Provider(terms, time.monotonic)
    await provider.identity(token(exp=now - 30))
    await provider.identity(token(nbf=now + 30, iat=now + 30))
    strict = Provider(replace(terms, skew_seconds=0.0), time.monotonic)
    with pytest.raises(UnauthorizedError, match="expired"):
        await strict.identity(token(exp=now - 30))


async def test_without_a_provider_none_of_its_tokens_counts(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board, token()) as web:
        assert (await web.post("tools/list")).status_code == 401


async def test_our_own_tokens_count_beside_it(short_dir: Path) -> None:
    async with serving(short_dir, http=settings(short_dir)) as board:
        claimed = await board.claim()
        for ours in (board.operator_key, board.coordinator_key, claimed.token):
            async with browsing(board, ours) as web:
                assert (await web.post("tools/list")).status_code == 200


async def test_a_session_goes_on_with_the_next_token_of_the_same_person(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=settings(short_dir)) as board,
        browsing(board, token(jti="1")) as web,
    ):
        await web.shake_hands()
        for shown, status in (
            (token(jti="2"), 200),
            (token("ec", jti="3"), 200),
            (token(sub="user-2"), 404),
            (board.operator_key, 404),
        ):
            web.http.headers["authorization"] = f"Bearer {shown}"
            assert (await web.post("tools/list")).status_code == status
        # what the provider says last counts
        web.http.headers["authorization"] = f"Bearer {token(role='coordinator')}"
        assert "FORBIDDEN" in str(await web.tool("list_tasks"))


async def test_a_process_inside_a_run_gets_nothing_by_such_a_token(short_dir: Path) -> None:
    async with serving(short_dir, http=settings(short_dir)) as board:
        claimed = await board.claim()
        ticks = process.start_ticks(os.getpid())
        assert ticks is not None
        await board.started(claimed.run, ShimIdentity(os.getpid(), ticks, process.boot_id()))
        async with browsing(board, token()) as web:
            assert (await web.post("tools/list")).status_code == 403


class Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked += 1
        if server.names is None:
            self.send_error(503)
            return
        body = json.dumps({"keys": [public(name) for name in server.names]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
        pass


@pytest.fixture
def shelf() -> Generator[Any]:
    """A provider's page of keys."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    server.daemon_threads, server.names, server.asked = True, ["rsa"], 0
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


async def test_new_keys_are_found_and_strangers_do_not_make_us_ask(shelf: Any) -> None:
    now = 0.0
    url = f"http://127.0.0.1:{shelf.server_address[1]}/jwks"
    provider = Provider(JwtTerms(ISSUER, AUDIENCE, jwks_url=url), lambda: now)
    for _ in range(5):
        await provider.identity(token())
    assert shelf.asked == 1
    shelf.names = ["rsa", "rsa2"]
    for _ in range(20):
        with pytest.raises(UnauthorizedError, match="does not have"):
            await provider.identity(token("rsa2"))
    assert shelf.asked == 1, "an unknown key is looked for every half minute"
    now = 31.0
    await provider.identity(token("rsa2"))
    await provider.identity(token())
    assert shelf.asked == 2
    # a provider that is away for a while changes nothing for the keys that are known
    shelf.names = None
    now = 1000.0
    await provider.identity(token())
    assert shelf.asked == 3
    # a key that was taken back is forgotten with the next reading
    shelf.names = ["rsa2"]
    now = 2000.0
    with pytest.raises(UnauthorizedError):
        await provider.identity(token())


async def test_keys_that_sign_nothing_are_not_taken(short_dir: Path) -> None:
    file = short_dir / "jwks.json"
    file.write_text(json.dumps({"keys": [public("rsa", use="enc"), public("ec")]}))
    provider = Provider(JwtTerms(ISSUER, AUDIENCE, jwks_file=file), time.monotonic)
    with pytest.raises(UnauthorizedError):
        await provider.identity(token())
    await provider.identity(token("ec"))
    file.write_text("no JSON")
    other = Provider(JwtTerms(ISSUER, AUDIENCE, jwks_file=file), time.monotonic)
    with pytest.raises(UnauthorizedError):
        await other.identity(token("ec"))
