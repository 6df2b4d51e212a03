"""Who is calling: decided by what a connection presents, and capped by where it comes from.

The cap comes first. A process inside a live run's tree is that run's agent or nobody, whatever key
it shows: an agent of the same user can read our key files. Without a sandbox the cap and the file
modes are the only barriers, and a process that leaves the tree (a service manager asked to start it)
leaves the cap.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio
from anyio import to_thread

from aiagent_coordinator.errors import ForbiddenError, UnauthorizedError
from aiagent_coordinator.events import Event
from aiagent_coordinator.runs import Purpose, Run, RunPhase, ShimIdentity
from aiagent_coordinator.server.sockets import Peer
from aiagent_coordinator.store import passkeys, sessions
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store
from aiagent_coordinator.store.legacy import is_legacy
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire import process

logger = logging.getLogger(__name__)

#: A parent may end while its child is looked at; the walk then starts again.
PLACE_TRIES = 3
#: Deeper process trees than any program makes; a walk in a circle ends here.
MAX_ANCESTORS = 1024
#: Longest text taken for a key: what is longer is none, and is not worth hashing.
MAX_KEY_CHARS = 512
#: Events after which the list of live runs, or what is known of one, is another.
_RUN_EVENTS = "run."


class Role(StrEnum):
    """What a caller is here."""

    AGENT = "agent"
    COORDINATOR = "coordinator"
    PERSON = "person"


@dataclass(frozen=True)
class Identity:
    """Who is calling; the ids are those of an agent's run."""

    role: Role
    run_id: str | None = None
    task_id: str | None = None
    agent_id: str | None = None
    project_id: str | None = None
    #: What an agent's run is for: it may call only what that allows.
    purpose: Purpose | None = None
    #: What an agent is to do with its task; None before that is known.
    duty: Duty | None = None

    @property
    def actor(self) -> str:
        """How events name the caller."""
        return f"agent:{self.agent_id}" if self.role is Role.AGENT else self.role.value


PERSON = Identity(Role.PERSON)
COORDINATOR = Identity(Role.COORDINATOR)


class LoudRefusalError(UnauthorizedError):
    """A wrong key was shown; answered as a protocol error, so that no client takes it for a result."""


@dataclass
class Caller:
    """What is known of one connection. Changed only by `Authenticator`."""

    peer: Peer
    #: The live run whose tree the connection comes from.
    cap: str | None = None
    #: The process had ended before it could be placed: it is trusted with no key.
    is_lost: bool = False
    identity: Identity | None = None
    greeted: bool = False
    is_logged_out: bool = False
    #: Who it is for the provider that gave out its token; None for tokens of ours.
    subject: str | None = None
    #: Set by a run's bridge: names its life, and the requests it sends for the second time.
    nonce: str | None = None
    resend: frozenset[int | str] = field(default_factory=frozenset[int | str])
    #: Why what was presented does not count; raised at every call.
    refusal: UnauthorizedError | ForbiddenError | None = None

    @classmethod
    def stranger(cls) -> Caller:
        """Somebody of whom nothing is known but that they are let in."""
        return cls(Peer(0, os.geteuid()))


