"""Serve a board in a fresh interpreter, call it, and say whether the SDK had to be loaded.

`served.py DIR person` calls as one of our commands; `served.py DIR stranger` as any MCP client.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from anyio import to_thread

from aiagent_coordinator.wire.client import BlockingClient
from support.board import Board, connected, serving


def _ask(board: Board) -> None:
    with BlockingClient(str(board.path), board.person, 60) as client:
        assert client.call("get_status", {})["tasks"] == {}


async def _main(folder: Path, who: str) -> None:
    async with serving(folder) as board:
        if who == "person":
            await to_thread.run_sync(_ask, board)
        else:
            async with connected(board) as client:
                assert await client.code("health_check") == "UNAUTHORIZED"
        print("loaded" if "mcp" in sys.modules else "absent")


anyio.run(_main, Path(sys.argv[1]), sys.argv[2])
