"""One TCP connection: who is at its other end, as far as the machine says, and how long it may idle.

uvicorn gives a connection as long as it wants for the head of a request, and any number of
connections. Both are bounded here.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from aiagent_coordinator.server.http.settings import HttpLimits

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

#: A client takes what it is sent within this time.
STALLED_WRITE_SECONDS = 60.0
#: Where a request's scope holds its connection, under `state`.
LINK = "link"


@dataclass
class Link:
    """One TCP connection."""

    #: Address and port of the other end, and ours.
    peer: tuple[str, int]
    local: tuple[str, int]
    #: The live run from whose tree it comes; looked up once, when somebody wants to know.
    cap: str | None = None
    is_placed: bool = False


def link_of(scope: MutableMapping[str, Any]) -> Link:
    """The connection that a request came over."""
    return cast("Link", scope["state"][LINK])


def bounded(limits: HttpLimits) -> type[H11Protocol]:
    """Make uvicorn's protocol keep to our limits."""
    return type("Bounded", (_Bounded,), {"limits": limits})


class _Bounded(H11Protocol):
    """uvicorn's protocol, within limits."""

    limits = HttpLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: Any = None,  # noqa: ANN401 - uvicorn's own
    ) -> None:
        super().__init__(config, server_state, dict(app_state), _loop)
        self._head_timer: Any = None
        self._write_timer: Any = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's
        """Take a connection, or none too many."""
        if len(self.connections) >= self.limits.connections:
            transport.abort()
            return
        super().connection_made(transport)
        peer, local = self.client or ("", 0), self.server or ("", 0)
        self.app_state[LINK] = Link(peer, (local[0], local[1] or 0))
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if self.transport is None:  # pyright: ignore[reportUnnecessaryComparison]
            return  # refused above, and not yet gone
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_head()
        if self._write_timer is not None:
            self._write_timer.cancel()
        if self.transport is not None:  # pyright: ignore[reportUnnecessaryComparison]
            super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._forget_head()
        if self.conn.trailing_data[0]:
            self._watch_head()  # the head of the next one has begun

    def pause_writing(self) -> None:
        """The client takes nothing more for now."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(STALLED_WRITE_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_head(self) -> None:
        """End the connection when no whole head came in time; between requests it may rest longer."""
        is_answering = self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]
        if is_answering:
            self._forget_head()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()
