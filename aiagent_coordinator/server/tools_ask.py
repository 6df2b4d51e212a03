"""What an agent asks a person, and how long the call waits for the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, cast

import anyio
from pydantic import Field

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ConflictError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json, LongState, Progress
from aiagent_coordinator.server.tools import AgentArguments, Context, read, table, tool
from aiagent_coordinator.store import questions
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.tasks import lock_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Question
from aiagent_coordinator.workflows.words import ON_STDIN, SUSPENDED

#: A question is read by a person, on a screen.
MAX_QUESTION_BYTES = 16 * 1024
MAX_OPTIONS = 20
#: How often who waits is told that it still waits.
PROGRESS_SECONDS = 5.0
#: How often a client that waits by id may ask.
POLL_SECONDS = 2.0
#: The tool that waits.
NAME = "ask_human"

Option = Annotated[str, Field(min_length=1, max_length=1000)]


class AskHuman(AgentArguments):
    """Arguments of `ask_human`."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_BYTES)]
    """The question, with all that a person needs to answer it."""
    options: Annotated[list[Option], Field(max_length=MAX_OPTIONS, default_factory=list)]
    """Answers to choose from; another answer is possible."""


async def begin_question(context: Context, arguments: AskHuman) -> str:
    """Put a question on the board; gives its id, also when the call is sent again."""
    board = context.board
    new = questions.NewQuestion(
        questions.clean_text(arguments.text, "text", MAX_QUESTION_BYTES), tuple(arguments.options)
    )

    def begin(unit: Unit, run: Run) -> str:
        if run.task_id is None:
            raise ConflictError("a run without a task asks nothing")
        if run.stop_reason is not None or run.reported_at is not None:
            raise ConflictError(
                "this run is ending", hint="call no more tools and exit", run_id=run.id
            )
        task = lock_task(unit, run.task_id)
        return questions.ask(unit, run, task, new, board.terms.ask).id

    return await board.begin_as_agent(context, begin)


async def ask_human(context: Context, arguments: AskHuman) -> Json:
    """Ask a person, and wait a while for the answer."""
    board = context.board
    question_id = await begin_question(context, arguments)
    run_id = cast("str", context.identity.run_id)
    if await board.store.read(lambda unit: run_store.get_run(unit, run_id).answers_on_stdin):
        # The answer goes another way: nothing to wait for here, and its program stays.
        return {
            "success": True,
            "question_id": question_id,
            "status": "asked",
            "instruction": ON_STDIN,
        }
    await wait_for_answer(context, question_id, context.call.progress)
    return await finish_question(context, question_id)


async def wait_for_answer(
    context: Context, question_id: str, progress: Progress | None = None
) -> None:
    """Wait until a question of the caller's task is answered or waited for no longer.

    While this server ends it does not come back: the call is sent again to the next one.
    """
    board = context.board
    run_id = str(context.identity.run_id)
    bell = board.bells.bell(question_id, run_id)
    try:
        # After the bell hangs: an answer from now on rings it, an earlier one is read here.
        question = await board.store.read(partial(_asked, context, question_id))
        wait = (question.hold_until - board.clock.now()).total_seconds()
        if question.is_open and question.pending_at is None and wait > 0:
            await _wait(bell, wait, progress)
    finally:
        board.bells.mute(bell, question_id, run_id)
    request_id = context.call.request_id
    if board.bells.is_closing and request_id is not None:
        # Without an answer the bridge sends this again to the next server; nobody waits for us here.
        context.call.session.channel.settle(request_id)
        await anyio.sleep_forever()


async def _wait(bell: anyio.Event, seconds: float, progress: Progress | None) -> None:
    """Wait for something to happen, and say how long it has been."""
    begun = anyio.current_time()
    with anyio.move_on_after(seconds):
        while not bell.is_set():
            if progress is not None:
                waited = round(anyio.current_time() - begun, 1)
                await progress(waited, round(seconds, 1), "waiting for a person to answer")
            with anyio.move_on_after(PROGRESS_SECONDS):
                await bell.wait()


async def finish_question(
    context: Context, question_id: str, tell: Callable[[Question, Run], Json] | None = None
) -> Json:
    """What becomes of a question that is waited for no longer; again it gives the same.

    Args:
        context: Of the call.
        question_id: The question.
        tell: Makes the answer of it; without, that of `ask_human`.
    """

    def finish(unit: Unit, run: Run) -> Json:
        task = lock_task(unit, questions.lock(unit, question_id).task_id)
        found = questions.lock(unit, question_id)
        if run.stop_reason is None:
            found = questions.conclude_wait(unit, found, task, actor=context.identity.actor)
        return (tell or _told)(found, run)

    return await context.board.finish_as_agent(context, finish)


async def begin_long(context: Context, arguments: Mapping[str, Any]) -> str | None:
    """Ask for a client that waits by id; None when there is nothing to wait for."""
    run_id = cast("str", context.identity.run_id)
    read_run = partial(run_store.get_run, run_id=run_id)
    if (await context.board.store.read(read_run)).answers_on_stdin:
        return None
    return await begin_question(context, read(AskHuman, arguments))


def _asked(context: Context, question_id: str, unit: Unit) -> Question:
    """A question of the caller's task, only to be looked at: nothing is locked."""
    known = questions.of_task(unit, str(context.identity.task_id))
    return next(one for one in known if one.id == question_id)


async def look_at_long(context: Context, question_id: str) -> LongState | None:
    """How a question of this run stands; None when it asked none of this id."""
    board = context.board

    def look(unit: Unit) -> tuple[Question, Run] | None:
        run = run_store.get_run(unit, cast("str", context.identity.run_id))
        found = [one for one in questions.of_task(unit, run.task_id or "") if one.id == question_id]
        return (found[0], run) if found and found[0].run_id == run.id else None

    found = await board.store.read(look)
    if found is None:
        return None
    question, run = found
    left = (question.hold_until - board.clock.now()).total_seconds()
    is_waiting = question.is_open and question.pending_at is None and left > 0
    answer = None
    if not is_waiting or run.stop_reason is not None:
        answer = await finish_question(context, question_id)
    changed = max(
        at
        for at in (question.asked_at, question.pending_at, question.answered_at, question.closed_at)
        if at is not None
    )
    return LongState(str(iso(question.asked_at)), str(iso(changed)), answer, POLL_SECONDS)


def _told(question: Question, run: Run) -> Json:
    """What the agent hears of its question."""
    said: Json = {"success": True, "question_id": question.id}
    if run.stop_reason is not None:
        text = f"This run is being stopped ({run.stop_reason}). Call no more tools and exit."
        return {**said, "status": "stopped", "action": "exit", "instruction": text}
    if question.answer is not None:
        text = "Go on with your task, as the answer says."
        return {**said, "status": "answered", "answer": question.answer, "instruction": text}
    if question.closed_at is not None:
        text = "No answer will come. Call no more tools and exit."
        return {**said, "status": "closed", "action": "exit", "instruction": text}
    return {**said, "status": "pending", "action": "exit", "instruction": SUSPENDED}


TOOLS = table(
    (
        tool(
            AskHuman,
            ask_human,
            "Ask a person something that only a person can decide. Waits a while for the answer; "
            "without one, commit and exit as the instruction says.",
            Role.AGENT,
        ),
    )
)
