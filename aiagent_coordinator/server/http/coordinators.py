"""Plain pages for coordinators of another make: what they begin with, and the logs that they send.

Names, fields and answers are those of AI Agent PM's web server. Only coordinators are let in.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import anyio
from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiagent_coordinator.errors import ForbiddenError, NotFoundError, UnauthorizedError
from aiagent_coordinator.paths import make_private
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.http.endpoint import bearer_of, challenge
from aiagent_coordinator.server.http.guard import UPLOAD_PATH, too_many
from aiagent_coordinator.store import legacy, people, projects
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.routing import BaseRoute
    from starlette.types import Message

    from aiagent_coordinator.server.http.guard import Guard
    from aiagent_coordinator.server.http.rest import Surroundings
    from aiagent_coordinator.store.unit import Unit

logger = logging.getLogger(__name__)

CONFIG_PATH: Final = "/api/coordinator/config"
#: Of a whole upload, and of the log in it, as AI Agent PM has them.
MAX_UPLOAD_BYTES: Final = 15 * 1024 * 1024
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
#: An upload arrives within this time.
UPLOAD_SECONDS: Final = 120.0
#: Uploads that are taken at a time; others wait.
UPLOADS: Final = 2
#: Of the fields beside the log.
MAX_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 4096
#: Longer is no id of anything.
MAX_ID_CHARS: Final = 200


class _RefusalError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    def answer(self) -> Response:
        """As it is told."""
        return JSONResponse({"success": False, "error": self.reason}, self.status, self.headers)


def pages(around: Surroundings) -> Sequence[BaseRoute]:
    """The pages for coordinators of another make."""
    made = _Pages(around)
    return [
        Route(CONFIG_PATH, made.config, methods=["GET"]),
        Route(UPLOAD_PATH, made.upload, methods=["POST"]),
    ]


class _Pages:
    """The two pages."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._uploads = anyio.CapacityLimiter(UPLOADS)

    async def config(self, request: Request) -> Response:
        """Give what a coordinator begins with: its agents with their passkeys, and our address."""
        headers: dict[str, str] = request.scope["state"]["headers"]
        try:
            await self._admit(request)
            scheme = self._private_scheme(request, headers)
            root = request.query_params.get("root_agent_id") or None
            belonging = partial(_belonging, root=root)
            working, directories = await self._around.store.read(belonging)
        except _RefusalError as refusal:
            return refusal.answer()
        own = self._around.settings.own
        told = {
            "server_url": f"{scheme}://{headers['host']}",
            # the one that was shown: nobody learns another
            "coordinator_token": bearer_of(headers),
            "root_agent_id": root,
            "polling_interval": own.polling_seconds,
            "max_concurrent": own.max_concurrent,
            "agents": {
                agent: {"passkey": passkey}
                for agent, passkey in own.passkeys.items()
                if agent in working
            },
            "ai_providers": {
                name: {"cli_command": command, "cli_args": list(arguments)}
                for name, (command, *arguments) in own.programs.items()
            },
            "agent_base_prompt": None,
            # theirs says nothing of it; who passes a root learns where it works
            **({"working_directories": dict(directories)} if root else {}),
        }
        return JSONResponse(told, headers={"cache-control": "no-store"})

    async def upload(self, request: Request) -> Response:
        """Take what a run printed, and keep it with the run."""
        try:
            # before anything of it is read
            await self._admit(request)
            async with self._uploads:
                with anyio.move_on_after(UPLOAD_SECONDS):
                    async with _form_of(request) as form:
                        return await self._keep(form)
            raise _RefusalError(408, "the log did not arrive in time")
        except _RefusalError as refusal:
            return refusal.answer()

    async def _keep(self, form: FormData) -> Response:
        state = self._around.state
        if state is None:
            raise _RefusalError(404, "no logs are kept here")
        log, about = _read(form)
        try:
            run_id = await self._around.store.read(lambda unit: legacy.run_of_log(unit, about).id)
        except NotFoundError as error:
            raise _RefusalError(404, error.message) from None
        # the name is made of our own id: nothing that was sent becomes part of a path
        path = state.logs / "sent" / f"{run_id}.log"
        try:
            size = await to_thread.run_sync(_write, path, log.file)
        except OSError as error:
            reason = error.strerror or "it cannot be written"
            raise _RefusalError(507, f"the log was not kept: {reason}") from error
        await self._around.store.write(lambda unit: legacy.keep_log(unit, run_id, str(path)))
        log_event(
            logger, logging.INFO, "server.log_taken", "a log was taken", run_id=run_id, bytes=size
        )
        told = {
            "success": True,
            "execution_log_id": run_id,
            "log_file_path": str(path.relative_to(state.root)),
            "file_size": size,
        }
        return JSONResponse(told)

    async def _admit(self, request: Request) -> None:
        """See that a coordinator asks.

        Raises:
            _RefusalError: it does not.
        """
        guard: Guard = request.scope["state"]["guard"]
        demand = {"www-authenticate": challenge(self._around.settings)}
        try:
            caller = await self._around.caller(request)
        except ForbiddenError as error:
            raise _RefusalError(403, error.message) from None
        except UnauthorizedError as error:
            wait = guard.wrong_token(request.scope) if bearer_of(_headers(request)) else 0.0
            if wait:
                raise _RefusalError(*too_many(wait)) from None
            raise _RefusalError(401, error.message, demand) from None
        if caller.identity is None:
            raise _RefusalError(401, "show a bearer token", demand)
        if caller.identity.role is not Role.COORDINATOR:
            role = caller.identity.role.value
            raise _RefusalError(403, f"this is not for a caller of role {role}")

    def _private_scheme(self, request: Request, headers: Mapping[str, str]) -> str:
        """How the request came, when nobody on the way could read along.

        Raises:
            _RefusalError: somebody could.
        """
        if self._around.settings.certificate is not None:
            return "https"
        guard: Guard = request.scope["state"]["guard"]
        if not guard.is_remote(request.scope):
            return "http"
        if headers.get("x-forwarded-proto", "").strip().lower() == "https":
            return "https"
        raise _RefusalError(403, "passkeys are told over TLS, or on this machine, alone")


