"""Questions: asked once, answered once, and their task goes on from where it stands."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, LimitError, NotFoundError, ValidationError
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.store import claims, leases, projects, questions, reports, tasks
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    AskedQuestion,
    ClaimedTask,
    ClaimRequest,
    ExitReport,
    HeldRun,
    RenewRequest,
    ResultReport,
)
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import (
    Agent,
    AskPolicy,
    Project,
    Question,
    Task,
    TaskStatus,
)

POLICY = AskPolicy(hold_seconds=45, max_per_task=2, timeout_seconds=1000)


class Desk:
    """One task, one run at a time, and everybody who does something about it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.task_id = ""
        self.run_id = ""
        self.fence = 0

    async def claim(self) -> ClaimedTask | None:
        run_id = ids.new_run_id()
        request = ClaimRequest(
            run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, 0, f"sha-{run_id}"
        )
        answer = await self.store.write(lambda unit: claims.claim_run(unit, request, 90.0))
        if answer.task is not None:
            self.run_id, self.fence = run_id, answer.fence or 0
        return answer.task

    async def task(self) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, self.task_id))

    async def stands(self) -> tuple[str, str | None]:
        task = await self.task()
        return task.status.value, task.wait_reason.value if task.wait_reason else None

    async def ask(self, text: str = "Tabs?", *options: str) -> Question:
        def work(unit: Unit) -> Question:
            run = run_store.get_run(unit, self.run_id)
            task = tasks.lock_task(unit, self.task_id)
            return questions.ask(unit, run, task, questions.NewQuestion(text, options), POLICY)

        return await self.store.write(work)

    async def give_up_waiting(self, question: Question) -> Question:
        def work(unit: Unit) -> Question:
            task = tasks.lock_task(unit, self.task_id)
            now = questions.lock(unit, question.id)
            return questions.conclude_wait(unit, now, task, actor="agent:writer")

        return await self.store.write(work)

    async def answer(self, text: str = "Spaces.") -> Question:
        def work(unit: Unit) -> Question:
            task = tasks.lock_task(unit, self.task_id)
            question = questions.wanted_of(unit, task)
            return questions.answer(unit, question.id, task, text, actor="person")

        return await self.store.write(work)

    async def exit(self) -> AskedQuestion | None:
        report = ExitReport(self.run_id, self.fence, 1, ended_at=self.clock.now(), exit_code=0)
        answer = await self.store.write(lambda unit: reports.record_exit(unit, report))
        return answer.question

    async def end(self, outcome: RunOutcome = RunOutcome.SUSPENDED) -> None:
        result = ResultReport(self.run_id, self.fence, 2, outcome, Verification.NOT_VERIFIED)
        await self.store.write(lambda unit: reports.record_result(unit, result, RetryPolicy()))


@pytest.fixture
async def desk(store_url: str, clock: ManualClock) -> AsyncGenerator[Desk]:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:

        def begin(unit: Unit) -> Task:
            projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
            projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal"))
            projects.assign(unit, "writer", "demo")
            return tasks.create_task(unit, NewTask("demo", "Indent it", "writer"), "person")

        made = Desk(store, clock)
        made.task_id = (await store.write(begin)).id
        assert await made.claim() is not None
        yield made


async def test_an_answer_in_time_lets_the_run_go_on(desk: Desk) -> None:
    question = await desk.ask("Tabs or spaces?", "tabs", "spaces")
    assert await desk.stands() == ("waiting", "input")
    assert (await desk.task()).status_reason == "asked"
    assert (question.options, question.asked_by) == (("tabs", "spaces"), "agent:writer")
    answered = await desk.answer("spaces")
    assert (answered.answer, answered.answered_by) == ("spaces", "person")
    assert await desk.stands() == ("running", None)
    assert (await desk.task()).attempt == 1


async def test_without_an_answer_the_run_ends_and_the_answer_queues_the_task(desk: Desk) -> None:
    question = await desk.ask()
    pending = await desk.give_up_waiting(question)
    assert pending.pending_at == desk.clock.now()
    await desk.exit()
    await desk.end()
    assert await desk.stands() == ("waiting", "input")
    assert await desk.claim() is None
    await desk.answer()
    assert await desk.stands() == ("queued", None)
    again = await desk.claim()
    assert again is not None
    assert again.attempt == 1, "waiting for a person spends no attempt"
    [said] = again.answers
    assert (said.question, said.answer, said.answered_by) == ("Tabs?", "Spaces.", "person")


async def test_an_answer_between_the_exit_and_the_result_waits_for_the_run_to_be_over(
    desk: Desk,
) -> None:
    await desk.give_up_waiting(await desk.ask())
    await desk.answer()
    assert await desk.stands() == ("waiting", "input"), "its run may still write"
    await desk.exit()
    assert await desk.stands() == ("waiting", "input")
    await desk.end()
    assert await desk.stands() == ("queued", None)


