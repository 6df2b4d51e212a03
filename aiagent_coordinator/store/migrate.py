"""Bringing a database to this program's schema. Run as a program, so that Alembic does not stay resident.

`python -m aiagent_coordinator.store.migrate` reads the address on standard input: it may hold a password.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiagent_coordinator.errors import MigrationError
from aiagent_coordinator.store.revision import HEAD

#: A migration rewrites at most some hundred thousand rows.
MIGRATE_SECONDS = 600.0
#: What of a failed migration's words is shown.
_TAIL_CHARS = 600


def migrate(url: str) -> None:
    """Bring a database to the newest schema; an empty one gets all tables. Blocks.

    SQLite files migrate themselves at start; this is for PostgreSQL, run by a person.

    Raises:
        MigrationError: it failed; PostgreSQL and SQLite roll all of it back.
    """
    upgrade_in_child(url)


def upgrade_in_child(url: str) -> None:
    """Run the migrations in a process of their own.

    Raises:
        MigrationError: it failed.
    """
    from aiagent_coordinator.wire.process import TimedOut, run_bounded  # noqa: PLC0415 - seldom

    argv = [sys.executable, "-m", "aiagent_coordinator.store.migrate"]
    try:
        done = run_bounded(argv, timeout_seconds=MIGRATE_SECONDS, stdin=url.encode())
    except TimedOut as error:
        raise MigrationError("the migration took too long and was ended") from error
    if done.returncode != 0:
        tail = done.stderr.decode(errors="replace")[-_TAIL_CHARS:].strip()
        raise MigrationError(f"the migration to {HEAD} failed: {tail}")


def main() -> None:
    """Upgrade the database whose address comes on standard input."""
    from alembic import command  # noqa: PLC0415 - only in this process
    from alembic.config import Config  # noqa: PLC0415 - only in this process

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = sys.stdin.read()
    command.upgrade(config, "head")


if __name__ == "__main__":
    main()
