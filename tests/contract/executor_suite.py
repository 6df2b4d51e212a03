"""What every executor promises. A test module imports this whole and has a fixture `executor`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from aiagent_coordinator.executors.base import Executor, ExitRecord, Hold, HoldState, LaunchSpec
from aiagent_coordinator.executors.programs import copy_programs

FAKE_CLI = Path(__file__).parents[1] / "fakes" / "fake_cli.py"
SHAPES = ("child", "setsid", "daemon", "stealth", "hopper")
#: By default these do not end a process.
HARMLESS = {
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGWINCH,
}


class Bench:
    """One place to run commands in; knows which of its processes live."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shim_file = root / "programs" / "shim.py"
        copy_programs(self.shim_file.parent)

    def fake(self, *actions: str, **changes: Any) -> LaunchSpec:
        """A fake CLI that does these things, findable by this bench's folder in its command line."""
        argv = (sys.executable, "-I", "-S", str(FAKE_CLI), f"tag:{self.root}", *actions)
        spec = LaunchSpec("run_x", argv, self.root, {"FOO": "bar"}, grace_seconds=0.5)
        return replace(spec, **changes)

    def living(self, word: str = "") -> list[int]:
        """Processes of this bench that are alive, of those with the word in their command line."""
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    line = (folder / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if str(self.root) in line and word in line:
                    found.append(int(folder.name))
        return found

    def marks(self, name: str = "mark") -> int:
        """How often the fake CLI was started with `mark:` of that name."""
        file = self.root / name
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for pid in bench.living():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


async def eventually(is_so: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not is_so():  # noqa: ASYNC110 - other processes set no event of ours
            await anyio.sleep(0.01)


async def start(executor: Executor, bench: Bench, spec: LaunchSpec, name: str = "r") -> Path:
    """Start it and return its directory once the command runs."""
    directory = bench.root / name
    found = await executor.hold(directory, spec, bench.shim_file)
    assert found.state is HoldState.HELD
    assert found.shim is not None
    if spec.gate_seconds is not None:
        await executor.go(directory)
    await eventually(
        lambda: (now := executor.inspect(directory)).started or now.state is not HoldState.HELD
    )
    return directory


async def finish(executor: Executor, bench: Bench, spec: LaunchSpec, name: str = "r") -> Hold:
    with anyio.fail_after(30):
        return await executor.wait(await start(executor, bench, spec, name))


async def recorded(executor: Executor, bench: Bench, spec: LaunchSpec) -> ExitRecord:
    found = await finish(executor, bench, spec)
    assert found.state is HoldState.RECORDED
    assert found.record is not None
    return found.record


async def test_a_command_runs_and_its_output_and_exit_code_are_kept(
    executor: Executor, bench: Bench
):
    record = await recorded(executor, bench, bench.fake("lines:3", "errlines:2", "exit:7"))
    assert (record.exit_code, record.signal, record.reason, record.stop) == (7, None, None, None)
    assert record.started_at is not None
    assert record.ended_at is not None
    assert record.started_at <= record.ended_at
    assert record.cpu_seconds is not None
    assert record.cpu_seconds > 0
    assert (record.peak_rss_kib or 0) > 1000
    assert (bench.root / "r/out").read_text() == "line 1\nline 2\nline 3\n"
    assert (bench.root / "r/err").read_text() == "line 1\nline 2\n"


async def test_every_exit_code_and_every_deadly_signal_is_told_apart(
    executor: Executor, bench: Bench
):
    results: dict[str, tuple[int | None, int | None]] = {}

    async def one(action: str) -> None:
        found = await finish(executor, bench, bench.fake(action), action)
        assert found.record is not None
        results[action] = (found.record.exit_code, found.record.signal)

    codes = (0, 1, 2, 3, 77, 126, 127, 128, 130, 137, 143, 254, 255)
    signals = [number for number in range(1, 32) if number not in HARMLESS]
    expected = {f"exit:{code}": (code, None) for code in codes}
    expected |= {f"signal:{number}": (None, number) for number in signals}
    async with anyio.create_task_group() as group:
        for action in expected:
            group.start_soon(one, action)
    assert results == expected


async def test_the_command_gets_its_environment_session_and_three_descriptors_only(
    executor: Executor, bench: Bench
):
    spec = bench.fake("dump", env={"FOO": "b=ar", "JA": "日本", "EMPTY": ""})
    await recorded(executor, bench, spec)
    facts = json.loads((bench.root / "r/out").read_text())
    assert sorted(facts["environment"]) == ["EMPTY=", "FOO=b=ar", "JA=日本"]
    assert facts["descriptors"] == [0, 1, 2]
    assert facts["session"] == facts["pid"]
    assert facts["cwd"] == str(bench.root)


async def test_the_command_starts_with_no_signal_ignored_or_blocked(
    executor: Executor, bench: Bench
):
    """Python ignores SIGPIPE for itself; a CLI that inherits that never ends at a closed pipe."""
    spec = replace(bench.fake(), argv=("/bin/cat", "/proc/self/status"))
    await recorded(executor, bench, spec)
    status = (bench.root / "r/out").read_text()
    assert "SigIgn:\t0000000000000000" in status
    assert "SigBlk:\t0000000000000000" in status


async def test_a_prompt_of_any_size_arrives_on_stdin_unchanged(executor: Executor, bench: Bench):
    prompt = "ひらがな $HOME `id` {model}\n".encode() * 20_000
    (bench.root / "r").mkdir()
    (bench.root / "r/prompt").write_bytes(prompt)
    await recorded(executor, bench, bench.fake("stdin", stdin="prompt"))
    assert (bench.root / "r/out").read_bytes() == prompt


async def test_answers_arrive_on_stdin_whole_in_order_and_each_once(
    executor: Executor, bench: Bench
):
    """More than a pipe holds, while nobody reads yet; and again under a name that was there."""
    directory = await start(
        executor, bench, bench.fake(f"wait:{bench.root}/go", "stdin", stdin="answers")
    )
    first, second = "ひらがな $HOME `id`\n" * 10_000, "yes"
    assert await executor.answer(directory, "qst_1", first)
    assert await executor.answer(directory, "qst_1", first)
    assert await executor.answer(directory, "qst_1", "something else")
    assert await executor.answer(directory, "qst_2", second)
    (bench.root / "go").touch()
    begun = f"{first}\n{second}\n".encode()
    await eventually(lambda: (directory / "out").stat().st_size >= len(begun))
    assert await executor.answer(directory, "qst_2", second)
    assert await executor.answer(directory, "qst_3", "last")
    await eventually(lambda: (directory / "out").read_bytes().endswith(b"last\n"))
    assert await executor.signal(directory, "T")
    await executor.wait(directory)
    assert (directory / "out").read_bytes() == begun + b"last\n"
    assert not await executor.answer(directory, "qst_4", "late")


async def test_a_command_that_closes_its_stdin_is_troubled_by_no_answer(
    executor: Executor, bench: Bench
):
    spec = replace(
        bench.fake(stdin="answers"),
        argv=(
            "/bin/sh",
            "-c",
            f"exec <&-; touch {bench.root}/shut; until [ -e {bench.root}/go ]; do sleep 0.05; done",
        ),
    )
    directory = await start(executor, bench, spec)
    await eventually((bench.root / "shut").exists)
    assert await executor.answer(directory, "qst_1", "x" * 100_000)
    (bench.root / "go").touch()
    found = await executor.wait(directory)
    assert found.record is not None
    assert found.record.exit_code == 0


async def test_arguments_are_never_parsed_again(executor: Executor, bench: Bench):
    odd = ["tag:a b", "tag:$(id)", "tag:\n", "tag:'\"\\", "tag:日本", "tag:"]
    await recorded(executor, bench, bench.fake(*odd, "dump"))
    facts = json.loads((bench.root / "r/out").read_text())
    assert facts["argv"][2:-1] == odd


async def test_nothing_starts_before_go_and_go_may_be_repeated(executor: Executor, bench: Bench):
    spec = bench.fake(f"mark:{bench.root}/mark", "forever", gate_seconds=60)
    directory = bench.root / "r"
    found = await executor.hold(directory, spec, bench.shim_file)
    assert found.state is HoldState.HELD
    await eventually((directory / "out").exists)
    assert bench.marks() == 0
    assert not executor.inspect(directory).started
    for _ in range(3):
        await executor.go(directory)
    await eventually(lambda: bench.marks() == 1)
    assert await executor.signal(directory, "K")
    await executor.wait(directory)
    await executor.go(directory)
    assert bench.marks() == 1


@pytest.mark.parametrize("how", ["T", "K"])
async def test_stopped_at_the_gate_it_never_starts(
    executor: Executor, bench: Bench, how: Literal["T", "K"]
):
    spec = bench.fake(f"mark:{bench.root}/mark", gate_seconds=60)
    directory = bench.root / "r"
    await executor.hold(directory, spec, bench.shim_file)
    assert await executor.signal(directory, how)
    found = await executor.wait(directory)
    assert found.record is not None
    assert (found.state, found.record.reason) == (HoldState.RECORDED, "not_started")
    assert (found.record.stop, found.record.exit_code, found.record.signal) == (how, None, None)
    assert (found.started, bench.marks()) == (False, 0)


async def test_a_gate_that_nobody_opens_closes_for_good(executor: Executor, bench: Bench):
    spec = bench.fake(f"mark:{bench.root}/mark", gate_seconds=0.1)
    directory = bench.root / "r"
    await executor.hold(directory, spec, bench.shim_file)
    found = await executor.wait(directory)
    assert found.record is not None
    assert found.record.reason == "not_started"
    await executor.go(directory)
    assert (await executor.hold(directory, spec, bench.shim_file)).record == found.record
    assert bench.marks() == 0


async def test_stop_asks_first_and_keeps_the_exit_code(executor: Executor, bench: Bench):
    directory = await start(
        executor, bench, bench.fake("term-exit:5", f"mark:{bench.root}/mark", "forever")
    )
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.exit_code, record.reason, record.stop) == (5, "stopped", "T")


async def test_what_is_started_in_the_moment_of_a_stop_does_not_wait_for_the_grace(
    executor: Executor, bench: Bench
):
    """It has not heard the first TERM; it hears another when the command itself is gone."""
    mark = bench.root / "mark"
    late = f"trap 'sleep 600 & exit 0' TERM; echo $$ >> {mark}; while :; do sleep 0.05; done"
    spec = replace(bench.fake(grace_seconds=600), argv=("/bin/sh", "-c", late))
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    with anyio.fail_after(20):
        record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.exit_code, record.reason) == (0, "stopped")