@pytest.mark.parametrize("outcome", [RunOutcome.FAILED, RunOutcome.LOST, RunOutcome.STOPPED])
async def test_a_run_that_dies_while_it_asks_spends_no_attempt(
    desk: Desk, outcome: RunOutcome
) -> None:
    await desk.ask()
    await desk.end(outcome)
    assert await desk.stands() == ("waiting", "input")
    await desk.answer()
    task = await desk.task()
    assert (task.status, task.attempt, task.infra_requeues) == (TaskStatus.QUEUED, 1, 0)


async def test_a_second_answer_is_refused_with_who_gave_the_first(desk: Desk) -> None:
    await desk.ask()
    await desk.answer("yes")
    with pytest.raises(ConflictError, match="answered by person"):
        await desk.answer("no")
    [kept] = await desk.store.read(lambda unit: questions.of_task(unit, desk.task_id))
    assert kept.answer == "yes"


async def test_an_answer_to_a_cancelled_task_is_refused(desk: Desk) -> None:
    await desk.ask()
    await desk.store.write(lambda unit: tasks.cancel_task(unit, desk.task_id, actor="person"))
    with pytest.raises(ConflictError, match="cancelled"):
        await desk.answer()
    assert await desk.stands() == ("cancelled", None)


async def test_a_task_that_asked_nothing_has_nothing_to_answer(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="asked nothing"):
        await desk.answer()


@pytest.mark.parametrize("text", ["", "  \n", "x" * (64 * 1024 + 1), "\0"])
async def test_an_answer_that_says_nothing_or_too_much_is_refused(desk: Desk, text: str) -> None:
    await desk.ask()
    with pytest.raises(ValidationError):
        await desk.answer(text)
    assert await desk.stands() == ("waiting", "input")


async def test_asking_the_same_again_is_the_same_question_and_another_is_refused(
    desk: Desk,
) -> None:
    first = await desk.ask("Tabs?")
    assert (await desk.ask("Tabs?")).id == first.id
    with pytest.raises(ConflictError, match="still open"):
        await desk.ask("Semicolons?")


async def test_a_task_may_ask_only_so_often(desk: Desk) -> None:
    for number in range(POLICY.max_per_task):
        await desk.ask(f"Question {number}?")
        await desk.answer()
    with pytest.raises(LimitError, match="ASK_LIMIT"):
        await desk.ask("One more?")
    assert await desk.stands() == ("running", None)


async def test_nobody_answers_for_long_and_the_task_fails(desk: Desk) -> None:
    question = await desk.ask()
    await desk.give_up_waiting(question)
    await desk.end()
    desk.clock.advance(POLICY.timeout_seconds - 1)
    assert await desk.store.read(questions.expired) == []
    desk.clock.advance(1)
    [late] = await desk.store.read(questions.expired)

    def expire(unit: Unit) -> None:
        questions.expire(unit, late, tasks.lock_task(unit, desk.task_id))

    await desk.store.write(expire)
    task = await desk.task()
    assert (task.status, task.status_reason) == (TaskStatus.FAILED, "question_timeout")
    with pytest.raises(ConflictError, match="timeout"):
        await desk.answer()


async def test_a_coordinator_hears_of_the_question_in_renewals_and_at_the_exit(desk: Desk) -> None:
    async def renewed() -> AskedQuestion | None:
        held = (HeldRun(desk.run_id, desk.fence, run_store.COUNTED[1]),)
        request = RenewRequest("crd_one", 1, held)
        answer = await desk.store.write(lambda unit: leases.renew_runs(unit, request, 90.0))
        return answer.runs[0].question

    assert await renewed() is None
    question = await desk.ask()
    asked = await renewed()
    assert asked is not None
    assert (asked.id, asked.answered, asked.pending) == (question.id, False, False)
    await desk.give_up_waiting(question)
    told = await desk.exit()
    assert told is not None
    assert (told.pending, told.answered) == (True, False)


async def test_a_report_of_an_agent_that_asked_withdraws_its_question(desk: Desk) -> None:
    await desk.give_up_waiting(await desk.ask())

    def report(unit: Unit) -> None:
        run = run_store.get_run(unit, desk.run_id)
        task = tasks.lock_task(unit, desk.task_id)
        questions.withdraw(unit, task, run, actor="agent:writer")

    await desk.store.write(report)
    assert await desk.stands() == ("running", None)
    await desk.end(RunOutcome.SUCCEEDED)
    assert (await desk.task()).status is TaskStatus.SUCCEEDED
