"""A login that a user made with the real program is what its runs have: only when asked for, as `test_real_clis`.

AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_logins.py -s
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.clis import WANTED, ended, output_of, programs
from support.house import house, until
from support.repo import git

__test__ = "gemini" in WANTED
pytestmark = [pytest.mark.needs("node", "openssl"), pytest.mark.timeout(600)]

GOOGLE = Path(__file__).parents[1] / "fakes" / "google.py"
#: Expired long ago: the program renews it before it asks anything.
LOGIN: dict[str, Any] = {
    "access_token": "old-token-of-nobody",
    "refresh_token": "refresh-token-of-nobody",
    "token_type": "Bearer",
    "scope": "https://www.googleapis.com/auth/cloud-platform",
    "expiry_date": 1,
}


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


@contextmanager
def google(folder: Path) -> Generator[tuple[dict[str, str], Path]]:
    """A Google on loopback: the variables that lead to it, and what it was asked."""
    key, certificate, log = folder / "key.pem", folder / "cert.pem", folder / "google.jsonl"
    log.touch()
    hosts = "subjectAltName=DNS:*.googleapis.com,DNS:googleapis.com"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=loopback"]
    words += ["-keyout", str(key), "-out", str(certificate), "-addext", hosts]
    subprocess.run(["openssl", *words], capture_output=True, timeout=60, check=True)
    command = [sys.executable, str(GOOGLE), str(log), str(certificate), str(key)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        proxy = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield {"HTTPS_PROXY": proxy, "NODE_EXTRA_CA_CERTS": str(certificate)}, log
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("sandbox", ["off", "bwrap"])
def test_gemini_works_with_the_users_google_login_and_keeps_it(
    sandbox: str, short_dir: Path, clis: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    options = {"sandbox": sandbox} if sandbox != "off" else {"i_understand_unsandboxed": True}
    with google(short_dir) as (env, log), house(short_dir, **options) as home:
        theirs = home.root / "home" / ".gemini"
        login = theirs / "oauth_creds.json"
        theirs.mkdir(parents=True)
        login.touch(mode=0o600)
        login.write_text(json.dumps(LOGIN))
        settings = theirs / "settings.json"
        settings.write_text('{"security": {"auth": {"selectedType": "oauth-personal"}}}')
        before = settings.read_bytes()
        home.write(agents={"worker": {"provider": "gemini", "model": "gemini-2.5-flash"}})
        home.env |= env
        home.env["PATH"] = f"{clis}{os.pathsep}{os.environ['PATH']}"
        home.ready()
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")
        run = ended(home, task["id"])
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0), output_of(home, run)
        assert git(home.repo, "show", f"{run['commit']}:model.txt") == "written by a model"
        asked = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        turns = [one for one in asked if one["path"].endswith("enerateContent")]
        # it renewed the token, used the new one, and left that where the user has it
        assert {one["token"] for one in turns} == {"renewed-1"}
        now = json.loads(login.read_text("utf-8"))
        assert (now["access_token"], now["refresh_token"]) == (
            "renewed-1",
            LOGIN["refresh_token"],
        )
        assert stat.S_ISREG(login.lstat().st_mode)
        assert stat.S_IMODE(login.stat().st_mode) == 0o600
        assert settings.read_bytes() == before
        # nothing of it lies in what is ours, once the links are gone
        folder = home.state / "run" / run["id"]
        gone = (folder / "files", folder / "record")
        until("its files are put away", lambda: not any(one.exists() for one in gone))
        files = [file for file in home.state.rglob("*") if file.is_file() and not file.is_symlink()]
        for word in (b"renewed-1", LOGIN["refresh_token"].encode()):
            assert [file for file in files if word in file.read_bytes()] == []
        (told,) = [
            one for one in home.json("provider", "list")["providers"] if one["name"] == "gemini"
        ]
        assert told["login"] == "logged_in"
