"""Where plain HTTP pages beside MCP are mounted: each list of routes is made by one function.

A function here gets the `Surroundings` and gives routes. What it serves has passed the guard (hosts,
origins, rate, size of the body); who asks it finds out itself with `Surroundings.caller`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiagent_coordinator.server.http import coordinators, handoffs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.server.auth import Caller
    from aiagent_coordinator.server.calls import Board
    from aiagent_coordinator.server.http.settings import HttpSettings
    from aiagent_coordinator.store.engine import Store


@dataclass(frozen=True)
class Surroundings:
    """What a page may use."""

    store: Store
    settings: HttpSettings
    #: Who makes this request; a `Caller` without `identity` shows no token. Raises
    #: `UnauthorizedError` or `ForbiddenError` for a wrong one.
    caller: Callable[[Request], Awaitable[Caller]]
    #: Answers calls of tools, under the one permission table.
    board: Board
    #: Where files are kept; None: nowhere.
    state: StateDir | None = None


#: Everything that is mounted.
PAGES: tuple[Callable[[Surroundings], Sequence[BaseRoute]], ...] = (
    coordinators.pages,
    handoffs.pages,
)
