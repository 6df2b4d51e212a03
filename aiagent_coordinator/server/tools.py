"""What a tool is here: its words, its arguments, who may call it, and the function that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pydantic

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.runs import Purpose
from aiagent_coordinator.server.auth import Identity, Role
from aiagent_coordinator.server.calls import Call, Json, ToolInfo
from aiagent_coordinator.store import requests

if TYPE_CHECKING:
    from aiagent_coordinator.server.boards import Boards

#: What every session of an agent may call, whatever it is for.
ANY_PURPOSE = frozenset(Purpose)
#: What only a chat may call.
CHAT = frozenset({Purpose.CHAT})
#: What only a session may call that has a task; the rule, so that a chat gets nothing by forgetting.
TASK = frozenset({Purpose.TASK})
#: Longest sentence of an agent.
MAX_MESSAGE_CHARS = 2_000

A = TypeVar("A", bound="Arguments")
R = TypeVar("R")


class Arguments(pydantic.BaseModel):
    """The arguments of a tool: nothing unknown, nothing of another type."""

    # built at the first call: a start that builds the arguments of every tool is felt
    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,
    )


class AgentArguments(Arguments):
    """Ids that an agent may repeat; they can only be its own."""

    agent_id: str | None = None
    project_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


@dataclass(frozen=True)
class Context:
    """One call on its way: what was asked, and by whom."""

    board: Boards
    call: Call
    identity: Identity


@dataclass(frozen=True)
class Tool:
    """A row of the permission table."""

    info: ToolInfo
    roles: frozenset[Role]
    run: Callable[[Context, Mapping[str, Any]], Awaitable[Json]]
    #: A stranger may call it, and is known after that.
    is_open: bool = False
    #: Its `task_id` says which task is meant, not whose call it is; the tool itself looks whose it is.
    names_tasks: bool = False
    #: Its `agent_id` says which agent is meant; the tool itself looks whether it may be.
    names_agents: bool = False
    #: For which purposes of a session an agent may call it; says nothing of other roles.
    purposes: frozenset[Purpose] = TASK

    def is_for(self, identity: Identity) -> bool:
        """Whether role and purpose of this caller let it call it; what its duty says, the table adds."""
        if identity.role not in self.roles:
            return False
        return identity.role is not Role.AGENT or identity.purpose in self.purposes


def tool(  # noqa: PLR0913 - the columns of a table's row
    shape: type[A],
    handler: Callable[[Context, A], Awaitable[Json]],
    description: str,
    *roles: Role,
    is_open: bool = False,
    names_tasks: bool = False,
    names_agents: bool = False,
    purposes: frozenset[Purpose] = TASK,
) -> Tool:
    """Make a tool whose name is its handler's. Unknown arguments are refused."""

    async def run(context: Context, arguments: Mapping[str, Any]) -> Json:
        return await handler(context, read(shape, arguments))

    info = ToolInfo(handler.__name__, description, lambda: _tidy(shape.model_json_schema()))
    return Tool(info, frozenset(roles), run, is_open, names_tasks, names_agents, purposes)


def wire_tool(
    shape: type[R],
    handler: Callable[[Context, R], Awaitable[Json]],
    description: str,
    prepare: Callable[[Json], Json] = dict,
) -> Tool:
    """Make one of the coordinator's own tools; arguments of newer coordinators are ignored.

    Args:
        shape: What the arguments become.
        handler: Does it; its name is the tool's.
        description: For those who list tools.
        prepare: Looks at the arguments before they are read.
    """

    async def run(context: Context, arguments: Mapping[str, Any]) -> Json:
        return await handler(context, requests.from_wire(shape, prepare(dict(arguments))))

    info = ToolInfo(handler.__name__, description, lambda: _tidy(requests.schema_of(shape)))
    return Tool(info, frozenset({Role.COORDINATOR}), run)


def table(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Index tools by name."""
    return {one.info.name: one for one in tools}


def read(shape: type[A], arguments: Mapping[str, Any]) -> A:
    """Check arguments.

    Raises:
        ValidationError: one is unknown, missing or of the wrong type; the message names it.
    """
    try:
        return shape.model_validate(dict(arguments))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _explained(first["type"], first["msg"], key, list(shape.model_fields)) from None


def _explained(kind: str, reason: str, key: str, known: list[str]) -> ValidationError:
    if kind == "missing":
        return ValidationError(f"{key} is missing", key=key)
    if kind == "extra_forbidden" and "." not in key:
        near = get_close_matches(key[:100], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
        return ValidationError(f"unknown argument {key[:100]!r}", hint=hint, key=key)
    return ValidationError(f"{key}: {reason.removeprefix('Value error, ')}", key=key)


def _tidy(schema: Json) -> Json:
    """Drop what pydantic makes up and models read for nothing: titles, null beside a type, our notes."""
    tidied = cast("Json", _tidied(schema))
    tidied.pop("description", None)
    return {"type": "object", **tidied}


def _tidied(value: object) -> object:
    if isinstance(value, list):
        return [_tidied(item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _tidied(item)
        for key, item in cast("Json", value).items()
        if not (key == "title" and isinstance(item, str)) and (key, item) != ("default", None)
    }
    match kept.get("anyOf"):
        case [dict(), {"type": "null"}]:
            only = cast("list[Json]", kept.pop("anyOf"))[0]
            return {**only, **kept}
        case _:
            return kept