async def test_what_lost_the_first_term_hears_another(executor: Executor, bench: Bench):
    """Between fork and exec a process may take a signal for its parent's, and it is gone."""
    mark = bench.root / "mark"
    deaf = f"trap '' TERM; sleep 1; echo x >> {mark}.deaf; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    late = f"({deaf}) & trap 'exit 0' TERM; echo $$ >> {mark}; while :; do sleep 0.05; done"
    spec = replace(bench.fake(grace_seconds=600), argv=("/bin/sh", "-c", late))
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    with anyio.fail_after(60):
        record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.exit_code, record.reason) == (0, "stopped")
    assert Path(f"{mark}.deaf").exists()  # noqa: ASYNC240 - it is over


async def test_a_command_that_ignores_term_is_gone_after_the_grace(
    executor: Executor, bench: Bench
):
    spec = bench.fake("ignore-term", f"mark:{bench.root}/mark", "forever", grace_seconds=0.3)
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    for _ in range(3):
        assert await executor.signal(directory, "T")
    with anyio.fail_after(10):
        record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.signal, record.reason, record.stop) == (9, "stopped", "T")
    assert not bench.living()


async def test_kill_does_not_ask(executor: Executor, bench: Bench):
    spec = bench.fake("term-exit:5", f"mark:{bench.root}/mark", "forever", grace_seconds=600)
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, "K")
    record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.signal, record.reason, record.stop) == (9, "killed", "K")


