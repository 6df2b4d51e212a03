"""What a run leaves behind, whatever was killed: ended, named, and nobody else is touched.

Real CLIs put the children of their shell tools into sessions of their own, leave servers running, and
agents end processes by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.executors import cgroup
from aiagent_coordinator.executors.base import HoldState, LaunchSpec
from aiagent_coordinator.executors.inspection import inspect
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs
from support.house import HOLD, House, house, living, script, until

FAKE_CLI = Path(__file__).parents[1] / "fakes" / "fake_cli.py"
REPORT = {"report": {"result": "success", "summary": "done"}}
#: A server of the CLI's that nobody ends; its name is told by its argument.
DAEMON: dict[str, Any] = {"spawn_child": {"seconds": 600, "shape": "daemon"}}
SESSION: dict[str, Any] = {"spawn_child": {"seconds": 600, "shape": "session"}}
NAP = "time.sleep(600"


def naps(home: House) -> list[int]:
    """Children that agents of this house left or have, without who only starts one."""
    commands = {pid: command_of(pid) for pid in living(home)}
    return [pid for pid, text in commands.items() if NAP in text and "subprocess" not in text]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def shim_of(home: House, run: dict[str, Any]) -> int:
    return int(run["shim"]["pid"])


@contextmanager
def stranger(*argv: str, cwd: Path, env: dict[str, str] | None = None) -> Generator[int]:
    """A process of the same user that has nothing to do with us."""
    process = subprocess.Popen(
        argv, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True
    )
    # Reaped at once when it ends, as its own parent would do.
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    try:
        yield process.pid
    finally:
        process.kill()
        reaper.join()


def state_of(pid: int) -> str:
    """The kernel's letter for a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    return bool(command_of(pid))


