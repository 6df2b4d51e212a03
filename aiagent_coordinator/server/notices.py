"""What goes with every answer to an agent: whether something waits to be read, and interrupts at once.

An answer is never replaced: what it says was done, and would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiagent_coordinator.chats import Notice, NoticeKind
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.server.auth import Identity, Role
from aiagent_coordinator.server.calls import Aside
from aiagent_coordinator.store import notifications
from aiagent_coordinator.store import runs as run_store

if TYPE_CHECKING:
    from aiagent_coordinator.events import Event
    from aiagent_coordinator.store.engine import Store
    from aiagent_coordinator.store.unit import Unit

#: The sibling of a result in the words of AI Agent PM.
NONE: Final = "\u901a\u77e5\u306f\u3042\u308a\u307e\u305b\u3093"
UNREAD: Final = (
    "\u3010\u91cd\u8981\u3011\u901a\u77e5\u304c\u3042\u308a\u307e\u3059\u3002"
    "get_notifications \u3092\u547c\u3073\u51fa\u3057\u3066\u78ba\u8a8d\u3057\u3066"
    "\u304f\u3060\u3055\u3044\u3002"
)
#: Under this key the `_meta` of a result says how many wait, to clients that read structured content.
META_KEY: Final = "dev.aiagent-coordinator/unread"
_SENT = "notification.sent"


class Notices:
    """Knows for whom something waits without asking the store at every call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes = 0
        self._pairs: set[tuple[str, str]] = set()
        self._is_loaded = False

    def notice(self, events: Sequence[Event]) -> None:
        """Take committed events."""
        for event in events:
            if event.action == _SENT and event.agent_id and event.project_id:
                self._changes += 1
                self._pairs.add((event.agent_id, event.project_id))

    async def put_beside(self, aside: Aside, identity: Identity) -> None:
        """Say beside an answer to an agent what waits for it."""
        if identity.role is not Role.AGENT or identity.run_id is None:
            return
        aside.has_unread = False
        if not self._is_loaded:
            self._pairs |= await self._store.read(notifications.pairs_with_unread)
            self._is_loaded = True
        pair = (str(identity.agent_id), str(identity.project_id))
        if pair not in self._pairs:
            return
        change, run_id = self._changes, identity.run_id
        waiting = await self._store.read(lambda unit: _unread(unit, run_id))
        aside.has_unread = bool(waiting)
        urgent = [one for one in waiting if one.kind is NoticeKind.INTERRUPT]
        aside.interrupts = tuple(_said(one) for one in urgent)
        if not waiting and change == self._changes:
            left = await self._store.read(notifications.pairs_with_unread)
            if change == self._changes:
                self._pairs = left


def _unread(unit: Unit, run_id: str) -> list[Notice]:
    try:
        return notifications.unread(unit, run_store.get_run(unit, run_id))
    except NotFoundError:
        return []


def _said(notice: Notice) -> str:
    return f"[interrupt] {notice.message} {notice.instruction} (Call get_notifications.)"
