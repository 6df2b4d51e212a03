"""Reports of runs and of agents: each counts once, and the task goes where the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import (
    ConflictError,
    NotFoundError,
    StaleRunError,
    ValidationError,
)
from aiagent_coordinator.runs import (
    Purpose,
    RetryPolicy,
    Run,
    RunOutcome,
    RunPhase,
    ShimIdentity,
    Verification,
)
from aiagent_coordinator.store import (
    claims,
    effects,
    events,
    leases,
    projects,
    reports,
    runs,
    tables,
    tasks,
    usage,
)
from aiagent_coordinator.store.effects import CallKey, Effect
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    CheckResult,
    ClaimRequest,
    ExitReport,
    HeldRun,
    LogFacts,
    RenewRequest,
    ResultAnswer,
    ResultReport,
    StartedAnswer,
    StartedReport,
    from_wire,
    to_wire,
)
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task, TaskStatus, WaitReason

POLICY = RetryPolicy(max_attempts=3, backoff_seconds=(30.0, 120.0))
RUN_ID = "run_first"
STARTED = StartedReport(
    RUN_ID,
    1,
    0,
    host_id="here",
    shim=ShimIdentity(77, 123456, "boot"),
    workspace="/srv/work",
    log_path="/srv/log",
    argv_masked=("cli", "***"),
    branch="topic",
    base_commit="abc",
)
RESULT = ResultReport(RUN_ID, 1, 2, RunOutcome.SUCCEEDED, Verification.VERIFIED)


@dataclass(frozen=True)
class Board:
    """A store with one task that one run has."""

    store: Store
    task: Task

    async def now(self) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, self.task.id))

    async def run(self) -> Run:
        return await self.store.read(lambda unit: runs.get_run(unit, RUN_ID))

    async def say(self, result: str) -> Run:
        run = await self.run()
        return await self.store.write(
            lambda unit: runs.record_agent_report(unit, run, result, "my words")
        )

    async def result(self, report: ResultReport) -> ResultAnswer:
        return await self.store.write(lambda unit: reports.record_result(unit, report, POLICY))

    async def claim_again(self, run_id: str) -> None:
        await self.store.write(claiming(run_id))

    async def actions(self) -> list[str]:
        happened = await self.store.read(lambda unit: events.list_events(unit, limit=1000))
        return [event.action for event in happened]


def claiming(run_id: str) -> Callable[[Unit], object]:
    request = ClaimRequest(run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, 0, f"sha-{run_id}")
    return lambda unit: claims.claim_run(unit, request, 90.0)


async def started_board(store: Store, max_attempts: int = 3) -> Board:
    def work(unit: Unit) -> Task:
        projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
        projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal"))
        projects.assign(unit, "writer", "demo")
        new = NewTask("demo", "Do it", "writer", max_attempts=max_attempts)
        return tasks.create_task(unit, new, "person")

    task = await store.write(work)
    await store.write(claiming(RUN_ID))
    return Board(store, task)


def test_what_goes_over_the_wire_comes_back_as_it_was() -> None:
    report = replace(
        RESULT,
        checks=(CheckResult(("pytest", "-q"), 1, 2.5),),
        diagnosis={"text": "broken", "class": "transient"},
        log=LogFacts("/log", 10, 20),
    )
    wire = to_wire(report)
    assert wire["checks"] == [{"argv": ["pytest", "-q"], "exit_code": 1, "seconds": 2.5}]
    assert "reason" not in wire
    assert from_wire(ResultReport, wire) == report


@pytest.mark.parametrize("change", [{"outcome": "nonsense"}, {"fence": "x"}, {"run_id": None}])
def test_a_wrong_field_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        from_wire(ResultReport, to_wire(RESULT) | change)


async def test_the_story_of_a_success(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        answer = await store.write(lambda unit: reports.record_started(unit, STARTED))
        assert answer == StartedAnswer(ok=True)
        run = await board.run()
        assert (run.phase, run.shim, run.branch) == (RunPhase.RUNNING, STARTED.shim, "topic")
        await store.write(lambda unit: runs.mark_hello(unit, RUN_ID))
        await store.write(lambda unit: runs.mark_authenticated(unit, RUN_ID))
        await board.say("success")
        assert (await board.now()).status is TaskStatus.RUNNING
        clock.advance(5)
        exited = ExitReport(RUN_ID, 1, 1, ended_at=clock.now(), exit_code=0, cpu_seconds=0.5)
        told = await store.write(lambda unit: reports.record_exit(unit, exited))
        assert told.report is not None
        assert (told.report.result, told.report.summary) == ("success", "my words")
        assert told.hello_at is not None
        assert (await board.run()).phase is RunPhase.FINISHING
        answer = await board.result(
            replace(RESULT, sealed_commit="def", handoff="next time", log=LogFacts("/log", 1, 2))
        )
        assert answer == ResultAnswer(TaskStatus.SUCCEEDED, attempt=1)
        run, task = await board.run(), await board.now()
        assert (run.phase, run.outcome, run.reason) == ("ended", "succeeded", None)
        assert (run.commit, run.exit_code, run.ended_at) == ("def", 0, exited.ended_at)
        assert (task.status, task.progress, task.handoff) == ("succeeded", 100, "next time")
        assert task.result["summary"] == "my words"
        assert task.ended_at == clock.now()
        assert await store.read(lambda unit: runs.run_by_token_hash(unit, "sha-run_first")) is None
        hashes = select(tables.run.c.token_sha256)
        assert await store.read(lambda unit: unit.conn.scalars(hashes).all()) == [None]
        told_of = [action for action in await board.actions() if action.startswith(("run", "ses"))]
        assert told_of == [
            "run.claimed",
            "run.started",
            "run.hello",
            "run.authenticated",
            "run.reported",
            "run.exited",
            "run.ended",
            "session.ended",
        ]


async def test_what_a_run_used_left_behind_and_was_warned_of_is_kept_and_told_once(
    store_url: str, clock: ManualClock
) -> None:
    exited = ExitReport(
        RUN_ID,
        1,
        1,
        ended_at=clock.now(),
        exit_code=0,
        cpu_seconds=1.5,
        peak_rss=4096,
        leftovers=("server --port 1",),
        leftovers_ended=False,
        warnings={"silence": "silent for 900 s", "memory": "its processes use 9 MiB of memory"},
    )
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        line = HeldRun(RUN_ID, 1, RunPhase.RUNNING, warnings={"silence": "silent for 900 s"})
        for _ in range(2):
            await store.write(
                lambda unit: leases.renew_runs(unit, RenewRequest("crd_one", 1, (line,)), 90)
            )
        assert (await board.run()).warnings == line.warnings
        assert (await board.actions()).count("run.warning") == 1
        await store.write(lambda unit: reports.record_exit(unit, exited))
        run, actions = await board.run(), await board.actions()
        assert (run.cpu_seconds, run.peak_rss) == (1.5, 4096)
        assert (run.leftovers, run.leftovers_ended) == (("server --port 1",), False)
        assert run.warnings == exited.warnings
        assert (actions.count("run.warning"), actions.count("run.leftovers")) == (2, 1)


async def test_a_repeated_report_gets_the_stored_answer_and_changes_nothing(
    store_url: str, clock: ManualClock
) -> None:
    exited = ExitReport(RUN_ID, 1, 1, ended_at=clock.now(), exit_code=3)
    failed = replace(RESULT, outcome=RunOutcome.FAILED, reason="no_report")
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        works: list[Callable[[Unit], object]] = [
            lambda unit: reports.record_started(unit, STARTED),
            lambda unit: reports.record_exit(unit, exited),
            lambda unit: reports.record_result(unit, failed, POLICY),
        ]
        first = [await store.write(work) for work in works]
        await store.write(lambda unit: tasks.cancel_task(unit, board.task.id, actor="person"))
        before = await store.read(events.last_seq), await board.run(), await board.now()
        clock.advance(100)
        assert [await store.write(work) for work in works] == first
        assert (await store.read(events.last_seq), await board.run(), await board.now()) == before


async def test_a_report_with_an_old_fence_is_refused_and_the_refusal_is_told(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        before = await board.run(), await board.now()
        with pytest.raises(StaleRunError):
            await board.result(replace(RESULT, fence=0))
        with pytest.raises(StaleRunError):
            await store.write(lambda unit: reports.record_started(unit, replace(STARTED, fence=2)))
        assert (await board.run(), await board.now()) == before
        assert (await board.actions()).count("run.superseded") == 2
        await board.result(RESULT)
        late = ExitReport(RUN_ID, 1, 1, ended_at=clock.now())
        with pytest.raises(StaleRunError):
            await store.write(lambda unit: reports.record_exit(unit, late))


async def test_a_report_of_an_unknown_run_or_with_a_wrong_number_is_refused(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        with pytest.raises(NotFoundError):
            await board.result(replace(RESULT, run_id="run_nobody"))
        with pytest.raises(ValidationError):
            await board.result(replace(RESULT, seq=1))
        with pytest.raises(ValidationError):
            await board.result(replace(RESULT, outcome=RunOutcome.FAILED, reason="bad_luck"))
        assert (await board.run()).phase is RunPhase.STARTING


@pytest.mark.parametrize(
    ("outcome", "reason", "transition", "then", "named"),
    [
        ("failed", "exit_nonzero", "T14", ("queued", 2, 0, 30), "exit_nonzero"),
        ("failed", None, "T14", ("queued", 2, 0, 30), "no_report"),
        ("verify_failed", None, "T14", ("queued", 2, 0, 30), "verify_failed"),
        ("failed", "bad_flags", "T15", ("queued", 1, 0, None), "bad_flags"),
        ("failed", "quota", "T15", ("queued", 1, 0, None), "quota"),
        ("failed", "disk", "T15", ("queued", 1, 1, None), "disk"),
        ("stopped", "drained", "T15", ("queued", 1, 0, None), "drained"),
        ("lost", None, "T20", ("queued", 1, 1, None), "lost"),
        ("not_started", None, "T15", ("queued", 1, 1, None), "spawn_failed"),
        ("not_started", "tools_absent", "T15", ("queued", 1, 1, None), "tools_absent"),
        ("not_started", "workspace_invalid", "T16", ("failed", 1, 0, None), "workspace_invalid"),
        ("not_started", "options_invalid", "T16", ("failed", 1, 0, None), "options_invalid"),
        ("cancelled", None, "T17", ("cancelled", 1, 0, None), "cancelled"),
    ],
)
async def test_a_result_moves_the_task_as_its_reason_says(  # noqa: PLR0917 - a table
    store_url: str,
    clock: ManualClock,
    outcome: str,
    reason: str | None,
    transition: str,
    then: tuple[str, int, int, float | None],
    named: str,
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        answer = await board.result(replace(RESULT, outcome=RunOutcome(outcome), reason=reason))
        task = await board.now()
        waits = (task.not_before - clock.now()).total_seconds() if task.not_before else None
        assert (task.status, task.attempt, task.infra_requeues, waits) == then
        assert (answer.task_status, answer.not_before) == (task.status, task.not_before)
        assert (await board.run()).reason == named
        which = events.EventFilter(task_id=task.id)
        happened = await store.read(lambda unit: events.list_events(unit, which))
        assert happened[-1].data["transition"] == transition


async def test_attempts_end_and_only_spent_ones_count(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store, max_attempts=2)
        await board.result(replace(RESULT, outcome=RunOutcome.FAILED, reason="network"))
        await board.claim_again("run_2")
        await board.result(replace(RESULT, run_id="run_2", fence=2, outcome=RunOutcome.FAILED))
        clock.advance(30)
        await board.claim_again("run_3")
        await board.result(replace(RESULT, run_id="run_3", fence=3, outcome=RunOutcome.FAILED))
        task = await board.now()
        assert (task.status, task.status_reason) == ("failed", "attempts_exhausted")
        ended = {run.fence: run.attempt for run in await store.read(runs.list_runs)}
        assert ended == {1: 1, 2: 1, 3: 2}


async def test_infrastructure_failures_are_forgiven_five_times(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        for number in range(1, 7):
            run_id = RUN_ID if number == 1 else f"run_{number}"
            if number > 1:
                await board.claim_again(run_id)
            failed = replace(RESULT, run_id=run_id, fence=number, outcome=RunOutcome.LOST)
            answer = await board.result(failed)
            clock.advance(1000)
            assert answer.task_status == ("failed" if number == 6 else "queued")
        assert (await board.now()).attempt == 1


async def test_what_the_agent_says_decides_over_what_its_process_did(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await board.say("failed")
        await board.result(replace(RESULT, outcome=RunOutcome.FAILED))
        assert (await board.run()).reason == "agent_reported"
        assert (await board.now()).attempt == 2


async def test_a_blocked_task_waits_whatever_the_run_s_end(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await board.say("blocked")
        answer = await board.result(replace(RESULT, outcome=RunOutcome.FAILED))
        assert (answer.task_status, answer.wait_reason) == ("waiting", WaitReason.BLOCKED)
        assert (await board.now()).attempt == 1


async def test_a_cancelled_task_is_not_brought_back_by_its_run(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await store.write(lambda unit: tasks.cancel_task(unit, board.task.id, actor="person"))
        assert (await board.run()).stop_reason == "cancelled"
        assert (await board.run()).phase is RunPhase.STARTING
        answer = await board.result(RESULT)
        assert answer.task_status is TaskStatus.CANCELLED
        assert (await board.now()).status is TaskStatus.CANCELLED
        assert (await board.run()).phase is RunPhase.ENDED


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(None, ("cancelled", "cancelled")), ("exit_nonzero", ("failed", "exit_nonzero"))],
)
async def test_who_leaves_because_its_task_is_cancelled_did_not_fail(
    store_url: str, clock: ManualClock, reason: str | None, expected: tuple[str, str]
) -> None:
    """It hears so with its next call, which may be before its coordinator stops it."""
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await store.write(lambda unit: tasks.cancel_task(unit, board.task.id, actor="person"))
        await board.result(replace(RESULT, outcome=RunOutcome.FAILED, reason=reason))
        run = await board.run()
        assert (run.outcome, run.reason) == expected


async def test_an_agent_reports_once(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        with pytest.raises(ValidationError):
            await board.say("perhaps")
        run = await board.say("success")
        before = await store.read(events.last_seq)
        assert await board.say("success") == run
        assert await store.read(events.last_seq) == before
        with pytest.raises(ConflictError):
            await board.say("failed")
        await board.result(RESULT)
        with pytest.raises(StaleRunError):
            await board.say("success")


async def test_progress_of_a_run_that_is_over_is_refused(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)

        async def tell(progress: int, run_id: str) -> None:
            task = await board.now()
            await store.write(
                lambda unit: tasks.set_progress(unit, task, progress, actor="x", run_id=run_id)
            )

        await tell(10, RUN_ID)
        await board.result(replace(RESULT, outcome=RunOutcome.LOST))
        await board.claim_again("run_second")
        with pytest.raises(StaleRunError):
            await tell(90, RUN_ID)
        await tell(20, "run_second")
        assert (await board.now()).progress == 20


async def test_hello_authentication_and_stop_are_told_once(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        first = clock.now()
        for _ in range(2):
            await store.write(lambda unit: runs.mark_hello(unit, RUN_ID))
            await store.write(lambda unit: runs.mark_authenticated(unit, RUN_ID))
            await store.write(lambda unit: runs.request_stop(unit, RUN_ID, "why", actor="person"))
            await store.write(lambda unit: runs.request_stop(unit, RUN_ID, "more", actor="person"))
            clock.advance(1)
        run = await board.run()
        assert (run.hello_at, run.authenticated_at, run.stop_reason) == (first, first, "why")
        happened = await board.actions()
        for action in ("run.hello", "run.authenticated", "run.stop_requested"):
            assert happened.count(action) == 1
        await board.result(RESULT)
        with pytest.raises(ConflictError):
            await store.write(lambda unit: runs.request_stop(unit, RUN_ID, "why", actor="person"))


async def test_the_effect_of_a_call_is_found_by_exactly_that_call(
    store_url: str, clock: ManualClock
) -> None:
    key = CallKey(RUN_ID, "nonce", 7)
    done = Effect("answer", answer={"ok": True})
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await started_board(store)
        await store.write(lambda unit: effects.save_effect(unit, key, "digest", done))
        for wanted, digest, found in [
            (key, "digest", done),
            (key, "other", None),
            (replace(key, request_id="7"), "digest", None),
            (replace(key, nonce="other"), "digest", None),
            (replace(key, run_id="run_other"), "digest", None),
        ]:
            assert (
                await store.read(
                    lambda unit, wanted=wanted, digest=digest: effects.find_effect(
                        unit, wanted, digest
                    )
                )
                == found
            )
        waits = Effect("question", id="qst_1")
        await store.write(lambda unit: effects.save_effect(unit, key, "new", waits))
        assert await store.read(lambda unit: effects.find_effect(unit, key, "new")) == waits
        assert await store.read(lambda unit: effects.find_effect(unit, key, "digest")) is None


async def test_failures_of_the_machine_have_waits_and_a_cap_of_their_own(
    store_url: str, clock: ManualClock
) -> None:
    policy = RetryPolicy(3, (1000.0,), infra_requeues=3, infra_backoff_seconds=(5.0, 7.0))
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        seen: list[tuple[str, int, int, float | None]] = []
        for fence, reason in enumerate(("network", "overloaded", "spawn_failed", "disk"), start=1):
            run_id = RUN_ID if fence == 1 else f"run_{fence}"
            if fence > 1:
                await board.claim_again(run_id)
            report = replace(
                RESULT, run_id=run_id, fence=fence, outcome=RunOutcome.FAILED, reason=reason
            )
            await store.write(
                lambda unit, report=report: reports.record_result(unit, report, policy)
            )
            task = await board.now()
            wait = (task.not_before - clock.now()).total_seconds() if task.not_before else None
            seen.append((task.status.value, task.attempt, task.infra_requeues, wait))
            clock.advance(wait or 0)
        assert seen == [
            ("queued", 1, 1, None),
            ("queued", 1, 2, 5.0),
            ("queued", 1, 3, 7.0),
            ("failed", 1, 4, None),
        ]
        assert (await board.now()).status_reason == "attempts_exhausted"
        again = await store.write(
            lambda unit: tasks.retry_task(unit, board.task.id, actor="person")
        )
        assert (again.status, again.infra_requeues) == (TaskStatus.QUEUED, 0)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, {"rehearsal/default": (100, 0.5)}),
        ({"model": "wise-1"}, {"rehearsal/wise-1": (100, 0.5)}),
        # of one model the whole is said
        ({"models": {"wise-1": {"in": 7, "cost": 0.1}}}, {"rehearsal/wise-1": (100, 0.5)}),
        (
            {"models": {"wise-1": {"in": 90, "cost": 0.4}, "quick-1": {"in": 10, "cost": 0.1}}},
            {"rehearsal/quick-1": (10, 0.1), "rehearsal/wise-1": (90, 0.4)},
        ),
    ],
)
async def test_what_a_run_used_is_counted_by_the_models_that_its_program_named(
    told: dict[str, Any],
    found: dict[str, tuple[int, float]],
    store_url: str,
    clock: ManualClock,
) -> None:
    used = {"in": 100, "out": 10, "cache": 5, "cost": 0.5, **told}
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await store.write(lambda unit: reports.record_started(unit, STARTED))
        await board.result(replace(RESULT, outcome=RunOutcome.FAILED, reason="signal", usage=used))
        sums = await store.read(lambda unit: usage.total(unit, "model"))
        assert {one.key: (one.fresh, one.cost) for one in sums} == found
        assert {one.runs for one in sums} == {1}


async def test_what_runs_used_adds_up_by_whatever_is_asked(
    store_url: str, clock: ManualClock
) -> None:
    used = {"in": 100, "out": 10, "cache": 5, "cost": 0.5}
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        board = await started_board(store)
        await store.write(lambda unit: reports.record_started(unit, STARTED))
        await board.result(replace(RESULT, outcome=RunOutcome.FAILED, reason="signal", usage=used))
        clock.advance(86_400 * 2)
        await board.claim_again("run_second")
        second = replace(STARTED, run_id="run_second", fence=2)
        await store.write(lambda unit: reports.record_started(unit, second))
        await board.result(replace(RESULT, run_id="run_second", fence=2))

        for by, keys in (
            ("agent", ["writer"]),
            ("project", ["demo"]),
            ("provider", ["rehearsal"]),
            ("task", [board.task.id]),
        ):
            (one,) = await store.read(lambda unit, by=by: usage.total(unit, by))
            assert [one.key] == keys
            assert (one.runs, one.silent) == (2, 1)
            assert (one.fresh, one.out, one.cache, one.cost) == (100, 10, 5, 0.5)
        (asked,) = await store.read(lambda unit: usage.total(unit, "model"))
        assert (asked.key, asked.runs, asked.silent) == ("rehearsal/default", 2, 1)
        days = await store.read(lambda unit: usage.total(unit, "day"))
        assert [(one.runs, one.cost) for one in days] == [(1, 0.5), (1, None)]
        assert days[0].key < days[1].key
        late = await store.read(lambda unit: usage.total(unit, "agent", days_ago(unit, 1)))
        assert [(one.runs, one.silent) for one in late] == [(1, 1)]
        assert await store.read(lambda unit: usage.total(unit, "agent", None, "other")) == []


def days_ago(unit: Unit, days: int) -> datetime:
    return unit.now - timedelta(days=days)
