"""The plain pages for coordinators of another make: who is let in, what they learn, what they may send."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.runs import RetryPolicy
from aiagent_coordinator.server.http.coordinators import MAX_LOG_BYTES, MAX_UPLOAD_BYTES
from aiagent_coordinator.server.http.settings import OwnFile
from aiagent_coordinator.store import legacy, passkeys, projects
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent
from support.board import Board, serving
from support.web import LOCAL, body_of, browsing

CONFIG = "/api/coordinator/config"
UPLOAD = "/api/v1/execution-logs/upload"
TOKENS = {"person": "p" * 20, "coordinator": "c" * 20}
OWN = OwnFile(
    passkeys={
        "ann": "sesame-of-ann",
        "cid": "sesame-of-cid",
        "dan": "sesame-of-dan",
        "gone": "sesame-of-one-who-left",
    },
    programs={"claude": ("claude", "--verbose")},
    polling_seconds=7.0,
    max_concurrent=4,
)
SETTINGS = replace(
    LOCAL,
    own=OWN,
    person_token=TOKENS["person"],
    coordinator_token=TOKENS["coordinator"],
)
LOG = b"2026-11-20 12:00:00 begun\nError: quota exhausted\n\xff\x00 end"


async def driven(board: Board) -> dict[str, str]:
    """A run that a coordinator of another make drives; its ids as that coordinator says them."""
    await board.add_task()
    claim = await board.store.write(
        lambda unit: legacy.claim(unit, "ann", "garden", RetryPolicy(3, (1.0,)))
    )
    assert claim.task is not None
    runs = await board.store.read(lambda unit: legacy.live_of(unit, "ann", "garden"))
    assert runs is not None
    ids = {"execution_log_id": runs.id, "agent_id": "ann", "task_id": claim.task.id}
    return {**ids, "project_id": "garden"}


def form(about: dict[str, str], log: bytes = LOG, name: str = "20261120_120000.log") -> Any:
    return {"data": about, "files": {"log_file": (name, log, "text/plain")}}


async def test_only_coordinators_are_let_in(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS, state=StateDir(short_dir)) as board:
        claimed = await board.claim()
        expected = {
            None: 401, "wrong": 401, claimed.token: 403, TOKENS["person"]: 403,
            board.operator_key: 403, TOKENS["coordinator"]: 200, board.coordinator_key: 200,
        }  # fmt: skip
        about = await driven(board)
        for token, status in expected.items():
            async with browsing(board, token) as web:
                for answer in (
                    await web.http.get(CONFIG),
                    await web.http.post(UPLOAD, **form(about)),
                ):
                    assert answer.status_code == status, (token, answer.url)
                    if status != 200:
                        assert "sesame" not in answer.text
                        assert answer.json()["success"] is False
                    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_a_coordinator_learns_the_passkeys_of_this_file_and_no_other_token(
    short_dir: Path,
) -> None:
    async with (
        serving(short_dir, http=SETTINGS) as board,
        browsing(board, TOKENS["coordinator"]) as web,
    ):
        answer = await web.http.get(CONFIG)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json() == {
            "server_url": f"http://127.0.0.1:{board.port}",
            "coordinator_token": TOKENS["coordinator"],
            "root_agent_id": None,
            "polling_interval": 7.0,
            "max_concurrent": 4,
            "agents": {"ann": {"passkey": "sesame-of-ann"}},
            "ai_providers": {"claude": {"cli_command": "claude", "cli_args": ["--verbose"]}},
            "agent_base_prompt": None,
        }
        assert board.coordinator_key not in answer.text
        below = (("ann", None), ("bob", "ann"), ("cid", "bob"), ("dan", None))

        def hire(unit: Unit) -> None:
            for name, boss in below:
                agent = Agent(id=name, name=name, provider="rehearsal", parent_id=boss)
                projects.declare_agent(unit, agent)

        await board.store.write(hire)
        for root, names in (("ann", ["ann", "cid"]), ("bob", ["cid"]), ("dan", ["dan"])):
            rooted = (await web.http.get(CONFIG, params={"root_agent_id": root})).json()
            assert (rooted["root_agent_id"], list(rooted["agents"])) == (root, names)
        missing = await web.http.get(CONFIG, params={"root_agent_id": "nobody"})
        assert missing.status_code == 404


@pytest.mark.parametrize(("proto", "status"), [(None, 403), ("http", 403), ("https", 200)])
async def test_passkeys_are_not_told_where_somebody_could_read_along(
    short_dir: Path, proto: str | None, status: int
) -> None:
    settings = replace(SETTINGS, trusted_proxies=("127.0.0.1",))
    headers = {"x-forwarded-for": "192.0.2.7"} | ({"x-forwarded-proto": proto} if proto else {})
    async with (
        serving(short_dir, http=settings) as board,
        browsing(board, TOKENS["coordinator"]) as web,
    ):
        answer = await web.http.get(CONFIG, headers=headers)
        assert answer.status_code == status
        assert ("sesame" in answer.text) == (status == 200)


async def test_a_log_is_kept_with_its_run_whatever_its_name_says(short_dir: Path) -> None:
    state = StateDir(short_dir)
    async with serving(short_dir, http=SETTINGS, state=state) as board:
        about = await driven(board)
        run_id = about["execution_log_id"]
        async with browsing(board, TOKENS["coordinator"]) as web:
            names = ("../../../evil", "/tmp/evil", "a\x00b", "x" * 5000, ".", "")
            for name in names:
                sent = form({**about, "original_filename": name}, LOG, name or "log")
                answer = await web.http.post(UPLOAD, **sent)
                assert answer.status_code in {200, 400}, (name, answer.text)
            answer = await web.http.post(UPLOAD, **form(about))
            assert answer.json() == {
                "success": True,
                "execution_log_id": run_id,
                "log_file_path": f"logs/sent/{run_id}.log",
                "file_size": len(LOG),
            }
        kept = short_dir / "logs" / "sent" / f"{run_id}.log"
        assert kept.read_bytes() == LOG
        assert kept.stat().st_mode & 0o777 == 0o600
        assert [file.name for file in kept.parent.iterdir()] == [kept.name]
        assert (await board.run(run_id)).log_path == str(kept)


async def test_a_log_of_nothing_that_is_there_is_not_found(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS, state=StateDir(short_dir)) as board:
        about = await driven(board)
        ours = await board.claim("Ours")
        async with browsing(board, TOKENS["coordinator"]) as web:
            wrong = [
                {**about, key: value} for key in about for value in ("other", "../x", "y" * 300)
            ]
            wrong.append(
                {**about, "execution_log_id": ours.run.id, "task_id": ours.run.task_id or ""}
            )
            for ids in wrong:
                answer = await web.http.post(UPLOAD, **form(ids))
                assert (answer.status_code, answer.json()["success"]) == (404, False), ids
            for key in about:
                less = {name: value for name, value in about.items() if name != key}
                assert (await web.http.post(UPLOAD, **form(less))).status_code == 400
            assert (await web.http.post(UPLOAD, data=about)).status_code == 415
            empty = await web.http.post(UPLOAD, data=about, files={"other": b""})
            assert empty.status_code == 400
        assert not (short_dir / "logs" / "sent").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"no form at all",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n",
        b"--x\r\n" * 50,
    ],
)
async def test_what_is_no_form_is_refused(short_dir: Path, body: bytes) -> None:
    async with (
        serving(short_dir, http=SETTINGS, state=StateDir(short_dir)) as board,
        browsing(board, TOKENS["coordinator"]) as web,
    ):
        for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
            answer = await web.http.post(UPLOAD, content=body, headers={"content-type": kind})
            assert answer.status_code == 400, answer.text


async def test_what_is_too_large_is_refused_and_leaves_nothing(short_dir: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        head = 'Content-Disposition: form-data; name="log_file"; filename="x"'
        yield f"--x\r\n{head}\r\n\r\n".encode()
        for _ in range(MAX_UPLOAD_BYTES // 65536 + 2):
            yield b"y" * 65536

    async with serving(short_dir, http=SETTINGS, state=StateDir(short_dir)) as board:
        about = await driven(board)
        async with browsing(board, TOKENS["coordinator"]) as web:
            at_most = await web.http.post(UPLOAD, **form(about, b"y" * MAX_LOG_BYTES))
            assert at_most.status_code == 200, "larger than a call may be, and taken"
            more = await web.http.post(UPLOAD, **form(about, b"y" * (MAX_LOG_BYTES + 1)))
            assert more.status_code == 413
            kind = {"content-type": "multipart/form-data; boundary=x"}
            try:
                endless = await web.http.post(UPLOAD, content=pieces(), headers=kind)
                assert endless.status_code == 413
            except httpx2.TransportError:
                pass  # cut off while it still sent
            assert len(list((short_dir / "logs" / "sent").iterdir())) == 1
        async with browsing(board) as stranger:
            refused = await stranger.http.post(UPLOAD, **form(about, b"y" * MAX_LOG_BYTES))
            assert refused.status_code == 401, "nothing of it was read"


async def test_the_description_says_what_is_asked_for(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board, browsing(board) as web:
        described = (await web.http.get("/openapi.json")).json()["paths"]
        fields = described[UPLOAD]["post"]["requestBody"]["content"]["multipart/form-data"]
        assert set(fields["schema"]["required"]) == {
            "execution_log_id", "agent_id", "task_id", "project_id", "log_file",
        }  # fmt: skip
        assert CONFIG in json.dumps(list(described))


async def test_who_never_shakes_hands_is_told_that_a_notification_arrived(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board, browsing(board) as web:
        for method in ("notifications/initialized", "notifications/cancelled", "initialized"):
            answer = await web.notify(method)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == {"jsonrpc": "2.0", "result": {"acknowledged": True}}
        await web.shake_hands()
        assert (await web.notify("notifications/initialized")).status_code == 202


async def test_who_says_nothing_of_kinds_gets_json(short_dir: Path) -> None:
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params: dict[str, Any] = {"name": "health_check", "arguments": {}}
    async with (
        serving(short_dir, http=SETTINGS) as board,
        browsing(board, TOKENS["coordinator"]) as web,
    ):
        del web.http.headers["accept"]
        for headers in ({}, {"accept": "*/*"}, {"accept": "application/json"}):
            answer = await web.http.post("/mcp", json={**call, "params": params}, headers=headers)
            assert answer.status_code == 200, headers
            assert "structuredContent" not in answer.json()["result"], "as on the socket"
            assert json.loads(answer.json()["result"]["content"][0]["text"])["status"] == "ok"


@pytest.mark.parametrize("has_session", [True, False])
async def test_an_agent_that_shows_its_coordinators_token_is_that_agent_and_no_more(
    short_dir: Path, has_session: bool
) -> None:
    async with serving(short_dir, http=SETTINGS) as board:
        hashed = passkeys.hash_of("sesame")
        await board.store.write(lambda unit: passkeys.keep(unit, "ann", hashed))
        about = await driven(board)
        other = await board.claim("Another")
        async with browsing(board, TOKENS["coordinator"]) as web:
            if has_session:
                await web.shake_hands()
            listed = body_of(await web.post("tools/list"))["result"]["tools"]
            assert {"authenticate", "get_next_action"} <= {tool["name"] for tool in listed}
            pair = {"agent_id": "ann", "project_id": "garden"}
            wrong = await web.tool("authenticate", **pair, passkey="another")
            assert "UNAUTHORIZED" in str(wrong)
            known = await web.tool("authenticate", **pair, passkey="sesame")
            assert known["task_id"] == about["task_id"]
            token = known["session_token"]
            task = await web.tool("get_my_task", session_token=token)
            assert task["task"]["title"] == "Mend the fence"
            # what it shows with each call says who it is, and its session cannot be more
            places = "list_active_projects_with_agents"
            assert "FORBIDDEN" in str(await web.tool(places, session_token=token))
            named = await web.tool("get_my_task", session_token=token, run_id=other.run.id)
            assert "FORBIDDEN" in str(named)
            stale = await web.tool("get_my_task", session_token="sess_" + "0" * 32)
            assert ("UNAUTHORIZED" in str(stale)) == (not has_session)
            assert ("FORBIDDEN" in str(await web.tool(places))) == has_session
        async with browsing(board, TOKENS["person"]) as web:
            assert "FORBIDDEN" in str(await web.tool("get_my_task", session_token=token))