def test_a_killed_shim_takes_its_tree_with_it_and_the_run_is_lost(short_dir: Path):
    """An unknown end is never exit code 0, and what the shim can no longer end is found by its tag."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("lost", script(DAEMON, SESSION, HOLD, REPORT))["id"]
        first = home.running(task)
        until("its children live", lambda: len(naps(home)) == 2)
        left = naps(home)
        os.kill(shim_of(home, first), signal.SIGKILL)
        ended = home.over(first["id"])
        assert (ended["outcome"], ended["reason"]) == ("lost", "shim_lost")
        assert (ended["exit_code"], ended["signal"]) == (None, None)
        assert not [pid for pid in left if is_alive(pid)]
        assert len([one for one in ended["leftovers"] if NAP in one]) == 2
        assert home.task(task)["attempt"] == 1, "that costs no attempt"
        second = home.running(task)
        assert second["id"] != first["id"], "its slot was free again"
        home.go(task)
        assert home.last(task, 2)["outcome"] == "succeeded"
        home.down()


def test_with_shim_and_coordinator_killed_together_the_next_life_sweeps(short_dir: Path):
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("lost", script(DAEMON, SESSION, HOLD, REPORT))["id"]
        first = home.running(task)
        until("its children live", lambda: len(naps(home)) == 2)
        left = naps(home)
        process.kill()
        os.kill(shim_of(home, first), signal.SIGKILL)
        process.wait()
        assert len([pid for pid in left if is_alive(pid)]) == 2, "nobody was there to end them"
        home.ready()
        ended = home.over(first["id"])
        assert (ended["outcome"], ended["reason"]) == ("lost", "shim_lost")
        assert (ended["exit_code"], ended["signal"]) == (None, None)
        assert not [pid for pid in left if is_alive(pid)]
        home.running(task)
        home.go(task)
        assert home.last(task, 2)["outcome"] == "succeeded"
        home.down()


def test_leftovers_are_named_and_ended_or_kept_and_strangers_live(short_dir: Path):
    """A daemon outlives exit 0: it is ended and named, or kept where the agent's settings say so."""
    with house(short_dir) as home:
        home.write(
            agents={
                "tidy": {"provider": "rehearsal"},
                "keeper": {"provider": "rehearsal", "kill_leftovers": False},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        tidy = home.add("tidy", script(DAEMON, REPORT), agent="tidy")["id"]
        ended = home.last(tidy)
        assert (ended["outcome"], ended["exit_code"]) == ("succeeded", 0)
        assert ended["leftovers_ended"] is True
        assert [NAP in one for one in ended["leftovers"]] == [True]
        assert not naps(home)
        keeper = home.add("keeper", script(DAEMON, REPORT), agent="keeper")["id"]
        kept = home.last(keeper)
        assert (kept["outcome"], kept["exit_code"]) == ("succeeded", 0)
        assert kept["leftovers_ended"] is False
        assert [NAP in one for one in kept["leftovers"]] == [True]
        (daemon,) = naps(home)
        assert inspect(home.state / "run" / kept["id"]).state is HoldState.RECORDED
        assert [line["ended"] for line in home.logged("run.leftovers")] == [True, False]
        # The next life sweeps when it begins.
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        workspace = home.state / "worktrees" / "app" / tidy
        nap = (sys.executable, "-c", "import time; time.sleep(600)")
        with (
            stranger(*nap, cwd=workspace) as visitor,
            stranger(*nap, cwd=short_dir, env={"AIAGENT_RUN_ID": "run_of_somebody"}) as foreign,
            stranger(*nap, cwd=short_dir, env={"AIAGENT_RUN_ID": ended["id"]}) as tagged,
        ):
            home.ready()
            until("what has a dead run's tag is gone", lambda: not is_alive(tagged))
            until("that was told", lambda: len(home.logged("run.leftovers")) == 3)
            assert [is_alive(pid) for pid in (visitor, foreign, daemon)] == [True] * 3
        hidden = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600.0)"
        # It hides its tag, but it is an orphan that works where nobody works any more.
        subprocess.run([sys.executable, "-c", hidden], cwd=workspace, env={}, check=True)
        (orphan,) = [pid for pid in naps(home) if pid != daemon]
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        home.ready()
        until("the orphan is gone", lambda: not is_alive(orphan))
        assert is_alive(daemon)


@pytest.mark.needs("strace")
def test_a_stranger_with_the_number_of_a_dead_shim_gets_no_signal(short_dir: Path):
    """Numbers are used again; whoever has ours now must not even be asked."""
    trace = short_dir / "trace"
    under = ("strace", "-D", "-f", "-y", "-o", str(trace))
    calls = ("-e", "trace=kill,tkill,tgkill,pidfd_send_signal")
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("lost", script(HOLD, REPORT))["id"]
        run = home.running(task)
        process.kill()
        os.kill(shim_of(home, run), signal.SIGKILL)
        process.wait()
        with stranger("sleep", "600", cwd=Path("/")) as pid:
            folder = home.state / "run" / run["id"]
            until("the lock is free", lambda: inspect(folder).state is HoldState.LOST)
            for name in ("lock", "started"):
                facts = json.loads((folder / name).read_text().strip("\0\n "))
                (folder / name).write_text(json.dumps(facts | {"pid": pid}) + "\n")
            home.ready(under=(*under, *calls))
            assert home.over(run["id"])["outcome"] == "lost"
            home.running(task)
            home.down()
            assert is_alive(pid)
        lines = trace.read_text().splitlines()
        assert any("SIGTERM" in line for line in lines), "signals are seen"
        assert not [line for line in lines if f"({pid}," in line or f"<pid:{pid}>" in line]


def test_agents_that_kill_by_name_do_not_meet_us(short_dir: Path):
    """`pkill python` or `killall node` in a shell tool must not end who looks after the run."""
    with house(short_dir) as home:
        daemon = home.ready()
        task = home.add("runs", script(HOLD, REPORT))["id"]
        run = home.running(task)
        shim = shim_of(home, run)
        for pid, name in ((daemon.pid, "aac-coordinator"), (shim, "aac-shim")):
            assert Path(f"/proc/{pid}/comm").read_text().strip() == name
            assert command_of(pid).startswith(f"{name} {home.state}")
            assert "python" not in command_of(pid)
        children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        score = int(Path(f"/proc/{children[0]}/oom_score_adj").read_text())
        assert score > int(Path(f"/proc/{shim}/oom_score_adj").read_text())
        limits = Path(f"/proc/{children[0]}/limits").read_text()
        assert [line.split()[4] for line in limits.splitlines() if "core file" in line] == ["0"]
        assert "python" in command_of(int(children[0]))
        home.down()


def held(root: Path, *actions: str, **changes: Any) -> tuple[Path, LaunchSpec]:
    copy_programs(root / "programs")
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), f"tag:{root}", *actions)
    spec = LaunchSpec("run_x", argv, root, {"AIAGENT_RUN_ID": "r"}, grace_seconds=0.5, **changes)
    return root / "r", spec


