"""Calls that wait: who waits for which question or in which chat, woken when something happened there."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from aiagent_coordinator.events import Event

#: Events after which a waiting call looks again.
_RINGS = frozenset({"question.answered", "question.closed"})


#: Events after which the chat of the agent that they name looks again.
_CHAT = frozenset({"message.sent", "notification.sent", "delegation.made", "delegation.returned"})


def _sides(event: Event) -> tuple[object, ...]:
    """Whose chats an event is about."""
    if event.action.startswith("conversation."):
        return event.data.get("initiator"), event.data.get("participant")
    return (event.agent_id,) if event.action in _CHAT else ()


class Bells:
    """Wakes waiting calls. What they then find out, they read from the store."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[anyio.Event]] = {}
        #: This life of the server ends: who waits goes on waiting in the next.
        self.is_closing = False

    def notice(self, events: Sequence[Event]) -> None:
        """Take committed events."""
        for event in events:
            if event.action in _RINGS:
                self._ring(str(event.data.get("question_id")))
            elif event.action == "run.stop_requested" and event.run_id is not None:
                self._ring(event.run_id)
            else:
                for agent_id in _sides(event):
                    self._ring(f"chat:{agent_id}/{event.project_id}")

    def close(self) -> None:
        """Wake everybody: the server stops."""
        self.is_closing = True
        for key in self._waiting:
            self._ring(key)

    def _ring(self, key: str) -> None:
        for bell in self._waiting.get(key, ()):
            bell.set()

    def bell(self, *keys: str) -> anyio.Event:
        """An event that is set when something happens to one of these; `mute` it in the end."""
        bell = anyio.Event()
        for key in keys:
            self._waiting.setdefault(key, set()).add(bell)
        return bell

    def mute(self, bell: anyio.Event, *keys: str) -> None:
        """Forget an event."""
        for key in keys:
            waiting = self._waiting.get(key, set())
            waiting.discard(bell)
            if not waiting:
                self._waiting.pop(key, None)