async def test_kill_cuts_a_long_grace_short(executor: Executor, bench: Bench):
    spec = bench.fake("ignore-term", f"mark:{bench.root}/mark", "forever", grace_seconds=600)
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    assert await executor.signal(directory, "K")
    with anyio.fail_after(10):
        record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.signal, record.reason) == (9, "killed")


async def test_a_stopped_process_is_ended_all_the_same(executor: Executor, bench: Bench):
    """SIGSTOP must not outlast our stop."""
    directory = await start(executor, bench, bench.fake(f"mark:{bench.root}/mark", "stop"))
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    with anyio.fail_after(10):
        record = (await executor.wait(directory)).record
    assert record is not None
    assert (record.signal, record.reason) == (15, "stopped")


@pytest.mark.parametrize("how", ["T", "K"])
@pytest.mark.parametrize("shape", [*SHAPES, "child-ignoring"])
async def test_stop_leaves_no_descendant(
    executor: Executor, bench: Bench, shape: str, how: Literal["T", "K"]
):
    spec = bench.fake(f"spawn:{shape}", f"mark:{bench.root}/mark", "forever")
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, how)
    with anyio.fail_after(20):
        found = await executor.wait(directory)
    assert found.state is HoldState.RECORDED
    assert not bench.living()


@pytest.mark.parametrize("shape", [*SHAPES, "child-ignoring"])
async def test_what_a_finished_command_leaves_behind_is_ended(
    executor: Executor, bench: Bench, shape: str
):
    """A CLI's own servers otherwise pile up: its users found a hundred orphans holding gigabytes."""
    record = await recorded(executor, bench, bench.fake(f"spawn:{shape}", "exit:0"))
    assert (record.exit_code, record.reason) == (0, None)
    assert not bench.living()


