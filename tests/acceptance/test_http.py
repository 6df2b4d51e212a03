"""The daemon and HTTP: off by default, on where the file says so, refused where it would be open."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jwt
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from support.house import House, house, until

TOKEN = "a person's token of some length"


@pytest.fixture
def place(tmp_path: Path) -> Generator[House]:
    with house(tmp_path) as home:
        yield home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, **more: Any) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def listening(pid: int) -> list[int]:
    found = psutil.Process(pid).net_connections(kind="tcp")
    return [one.laddr.port for one in found if one.status == psutil.CONN_LISTEN]


def test_by_default_no_port_is_opened(place: House) -> None:
    process = place.ready()
    assert listening(process.pid) == []


def test_the_daemon_serves_http_where_the_file_says(place: House) -> None:
    port = free_port()
    place.write(http={"listen": f"127.0.0.1:{port}"})
    process = place.ready()
    assert listening(process.pid) == [port]
    until("it is ready", lambda: get(f"http://127.0.0.1:{port}/readyz") == (200, {"status": "ok"}))
    assert place.logged("daemon.ready")[0]["http"] == f"127.0.0.1:{port}"
    key = (place.state / "operator.key").read_text().strip()
    call: dict[str, Any] = {"name": "list_projects", "arguments": {}}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    headers["accept"] = "application/json"
    status, answer = get(
        f"http://127.0.0.1:{port}/mcp", data=json.dumps(body).encode(), headers=headers
    )
    assert status == 200
    assert "projects" in json.loads(answer["result"]["content"][0]["text"])


def test_a_taken_port_is_told_with_who_holds_it_and_nothing_is_started(place: House) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        place.write(http={"listen": f"127.0.0.1:{port}"})
        done = place.run(check=False)
    assert done.returncode != 0
    told = done.stderr.strip()
    assert f"127.0.0.1:{port} (http.listen) is taken by process {os.getpid()}" in told, told
    assert not place.socket.exists() or not place.up()


def test_a_token_of_ones_own_provider_counts_as_the_file_says(place: House) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key(), as_dict=True)
    keys = place.root / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**public, "kid": "k1"}]}))
    provider = {
        "issuer": "https://login.example", "audience": "board", "jwks_file": "jwks.json",
        "role_claim": "groups", "person": "board-people", "coordinator": "board-machines",
    }  # fmt: skip
    place.write(http={"listen": "127.0.0.1:0", "jwt": provider})
    place.ready()
    url = f"http://{place.logged('daemon.ready')[0]['http']}/mcp"
    call: dict[str, Any] = {"name": "list_projects", "arguments": {}}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}

    def ask(**claims: Any) -> tuple[int, dict[str, Any]]:
        said = {
            "iss": "https://login.example", "aud": ["board", "mail"], "sub": "ada",
            "exp": int(time.time()) + 60, "groups": ["staff", "board-people"], **claims,
        }  # fmt: skip
        shown = jwt.encode(said, key, "ES256", headers={"kid": "k1"})
        headers = {"authorization": f"Bearer {shown}", "content-type": "application/json"}
        return get(url, data=json.dumps(body).encode(), headers=headers)

    status, answer = ask()
    assert status == 200
    assert "projects" in json.loads(answer["result"]["content"][0]["text"])
    assert ask(aud="mail")[0] == 401
    assert ask(groups=["staff"])[0] == 401
    status, answer = ask(groups="board-machines")
    assert answer["result"]["isError"], "persons alone may"
    assert place.logged("server.connection_refused")
    assert "eyJ" not in place.log_text(), "no token is logged"


@pytest.mark.needs("openssl")
def test_other_machines_are_let_in_over_tls_with_a_token_alone(place: House) -> None:
    place.write(http={"listen": "0.0.0.0:8765"})
    told = place.run(check=False).stderr
    for missing in ("trusted_proxies", "person_token", "hosts"):
        assert missing in told
    chain, key = place.root / "cert.pem", place.root / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(chain), "-days", "2"),
            *("-subj", "/CN=board", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    port = free_port()
    place.write(
        http={
            "listen": f"0.0.0.0:{port}",
            "certificate": str(chain),
            "certificate_key": str(key),
            "hosts": [f"localhost:{port}"],
            "person_token": TOKEN,
        }
    )
    place.ready()
    trusted = ssl.create_default_context(cafile=str(chain))
    url = f"https://localhost:{port}/mcp"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    headers = {"content-type": "application/json", "accept": "application/json"}

    def ask(token: str | None) -> int:
        more = {"authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(url, data=body, headers={**headers, **more})
        try:
            with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    operator = (place.state / "operator.key").read_text().strip()
    assert ask(None) == 401
    assert ask(TOKEN) == 200
    assert ask("some other token that is wrong") == 401
    assert ask(operator) == 401, "the keys of this machine count for nothing from elsewhere"
    assert TOKEN not in place.log_text()
