"""What may be used, as the server keeps and tells it: budgets of a day, and a person's word on limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.quota import Amount, Budgets, Terms
from aiagent_coordinator.runs import RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.server.app import Server, ServerSettings
from aiagent_coordinator.server.sockets import bind_socket
from aiagent_coordinator.store import reports, requests, terms
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.wire.protocol import ACTIONS_URI
from support.board import Board, Raw, connected, declare


@asynccontextmanager
async def by_hand(folder: Path, clock: ManualClock) -> AsyncGenerator[Board]:
    """A board whose clock goes when it is told to."""
    async with open_store(sqlite_url(folder / "store.db"), clock=clock) as store:
        board = Board(store, folder / "s")
        await store.write(lambda unit: declare(unit, folder))
        settings = ServerSettings(board.operator_key, board.coordinator_key)
        async with anyio.create_task_group() as tasks:
            await tasks.start(Server(store, settings, clock).run, bind_socket(board.path))
            yield board
            tasks.cancel_scope.cancel()


async def _says(client: Raw, board: Board) -> tuple[str, str]:
    answer = await client.tool("list_agent_actions", coordinator_id=board.coordinator_id)
    line = answer["actions"][0]
    return line["action"], line["reason"] or ""


async def test_a_budget_of_a_day_opens_at_midnight_by_a_push(short_dir: Path) -> None:
    clock = ManualClock(datetime(2026, 2, 28, 23, 59, 59, 500_000, tzinfo=UTC))
    async with by_hand(short_dir, clock) as board:
        said = Terms(budgets=Budgets(day=(Amount("tokens", 100),)))
        await board.store.write(lambda unit: terms.declare(unit, said))
        claimed = await board.claim()
        result = requests.ResultReport(
            run_id=claimed.run.id,
            fence=claimed.run.fence,
            seq=2,
            outcome=RunOutcome.SUCCEEDED,
            reason=None,
            verification=Verification.NOT_VERIFIED,
            usage={"in": 110, "out": 0, "cache": 0},
        )
        await board.store.write(lambda unit: reports.record_result(unit, result, RetryPolicy()))
        await board.add_task("tomorrow's")
        async with connected(board, board.coordinator) as loop:
            action, why = await _says(loop, board)
            assert (action, why[:34]) == ("hold", "parked until 2026-03-01T00:00:00Z ")
            assert "result" in await loop.request("resources/subscribe", {"uri": ACTIONS_URI})
            # nothing else happens on this board
            clock.advance(1)
            await loop.until(lambda frame: frame.get("method") == "notifications/resources/updated")
            assert (await _says(loop, board))[0] == "start"
