"""Runs that coordinators of another make drive: claimed for them, and ended by what is (not) heard."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.runs import RetryPolicy, Run, RunOutcome, RunPhase
from aiagent_coordinator.store import legacy, projects, runs, sessions, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task, TaskStatus, WaitReason

POLICY = RetryPolicy()
GONE = legacy.Cause("legacy:writer/demo", has_exited=True)
SILENT = legacy.Cause("server", has_exited=False)


def _declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal"))
    projects.assign(unit, "writer", "demo")


async def begin(store: Store) -> Run:
    """A task, claimed for a coordinator of another make."""
    await store.write(_declare)
    new = NewTask("demo", "Do it")
    await store.write(lambda unit: tasks.create_task(unit, new, "person"))
    answer = await store.write(lambda unit: legacy.claim(unit, "writer", "demo", POLICY))
    assert answer.claimed
    return await live(store)


async def live(store: Store) -> Run:
    run = await store.write(lambda unit: legacy.live_of(unit, "writer", "demo"))
    assert run is not None
    return run


async def greeted(store: Store) -> Run:
    """Its agent has authenticated."""
    run = await begin(store)
    await store.write(lambda unit: runs.mark_authenticated(unit, run.id))
    await store.write(lambda unit: legacy.greet(unit, run))
    return await live(store)


async def end(store: Store, run: Run, cause: legacy.Cause) -> tuple[Run, Task]:
    task = await store.write(lambda unit: legacy.end(unit, run, cause, POLICY))
    assert task is not None
    return await store.read(lambda unit: runs.get_run(unit, run.id)), task


async def test_a_pair_has_one_run_and_its_holder_says_whose_it_is(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run = await begin(store)
        assert (run.holder, run.phase) == ("legacy:writer/demo", RunPhase.STARTING)
        again = await store.write(lambda unit: legacy.claim(unit, "writer", "demo", POLICY))
        assert (again.claimed, again.reason) == (False, "agent_limit")


async def test_nobody_was_ever_heard_of_costs_no_attempt_and_a_dead_program_does(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run, task = await end(store, await begin(store), SILENT)
        assert (run.outcome, run.reason) == (RunOutcome.NOT_STARTED, "never_authenticated")
        assert (task.status, task.attempt, task.infra_requeues) == (TaskStatus.QUEUED, 1, 1)
        await store.write(lambda unit: legacy.claim(unit, "writer", "demo", POLICY))
        run, task = await end(store, await live(store), GONE)
        assert (run.outcome, run.reason) == (RunOutcome.FAILED, "never_authenticated")
        assert (task.status, task.attempt) == (TaskStatus.QUEUED, 2)
        assert run.exit_code is None


WORDS: list[tuple[str | None, RunOutcome, str | None, TaskStatus]] = [
    ("success", RunOutcome.SUCCEEDED, None, TaskStatus.SUCCEEDED),
    ("failed", RunOutcome.FAILED, "agent_reported", TaskStatus.QUEUED),
    ("blocked", RunOutcome.SUSPENDED, "agent_reported", TaskStatus.WAITING),
    (None, RunOutcome.FAILED, "no_report", TaskStatus.QUEUED),
]


@pytest.mark.parametrize("cause", [GONE, SILENT], ids=["exit told", "silence"])
@pytest.mark.parametrize(("word", "outcome", "reason", "status"), WORDS)
async def test_the_agents_word_decides_and_without_one_it_failed(  # noqa: PLR0917 - what it varies
    store_url: str,
    clock: ManualClock,
    cause: legacy.Cause,
    word: str | None,
    outcome: RunOutcome,
    reason: str | None,
    status: TaskStatus,
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run = await greeted(store)
        if word is not None:
            await store.write(lambda unit: runs.record_agent_report(unit, run, word, "so it was"))
        ended, task = await end(store, run, cause)
        assert (ended.outcome, ended.reason, task.status) == (outcome, reason, status)
        assert ended.verification is not None
        assert ended.verification.value == "not_verified"
        if status is TaskStatus.WAITING:
            assert task.wait_reason is WaitReason.BLOCKED
        if outcome is RunOutcome.FAILED:
            assert task.handoff is not None
        # told again, nothing happens
        assert (await end(store, run, cause))[1].version == task.version


async def test_a_limit_that_its_output_names_puts_the_task_off_and_costs_no_attempt(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run = await greeted(store)
        cause = legacy.Cause("legacy:writer/demo", has_exited=True, reason="quota", wait_seconds=77)
        ended, task = await end(store, run, cause)
        assert (ended.outcome, ended.reason) == (RunOutcome.FAILED, "quota")
        assert (task.status, task.attempt) == (TaskStatus.QUEUED, 1)
        assert task.not_before is not None
        assert ended.ended_at is not None
        assert task.not_before - ended.ended_at == timedelta(seconds=77)


async def lapsed(store: Store) -> list[str]:
    return [run.id for run in await store.read(legacy.lapsed)]


async def test_silence_lapses_after_two_minutes_and_after_an_hour_once_the_agent_came(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        run = await begin(store)
        clock.advance(119)
        assert await lapsed(store) == []
        clock.advance(2)
        assert await lapsed(store) == [run.id]
        await store.write(lambda unit: legacy.greet(unit, run))
        clock.advance(3500)
        assert await lapsed(store) == []
        run = await live(store)
        await store.write(lambda unit: legacy.slide(unit, run))
        clock.advance(3500)
        assert await lapsed(store) == [], "every call begins the hour anew"
        clock.advance(200)
        assert await lapsed(store) == [run.id]


async def test_a_stop_that_was_told_lapses_soon_however_often_it_is_told(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        run = await greeted(store)
        await store.write(lambda unit: runs.request_stop(unit, run.id, "stopped", actor="person"))
        for _ in range(4):
            await store.write(lambda unit: legacy.told_to_stop(unit, "writer", "demo"))
            clock.advance(4)
        assert await lapsed(store) == [run.id]
        ended, task = await end(store, await live(store), GONE)
        assert (ended.outcome, ended.reason) == (RunOutcome.STOPPED, "stopped")
        assert (task.status, task.attempt) == (TaskStatus.QUEUED, 1)


async def test_a_server_that_was_away_gives_everybody_their_time_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        run = await begin(store)
    clock.advance(3600)
    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        assert await lapsed(store) == []
        clock.advance(121)
        assert await lapsed(store) == [run.id]


async def test_a_session_dies_with_its_run_or_by_logging_out(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run = await greeted(store)
        tokens = [await store.write(lambda unit: sessions.begin(unit, run)) for _ in range(2)]

        async def found(token: str) -> Run | None:
            return await store.read(lambda unit: sessions.run_of_session(unit, token))

        assert await store.read(lambda unit: sessions.count_open(unit, run.id)) == 2
        await store.write(lambda unit: sessions.end(unit, tokens[0]))
        assert await found(tokens[0]) is None
        assert await found(tokens[1]) is not None
        await end(store, run, GONE)
        assert await found(tokens[1]) is None


async def test_the_first_exit_code_that_an_agent_tells_stays(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        run = await greeted(store)
        await store.write(lambda unit: legacy.note_exit(unit, run, 3))
        told = await live(store)
        await store.write(lambda unit: legacy.note_exit(unit, told, 0))
        ended, _ = await end(store, told, GONE)
        assert ended.exit_code == 3