async def test_the_record_is_there_before_the_sweep_ends(executor: Executor, bench: Bench):
    directory = await start(executor, bench, bench.fake("spawn:stealth", "exit:4"))
    await eventually(lambda: executor.inspect(directory).record)
    found = executor.inspect(directory)
    assert found.record is not None
    assert found.record.exit_code == 4
    assert (await executor.wait(directory)).state is HoldState.RECORDED


async def test_leftovers_may_be_kept(executor: Executor, bench: Bench):
    spec = bench.fake("spawn:daemon", "exit:0", kill_leftovers=False)
    found = await finish(executor, bench, spec)
    assert found.state is HoldState.RECORDED
    assert len(bench.living("spawn:daemon")) == 1


async def test_stop_ends_the_tree_even_where_leftovers_may_be_kept(
    executor: Executor, bench: Bench
):
    spec = bench.fake("spawn:daemon", f"mark:{bench.root}/mark", "forever", kill_leftovers=False)
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    assert await executor.signal(directory, "T")
    await executor.wait(directory)
    assert not bench.living()


def _unstartable(root: Path) -> dict[str, tuple[tuple[str, ...], Path, str]]:
    plain, script = root / "plain", root / "script"
    plain.write_text("echo\n")
    script.write_text("#!/no/such/interpreter\n")
    binary = root / "binary"
    binary.write_bytes(b"\0\1\2")
    for file in (script, binary):
        file.chmod(0o700)
    return {
        "missing": (("/no/such/cli",), root, "/no/such/cli: No such file or directory"),
        "not executable": ((str(plain),), root, "plain: Permission denied"),
        "no program": ((str(binary),), root, "binary: Exec format error"),
        "no interpreter": ((str(script),), root, "(its interpreter)"),
        "relative": (("true",), root, "no absolute path"),
        "directory": (("/",), root, "Permission denied"),
        "cwd missing": (("/bin/true",), root / "gone", "working directory"),
        "cwd is a file": (("/bin/true",), plain, "Not a directory"),
        "argument too long": (("/bin/true", "x" * 200_000), root, "Argument list too long"),
        "NUL": (("/bin/true", "a\0b"), root, "null byte"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "missing",
        "not executable",
        "no program",
        "no interpreter",
        "relative",
        "directory",
        "cwd missing",
        "cwd is a file",
        "argument too long",
        "NUL",
    ],
)
async def test_what_cannot_be_started_is_recorded_with_its_cause(
    executor: Executor, bench: Bench, case: str
):
    argv, cwd, cause = _unstartable(bench.root)[case]
    record = await recorded(executor, bench, replace(bench.fake(), argv=argv, cwd=cwd))
    assert (record.exit_code, record.signal, record.reason) == (None, None, "spawn_failed")
    assert cause in (record.error or "")
    assert record.started_at is None
    assert cause in (bench.root / "r/err").read_text()
    assert not executor.inspect(bench.root / "r").started


