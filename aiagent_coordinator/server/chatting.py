"""What an agent is told next in a session for its chat: from people, from other agents, from its own tasks."""

from __future__ import annotations

from typing import Final, cast

import anyio

from aiagent_coordinator.chats import Conversation, Delegation
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Context
from aiagent_coordinator.store import (
    chat,
    conversation_ends,
    conversation_reads,
    conversations,
    delegations,
    legacy,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.workflows.chat import ChatState, next_step

#: How long a call waits for something to happen, where its caller says nothing.
WAIT_SECONDS: Final = 45
#: A client that never shook hands asks again after this.
_ASK_AGAIN_SECONDS: Final = 2


async def next_action(context: Context, timeout_seconds: int | None) -> Json:
    """Tell an agent what to do next in its chat; waits a while for something to happen."""
    board, identity = context.board, context.identity
    is_bare = context.call.is_bare
    seconds = timeout_seconds if timeout_seconds is not None else (0 if is_bare else WAIT_SECONDS)
    keys = (chat_key(str(identity.agent_id), str(identity.project_id)), str(identity.run_id))
    in_the_way = await _is_in_the_way(context)

    def look(unit: Unit) -> ChatState:
        run = run_store.get_run(unit, cast("str", identity.run_id))
        return _state_of(unit, run, is_in_the_way=in_the_way)

    bell = board.bells.bell(*keys)
    try:
        # after the bell hangs: what comes from now on rings it
        if next_step(await board.store.read(look)).action == "wait_for_messages" and seconds:
            with anyio.move_on_after(min(seconds, WAIT_SECONDS)):
                await bell.wait()
    finally:
        board.bells.mute(bell, *keys)
    request_id = context.call.request_id
    if board.bells.is_closing and request_id is not None:
        # without an answer the bridge sends this again to the next server
        context.call.session.channel.settle(request_id)
        await anyio.sleep_forever()

    def work(unit: Unit, run: Run) -> Json:
        conversation_ends.expire(unit, run)
        step = next_step(look(unit))
        if step.action == "logout" and run.reported_at is None:
            # a chat that was told to end has ended well
            run_store.record_agent_report(unit, run, "success", None)
        facts = dict(step.facts)
        if step.action == "wait_for_messages":
            facts["wait_seconds"] = 0 if seconds else _ASK_AGAIN_SECONDS
        _take(unit, run, step.action, facts)
        told: Json = {"action": step.action, "state": step.state, "instruction": step.instruction}
        return {"success": True, **told, **facts}

    return await board.as_agent(context, work)


def chat_key(agent_id: str, project_id: str) -> str:
    """What rings when something happened in a chat."""
    return f"chat:{agent_id}/{project_id}"


def _state_of(unit: Unit, run: Run, *, is_in_the_way: bool) -> ChatState:
    asked = conversations.requested(unit, run)
    over = conversation_ends.over_for(unit, run)
    wish = delegations.pending(unit, run)
    talked = conversation_reads.last_said(unit, run)
    said = talked or run.created_at
    was_needed = talked is not None or chat.has_read(unit, run) or delegations.has_taken(unit, run)
    return ChatState(
        chat.unread(unit, run) + conversation_reads.unread(unit, run),
        (unit.now - max(said, chat.last_said(unit, run))).total_seconds(),
        run.stop_reason,
        is_in_the_way,
        None if asked is None else _request(asked),
        None if over is None else _end(over),
        None if wish is None else _wish(wish),
        bool(conversation_reads.open_of(unit, run)),
        tuple(one.id for one in delegations.held(unit, run)),
        was_needed,
    )


def _request(one: Conversation) -> Json:
    return {
        "conversation_id": one.id,
        "initiator_agent_id": one.initiator_agent_id,
        "purpose": one.purpose,
        "current_turns": one.turns,
        "max_turns": one.max_turns,
    }


def _end(one: Conversation) -> Json:
    told: Json = {
        "conversation_id": one.id,
        "ended_by": one.ended_by,
        "reason": one.end_reason,
    }
    return told if one.delegation_id is None else {**told, "delegation_id": one.delegation_id}


def _wish(one: Delegation) -> Json:
    return {
        "delegation_id": one.id,
        "target_agent_id": one.target_agent_id,
        "purpose": one.purpose,
        "context": one.context,
        "task_id": one.task_id,
    }


def _take(unit: Unit, run: Run, action: str, facts: Json) -> None:
    """Keep that the session was told: in the transaction of the answer, so that it counts once."""
    match action:
        case "conversation_request":
            conversations.accept(unit, run, facts["conversation_id"])
        case "conversation_ended":
            conversation_ends.hear(unit, run, facts["conversation_id"])
        case "start_conversation":
            delegations.take(unit, run, facts["delegation_id"])
        case _:
            pass


async def _is_in_the_way(context: Context) -> bool:
    """Whether a task waits for this pair's only process."""
    board, identity = context.board, context.identity
    run = await board.auth.live.get(str(identity.run_id))
    if run is None or not legacy.is_legacy(run) or board.keeps_apart:
        return False
    line = await board.snapshot.of_pair(run.agent_id, run.project_id)
    return line is not None and line["action"] == "start"
