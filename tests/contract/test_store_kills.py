"""What was acknowledged is kept, whenever the one writing process dies."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select, text

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.store import events, tables
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit

WRITER = Path(__file__).parents[1] / "fakes" / "store_writer.py"
KILLS = 20


def pragma(name: str) -> Callable[[Unit], object]:
    return lambda unit: unit.conn.scalar(text(f"PRAGMA {name}"))


def known(unit: Unit) -> list[str]:
    return list(unit.conn.scalars(select(tables.coordinator.c.id)))


def write_until_killed(url: str, life: int, lines: int) -> set[str]:
    """Kill the writer after it acknowledged about so many units; the acknowledged ones."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), url, str(life)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        acknowledged += writer.stdout.readlines()
        writer.wait(timeout=30)
    assert len(acknowledged) >= lines
    return {line.strip() for line in acknowledged if line.endswith("\n")}


async def test_twenty_kills_lose_no_acknowledged_unit(tmp_path: Path, clock: ManualClock) -> None:
    url = sqlite_url(tmp_path / "store.db")
    acknowledged: set[str] = set()
    dice = random.Random(20)
    for life in range(KILLS):
        acknowledged |= write_until_killed(url, life, dice.randrange(1, 60))
        async with open_store(url, clock=clock) as store:
            kept = await store.read(known)
            assert acknowledged <= set(kept)
            # Each unit wrote one row and one event, so as many of both are there.
            assert await store.read(events.last_seq) == len(kept)
            assert await store.read(pragma("integrity_check")) == "ok"
    assert len(acknowledged) >= KILLS
