"""What is asked of a person at a client in the middle of a call: an answer that was left away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp_types import CallToolRequestParams, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.server.calls import Board, Call, Session

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    Context = ServerRequestContext[Any, Any]

Json = dict[str, Any]
#: The one call whose argument a person types better into a form of its own.
ANSWER_TOOL, ANSWER_KEY = "answer_question", "answer"
_FORM: Json = {
    "type": "object",
    "properties": {ANSWER_KEY: {"type": "string", "title": "Your answer"}},
    "required": [ANSWER_KEY],
}


async def completed(
    board: Board, session: Session, ctx: Context, params: CallToolRequestParams
) -> Json | InputRequiredResult:
    """The arguments of a call, with what the person at the client was asked for.

    Returns:
        The arguments, unchanged where nobody can be asked or nobody answered; or the question, for
        clients that send the call again with the answer.
    """
    arguments = dict(params.arguments or {})
    if params.name != ANSWER_TOOL or ANSWER_KEY in arguments or not _can_ask(ctx):
        return arguments
    question = await _question(board, session, arguments)
    if question is None:
        return arguments
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        given = (params.input_responses or {}).get(ANSWER_KEY)
        if given is None:
            return _asked(question)
        content = _content(getattr(given, "content", None))
    else:
        answer = await ctx.session.elicit_form(question, _FORM, related_request_id=ctx.request_id)
        content = _content(answer.content if answer.action == "accept" else None)
    typed = content.get(ANSWER_KEY)
    return {**arguments, ANSWER_KEY: typed} if isinstance(typed, str) else arguments


def _content(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _can_ask(ctx: Context) -> bool:
    can = ctx.session.client_capabilities
    return can is not None and can.elicitation is not None


def _asked(question: str) -> InputRequiredResult:
    ask = {"message": question, "mode": "form", "requestedSchema": _FORM}
    requests = {ANSWER_KEY: {"method": "elicitation/create", "params": ask}}
    return InputRequiredResult.model_validate(
        {"resultType": "input_required", "inputRequests": requests}
    )


async def _question(board: Board, session: Session, arguments: Json) -> str | None:
    """The open question that is meant; None when it is not there, or not for this caller."""
    try:
        listed = await board.call(Call(session, "list_questions", {}, None))
    except CoordinatorError:
        return None
    wanted = {("id", arguments.get("question_id")), ("task_id", arguments.get("task_id"))}
    for one in listed["questions"]:
        if wanted & {("id", one["id"]), ("task_id", one["task_id"])}:
            options = "".join(f"\n- {option}" for option in one.get("options") or ())
            return f"{one['text']}{options}"
    return None
