"""Hears on a connection of its own that another server on the same PostgreSQL has committed something."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from aiagent_coordinator.store.unit import EVENT_CHANNEL

#: After the connection broke, or heard nothing of what there was.
RETRY_SECONDS: Final = 5.0


class PostgresEar:
    """Listens where commits of other servers are told; while it cannot, it only lets time pass.

    Args:
        make_engine: Makes the engine of its one connection.
        name: What our own commits say of who they are; they wake nobody here.
    """

    def __init__(self, make_engine: Callable[[], Engine], name: str) -> None:
        self._engine = make_engine()
        self._name = name
        self._conn: Connection | None = None
        self._next_try = 0.0
        driver: Any = self._engine.dialect.loaded_dbapi
        self._errors: tuple[type[Exception], ...] = (
            *(DBAPIError, driver.Error, OSError, ValueError),
            anyio.ClosedResourceError,
        )

    async def wait(self, seconds: float) -> bool:
        """Wait until another server has committed something, or so long; whether it has."""
        raw = await self._listening()
        if raw is None:
            await anyio.sleep(seconds)
            return False
        try:
            with anyio.move_on_after(seconds):
                while True:
                    await anyio.wait_readable(raw.fileno())
                    if self._hears(raw):
                        return True
        except self._errors:
            await self.rest()
        return False

    def _hears(self, raw: Any) -> bool:  # noqa: ANN401 - the driver's connection
        """Whether any of what has come is another's."""
        raw.pgconn.consume_input()
        is_others = False
        while (told := raw.pgconn.notifies()) is not None:
            is_others = is_others or told.extra.decode("utf-8", "replace") != self._name
        return is_others

    async def _listening(self) -> Any:  # noqa: ANN401 - the driver's connection
        """The connection; None while there is none."""
        if self._conn is None and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + RETRY_SECONDS
            self._conn = await to_thread.run_sync(self._connect)
        return None if self._conn is None else self._conn.connection.driver_connection

    def _connect(self) -> Connection | None:
        try:
            conn = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            conn.exec_driver_sql(f"LISTEN {EVENT_CHANNEL}")
        except self._errors:
            return None
        return conn

    async def rest(self) -> None:
        """Let go of the connection; another one is made a while later."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await to_thread.run_sync(self._close, conn)

    def _close(self, conn: Connection) -> None:
        try:
            conn.invalidate()
            conn.close()
        except self._errors:
            return

    async def aclose(self) -> None:
        """Hear no more."""
        await self.rest()
        await to_thread.run_sync(self._engine.dispose)
