"""Starts commands with ever more descriptors to spare, as a coordinator that nearly ran out of them.

    starved_spawner.py SHIM_FILE ROOT     for 0, 1, 2, … spare descriptors one command in ROOT/<n>
                                          until one starts; prints a line of JSON for each.

Each command appends a line to ROOT/<n>.mark when it starts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from functools import partial
from pathlib import Path

import anyio

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.executors.base import HoldState, LaunchSpec
from aiagent_coordinator.executors.local import LocalExecutor

FAKE_CLI = Path(__file__).with_name("fake_cli.py")
#: More spare descriptors than a start needs.
MOST = 40
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def used() -> int:
    """The lowest number that is free."""
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


async def one(executor: LocalExecutor, directory: Path, shim_file: Path, spare: int) -> bool:
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), f"mark:{directory}.mark", "exit:7")
    spec = LaunchSpec("run", argv, Path("/"), {}, gate_seconds=30.0)
    said: dict[str, object] = {"spare": spare, "error": None, "state": None}
    resource.setrlimit(resource.RLIMIT_NOFILE, (used() + spare, HARD))
    try:
        said["state"] = (await executor.hold(directory, spec, shim_file)).state.value
    except SpawnError as error:
        said["error"] = error.message
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    if said["state"] == HoldState.HELD:
        try:
            await executor.go(directory)
        except SpawnError as error:
            said["error"] = error.message
    found = await executor.wait(directory)
    record = found.record
    said |= {"end": found.state.value, "code": record and record.exit_code}
    # A shim starts with as few, and may say so itself.
    said["error"] = said["error"] or (record and record.error)
    print(json.dumps(said), flush=True)
    return said["code"] == 7


async def run(shim_file: Path, root: Path) -> None:
    executor = LocalExecutor()
    # What is opened once and kept is no matter of a start.
    await executor.wait(root / "none")
    for spare in range(MOST):
        if await one(executor, root / str(spare), shim_file, spare):
            return


if __name__ == "__main__":
    anyio.run(partial(run, Path(sys.argv[1]), Path(sys.argv[2])))
