"""The schema: one on both databases, migrated with a backup, and never touched when it is not ours."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from aiagent_coordinator import store as store_package
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import MigrationError, StoreError
from aiagent_coordinator.store import events, tables
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.postgres import postgres_engine
from aiagent_coordinator.store.revision import HEAD, REVISIONS
from aiagent_coordinator.store.sqlite_file import Upgrade, back_up, prepare_file, sqlite_url

MIGRATIONS = Path(store_package.__file__).parent / "migrations"

#: Everything PostgreSQL knows of the tables, keys, checks and indexes, as text.
CATALOGUE = """
SELECT 'column', table_name, column_name, concat_ws(' ', data_type, is_nullable, collation_name)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1, 2, 3
"""


def test_the_known_revisions_are_those_of_the_migrations_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)
    assert scripts.get_current_head() == HEAD


def differences(conn: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(conn), tables.metadata))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def backups_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("store.db.backup-*"))


def described(path: Path) -> dict[str, tuple[object, ...]]:
    """All that SQLite knows of its tables, apart from how the statements were spelled."""
    found: dict[str, tuple[object, ...]] = {}
    with closing(sqlite3.connect(path)) as conn:
        names = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        for kind, name, sql in conn.execute(names).fetchall():
            found[f"{kind} {name} columns"] = tuple(
                row[1:] for row in conn.execute(f"PRAGMA {kind}_info({name})").fetchall()
            )
            keys = conn.execute(f"PRAGMA foreign_key_list({name})").fetchall()
            found[f"{kind} {name} keys"] = tuple(sorted(row[2:] for row in keys))
            words = str(sql).replace(",", " ").replace("(", " ").replace(")", " ")
            found[f"{kind} {name} words"] = tuple(sorted(words.split()))
    return found


async def test_a_new_file_has_the_schema_that_the_migrations_make(
    tmp_path: Path, clock: ManualClock
) -> None:
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    async with open_store(sqlite_url(made), clock=clock):
        pass
    await anyio.to_thread.run_sync(migrate, sqlite_url(migrated))
    assert described(made) == described(migrated)
    engine = create_engine(sqlite_url(migrated))
    with engine.connect() as conn:
        assert differences(conn) == []
    engine.dispose()
    async with open_store(sqlite_url(migrated), clock=clock) as store:
        assert await store.read(events.last_seq) == 0


@pytest.mark.needs("postgres")
def test_postgresql_gets_the_same_schema_from_the_migrations(empty_postgres: str) -> None:
    engine = postgres_engine(empty_postgres)
    with engine.begin() as conn:
        tables.metadata.create_all(conn)
    with engine.begin() as conn:
        made = conn.execute(text(CATALOGUE)).all()
        tables.metadata.drop_all(conn)
    migrate(empty_postgres)
    with engine.begin() as conn:
        assert differences(conn) == []
        conn.execute(text("DROP TABLE alembic_version"))
        assert conn.execute(text(CATALOGUE)).all() == made
    engine.dispose()
    assert len(made) > 100


@pytest.mark.needs("postgres")
async def test_postgresql_is_never_migrated_at_a_start(
    empty_postgres: str, clock: ManualClock
) -> None:
    with pytest.raises(MigrationError) as caught:
        async with open_store(empty_postgres, clock=clock):
            pass
    assert "aiagent_coordinator.store.migrate" in caught.value.hint
    engine = postgres_engine(empty_postgres)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT to_regclass('task')")).scalar() is None
    await anyio.to_thread.run_sync(migrate, empty_postgres)
    async with open_store(empty_postgres, clock=clock) as store:
        assert await store.read(events.last_seq) == 0
    with engine.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(MigrationError, match="9999"):
        async with open_store(empty_postgres, clock=clock):
            pass


async def test_an_unreachable_server_is_named_at_once(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreError) as caught:
        async with open_store(f"postgresql://nobody@/db?host={tmp_path}", clock=clock):
            pass
    assert caught.value.details["reason"] == "connection"


async def test_a_newer_schema_is_refused_and_nothing_is_written(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "store.db"
    async with open_store(sqlite_url(path), clock=clock):
        pass
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
        conn.commit()
    before = contents(tmp_path)
    with pytest.raises(MigrationError, match="9999"):
        async with open_store(sqlite_url(path), clock=clock):
            pass
    assert contents(tmp_path) == before


async def test_a_database_of_another_program_is_refused_and_nothing_is_written(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE recipe (name TEXT)")
        conn.commit()
    before = path.read_bytes()
    with pytest.raises(MigrationError):
        async with open_store(sqlite_url(path), clock=clock):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["garbage", "stub", "short", "cut", "tail", "pages"])
async def test_a_damaged_file_is_named_and_not_touched(
    tmp_path: Path, clock: ManualClock, damage: str
) -> None:
    path = tmp_path / "store.db"
    async with open_store(sqlite_url(path), clock=clock):
        pass
    whole = path.read_bytes()
    damaged = {
        "garbage": b"this is a letter, not a database" * 1000,
        "stub": whole[:20],
        "short": whole[:50],
        "cut": whole[: len(whole) // 2],
        "tail": whole[:-1],
        "pages": whole[:100] + b"\xff" * (len(whole) - 100),
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"store\.db is damaged") as caught:
        async with open_store(sqlite_url(path), clock=clock):
            pass
    assert caught.value.details["reason"] == "damaged"
    assert contents(tmp_path) == {"store.db": damaged}


async def test_an_empty_file_becomes_a_store(tmp_path: Path, clock: ManualClock) -> None:
    """What a kill between the making of the file and its first commit leaves."""
    path = tmp_path / "store.db"
    path.touch()
    async with open_store(sqlite_url(path), clock=clock) as store:
        assert await store.read(events.last_seq) == 0


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        async with open_store(sqlite_url(tmp_path / "gone" / "store.db"), clock=clock):
            pass


async def test_an_older_file_is_backed_up_then_migrated_and_three_backups_are_kept(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "store.db"
    async with open_store(sqlite_url(path), clock=clock) as store:
        await store.write(lambda unit: unit.emit("run.refused", actor="server"))
    ran: list[str] = []
    newer = Upgrade((*REVISIONS, "future"), ran.append)
    for _ in range(5):
        clock.advance(1)
        assert prepare_file(path, clock, newer) is False
    assert ran == [sqlite_url(path)] * 5
    backups = backups_in(tmp_path)
    assert len(backups) == 3
    assert all(HEAD in backup.name for backup in backups)
    for backup in backups:
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        with closing(sqlite3.connect(backup)) as conn:
            assert conn.execute("SELECT count(*) FROM event").fetchone() == (1,)
    # No migration is due: no backup is made.
    assert prepare_file(path, clock) is False
    assert backups_in(tmp_path) == backups


async def test_a_backup_holds_what_is_still_in_the_log(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "store.db"
    async with open_store(sqlite_url(path), clock=clock) as store:
        await store.write(lambda unit: unit.emit("run.refused", actor="server"))
        copy = await anyio.to_thread.run_sync(back_up, path, HEAD, clock)
    with closing(sqlite3.connect(copy)) as conn:
        assert conn.execute("SELECT count(*) FROM event").fetchone() == (1,)


def test_a_migration_that_fails_says_why_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE agent (id TEXT)")
        conn.commit()
    with pytest.raises(MigrationError, match="already exists"):
        migrate(sqlite_url(path))
    with closing(sqlite3.connect(path)) as conn:
        names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master").fetchall()}
    assert names <= {"agent", "alembic_version", "sqlite_autoindex_alembic_version_1"}


def test_an_open_store_holds_neither_alembic_nor_what_is_for_the_other_database(
    tmp_path: Path,
) -> None:
    program = f"""
import anyio, sys
from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.store.engine import open_store
async def main():
    async with open_store({sqlite_url(tmp_path / "store.db")!r}, clock=SystemClock()):
        others = ("alembic", "mako", "psycopg", "sqlalchemy.dialects.postgresql")
        print([name for name in sys.modules if name.startswith(others)])
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
