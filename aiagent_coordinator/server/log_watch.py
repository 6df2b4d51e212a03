"""Tells who reads along that a run printed more, or does something. Nobody says so: the file's size does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from aiagent_coordinator.server.frames import Frames
from aiagent_coordinator.server.library import live_run, live_uri, log_run
from aiagent_coordinator.server.log_tail import size_of

if TYPE_CHECKING:
    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.server.live import Live

#: How often is looked while somebody reads along.
LOOK_SECONDS = 1.0


class LogWatch:
    """Watches the output of those runs that somebody subscribed to."""

    def __init__(self, live: Live, state: StateDir, frames: Frames) -> None:
        self._live = live
        self._state = state
        self._frames = frames
        self._is_following = False
        self._sizes: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            await self._follow()
            runs = {uri: run for uri in self._live.wanted() if (run := log_run(uri)) is not None}
            if runs:
                self._live.publish(await to_thread.run_sync(self._grown, runs))
            elif self._sizes:
                self._sizes = {}

    async def _follow(self) -> None:
        runs = [run for uri in self._live.wanted() if (run := live_run(uri)) is not None]
        if runs or self._is_following:
            news = await to_thread.run_sync(self._frames.follow, runs)
            self._live.publish([live_uri(run) for run in news])
        self._is_following = bool(runs)

    def _grown(self, runs: dict[str, str]) -> list[str]:
        before = self._sizes
        self._sizes = {uri: size_of(self._state.run(run)) for uri, run in runs.items()}
        return [uri for uri, size in self._sizes.items() if size != before.get(uri, size)]
