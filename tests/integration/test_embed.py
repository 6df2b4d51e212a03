"""The coordinator inside a Python program: the example does its task, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from aiagent_coordinator.embed import coordinator
from aiagent_coordinator.errors import AlreadyRunningError
from support.board import eventually
from support.house import House, house, living, script

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed.py"
PATIENCE = 60.0


def test_the_example_does_its_task_and_leaves_nothing(short_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(short_dir), "HOME": str(short_dir)},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "Write a greeting: succeeded (verified)"
    assert second.startswith("commit ")
    assert list(short_dir.glob("aac-embed-*")) == []


async def test_an_embedded_coordinator_holds_its_state_and_ends_its_agents(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house(short_dir) as home:
        for name, value in home.env.items():
            monkeypatch.setenv(name, value)
        with anyio.fail_after(PATIENCE):
            async with coordinator(home.config) as running:
                task = await running.add_task(
                    "app", "Wait", description=script({"sleep": 600}), agent_id="worker"
                )

                async def is_running() -> bool:
                    return (await running.call("get_status"))["tasks"] == {"running": 1}

                await eventually(is_running)
                with pytest.raises(AlreadyRunningError):
                    async with coordinator(home.config):
                        pass
                assert (await running.call("get_task", task_id=task["id"]))["task"]["title"]
        assert _alive(home) == []


def _alive(home: House) -> list[int]:
    return [pid for pid in living(home) if pid != os.getpid()]
