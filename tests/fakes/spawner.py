"""Uses LocalExecutor as a coordinator does, and may be killed at any moment.

    spawner.py SHIM_FILE ROOT COUNT     COUNT gated commands in ROOT/<n>, each: hold, go. Then sleeps.
    spawner.py SHIM_FILE ROOT wait      waits for ROOT and prints state and exit code.

Each command appends a line to ROOT/<n>.mark when it starts: that is how a second start would show.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio

from aiagent_coordinator.executors.base import HoldState, LaunchSpec
from aiagent_coordinator.executors.local import LocalExecutor

FAKE_CLI = Path(__file__).with_name("fake_cli.py")


async def launch(executor: LocalExecutor, directory: Path, shim_file: Path) -> None:
    mark = directory.with_suffix(".mark")
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), f"mark:{mark}", "lines:3", "exit:7")
    spec = LaunchSpec("run", argv, Path("/"), {}, gate_seconds=10.0)
    found = await executor.hold(directory, spec, shim_file)
    if found.state is HoldState.HELD:
        await executor.go(directory)


async def burst(root: Path, count: int, shim_file: Path) -> None:
    executor = LocalExecutor()
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(launch, executor, root / str(number), shim_file)
    print("launched", flush=True)
    await anyio.sleep_forever()


async def follow(directory: Path) -> None:
    found = await LocalExecutor().wait(directory)
    print(found.state.value, found.record and found.record.exit_code, flush=True)


def main() -> None:
    shim_file, root, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if what == "wait":
        anyio.run(partial(follow, root))
    else:
        anyio.run(partial(burst, root, int(what), shim_file))


if __name__ == "__main__":
    main()
