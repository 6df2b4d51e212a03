"""The inspector's command line lists and calls our tools, over a run's bridge and over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from aiagent_coordinator.wire import bridge
from support import npm
from support.board import Board, Claimed, serving
from support.web import LOCAL

pytestmark = pytest.mark.needs("npm")


def inspect(*arguments: str) -> dict[str, Any]:
    """What the inspector prints."""
    command = [npm.node() or "node", str(npm.INSPECTOR), "--cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


async def both(*place: str) -> None:
    """List the tools, and call one."""
    listed = await to_thread.run_sync(lambda: inspect("--method", "tools/list", *place))
    assert listed["tools"][0]["name"] == "authenticate"
    call = ("--method", "tools/call", "--tool-name", "get_my_task")
    called = await to_thread.run_sync(lambda: inspect(*call, *place))
    assert called["structuredContent"]["task"]["title"] == "Mend the fence", called


def run_folder(folder: Path, board: Board, claimed: Claimed) -> Path:
    run = folder / claimed.run.id
    run.mkdir(mode=0o700)
    server = {"socket": str(board.path), "ours": True, "hold_seconds": 45}
    (run / "spec.json").write_text(json.dumps({"run_id": claimed.run.id, "server": server}))
    (run / "token").write_text(claimed.token)
    (run / "bridge.py").write_bytes(Path(bridge.__file__).read_bytes())
    return run


async def test_the_inspector_over_the_bridge(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        run = await to_thread.run_sync(run_folder, short_dir, board, claimed)
        await both(sys.executable, "-I", "-S", str(run / "bridge.py"))


async def test_the_inspector_over_http(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed = await board.claim()
        url = f"http://127.0.0.1:{board.port}/mcp"
        bearer = f"Authorization: Bearer {claimed.token}"
        await both("--transport", "http", "--server-url", url, "--header", bearer)
