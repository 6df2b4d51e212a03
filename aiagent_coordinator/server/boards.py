"""The board as callers meet it: who may call what, and every call's way to the store and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import cast

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import (
    ForbiddenError,
    UnauthorizedError,
    ValidationError,
)
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run
from aiagent_coordinator.server import (
    tools_agent,
    tools_ask,
    tools_audits,
    tools_board,
    tools_chat,
    tools_coordinator,
    tools_delegation,
    tools_execution,
    tools_handoff,
    tools_handoff_look,
    tools_legacy,
    tools_look,
    tools_manager,
    tools_next,
    tools_notice,
    tools_orders,
    tools_permission,
    tools_person,
    tools_quota,
    tools_report,
    tools_review,
    tools_self,
    tools_skill,
    tools_steps,
    tools_talk,
    tools_tell,
    tools_templates,
    tools_usage,
)
from aiagent_coordinator.server.asking import Bells
from aiagent_coordinator.server.auth import (
    Authenticator,
    Caller,
    Identity,
    Role,
    has_agent,
)
from aiagent_coordinator.server.calls import (
    Call,
    Json,
    LongState,
    Session,
    ToolInfo,
    UnknownToolError,
)
from aiagent_coordinator.server.library import Kind, Library, Readable, Text
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.server.notices import Notices
from aiagent_coordinator.server.prompts import PromptInfo, fill, prompts_for
from aiagent_coordinator.server.snapshot import Snapshot
from aiagent_coordinator.server.tools import Context, Tool
from aiagent_coordinator.store import effects, legacy
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store
from aiagent_coordinator.store.leases import LeaseTerms
from aiagent_coordinator.store.requests import ListActions
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import AskPolicy, Duty, SubtaskPolicy
from aiagent_coordinator.wire.protocol import ACTIONS_URI, runs_uri
from aiagent_coordinator.workflows.finding import Finder
from aiagent_coordinator.workflows.library import AUDITS, TEMPLATES
from aiagent_coordinator.workflows.library import Library as Workflows
from aiagent_coordinator.workflows.roles import may_call

#: What agents may call. Some names mean something else to persons.
AGENT_TOOLS: dict[str, Tool] = {
    **tools_agent.TOOLS,
    **tools_report.TOOLS,
    **tools_ask.TOOLS,
    **tools_permission.TOOLS,
    **tools_steps.TOOLS,
    **tools_self.TOOLS,
    **tools_next.TOOLS,
    **tools_manager.TOOLS,
    **tools_review.TOOLS,
    **tools_look.TOOLS,
    **tools_execution.TOOLS,
    **tools_notice.TOOLS,
    **tools_chat.TOOLS,
    **tools_talk.TOOLS,
    **tools_delegation.TOOLS,
    **tools_orders.TOOLS,
    **tools_handoff.TOOLS,
    **tools_skill.TOOLS,
}
#: Every tool there is. What is not here cannot be called, and who is not in its roles may not.
TOOLS: dict[str, Tool] = {
    **AGENT_TOOLS,
    **tools_coordinator.TOOLS,
    **tools_legacy.TOOLS,
    **tools_person.TOOLS,
    **tools_board.TOOLS,
    **tools_usage.TOOLS,
    **tools_quota.TOOLS,
    **tools_review.PERSON_TOOLS,
    **tools_chat.PERSON_TOOLS,
    **tools_talk.PERSON_TOOLS,
    **tools_tell.TOOLS,
    **tools_handoff_look.TOOLS,
    **tools_skill.OTHER_TOOLS,
    **tools_templates.TOOLS,
    **tools_audits.TOOLS,
}


def tools_of(identity: Identity) -> dict[str, Tool]:
    """The row of the permission table of one caller: everything that it may call, by name."""
    return _tools_of(identity.role, identity.purpose, identity.duty)


@cache
def _tools_of(role: Role, purpose: Purpose | None, duty: Duty | None) -> dict[str, Tool]:
    known = AGENT_TOOLS if role is Role.AGENT else TOOLS
    identity = Identity(role, purpose=purpose, duty=duty)
    return {
        name: tool
        for name, tool in known.items()
        if tool.is_for(identity)
        and (role is not Role.AGENT or duty is None or may_call(duty, name))
    }


#: What somebody sees who has not said who they are.
_STRANGER = Identity(Role.AGENT, purpose=Purpose.TASK)
#: More than anybody runs; bounds what a wrong caller can make us remember.
MAX_COORDINATORS = 1000
#: Arguments that are kept nowhere, not even hashed with others.
_SECRETS = frozenset({"coordinator_token", "passkey", "session_token"})
#: Arguments that say who calls or for whom; an agent can only name itself.
_OWN_IDS = ("run_id", "task_id", "agent_id", "project_id")


@dataclass(frozen=True)
class Terms:
    """What the calls need to know beyond the store."""

    version: str
    retry: RetryPolicy
    leases: LeaseTerms
    ask: AskPolicy = field(default_factory=AskPolicy)
    subtasks: SubtaskPolicy = field(default_factory=SubtaskPolicy)
    #: Runs at a time over everything, where the coordinator's settings are known; for explanations.
    max_concurrent: int | None = None
    #: Whether agents with approval `bypass` may be made.
    unsandboxed: bool = False
    #: The folder whose disk the store needs.
    state: StateDir | None = None
    #: Takes secrets out of what runs printed.
    mask: Callable[[str], str] = str
    #: Whether what runs in a project is stopped when it is paused.
    pause_stops_runs: bool = False


class Boards:
    """Answers calls. One for all connections."""

    def __init__(
        self,
        store: Store,
        auth: Authenticator,
        snapshot: Snapshot,
        live: Live,
        clock: Clock,
        terms: Terms,
    ) -> None:
        self.store = store
        self.auth = auth
        self.snapshot = snapshot
        self.terms = terms
        self.clock = clock
        self.started = clock.monotonic()
        self.bells = Bells()
        self.notices = Notices(store)
        #: A coordinator of another make that keeps two processes of a pair apart has called.
        self.keeps_apart = False
        #: When each coordinator called last, as far as this life of the server knows.
        self.coordinators: dict[str, datetime] = {}
        #: What each of them said when it looked last.
        self.told: dict[str, ListActions] = {}
        self.library = Library(store, terms.state, terms.mask)
        self.workflows = Workflows()
        self.task_templates = Finder(TEMPLATES)
        self.audit_files = Finder(AUDITS)
        self._live = live

    def tools(self, caller: Caller) -> Sequence[ToolInfo]:
        """What this caller may call; a stranger sees what agents see, since clients list once."""
        identity = caller.identity or _STRANGER
        # agents of another make show their coordinator's token until they authenticate
        also = tools_of(_STRANGER) if identity.role is Role.COORDINATOR else {}
        return [tool.info for tool in (also | tools_of(identity)).values()]

    def tools_of(self, identity: Identity) -> dict[str, Tool]:
        """The same for somebody who is known."""
        return tools_of(identity)

    async def call(self, call: Call) -> Json:
        """Find the tool, see who calls and whether they may, and do it.

        Raises:
            CoordinatorError: it is refused or failed.
        """
        tool, context, arguments = await self._admit(call)
        failpoints.hit("tool.begun", call.name)
        answer = await tool.run(context, arguments)
        failpoints.hit("tool.done", call.name)
        if call.name != tools_permission.NAME:
            # its program reads that answer, not the agent
            await self.notices.put_beside(call.aside, context.identity)
        return answer

    async def begin_long(self, call: Call) -> str | None:
        """Begin a call whose client waits by id: gives the id; None when it is no such call.

        Raises:
            CoordinatorError: it is refused or failed.
        """
        if call.name != tools_ask.NAME:
            return None
        _, context, arguments = await self._admit(call)
        return await tools_ask.begin_long(context, arguments)

    async def long_call(self, session: Session, call_id: str) -> LongState | None:
        """How a long call of this caller stands; None when it has none of this id.

        Raises:
            CoordinatorError: nobody known calls, or its run is over.
        """
        call = Call(session, tools_ask.NAME, {}, None)
        _, context, _ = await self._admit(call)
        return await tools_ask.look_at_long(context, call_id)

    async def _admit(self, call: Call) -> tuple[Tool, Context, Json]:
        """The tool that is meant, who calls, and its checked arguments."""
        tool = TOOLS.get(call.name)
        if tool is None:
            raise UnknownToolError
        if tool.is_open:
            identity = await self.auth.authenticate(call.session.caller, call.arguments)
        else:
            identity = await self.auth.identify(call.session.caller, call.arguments)
        if identity is None:
            raise UnauthorizedError(
                "authenticate first", hint="call the tool authenticate; it takes no arguments"
            )
        if identity.role is Role.AGENT:
            tool = AGENT_TOOLS.get(call.name, tool)
        await self._check(call, tool, identity)
        self._note_coordinator(call, identity)
        arguments = {
            key: value for key, value in call.arguments.items() if key != "coordinator_token"
        }
        _check_text(arguments)
        return tool, Context(self, call, identity), arguments

    async def subscribe(self, session: Session, uri: str) -> None:
        """Tell this connection whenever the resource changes.

        Raises:
            CoordinatorError: this caller may not, or there is no such resource.
        """
        identity = await self.auth.identify(session.caller, {})
        if identity is None:
            raise UnauthorizedError("authenticate first")
        self._check_readable(identity, uri)
        self._live.subscribe(session.channel, uri)

    async def listen(self, session: Session, uris: Sequence[str]) -> None:
        """See whether this caller may hear of these resources.

        Raises:
            CoordinatorError: of one of them it may not.
        """
        identity = await self.auth.identify(session.caller, {})
        for uri in uris:
            self._check_readable(identity, uri)

    def _check_readable(self, identity: Identity | None, uri: str) -> None:
        if uri == ACTIONS_URI or uri.startswith(runs_uri("")):
            if identity is None or identity.role is Role.AGENT:
                raise ForbiddenError("agents are not told of the board's changes")
        else:
            self.library.check(identity, uri)

    async def resources(self, session: Session) -> Sequence[Readable]:
        """What this caller may read now."""
        return await self.library.listed(await self.auth.identify(session.caller, {}))

    async def templates(self, session: Session) -> Sequence[Kind]:
        """The kinds of addresses that this caller may fill."""
        return self.library.templates(await self.auth.identify(session.caller, {}))

    async def read(self, session: Session, uri: str) -> Text:
        """Read a resource.

        Raises:
            CoordinatorError: this caller may not, or nothing is there.
        """
        return await self.library.read(await self.auth.identify(session.caller, {}), uri)

    async def prompts(self, session: Session) -> Sequence[PromptInfo]:
        """The prompts that this caller may use."""
        return prompts_for(await self.auth.identify(session.caller, {}))

    async def prompt(self, session: Session, name: str, arguments: Mapping[str, str]) -> str:
        """Fill a prompt.

        Raises:
            CoordinatorError: there is none, or this caller may not see what it names.
        """
        identity = await self.auth.identify(session.caller, {})
        return await fill(self.library, identity, name, arguments)

    def unsubscribe(self, session: Session, uri: str) -> None:
        """Tell it no more."""
        self._live.unsubscribe(session.channel, uri)

    async def as_agent(self, context: Context, work: Callable[[Unit, Run], Json]) -> Json:
        """Do what an agent asks in one transaction with its answer.

        Over a bridge the answer is kept with the effect: when the bridge sends the request again,
        because the server went away in between, the kept answer is given and nothing is done.

        Raises:
            UnauthorizedError: the run is over.
        """
        call = context.call
        run_id = cast("str", context.identity.run_id)
        key, is_resent = _effect_key(run_id, call)
        digest = _digest(call)

        def unit_of_work(unit: Unit) -> Json:
            if key is not None and is_resent:
                kept = effects.find_effect(unit, key, digest)
                if kept is not None and kept.answer is not None:
                    return kept.answer
            answer = work(unit, _live_agent(unit, run_id))
            if key is not None:
                effect = effects.Effect(call.name, answer=answer)
                effects.save_effect(unit, key, digest, effect)
            return answer

        return await self.store.write(unit_of_work)

    async def begin_as_agent(self, context: Context, begin: Callable[[Unit, Run], str]) -> str:
        """Do the first half of a call that waits: keep what it makes, and give the id of that.

        Sent again over a bridge, the call finds the id of the first time, and waits on.

        Raises:
            UnauthorizedError: the run is over.
        """
        call = context.call
        run_id = cast("str", context.identity.run_id)
        key, is_resent = _effect_key(run_id, call)
        digest = _digest(call)

        def unit_of_work(unit: Unit) -> str:
            if key is not None and is_resent:
                kept = effects.find_effect(unit, key, digest)
                if kept is not None and kept.id is not None:
                    return kept.id
            made = begin(unit, _live_agent(unit, run_id))
            if key is not None:
                effects.save_effect(unit, key, digest, effects.Effect(call.name, made))
            return made

        return await self.store.write(unit_of_work)

    async def finish_as_agent(self, context: Context, finish: Callable[[Unit, Run], Json]) -> Json:
        """Do the second half of a call that waits; again it gives the same.

        Raises:
            UnauthorizedError: the run is over.
        """
        run_id = cast("str", context.identity.run_id)
        return await self.store.write(lambda unit: finish(unit, _live_agent(unit, run_id)))

    async def _check(self, call: Call, tool: Tool, identity: Identity) -> None:
        """Refuse what this role may not do, and an agent that names somebody else."""
        if call.name not in tools_of(identity):
            await self._note_refusal(call, identity)
            raise ForbiddenError(f"{call.name} is not for {_called(identity)}")
        if identity.role is not Role.AGENT:
            return
        for key in _OWN_IDS:
            if (key == "task_id" and tool.names_tasks) or (key == "agent_id" and tool.names_agents):
                continue
            named = call.arguments.get(key)
            if named is not None and named != getattr(identity, key):
                await self._note_refusal(call, identity)
                raise ForbiddenError(
                    f"{key} is not yours", hint=f"leave {key} away: the connection says who you are"
                )

    def _note_coordinator(self, call: Call, identity: Identity) -> None:
        # one of another make does not say who it is
        unnamed = legacy.HOLDER.rstrip(":") if call.name == "get_agent_action" else None
        named = call.arguments.get("coordinator_id", unnamed)
        if identity.role is not Role.COORDINATOR or not isinstance(named, str):
            return
        if named in self.coordinators or len(self.coordinators) < MAX_COORDINATORS:
            self.coordinators[named] = self.clock.now()

    async def _note_refusal(self, call: Call, identity: Identity) -> None:
        if identity.run_id is None:
            return

        def note(unit: Unit) -> None:
            unit.emit(
                "run.refused",
                actor=identity.actor,
                project_id=identity.project_id,
                task_id=identity.task_id,
                run_id=identity.run_id,
                agent_id=identity.agent_id,
                tool=call.name,
                code=ForbiddenError.code,
            )

        await self.store.write(note)


def _called(identity: Identity) -> str:
    """What a caller is, in the words of a refusal."""
    role = f"a caller of role {identity.role.value}"
    return (
        role
        if identity.purpose is None
        else f"{role} whose session is for {identity.purpose.value}"
    )


def _live_agent(unit: Unit, run_id: str) -> Run:
    """The run whose agent calls; its first call is its authentication.

    Raises:
        UnauthorizedError: the run is over.
    """
    run = run_store.get_run(unit, run_id)
    if not has_agent(run):
        raise UnauthorizedError("this run is over", hint="exit")
    if run.authenticated_at is None:
        run_store.mark_authenticated(unit, run_id)
    if legacy.is_legacy(run):
        legacy.slide(unit, run)
    return run


def _effect_key(run_id: str, call: Call) -> tuple[effects.CallKey | None, bool]:
    """Where a bridge's call keeps its answer, and whether the bridge sends it for the second time."""
    caller, request_id = call.session.caller, call.request_id
    if caller.nonce is None or request_id is None:
        return None, False
    return effects.CallKey(run_id, caller.nonce, request_id), request_id in caller.resend


def _digest(call: Call) -> str:
    """What was asked, whatever the order of its keys."""
    arguments = {key: value for key, value in call.arguments.items() if key not in _SECRETS}
    asked = {"name": call.name, "arguments": arguments}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_text(value: object, key: str = "") -> None:
    """Refuse NUL, which no argument, path or database text may hold.

    Raises:
        ValidationError: with the key it stands under.
    """
    match value:
        case str():
            if "\0" in value:
                raise ValidationError(f"{key}: a NUL character is not allowed", key=key)
        case dict():
            for name, item in cast("Mapping[str, object]", value).items():
                _check_text(name, key)
                _check_text(item, f"{key}.{name}" if key else name)
        case list():
            for item in cast("list[object]", value):
                _check_text(item, key)
        case _:
            return
