"""Writes to a store until it is killed: prints each name only once its commit was acknowledged."""

from __future__ import annotations

import sys

import anyio

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.store import coordinators
from aiagent_coordinator.store.engine import Store, open_store

WRITERS = 8


async def write(store: Store, life: str, writer: int, count: int) -> None:
    for number in range(count):
        name = f"crd_{life}_{writer}_{number}"
        try:
            await store.write(lambda unit, name=name: coordinators.seen(unit, name, None, 1))
        except CoordinatorError as error:
            # As a server does: the next caller is served, whatever this one was told.
            sys.stdout.write(f"refused {error.message}\n")
            sys.stdout.flush()
            await anyio.sleep(0.05)
            continue
        # One write call of one line: a kill cannot leave half a name that looks whole.
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


async def main() -> None:
    url, life, *given = sys.argv[1:]
    count, writers = (int(given[0]), 4) if given else (10**9, WRITERS)
    async with open_store(url, clock=SystemClock()) as store, anyio.create_task_group() as group:
        for writer in range(writers):
            group.start_soon(write, store, life, writer, count)


if __name__ == "__main__":
    ended = None
    try:
        anyio.run(main)
    except* CoordinatorError as errors:
        # not left from in here: before Python 3.11.4 that becomes a group of its own
        ended = f"ended: {errors.exceptions[0]!r}"
    sys.exit(ended)
