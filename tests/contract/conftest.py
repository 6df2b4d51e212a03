"""Databases for the store's contract: a fresh one for each test, SQLite and PostgreSQL alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.postgres import postgres_engine
from aiagent_coordinator.store.sqlite_file import sqlite_url

FAKE = Path(__file__).parents[1] / "fakes" / "postgres.py"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """The socket folder of a server that lives as long as the tests do."""
    with subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        folder = server.stdout.readline().strip()
        assert folder, "the throw-away PostgreSQL did not start"
        try:
            yield folder
        finally:
            server.stdin.close()
            server.wait(timeout=60)


def _make_database(folder: str) -> str:
    name = f"store_{next(_numbers)}"
    admin = create_engine(
        f"postgresql+psycopg://postgres@/postgres?host={folder}", isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return f"postgresql://postgres@/{name}?host={folder}"


@pytest.fixture
def empty_postgres(postgres_folder: str) -> str:
    """The address of a database without any table."""
    return _make_database(postgres_folder)


@pytest.fixture(scope="session")
def _shared_postgres(postgres_folder: str) -> str:
    url = _make_database(postgres_folder)
    migrate(url)
    return url


def _empty(url: str) -> str:
    """Take every row out: thirty times faster than a database for each test."""
    engine = postgres_engine(url)
    names = ", ".join(f'"{table.name}"' for table in tables.metadata.sorted_tables)
    with engine.begin() as conn:
        conn.exec_driver_sql(f"TRUNCATE {names}")
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a fresh store that is ready to open."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "store.db")
    return _empty(request.getfixturevalue("_shared_postgres"))


@pytest.fixture
def clock() -> ManualClock:
    """The time of the store; it moves when told."""
    return ManualClock()
