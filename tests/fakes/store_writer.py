"""Writes to a store until it is killed: prints each name only once its commit was acknowledged."""

from __future__ import annotations

import sys

import anyio

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.store import coordinators
from aiagent_coordinator.store.engine import Store, open_store

WRITERS = 8


async def write(store: Store, life: str, writer: int) -> None:
    number = 0
    while True:
        name = f"crd_{life}_{writer}_{number}"
        await store.write(lambda unit, name=name: coordinators.seen(unit, name, None, 1))
        # One write call of one line: a kill cannot leave half a name that looks whole.
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        number += 1


async def main() -> None:
    url, life = sys.argv[1:]
    async with open_store(url, clock=SystemClock()) as store, anyio.create_task_group() as group:
        for writer in range(WRITERS):
            group.start_soon(write, store, life, writer)


if __name__ == "__main__":
    anyio.run(main)