def _headers(request: Request) -> dict[str, str]:
    return request.scope["state"]["headers"]


def _belonging(unit: Unit, root: str | None) -> tuple[frozenset[str], Mapping[str, str]]:
    """Who may work, and where: all, where projects lie; or what belongs to an agent or a person.

    Raises:
        _RefusalError: the one that was named does not exist.
    """
    enabled = {agent.id for agent in projects.list_agents(unit) if agent.enabled}
    if root is None:
        return frozenset(enabled), {}
    try:
        scope = people.scope_of(unit, root)
    except NotFoundError as error:
        raise _RefusalError(404, error.message) from None
    return scope.agents & enabled, scope.directories


@asynccontextmanager
async def _form_of(request: Request) -> AsyncGenerator[FormData]:
    """The fields of an upload, as far as it is not too large; closed at the end.

    Raises:
        _RefusalError: it is, or it is no such form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise _RefusalError(415, "expected multipart/form-data")
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_UPLOAD_BYTES:
            raise _RefusalError(413, "the upload is too large")
        return message

    bounded = Request(request.scope, receive)
    try:
        form = await bounded.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except (HTTPException, ClientDisconnect) as error:
        reason = error.detail if isinstance(error, HTTPException) else "it ended in the middle"
        raise _RefusalError(400, reason) from None
    try:
        yield form
    finally:
        await form.close()


def _read(form: FormData) -> tuple[UploadFile, legacy.LogOf]:
    """The log, and which run it says it is of.

    Raises:
        _RefusalError: something is missing, or the log is too large.
    """
    log = form.get("log_file")
    if not isinstance(log, UploadFile):
        raise _RefusalError(400, "log_file is missing")
    if (log.size or 0) > MAX_LOG_BYTES:
        raise _RefusalError(413, f"the log is larger than {MAX_LOG_BYTES} bytes")
    ids: list[str] = []
    for name in ("execution_log_id", "agent_id", "task_id", "project_id"):
        value = form.get(name)
        if not isinstance(value, str) or not value:
            raise _RefusalError(400, f"{name} is missing")
        if len(value) > MAX_ID_CHARS or not value.isprintable():
            raise _RefusalError(404, f"{name} names nothing")
        ids.append(value)
    return log, legacy.LogOf(*ids)


def _write(path: Path, source: BinaryIO) -> int:
    """Put a log where it is kept, whole or not at all; gives its size. Blocks."""
    make_private(path.parent)
    draft = path.with_name(f".{path.stem}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            shutil.copyfileobj(source, file)
            size = file.tell()
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return size