class LiveRuns:
    """The runs that are not over, as the store knows them; read again after events about runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, Run] = {}
        self._changes = 1
        self._loaded = 0
        self._lock = anyio.Lock()

    def notice(self, events: Sequence[Event]) -> None:
        """Forget what these events made old."""
        if any(event.action.startswith(_RUN_EVENTS) for event in events):
            self._changes += 1

    async def all(self) -> Mapping[str, Run]:
        """Every live run by id."""
        wanted = self._changes
        if self._loaded < wanted:
            async with self._lock:
                if self._loaded < wanted:
                    # what is committed while the read runs makes it old for those who ask later
                    change = self._changes
                    runs = await self._store.read(run_store.live_runs)
                    self._runs = {run.id: run for run in runs}
                    self._loaded = change
        return self._runs

    async def get(self, run_id: str) -> Run | None:
        """One live run; None when it is over or never was."""
        return (await self.all()).get(run_id)


class Authenticator:
    """Decides who is calling."""

    def __init__(
        self, store: Store, live: LiveRuns, *, operator_key: str, coordinator_key: str
    ) -> None:
        self._store = store
        self._live = live
        self._operator = _digest(operator_key)
        self._coordinator = _digest(coordinator_key)
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def place(self, caller: Caller) -> None:
        """See whether a new connection comes from inside a live run; that caps all it can be."""
        runs = await self._live.all()
        shims = {run.shim.pid: (run.shim, run.id) for run in runs.values() if run.shim is not None}
        # pid 0: another process namespace, where none of our shims can be an ancestor
        if not shims or caller.peer.pid == 0:
            return
        try:
            caller.cap = await to_thread.run_sync(run_above, caller.peer.pid, shims)
        except ProcessLookupError:
            caller.is_lost = True

    async def greet(self, caller: Caller, params: Mapping[str, Any]) -> None:
        """Take a hello: the first of a connection counts. A wrong one is told at the next call."""
        if caller.greeted:
            return
        caller.greeted = True
        try:
            if "run" in params:
                await self._greet_run(caller, params)
            elif "coordinator_token" in params:
                caller.identity = self._coordinator_by(caller, params["coordinator_token"])
            elif "operator_key" in params:
                caller.identity = self._person_by(caller, params["operator_key"])
        except (UnauthorizedError, ForbiddenError) as error:
            caller.refusal = error
            log_event(
                logger,
                logging.WARNING,
                "server.connection_refused",
                "a hello was refused",
                code=error.code,
                reason=error.message,
                pid=caller.peer.pid,
            )

    async def identify(self, caller: Caller, arguments: Mapping[str, Any]) -> Identity | None:
        """Say who makes this call.

        Raises:
            UnauthorizedError: a wrong or ended key was presented, now or in the hello.
            ForbiddenError: the connection comes from inside a run that may not show this key.
        """
        if "coordinator_token" in arguments:
            return self._coordinator_by(caller, arguments["coordinator_token"])
        if caller.refusal is not None:
            raise caller.refusal
        identity = None if caller.is_logged_out else caller.identity
        if "session_token" in arguments:
            return await self._agent_of(caller, identity, arguments["session_token"])
        if identity is not None and identity.run_id is not None:
            await self._live_run(identity.run_id)
        return identity

    def log_out(self, caller: Caller) -> None:
        """Forget who is calling, until `authenticate` is called again."""
        caller.is_logged_out = True

    async def authenticate(self, caller: Caller, arguments: Mapping[str, Any]) -> Identity:
        """Give an agent its identity: the one it has, the run whose tree it comes from, or by passkey.

        Args:
            caller: The connection.
            arguments: Of the call: with `passkey`, `agent_id` says whose; `project_id` where.

        Raises:
            UnauthorizedError: none is there, or the passkey is wrong.
            ForbiddenError: the connection may not show it.
        """
        caller.is_logged_out = False
        if "passkey" in arguments:
            identity = await self._agent_by(caller, arguments)
            if caller.identity in (None, COORDINATOR):
                # over HTTP an agent of another make shows its coordinator's token, and is less from here on
                caller.identity, caller.refusal = identity, None
        if caller.identity is None and caller.cap is not None:
            caller.identity = _identity_of(await self._live_run(caller.cap))
            caller.refusal = None
        if caller.identity is None:
            raise caller.refusal or UnauthorizedError(
                "the server does not know this connection",
                hint="start this agent through the coordinator, which gives it its own bridge",
            )
        return caller.identity

    async def bear(
        self, caller: Caller, token: str, keys: Mapping[Role, str], *, is_remote: bool
    ) -> None:
        """Take a bearer token: a run's, the coordinator's, the person's here, or one of `keys`.

        Args:
            caller: Who shows it; gets its identity.
            token: As shown.
            keys: Further tokens of persons and coordinators.
            is_remote: From another machine the operator key counts for nothing.

        Raises:
            UnauthorizedError: the token is none of these.
            ForbiddenError: a run's process shows what is not its run's.
        """
        known = [(self._coordinator, COORDINATOR)]
        known += [] if is_remote else [(self._operator, PERSON)]
        known += [(_digest(key), Identity(role)) for role, key in keys.items()]
        # all are compared: how long it takes says nothing
        found = [identity for digest, identity in known if _matches(token, digest)]
        if found:
            _refuse_from_inside(caller)
            caller.identity = found[0]
            return
        run = await self._run_by(token)
        if run is None:
            raise LoudRefusalError("the token is wrong, or its run is over")
        if caller.cap not in (None, run.id):
            raise ForbiddenError("this connection comes from inside another run")
        caller.identity = _identity_of(run)
        if run.hello_at is None:
            await self._store.write(lambda unit: run_store.mark_hello(unit, run.id))

    def believe(self, caller: Caller, identity: Identity, subject: str) -> None:
        """Take what the user's own provider of tokens says of a caller.

        Raises:
            ForbiddenError: a run's process shows it.
        """
        _refuse_from_inside(caller)
        caller.identity, caller.subject = identity, subject

    @property
    def live(self) -> LiveRuns:
        """The runs that are not over."""
        return self._live

    async def _agent_of(
        self, caller: Caller, identity: Identity | None, token: object
    ) -> Identity | None:
        """The agent whose session is shown. Who is known already needs none, and gets no other."""
        run = None
        if isinstance(token, str) and 0 < len(token) <= MAX_KEY_CHARS:
            run = await self._store.read(lambda unit: sessions.run_of_session(unit, token))
        if run is None or not has_agent(run):
            if identity in (None, COORDINATOR):
                raise UnauthorizedError(
                    "Invalid session_token. Please re-authenticate.", hint="call authenticate"
                )
            return identity
        if identity is not None and identity.role is Role.PERSON:
            raise ForbiddenError("a person is no agent")
        known = caller.cap if identity is None else identity.run_id
        if known not in (None, run.id):
            raise ForbiddenError("this session belongs to another run")
        if caller.is_lost:
            _refuse_from_inside(caller)
        return _identity_of(run)

    async def _greet_run(self, caller: Caller, params: Mapping[str, Any]) -> None:
        run_id, nonce = params["run"], params.get("nonce")
        run = await self._run_by(params.get("token"))
        if run is None or not isinstance(run_id, str) or not _same(run.id, run_id):
            raise UnauthorizedError("the token of this run is not known, or the run is over")
        if caller.cap is not None and caller.cap != run.id:
            raise ForbiddenError("this connection comes from inside another run")
        caller.identity = _identity_of(run)
        if isinstance(nonce, str) and 0 < len(nonce) <= MAX_KEY_CHARS:
            caller.nonce = nonce
            caller.resend = _request_ids(params.get("resend"))
        if run.hello_at is None:
            await self._store.write(lambda unit: run_store.mark_hello(unit, run.id))

    async def _agent_by(self, caller: Caller, arguments: Mapping[str, Any]) -> Identity:
        """The live run of the agent whose passkey is shown; inside a run, that run and no other."""
        if caller.is_lost:
            _refuse_from_inside(caller)
        agent_id, passkey = arguments.get("agent_id"), arguments["passkey"]
        known = caller.identity.agent_id if caller.identity else None
        agent_id = known if agent_id is None else agent_id
        if not await self._is_passkey(agent_id, passkey):
            raise UnauthorizedError("the agent's id or its passkey is wrong", hint="exit")
        if caller.identity not in (None, COORDINATOR):
            return caller.identity
        project_id = arguments.get("project_id")
        runs = [
            run
            for run in (await self._live.all()).values()
            if run.agent_id == agent_id
            and has_agent(run)
            and project_id in (None, run.project_id)
            and caller.cap in (None, run.id)
        ]
        if len(runs) > 1:
            # whoever is driven by a coordinator of ours has its bridge, and needs no passkey
            runs = _expected([run for run in runs if is_legacy(run)])
        if len(runs) != 1:
            what = "no run of this agent is live" if not runs else "several runs of it are live"
            raise UnauthorizedError(
                what, hint="name its project_id, or use the bridge that its run was given"
            )
        return _identity_of(runs[0])

    async def _is_passkey(self, agent_id: object, passkey: object) -> bool:
        """Whether a passkey is an agent's; a wrong id takes as long as a wrong passkey."""
        texts = [one for one in (agent_id, passkey) if isinstance(one, str)]
        if len(texts) != 2 or not all(0 < len(one) <= MAX_KEY_CHARS for one in texts):
            return False
        if not texts[0].isprintable():
            return False  # no id, and perhaps nothing that a database takes
        stored = await self._store.read(lambda unit: passkeys.hash_for(unit, texts[0]))
        # One at a time: guessing must not take the machine.
        return await to_thread.run_sync(
            passkeys.matches, texts[1], stored, limiter=self._one_at_a_time
        )

    async def _run_by(self, token: object) -> Run | None:
        if not isinstance(token, str) or not 0 < len(token) <= MAX_KEY_CHARS:
            return None
        digest = hashlib.sha256(token.encode()).hexdigest()
        run = await self._store.read(lambda unit: run_store.run_by_token_hash(unit, digest))
        return run if run is not None and has_agent(run) else None

    async def _live_run(self, run_id: str) -> Run:
        run = await self._live.get(run_id)
        if run is None or not has_agent(run):
            raise UnauthorizedError("this run is over", hint="exit; nothing more is taken from it")
        return run

    def _coordinator_by(self, caller: Caller, key: object) -> Identity:
        if not _matches(key, self._coordinator):
            raise LoudRefusalError("the coordinator token is wrong")
        _refuse_from_inside(caller)
        return COORDINATOR

    def _person_by(self, caller: Caller, key: object) -> Identity:
        if not _matches(key, self._operator):
            raise LoudRefusalError("the operator key is wrong")
        _refuse_from_inside(caller)
        return PERSON


