"""Server and loop inside a Python program of yours: no command line, no process of their own.

    async with coordinator(Path("coordinator.yaml")) as running:
        task = await running.add_task("app", "Mend the fence")
        done = await running.finished(task["id"])

They are what the default command runs, on the same state directory, and hold the same locks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.assembly import make_service
from aiagent_coordinator.config import load_settings
from aiagent_coordinator.coordinator.client import Client, connect
from aiagent_coordinator.coordinator.journal import open_journal
from aiagent_coordinator.house import BOTH, enter
from aiagent_coordinator.serving import serving
from aiagent_coordinator.tasks import TERMINAL
from aiagent_coordinator.wire.protocol import ACTIONS_URI, hello_person

#: A look although nothing was announced.
LOOK_SECONDS = 1.0


class Running:
    """A coordinator that runs, and its owner's connection to the board."""

    def __init__(self, client: Client, news: _News) -> None:
        self._client = client
        self._news = news

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call any tool of a person; see docs/reference/wire.md.

        Raises:
            CoordinatorError: as the server answers.
        """
        given = {key: value for key, value in arguments.items() if value is not None}
        return await self._client.call(tool, given)

    async def add_task(self, project_id: str, title: str, **more: object) -> dict[str, Any]:
        """Put a task on the board; `more` are further arguments of `create_task`.

        Raises:
            CoordinatorError: it is refused.
        """
        answer = await self.call("create_task", project_id=project_id, title=title, **more)
        return answer["task"]

    async def finished(self, task_id: str) -> dict[str, Any]:
        """Wait until a task is over, and give it. Bound it with `anyio.fail_after`.

        Raises:
            CoordinatorError: there is no such task.
        """
        while True:
            heard = self._news.next()
            task: dict[str, Any] = (await self.call("get_task", task_id=task_id))["task"]
            if task["status"] in TERMINAL:
                return task
            with anyio.move_on_after(LOOK_SECONDS):
                await heard.wait()


class _News:
    """Wakes who waits when the board changed."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def next(self) -> anyio.Event:
        return self._event

    def heard(self, _uri: str) -> None:
        self._event.set()
        self._event = anyio.Event()


@asynccontextmanager
async def coordinator(
    config_file: Path | None, *, overrides: Mapping[str, str] | None = None
) -> AsyncGenerator[Running]:
    """Run server and loop as long as the block runs; agents that still run are ended with it.

    Signals stay yours. Call it from the one event loop of your program.

    Args:
        config_file: The configuration file; None for the defaults alone.
        overrides: Settings that stand above those of the file.

    Raises:
        CoordinatorError: it cannot begin, or another process holds the state directory.
    """
    house, locks = enter(load_settings(config_file, overrides=overrides), BOTH)
    news = _News()
    hello = hello_person(house.operator_key)
    with locks:
        async with open_journal(house.state.journal) as journal, serving(house, BOTH):
            service = make_service(house)
            async with anyio.create_task_group() as tasks:
                await tasks.start(service.run, journal)
                try:
                    async with connect(house.socket, hello=hello, on_update=news.heard) as client:
                        await client.subscribe(ACTIONS_URI)
                        yield Running(client, news)
                finally:
                    # The service ends by itself; the task group waits for it.
                    service.stop(agents=True)
