"""Random requests of everything the OpenAPI file describes: never a 5xx, a hang, or growth."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from support.house import House, house, until

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance,unsupported_method"
)
#: What a second round may add to the server's memory: nothing but noise.
MAX_GROWTH_BYTES = 24 * 1024 * 1024


@pytest.fixture
def place(tmp_path: Path) -> Generator[House]:
    with house(tmp_path) as home:
        yield home


def fuzz(url: str, folder: Path, *, seed: int, token: str | None) -> str:
    """Run the fuzzer for one round; what it said."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--checks", CHECKS, "--max-examples", "20", "--seed", str(seed)]
    command += ["--request-timeout", "20", "--no-color", "--warnings", "off"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return done.stdout


def test_random_requests_are_answered_as_described(place: House) -> None:
    place.write(http={"listen": "127.0.0.1:0", "requests_per_second": 1_000_000})
    process = place.ready()
    url = f"http://{place.logged('daemon.ready')[0]['http']}"
    until("HTTP answers", lambda: urllib.request.urlopen(f"{url}/readyz", timeout=30).status == 200)
    key = (place.state / "operator.key").read_text().strip()
    fuzz(url, place.root, seed=1, token=None)
    fuzz(url, place.root, seed=4, token=(place.state / "coordinator.key").read_text().strip())
    said = fuzz(url, place.root, seed=2, token=key)
    before = psutil.Process(process.pid).memory_info().rss
    fuzz(url, place.root, seed=3, token=key)
    grown = psutil.Process(process.pid).memory_info().rss - before
    print(next(line for line in said.splitlines() if "generated" in line), f"grown by {grown}")
    assert grown < MAX_GROWTH_BYTES
    assert not place.logged("server.request_failed")
    ready = urllib.request.urlopen(f"{url}/readyz", timeout=30)
    assert json.load(ready) == {"status": "ok"}
