"""What passes between the protocol and the board: one call, who makes it, and what a tool is.

The adapter knows the protocol and nothing of the board; the board knows tools and nothing of the
protocol. This is all they share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.server.auth import Caller
from aiagent_coordinator.server.connection import RequestId

if TYPE_CHECKING:
    from aiagent_coordinator.server.library import Kind, Readable, Text
    from aiagent_coordinator.server.prompts import PromptInfo

Json = dict[str, Any]


class UnknownToolError(NotFoundError):
    """There is no tool of this name."""


@dataclass(frozen=True)
class ToolInfo:
    """A tool as clients see it."""

    name: str
    description: str
    #: Makes the JSON Schema of its arguments: asked for when somebody lists tools, which few starts see.
    schema: Callable[[], Json]

    @cached_property
    def input_schema(self) -> Json:
        """The JSON Schema of its arguments."""
        return self.schema()


class Channel(Protocol):
    """How a caller is reached beside the answers to its calls."""

    def settle(self, request_id: RequestId) -> None:
        """A request will never have an answer: nobody waits for it at the end of the server."""
        ...

    async def updated(self, uri: str) -> None:
        """Say that a resource changed.

        Raises:
            anyio.ClosedResourceError, anyio.BrokenResourceError: nobody hears it any more.
        """
        ...


#: Told how far a call is: what is done, of how much if that is known, and in words.
Progress = Callable[[float, float | None, str], Awaitable[None]]


@dataclass(frozen=True)
class Session:
    """One client and who is behind it."""

    channel: Channel
    caller: Caller


@dataclass
class Aside:
    """What goes with the answer to a call without being part of it. Filled by the board."""

    #: Whether its agent has something to read; None: no agent calls.
    has_unread: bool | None = None
    #: What it is to hear at once: texts that follow the answer.
    interrupts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    session: Session
    name: str
    arguments: Mapping[str, Any]
    request_id: RequestId | None
    #: None where nobody can be told.
    progress: Progress | None = None
    #: The revision that the caller shook hands on; None: it never did, as old coordinators.
    revision: str | None = None
    aside: Aside = field(default_factory=Aside)

    @property
    def is_bare(self) -> bool:
        """Whether the caller reads nothing but the text of a result, in lines of 64 KiB at most."""
        return self.revision is None


class Board(Protocol):
    """What the adapter asks for."""

    def tools(self, caller: Caller) -> Sequence[ToolInfo]:
        """The tools that this caller may know of."""
        ...

    async def call(self, call: Call) -> Json:
        """Do what the call says.

        Raises:
            CoordinatorError: it is refused or failed; `LoudRefusalError` for a wrong key,
                `UnknownToolError` when there is no such tool.
        """
        ...

    async def subscribe(self, session: Session, uri: str) -> None:
        """Tell this connection whenever the resource changes.

        Raises:
            CoordinatorError: this caller may not, or there is no such resource.
        """
        ...

    def unsubscribe(self, session: Session, uri: str) -> None:
        """Tell it no more."""
        ...


@dataclass(frozen=True)
class LongState:
    """How a call stands whose client waits by id."""

    #: ISO-8601.
    begun_at: str
    changed_at: str
    #: None while it is waited for.
    answer: Json | None
    #: When asking again makes sense at the earliest.
    poll_seconds: float


class Shelf(Board, Protocol):
    """What the SDK's side asks for in addition; our own programs do without."""

    async def begin_long(self, call: Call) -> str | None:
        """Begin a call whose client waits by id: gives the id; None when it is no such call.

        Raises:
            CoordinatorError: it is refused or failed.
        """
        ...

    async def long_call(self, session: Session, call_id: str) -> LongState | None:
        """How a long call of this caller stands; None when it has none of this id.

        Raises:
            CoordinatorError: nobody known calls, or its run is over.
        """
        ...

    async def resources(self, session: Session) -> Sequence[Readable]:
        """What this caller may read now."""
        ...

    async def templates(self, session: Session) -> Sequence[Kind]:
        """The kinds of addresses that this caller may fill."""
        ...

    async def read(self, session: Session, uri: str) -> Text:
        """Read a resource.

        Raises:
            CoordinatorError: this caller may not, or nothing is there.
        """
        ...

    async def listen(self, session: Session, uris: Sequence[str]) -> None:
        """See whether this caller may hear of these resources.

        Raises:
            CoordinatorError: of one of them it may not.
        """
        ...

    async def prompts(self, session: Session) -> Sequence[PromptInfo]:
        """The prompts that this caller may use."""
        ...

    async def prompt(self, session: Session, name: str, arguments: Mapping[str, str]) -> str:
        """Fill a prompt.

        Raises:
            CoordinatorError: there is none, or this caller may not see what it names.
        """
        ...