async def test_a_command_outlives_the_thread_that_started_it(tmp_path: Path):
    """The kernel's death signal follows the thread that forked: only the shim may ask for it."""
    mark = tmp_path / "mark"
    directory, spec = held(tmp_path, f"mark:{mark}", f"wait:{tmp_path}/go", "exit:7")
    executor = LocalExecutor()

    def start() -> None:
        anyio.run(LocalExecutor().hold, directory, spec, tmp_path / "programs" / "shim.py")

    thread = threading.Thread(target=start)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    with anyio.fail_after(20):
        while not mark.exists():  # noqa: ASYNC110 - another process sets no event of ours
            await anyio.sleep(0.01)
        (tmp_path / "go").touch()
        found = await executor.wait(directory)
    assert found.record is not None
    assert found.record.exit_code == 7


async def test_a_shim_that_nobody_reaps_does_not_look_alive(tmp_path: Path):
    """Under a first process that does not reap, as in many containers, the dead stay listed."""
    directory, spec = held(tmp_path, "exit:7")
    starter = LocalExecutor()
    found = await starter.hold(directory, spec, tmp_path / "programs" / "shim.py")
    assert found.shim is not None
    with anyio.fail_after(20):
        # Its parent does not look, so the dead one stays.
        while state_of(found.shim.pid) != "Z":  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
        ended = await LocalExecutor().wait(directory)
    assert ended.state is HoldState.RECORDED
    assert ended.record is not None
    assert ended.record.exit_code == 7
    await starter.wait(directory)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("shape", ["setsid", "daemon", "stealth", "hopper"])
async def test_after_a_killed_shim_every_shape_of_descendant_is_found(
    tmp_path: Path, shape: str, *, seen: bool
):
    """By the group where there is one; else by its tag, or because it was seen in the tree."""
    directory, spec = held(tmp_path, f"spawn:{shape}", f"mark:{tmp_path}/mark", "forever")
    executor = LocalExecutor()
    await executor.hold(directory, spec, tmp_path / "programs" / "shim.py")
    with anyio.fail_after(20):
        while not (tmp_path / "mark").exists():  # noqa: ASYNC110 - another process's file
            await anyio.sleep(0.01)
    if seen:
        sample = await executor.sample(directory)
        assert sample is not None
        assert sample.processes >= 2
    shim = executor.inspect(directory).shim
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    with anyio.fail_after(20):
        found = await executor.wait(directory)
    assert found.state is HoldState.LOST
    left = [pid for pid in _tagged(tmp_path) if is_alive(pid)]
    if not seen and shape == "stealth":
        # Begun before its group joined, or without one, it is what the sweep finds by its folder.
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        left = []
    assert not left
    group = cgroup.folder_of(directory)
    assert group is None or not list(group.parent.glob(group.name))


def _tagged(root: Path) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and f"tag:{root}" in command_of(int(entry.name))
    ]
