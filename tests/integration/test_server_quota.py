"""What may be used, as the server keeps and tells it: budgets of a day, and a person's word on limits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.quota import Amount, Budgets, Terms
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.server.app import Server, ServerSettings
from aiagent_coordinator.server.sockets import bind_socket
from aiagent_coordinator.store import claims, reports, requests, terms
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.wire.protocol import ACTIONS_URI
from support.board import Board, Raw, connected, declare, serving


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


async def _claim(board: Board) -> requests.ClaimAnswer:
    request = requests.ClaimRequest(
        run_id=ids.new_run_id(),
        coordinator_id=board.coordinator_id,
        epoch=1,
        agent_id="ann",
        project_id="garden",
        purpose=Purpose.TASK,
        slot=secrets.randbelow(2**30),
        token_sha256=hashlib.sha256(secrets.token_bytes(32)).hexdigest(),
    )
    return await board.store.write(lambda unit: claims.claim_run(unit, request, 90))


LANE = {"provider": "rehearsal", "account": "default"}


async def test_a_word_that_comes_between_a_plan_and_its_start_counts(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connected(board, board.coordinator) as loop,
        connected(board, board.person) as person,
    ):
        await board.add_task()
        assert (await _says(loop, board))[0] == "start"
        # twice, and once more in the other order
        for seconds in (900, 900, 60):
            held = await person.tool("set_limit", **LANE, seconds=seconds)
            answer = await _claim(board)
            assert (answer.claimed, (answer.reason or "")[:13]) == (False, "parked until ")
        limits = (await person.tool("list_limits"))["limits"]
        assert [one["until"] for one in limits] == [held["limit"]["until"]]
        assert len((await person.tool("clear_limits", **LANE))["cleared"]) == 1
        assert (await person.tool("clear_limits", **LANE))["cleared"] == []
        assert (await _claim(board)).claimed
        # what is there already is not touched by it
        await person.tool("set_limit", **LANE)
        (run,) = (await person.tool("list_runs"))["runs"]
        assert (run["phase"], run["stop_reason"]) == ("starting", None)


async def test_of_words_and_starts_at_the_same_moment_none_starts_where_it_is_closed(
    short_dir: Path,
) -> None:
    """Whatever the order: a run is claimed before it is closed, or after it is opened, or not at all."""
    async with serving(short_dir) as board, connected(board, board.person) as person:
        answers: list[requests.ClaimAnswer] = []
        is_over = anyio.Event()

        async def speak() -> None:
            for number in range(20):
                await person.tool("set_limit", **LANE, seconds=900)
                for _ in range(number % 4):  # or all would go in step
                    await person.tool("list_limits")
                await person.tool("clear_limits", **LANE)
            is_over.set()

        async def start() -> None:
            while not is_over.is_set():
                await board.add_task()
                answers.append(await _claim(board))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(speak)
            tasks.start_soon(start)
            tasks.start_soon(start)
        is_open = True
        for event in sorted(await board.events(), key=lambda one: one.seq):
            if event.action.startswith("quota."):
                is_open = event.action == "quota.opened"
            assert event.action != "run.claimed" or is_open
        refused = [one for one in answers if not one.claimed]
        assert all((one.reason or "").startswith("parked until ") for one in refused)
        # there was something to see of both
        assert 0 < len(refused) < len(answers)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"provider": "nobody"}, "NOT_FOUND"),
        ({"account": "nobody"}, "NOT_FOUND"),
        ({"account": "default/../x"}, "NOT_FOUND"),
        ({"provider": ""}, "VALIDATION"),
        ({"provider": "x" * 201}, "VALIDATION"),
        ({"provider": None}, "VALIDATION"),
        ({"model": ""}, "VALIDATION"),
        ({"model": ["a"]}, "VALIDATION"),
        ({"more": 1}, "VALIDATION"),
        ({"seconds": 0}, "VALIDATION"),
        ({"seconds": -1}, "VALIDATION"),
        ({"seconds": 10**30}, "VALIDATION"),
        ({"seconds": 1.5}, "VALIDATION"),
        ({"seconds": 60, "until": "2099-01-01T00:00:00Z"}, "VALIDATION"),
        ({"until": "soon"}, "VALIDATION"),
        ({"until": ""}, "VALIDATION"),
        ({"until": "2001-01-01T00:00:00Z"}, "VALIDATION"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "VALIDATION"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "VALIDATION"),
    ],
)
async def test_a_word_that_means_nothing_closes_nothing(
    more: dict[str, Any], code: str, short_dir: Path
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        assert await person.code("set_limit", **{**LANE, **more}) == code
        assert (await person.tool("list_limits"))["limits"] == []
        assert (await _says_of(board))[0] == "hold"


async def _says_of(board: Board) -> tuple[str, str]:
    async with connected(board, board.coordinator) as loop:
        return await _says(loop, board)


async def test_what_nobody_works_on_cannot_be_opened_and_odd_names_of_models_are_just_names(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        assert await person.code("clear_limits", provider="nobody") == "NOT_FOUND"
        assert await person.code("clear_limits", provider="rehearsal", account="x") == "NOT_FOUND"
        for model in ("../../etc", "a/b", "'; DROP TABLE run; --", "模型", "*", "\x1b[31m"):
            held = await person.tool("set_limit", **LANE, model=model, seconds=60)
            assert held["limit"]["model"] == model
            # the agent works on no model of these
            await board.add_task()
            assert (await _says_of(board))[0] == "start"
            opened = await person.tool("clear_limits", **LANE, model=model)
            assert [one["model"] for one in opened["cleared"]] == [model]