def _refuse_from_inside(caller: Caller) -> None:
    if caller.cap is not None:
        raise ForbiddenError(
            "from inside a run only that run's agent can be called for",
            hint="call authenticate without arguments",
        )
    if caller.is_lost:
        raise ForbiddenError("the process that connected is gone; keep it until it has its answer")


def _expected(runs: list[Run]) -> list[Run]:
    """Of one agent's runs that nothing else tells apart: the one it was just started for, tasks first."""
    if len(runs) < 2:
        return runs
    waiting = [run for run in runs if run.authenticated_at is None]
    return sorted(waiting, key=lambda run: (run.purpose is not Purpose.TASK, run.id))[:1]


def has_agent(run: Run) -> bool:
    """Whether the run's CLI can still be there; its token dies with it."""
    return run.phase not in {RunPhase.FINISHING, RunPhase.ENDED}


def _identity_of(run: Run) -> Identity:
    ids = (run.id, run.task_id, run.agent_id, run.project_id)
    return Identity(Role.AGENT, *ids, purpose=run.purpose, duty=run.duty)


def run_above(pid: int, shims: Mapping[int, tuple[ShimIdentity, str]]) -> str | None:
    """Walk up from a process to a shim; None when none is above it. Blocks for microseconds.

    Raises:
        ProcessLookupError: the process is gone.
    """
    boot = process.boot_id()
    for _ in range(PLACE_TRIES):
        current = pid
        for _ in range(MAX_ANCESTORS):
            if current <= 1:
                return None
            ticks = process.start_ticks(current)
            if ticks is None:
                break
            shim, run_id = shims.get(current, (None, None))
            if shim is not None and (shim.start_ticks, shim.boot_id) == (ticks, boot):
                return run_id
            parent = process.parent_pid(current)
            if parent is None:
                break
            current = parent
    raise ProcessLookupError(pid)


def _request_ids(value: object) -> frozenset[int | str]:
    if not isinstance(value, list):
        return frozenset()
    items: list[object] = value  # pyright: ignore[reportUnknownVariableType] - any JSON value
    return frozenset(
        item for item in items if isinstance(item, int | str) and not isinstance(item, bool)
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _matches(key: object, expected: bytes) -> bool:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS:
        return False
    return hmac.compare_digest(_digest(key), expected)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
