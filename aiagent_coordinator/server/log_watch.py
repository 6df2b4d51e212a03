"""Tells who reads along that a run printed more. Nobody says so: the file's size does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from aiagent_coordinator.server.library import log_run
from aiagent_coordinator.server.log_tail import size_of

if TYPE_CHECKING:
    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.server.live import Live

#: How often is looked while somebody reads along.
LOOK_SECONDS = 1.0


class LogWatch:
    """Watches the output of those runs that somebody subscribed to."""

    def __init__(self, live: Live, state: StateDir) -> None:
        self._live = live
        self._state = state
        self._sizes: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            runs = {uri: run for uri in self._live.wanted() if (run := log_run(uri)) is not None}
            if runs:
                self._live.publish(await to_thread.run_sync(self._grown, runs))
            elif self._sizes:
                self._sizes = {}

    def _grown(self, runs: dict[str, str]) -> list[str]:
        before = self._sizes
        self._sizes = {uri: size_of(self._state.run(run)) for uri, run in runs.items()}
        return [uri for uri, size in self._sizes.items() if size != before.get(uri, size)]
