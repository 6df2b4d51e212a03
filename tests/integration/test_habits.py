"""Habits of real CLIs that must not cost them their tools: all over the socket, as their bridge sends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.board import Claimed, Raw, connected, serving

SHAKE: dict[str, Any] = {
    "capabilities": {"elicitation": {}, "roots": {"listChanged": True}},
    "clientInfo": {"name": "some-cli", "version": "1"},
}


async def _opened(client: Raw, revision: str = "2025-11-25") -> None:
    answer = await client.request("initialize", {"protocolVersion": revision, **SHAKE})
    assert answer["result"]["protocolVersion"] == revision
    await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


async def _reads_its_task(client: Raw) -> None:
    answer = await client.request("tools/call", {"name": "get_my_task", "arguments": {}})
    assert "Mend the fence" in answer["result"]["content"][0]["text"]


async def test_a_probe_for_the_newest_revision_before_the_handshake(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            assert (await client.request("server/discover", {}))["error"]["code"] == -32601
            await _opened(client)
            await _reads_its_task(client)


async def test_calls_that_are_taken_back_after_their_answer(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await _opened(client)
            for number in (2, 3, 4):
                await _reads_its_task(client)
                params = {"requestId": number, "reason": "done"}
                method = "notifications/cancelled"
                await client.send({"jsonrpc": "2.0", "method": method, "params": params})
            await _reads_its_task(client)


async def test_two_connections_of_one_run(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        again = Claimed(claimed.run, claimed.token)
        async with (
            connected(board, claimed.hello()) as one,
            connected(board, again.hello()) as two,
        ):
            await _opened(one)
            await _opened(two)
            await _reads_its_task(one)
            await _reads_its_task(two)


async def test_lists_that_nobody_asked_to_be_asked_for(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await _opened(client)
            for method in ("prompts/list", "resources/list", "resources/templates/list"):
                assert "result" in await client.request(method), method
            assert (await client.request("logging/setLevel", {"level": "info"}))["error"][
                "code"
            ] == -32601
            await _reads_its_task(client)


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_revision_with_a_handshake_and_foreign_meta(
    short_dir: Path, revision: str
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await _opened(client, revision)
            meta = {"progressToken": 7, "threadId": "t", "x-codex-turn-metadata": {"turn": 1}}
            params = {"name": "get_my_task", "arguments": {}, "_meta": meta}
            assert "Mend the fence" in str(await client.request("tools/call", params))
