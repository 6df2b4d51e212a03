"""Calls as the released clients of AI Agent PM send them, and agents that show a passkey."""

from __future__ import annotations

import json
from typing import Any

import anyio

from aiagent_coordinator.store import passkeys
from support.board import Board, Raw

PASSKEY = "sesame"


async def ask(board: Board, tool: str, **arguments: object) -> dict[str, Any]:
    """One call on a connection of its own, in the key order of the released clients."""
    told = {**arguments, "coordinator_token": board.coordinator_key}
    params = {"name": tool, "arguments": told}
    request = {"jsonrpc": "2.0", "method": "tools/call", "params": params, "id": 1}
    async with await anyio.connect_unix(board.path) as stream:
        client = Raw(stream)
        await client.send(request)
        answer = await client.line()
        assert answer is not None
        assert len(json.dumps(answer)) < 65_536
        return answer


async def value(board: Board, tool: str, **arguments: object) -> Any:
    answer = await ask(board, tool, **arguments)
    assert not answer["result"].get("isError"), answer
    assert "structuredContent" not in answer["result"]
    return json.loads(answer["result"]["content"][0]["text"])


async def with_passkey(board: Board) -> None:
    hashed = passkeys.hash_of(PASSKEY)
    await board.store.write(lambda unit: passkeys.keep(unit, "ann", hashed))


PAIR = {"agent_id": "ann", "project_id": "garden"}


async def start(board: Board) -> dict[str, Any]:
    await with_passkey(board)
    await board.add_task()
    return await value(board, "get_agent_action", **PAIR)


async def authenticate(client: Raw) -> str:
    known = await client.tool("authenticate", **PAIR, passkey=PASSKEY)
    assert known["expires_in"] == 3600
    return known["session_token"]
