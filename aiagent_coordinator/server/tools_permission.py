"""Whether an agent's program may do something: by the rules of its agent, else by a person's word.

Asked by the program itself, or by the driver in front of it. Silence is no consent.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final

import anyio
import pydantic
from pydantic import Field

from aiagent_coordinator.errors import ConflictError, LimitError, TransitionError
from aiagent_coordinator.permissions import Permissions, Verdict, about, decide, is_consent
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import ANY_PURPOSE, AgentArguments, Context, table, tool
from aiagent_coordinator.server.tools_ask import finish_question, wait_for_answer
from aiagent_coordinator.store import projects, questions
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.tasks import lock_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Question

#: The tool's name.
NAME: Final = "permission_prompt"
#: Of what is shown to a person.
SHOWN_CHARS: Final = 4000
OPTIONS: Final = ("allow", "deny")
#: While another question of the task is open, this one waits its turn, and looks so often.
TURN_SECONDS: Final = 1.0
_NO_RULE: Final = "The rules of this agent do not allow it. Do it another way, or go on without."
_DENIED: Final = "A rule of this agent denies it. Do it another way, or go on without."
_SILENCE: Final = (
    "Nobody has answered, which is a no for now. Commit what you have and exit without a report: the task "
    "goes on when somebody answers."
)


class PermissionPrompt(AgentArguments):
    """Arguments of `permission_prompt`."""

    # what newer programs say beside is their own affair
    model_config = pydantic.ConfigDict(extra="ignore")

    tool_name: Annotated[str, Field(min_length=1, max_length=200)]
    """What is to be used."""
    input: dict[str, Any]
    """What with."""
    tool_use_id: str | None = None


async def permission_prompt(context: Context, arguments: PermissionPrompt) -> Json:
    """Say whether the program may do it."""
    board = context.board
    run_id = str(context.identity.run_id)

    def rules(unit: Unit) -> tuple[Run, Permissions, str]:
        run = run_store.get_run(unit, run_id)
        _, folder = run_store.workspace_of(unit, run_id) or ("", "")
        return run, Permissions.of(projects.get_agent(unit, run.agent_id).permissions), folder

    run, permissions, folder = await board.store.read(rules)
    verdict = decide(permissions, arguments.tool_name, arguments.input, folder)
    if verdict is Verdict.ALLOW:
        return _allow(arguments)
    if verdict is Verdict.DENY or run.task_id is None:
        never = Permissions(asks=True, deny=permissions.deny)
        denied = decide(never, arguments.tool_name, arguments.input, folder)
        return _deny(_DENIED if denied is Verdict.DENY else _NO_RULE)
    return await _by_person(context, arguments, run)


async def _by_person(context: Context, arguments: PermissionPrompt, run: Run) -> Json:
    """Ask a person, and wait as long as a question is held."""
    board = context.board
    text = _question(arguments, board.terms.mask)
    deadline = anyio.current_time() + questions.hold_seconds(run, board.terms.ask)
    while True:
        try:
            asked = await board.begin_as_agent(context, _ask(context, text))
        except ConflictError as error:
            if "question_id" not in error.details:
                return _deny(error.message)
            if anyio.current_time() >= deadline:
                return _deny(_SILENCE)
            await anyio.sleep(TURN_SECONDS)  # another question of the task is open
        except (LimitError, TransitionError) as error:
            return _deny(error.message)
        else:
            await wait_for_answer(context, asked)
            return await finish_question(context, asked, lambda found, _: _told(found, arguments))


def _ask(context: Context, text: str) -> Any:  # noqa: ANN401 - a unit of work
    def work(unit: Unit, run: Run) -> str:
        if run.stop_reason is not None or run.reported_at is not None:
            raise ConflictError("this run is ending: call no more tools and exit", run_id=run.id)
        task = lock_task(unit, str(run.task_id))
        known = questions.answered_late(unit, task.id, text)
        if known is not None:
            return known.id
        new = questions.NewQuestion(text, OPTIONS, kind="permission")
        return questions.ask(unit, run, task, new, context.board.terms.ask).id

    return work


def _told(question: Question, arguments: PermissionPrompt) -> Json:
    if question.answer is None:
        return _deny(_SILENCE)
    if is_consent(question.answer):
        return _allow(arguments)
    said = question.answer.strip()
    return _deny(
        "A person said no." if said.lower() in {"deny", "no", "n"} else f"A person said no: {said}"
    )


def _question(arguments: PermissionPrompt, mask: Any) -> str:  # noqa: ANN401 - text to text
    """What a person reads. The digest keeps two requests apart that look alike once they are cut."""
    whole = json.dumps([arguments.tool_name, arguments.input], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16]
    shown = mask(about(arguments.input))
    if len(shown) > SHOWN_CHARS:
        shown = f"{shown[:SHOWN_CHARS]}\n… and {len(shown) - SHOWN_CHARS} characters more"
    why = arguments.input.get("description")
    more = f"\n\nIt says: {mask(str(why))[:500]}" if isinstance(why, str) and why else ""
    return f"May it use {arguments.tool_name}?\n\n{shown}{more}\n\n(request {digest})"


def _allow(arguments: PermissionPrompt) -> Json:
    return {"behavior": "allow", "updatedInput": arguments.input}


def _deny(message: str) -> Json:
    return {"behavior": "deny", "message": message}


TOOLS = table(
    (
        tool(
            PermissionPrompt,
            permission_prompt,
            "Asked by your program itself when you want to do something that needs leave. Do not call it.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