async def test_holding_again_never_starts_a_second_time(executor: Executor, bench: Bench):
    spec = bench.fake(f"mark:{bench.root}/mark", "forever")
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    first = executor.inspect(directory)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(executor.hold, directory, spec, bench.shim_file)
    assert executor.inspect(directory).shim == first.shim
    assert await executor.signal(directory, "K")
    found = await executor.wait(directory)
    assert await executor.hold(directory, spec, bench.shim_file) == found
    assert bench.marks() == 1


async def test_holders_at_the_same_time_start_one(executor: Executor, bench: Bench):
    spec = bench.fake(f"mark:{bench.root}/mark", "forever")
    directory = bench.root / "r"
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(executor.hold, directory, spec, bench.shim_file)
    await eventually(bench.marks)
    assert await executor.signal(directory, "K")
    await executor.wait(directory)
    assert bench.marks() == 1


async def test_waiting_can_be_cancelled_and_taken_up_again(executor: Executor, bench: Bench):
    directory = await start(executor, bench, bench.fake(f"wait:{bench.root}/go", "exit:3"))
    with anyio.move_on_after(0.05) as scope:
        await executor.wait(directory)
    assert scope.cancelled_caught
    assert executor.inspect(directory).state is HoldState.HELD
    (bench.root / "go").touch()
    found = await executor.wait(directory)
    assert found.record is not None
    assert found.record.exit_code == 3


async def test_many_may_wait(executor: Executor, bench: Bench):
    directory = await start(executor, bench, bench.fake(f"wait:{bench.root}/go", "exit:3"))
    seen: list[Hold] = []

    async def one() -> None:
        seen.append(await executor.wait(directory))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)
            (bench.root / "go").touch()
    assert len(seen) == 5
    assert len(set(seen)) == 1


async def test_nobody_listens_after_the_end(executor: Executor, bench: Bench):
    await finish(executor, bench, bench.fake("exit:0"))
    assert not await executor.signal(bench.root / "r", "T")
    assert not await executor.signal(bench.root / "never", "K")


async def test_what_was_never_held_is_absent(executor: Executor, bench: Bench):
    assert executor.inspect(bench.root / "none") == Hold(
        HoldState.ABSENT, None, None, started=False
    )
    assert (await executor.wait(bench.root / "none")).state is HoldState.ABSENT


async def test_output_at_full_speed_is_complete(executor: Executor, bench: Bench):
    await recorded(executor, bench, bench.fake("mb:30", "line:5000000", "exit:0"))
    assert (bench.root / "r/out").stat().st_size == 30 * 1024 * 1024 + 5_000_000
