"""What may be used: limits that close lanes, and budgets; alike on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.quota import (
    Amount,
    Budgets,
    Confidence,
    Lane,
    Limit,
    Price,
    ProviderTerms,
    Terms,
    WaitTerms,
)
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, RunPhase, Verification
from aiagent_coordinator.store import (
    actions,
    asks,
    claims,
    leases,
    ledger,
    projects,
    questions,
    reports,
    runs,
    tasks,
    terms,
)
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    Action,
    ClaimAnswer,
    ClaimRequest,
    HeldRun,
    LiveFacts,
    RenewAnswer,
    RenewRequest,
    ResultReport,
)
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task, TaskStatus

POLICY = RetryPolicy(backoff_seconds=(0.0,))
NO_JITTER = WaitTerms(jitter=0.0)
PROJECT = Project("demo", "Demo", "/srv/demo")
WORKER = Agent("worker", "Worker", "claude", max_concurrent=9)
OTHER = Agent("other", "Other", "claude", max_concurrent=9)
STRANGER = Agent("stranger", "Stranger", "codex", max_concurrent=9)


@dataclass
class Board:
    """A store with three agents, of whom two share an account."""

    store: Store
    clock: ManualClock

    async def say(self, said: Terms) -> None:
        await self.store.write(lambda unit: terms.declare(unit, said))

    async def add(self, agent_id: str | None = "worker", **more: Any) -> str:
        new = replace(NewTask("demo", "Do it", agent_id), **more)
        task = await self.store.write(lambda unit: tasks.create_task(unit, new, "person"))
        return task.id

    async def claim(self, agent_id: str = "worker", slot: int = 0, **more: Any) -> ClaimAnswer:
        run_id = ids.new_run_id()
        request = ClaimRequest(
            run_id, "crd_one", 1, agent_id, "demo", Purpose.TASK, slot, f"sha-{run_id}"
        )
        request = replace(request, **more)
        return await self.store.write(lambda unit: claims.claim_run(unit, request, 90.0))

    async def live(self) -> list[str]:
        return [run.id for run in await self.store.read(runs.live_runs)]

    async def end(self, run_id: str, reason: str | None = None, **more: Any) -> None:
        outcome = RunOutcome.SUCCEEDED if reason is None else RunOutcome.FAILED
        fence = (await self.store.read(lambda unit: runs.get_run(unit, run_id))).fence
        report = ResultReport(run_id, fence, 2, outcome, Verification.NOT_VERIFIED, reason, **more)
        await self.store.write(lambda unit: reports.record_result(unit, report, POLICY))

    async def tell(self, run_id: str, **live: Any) -> RenewAnswer:
        """A renewal of all live runs, with news of one."""
        held: list[HeldRun] = []
        for one in await self.live():
            fence = (await self.store.read(lambda unit, one=one: runs.get_run(unit, one))).fence
            news = LiveFacts(**live) if one == run_id else None
            held.append(HeldRun(one, fence, RunPhase.RUNNING, live=news))
        request = RenewRequest("crd_one", 1, tuple(held))
        return await self.store.write(lambda unit: leases.renew_runs(unit, request, 90.0))

    async def ran(self, agent_id: str = "worker", reason: str | None = None, **more: Any) -> str:
        """A run of the next task, from its claim to its end."""
        assert (answer := await self.claim(agent_id)).claimed, answer.reason
        (run_id,) = await self.live()
        await self.end(run_id, reason, **more)
        return run_id

    async def task(self, task_id: str) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, task_id))

    async def line(self, agent_id: str = "worker") -> Action:
        answer = await self.store.read(actions.list_actions)
        return next(one for one in answer.actions if one.agent_id == agent_id)

    async def windows(self) -> list[ledger.Window]:
        return await self.store.read(ledger.windows)

    def later(self, **span: float) -> datetime:
        return self.clock.now() + timedelta(**span)


@pytest.fixture
async def board(store_url: str, clock: ManualClock) -> AsyncIterator[Board]:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:

        def work(unit: Unit) -> None:
            projects.declare_project(unit, PROJECT)
            for agent in (WORKER, OTHER, STRANGER):
                projects.declare_agent(unit, agent)
                projects.assign(unit, agent.id, PROJECT.id)

        await store.write(work)
        made = Board(store, clock)
        await made.say(Terms(waits=NO_JITTER))
        yield made


def used(tokens: int, cost: float | None = None) -> dict[str, Any]:
    return {"in": tokens, "out": 0, "cache": 0, "cost": cost}


async def test_a_limit_closes_its_account_for_all_until_it_resets(board: Board) -> None:
    task = await board.add()
    await board.add("other")
    await board.add("stranger")
    at = board.later(hours=2)
    await board.ran(reason="quota", limit=Limit(at, Confidence.STATED, "weekly"))
    after = await board.task(task)
    assert (after.status, after.attempt, after.infra_requeues, after.status_reason) == (
        TaskStatus.QUEUED,
        1,
        0,
        "quota",
    )
    why = f"parked until {at:%Y-%m-%dT%H:%M:%S}Z (claude/default: weekly limit, stated)"
    for agent_id in ("worker", "other"):
        line = await board.line(agent_id)
        assert (line.action, line.reason, line.slots_free) == ("hold", why, 0)
        assert (await board.claim(agent_id)).reason == why
    assert (await board.line("stranger")).action == "start"
    until = await board.store.read(actions.holds_until)
    assert until == at
    board.clock.advance(7199)
    assert (await board.claim()).reason == why
    board.clock.advance(2)
    assert (await board.claim()).claimed


async def test_a_limit_of_a_model_leaves_the_others_of_its_account(board: Board) -> None:
    def give(unit: Unit) -> None:
        projects.declare_agent(unit, replace(WORKER, model="opus"))
        projects.declare_agent(unit, replace(OTHER, model="sonnet"))

    await board.store.write(give)
    await board.add()
    await board.add("other")
    limit = Limit(board.later(hours=1), Confidence.STATED, of_model=True)
    await board.ran(reason="quota", limit=limit)
    assert "claude/default/opus" in (await board.line()).reason
    assert (await board.line("other")).action == "start"


async def test_what_names_no_time_waits_longer_each_time_and_success_begins_anew(
    board: Board,
) -> None:
    await board.add()
    waits: list[float] = []
    for _ in range(6):
        await board.ran(reason="rate_limited")
        (window,) = [one for one in await board.windows() if one.is_closed(board.clock.now())]
        assert window.until is not None
        waits.append((window.until - board.clock.now()).total_seconds())
        board.clock.advance(waits[-1] + 1)
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    await board.ran()
    await board.add()
    await board.ran(reason="rate_limited")
    (window,) = await board.windows()
    assert (window.failures, window.confidence) == (1, Confidence.ASSUMED)


async def test_runs_under_way_that_are_refused_too_say_nothing_new(board: Board) -> None:
    for slot in range(3):
        await board.add()
        await board.claim(slot=slot)
    first, second, third = await board.live()
    await board.end(first, "quota")
    (before,) = await board.windows()
    await board.end(second, "quota")
    assert (await board.windows())[0] == before
    at = board.later(hours=4)
    await board.end(third, "quota", limit=Limit(at, Confidence.STATED))
    assert (await board.windows())[0].until == at


async def test_a_login_is_waited_for_until_somebody_did_something(board: Board) -> None:
    task = await board.add()
    await board.ran(reason="auth")
    assert (await board.line()).reason == "parked: claude/default needs login"
    board.clock.advance(86_400 * 30)
    assert not (await board.claim()).claimed
    assert (await board.task(task)).attempt == 1
    same = Terms(waits=NO_JITTER, providers={"claude": ProviderTerms(digest="a")})
    await board.say(same)
    assert (await board.claim()).claimed
    (run,) = await board.live()
    await board.end(run, "auth")
    await board.say(replace(same, providers={"claude": ProviderTerms(digest="b")}))
    assert (await board.claim()).claimed


async def test_a_person_opens_and_moves_what_is_closed(board: Board) -> None:
    await board.add()
    await board.ran(reason="quota", limit=Limit(board.later(hours=9), Confidence.STATED, "5h"))
    lane, at = Lane("claude"), board.later(days=1)
    await board.store.write(lambda unit: ledger.hold_until(unit, lane, at, actor="person"))
    assert [one.until for one in await board.store.read(ledger.closed)] == [at]

    def clear(unit: Unit) -> int:
        return len(ledger.clear(unit, provider="claude", actor="person"))

    assert await board.store.write(clear) == 1
    assert await board.store.write(clear) == 0
    assert (await board.claim()).claimed


async def test_work_moves_to_the_next_account_only_where_that_is_allowed(board: Board) -> None:
    accounts = ("one", "two")
    await board.say(Terms(waits=NO_JITTER, providers={"claude": ProviderTerms(accounts)}))
    await board.add()
    limit = Limit(board.later(hours=1), Confidence.STATED)
    await board.ran(reason="quota", limit=limit)
    assert "claude/one" in (await board.line()).reason
    moving = ProviderTerms(accounts, switches=True)
    await board.say(Terms(waits=NO_JITTER, providers={"claude": moving}))
    line = await board.line()
    assert (line.action, line.account, line.lanes) == ("start", "two", (Lane("claude", "two"),))
    answer = await board.claim()
    assert answer.agent is not None
    assert answer.agent.account == "two"
    (run,) = await board.live()
    shown = await board.store.read(lambda unit: runs.get_run(unit, run))
    assert (shown.provider, shown.account, shown.model) == ("claude", "two", None)
    await board.end(run, "quota", limit=limit)
    assert (await board.line()).action == "hold"


async def test_a_fallback_is_taken_while_the_own_lane_is_closed_and_no_longer(
    board: Board,
) -> None:
    said = Terms(waits=NO_JITTER, fallbacks={"worker": (("codex", "mini"), ("gemini", None))})
    await board.say(said)
    await board.add()
    limit = Limit(board.later(hours=1), Confidence.STATED)
    await board.ran(reason="quota", limit=limit)
    line = await board.line()
    assert (line.action, line.provider, line.model) == ("start", "codex", "mini")
    assert line.lanes == (Lane("codex", model="mini"), Lane("gemini"))
    assert (await board.line("other")).action == "hold"
    # the coordinator may take another of those offered, and nothing else
    answer = await board.claim(lane=Lane("gemini"))
    assert answer.agent is not None
    assert answer.agent.provider == "gemini"
    (run,) = await board.live()
    await board.end(run, "quota", limit=limit)
    await board.ran(reason="quota", limit=limit)
    assert "parked until" in (await board.line()).reason
    board.clock.advance(3601)
    answer = await board.claim(lane=Lane("nobody"))
    assert answer.agent is not None
    assert (answer.agent.provider, answer.agent.model) == ("claude", None)


async def test_a_running_program_that_tells_of_its_limits_fills_the_ledger(board: Board) -> None:
    for slot in range(2):
        await board.add()
        await board.claim(slot=slot)
    await board.add()
    run, _ = await board.live()
    at = board.later(hours=3)
    told = {"window": "five_hour", "status": "warning", "used": 0.83, "resets_at": at.isoformat()}
    await board.tell(run, limits=(told,))
    (window,) = await board.windows()
    assert (window.period, window.status, window.used) == ("5h", "warning", 0.83)
    assert (await board.claim(slot=2)).claimed
    await board.add()
    await board.tell(run, limits=({**told, "status": "rejected"},))
    answer = await board.claim(slot=3)
    assert answer.reason is not None
    assert "claude/default: 5h limit, stated" in answer.reason
    # an older word of another run does not open it again
    await board.tell(run, limits=({**told, "status": "allowed"}, {}))
    assert not (await board.claim(slot=3)).claimed


async def test_a_long_wait_asks_one_person_once(board: Board) -> None:
    first, second = await board.add(), await board.add()
    await board.claim(slot=0)
    await board.claim(slot=1)
    one, two = await board.live()
    at = board.later(days=3)
    limit = Limit(at, Confidence.STATED, "weekly")
    await board.end(one, "quota", limit=limit)
    await board.end(two, "quota", limit=limit)
    (question,) = await board.store.read(questions.list_open)
    assert question.options == ("wait", "try now", "cancel")
    assert "claude/default is at its limit (weekly limit)" in question.text
    statuses = {(await board.task(task)).status for task in (first, second)}
    assert statuses == {TaskStatus.WAITING, TaskStatus.QUEUED}

    def answer(word: str) -> Callable[[Unit], bool]:
        def work(unit: Unit) -> bool:
            task = tasks.lock_task(unit, question.task_id)
            said = questions.answer(unit, question.id, task, word, actor="person")
            return asks.answered(unit, said, task, actor="person")

        return work

    assert not await board.store.write(answer("try now"))
    assert (await board.task(question.task_id)).status is TaskStatus.QUEUED
    assert (await board.claim()).claimed
    (run,) = await board.live()
    await board.end(run, "quota", limit=limit)
    (question,) = await board.store.read(questions.list_open)
    assert not await board.store.write(answer("wait"))
    # nobody is asked again, and the limit stands
    assert await board.store.read(questions.list_open) == []
    assert not (await board.claim()).claimed
    assert await board.store.read(asks.moot) == []


async def test_a_question_about_a_limit_that_is_over_is_moot(board: Board) -> None:
    await board.add()
    await board.ran(reason="quota", limit=Limit(board.later(days=3), Confidence.STATED))
    assert await board.store.read(asks.moot) == []
    board.clock.advance(3 * 86_400 + 1)
    (question,) = await board.store.read(asks.moot)
    assert question.is_open


# budgets


async def test_a_budget_of_a_day_lets_nothing_start_until_the_next(board: Board) -> None:
    await board.say(Terms(budgets=Budgets(day=(Amount("tokens", 100),))))
    await board.add()
    await board.ran(usage=used(60))
    await board.add()
    await board.ran(usage=used(60))
    await board.add("stranger")
    line = await board.line("stranger")
    assert line.action == "hold"
    assert line.reason.endswith("(budget of a day: 120 tokens of 100 tokens used)")
    assert line.reason.startswith("parked until ")
    assert (await board.claim("stranger")).reason == line.reason
    now = board.clock.now()
    board.clock.advance((now.replace(hour=23, minute=59, second=59) - now).total_seconds() + 1.5)
    assert (await board.claim("stranger")).claimed


async def test_two_runs_that_start_cannot_both_take_the_last_of_a_budget(
    store_url: str, board: Board
) -> None:
    await board.say(Terms(agent_budgets={"worker": Budgets(total=(Amount("usd", 1.0),))}))
    await board.add()
    await board.ran(usage=used(10, 0.4))
    for _ in range(4):
        await board.add()
    answers: list[ClaimAnswer] = []

    async def one(slot: int) -> None:
        answers.append(await board.claim(slot=slot))

    async with anyio.create_task_group() as group:
        for slot in range(4):
            group.start_soon(one, slot)
    refused = {answer.reason for answer in answers if not answer.claimed}
    # the second would need what the first has set aside
    assert sum(answer.claimed for answer in answers) == 1
    assert refused == {"parked (budget of all runs of agent worker: $0.40 of $1.00 used)"}
    (run,) = await board.live()
    await board.end(run, usage=used(1, 0.1))
    assert (await board.claim()).claimed


async def test_reaching_a_budget_in_mid_stream_stops_the_run_after_a_warning(
    board: Board,
) -> None:
    await board.say(
        Terms(project_budgets={"demo": Budgets(run=(Amount("tokens", 1000),), when_reached="stop")})
    )
    task = await board.add()
    await board.claim()
    (run,) = await board.live()
    answer = await board.tell(run, usage=used(799))
    assert answer.runs[0].stop is None
    shown = await board.store.read(lambda unit: runs.get_run(unit, run))
    assert shown.warnings is None
    answer = await board.tell(run, usage=used(800))
    assert answer.runs[0].stop is None
    shown = await board.store.read(lambda unit: runs.get_run(unit, run))
    assert shown.warnings == {
        "budget_run_project_tokens": "budget of a run of project demo: 800 tokens of 1k tokens used"
    }
    answer = await board.tell(run, usage=used(1000))
    assert answer.runs[0].stop is not None
    assert answer.runs[0].stop.reason == "budget"
    await board.end(run, "budget", usage=used(1001))
    after = await board.task(task)
    assert (after.status, after.status_reason, after.attempt) == (TaskStatus.FAILED, "budget", 1)


async def test_a_budget_of_all_stops_everybody_who_runs_under_it(board: Board) -> None:
    await board.say(Terms(budgets=Budgets(day=(Amount("usd", 5.0),))))
    first, second = await board.add(), await board.add("stranger")
    await board.claim()
    await board.claim("stranger")
    run, _ = await board.live()
    answer = await board.tell(run, usage=used(10, 5.5))
    assert [one.stop.reason for one in answer.runs if one.stop] == ["budget", "budget"]
    for one in await board.live():
        await board.end(one, "budget")
    for task in (first, second):
        after = await board.task(task)
        assert (after.status, after.attempt) == (TaskStatus.QUEUED, 1)
    assert "parked until" in (await board.line()).reason


async def test_a_task_whose_budget_is_used_up_asks_and_goes_on_with_as_much_again(
    board: Board,
) -> None:
    task = await board.add(budget={"tokens": 100.0})
    await board.ran(reason="no_report", usage=used(99))
    assert (await board.task(task)).status is TaskStatus.QUEUED
    await board.ran(reason="no_report", usage=used(2))
    assert (await board.task(task)).status is TaskStatus.WAITING
    (question,) = await board.store.read(questions.list_open)
    assert question.text.startswith("budget of a task: 101 tokens of 100 tokens used")

    def answer(unit: Unit) -> bool:
        locked = tasks.lock_task(unit, task)
        said = questions.answer(unit, question.id, locked, "continue", actor="person")
        return asks.answered(unit, said, locked, actor="person")

    assert not await board.store.write(answer)
    after = await board.task(task)
    assert (after.status, after.budget) == (TaskStatus.QUEUED, {"tokens": 201.0})
    answered = await board.claim()
    assert answered.task is not None
    assert answered.task.answers == ()  # it is nothing for the agent
    (run,) = await board.live()
    # success costs as well: what it used counts, and what is done is done
    await board.end(run, usage=used(500))
    assert (await board.task(task)).status is TaskStatus.SUCCEEDED


async def test_a_budget_that_was_lowered_holds_for_what_is_queued(board: Board) -> None:
    task = await board.add()
    await board.ran(reason="no_report", usage=used(50))
    lowered = Budgets(task=(Amount("tokens", 40),), when_reached="stop")
    await board.say(Terms(budgets=lowered))
    assert (await board.claim()).reason == "budget"
    after = await board.task(task)
    assert (after.status, after.status_reason) == (TaskStatus.FAILED, "budget")


async def test_money_that_nobody_told_is_reckoned_by_the_prices_and_marked(board: Board) -> None:
    await board.store.write(
        lambda unit: projects.declare_agent(unit, replace(WORKER, provider="codex", model="big-2"))
    )
    prices = {"big-*": Price(1.0, 10.0, 0.1), "codex/*": Price(99, 99, 99)}
    said = Terms(prices=prices, budgets=Budgets(total=(Amount("usd", 11.0),)))
    await board.say(said)
    await board.add()
    million = 1_000_000
    usage = {"in": million, "out": million, "cache": million, "cost": None}
    run = await board.ran(usage=usage)
    shown = await board.store.read(lambda unit: runs.get_run(unit, run))
    # the longest name that fits: `codex/*`
    assert shown.usage == {**usage, "estimate": 297.0}
    await board.add()
    assert "$297.00 of $11.00 used" in str((await board.claim()).reason)


@pytest.mark.parametrize(
    "limit",
    [
        {"status": "rejected", "resets_at": "soon"},
        {"status": "rejected", "resets_at": "9999-12-31T23:59:59Z"},
        {"status": "rejected", "resets_at": "9999-12-31T23:59:59-14:00"},
        {"status": "rejected", "resets_at": 7},
        {"status": "rejected", "resets_at": {"a": 1}, "window": ["x"]},
        {"status": "rejected", "resets_at": "2001-01-01T00:00:00Z"},
        {"status": {"a": 1}, "resets_at": None, "used": "much"},
        {"window": "w" * 10_000, "used": -1e300},
        {},
    ],
)
async def test_nonsense_that_a_program_prints_of_limits_closes_nothing_and_fails_no_renewal(
    board: Board, limit: dict[str, Any]
) -> None:
    await board.add()
    assert (await board.claim()).claimed
    (run,) = await board.live()
    await board.tell(run, limits=(limit,))
    assert await board.store.read(ledger.closed) == []
    assert await board.live() == [run]
