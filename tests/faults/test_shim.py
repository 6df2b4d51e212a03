"""The shim as a program: faults of the system at each of its steps, and what it costs when idle."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import wire
from aiagent_coordinator.executors.base import Hold, HoldState
from aiagent_coordinator.executors.inspection import inspect

SHIM = Path(wire.__file__).with_name("shim.py")
FAKE_CLI = Path(__file__).parents[1] / "fakes" / "fake_cli.py"
PYTHON = os.path.realpath(sys.executable)
#: What a shim may load beside the interpreter's own start: anything more is start time of every run.
LOADED = {"_signal", "_json", "_ctypes", "_struct", "select", "time", "resource"}


class Stage:
    """One run directory and the shim in it, started as a coordinator starts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.program = SHIM
        self.directory = root / "r"
        self.directory.mkdir()
        self.shim: subprocess.Popen[bytes] | None = None
        os.mkfifo(self.directory / "ctl", 0o600)

    def fake(self, *actions: str) -> list[str]:
        return [PYTHON, "-I", "-S", str(FAKE_CLI), f"tag:{self.root}", *actions]

    def start(self, argv: list[str], *wrapper: str, **spec: Any) -> subprocess.Popen[bytes]:
        facts = {
            "format": 1,
            "run_id": "run_x",
            "argv": argv,
            "cwd": str(self.root),
            "stdin": "null",
            "gate_seconds": None,
            "grace_seconds": 0.3,
            "kill_leftovers": True,
            "server": None,
        }
        (self.directory / "spec.json").write_text(json.dumps(facts | spec))
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.truncate(lock, 0)
        self.shim = subprocess.Popen(
            [*wrapper, PYTHON, "-I", "-S", str(self.program), str(self.directory), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"FOO": "bar"},
            pass_fds=(lock,),
            start_new_session=True,
        )
        os.close(lock)
        return self.shim

    def run_again(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        """Run the shim over what lies there, to its end; its own exit status says nothing."""
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return subprocess.run(
                [PYTHON, "-I", "-S", *options, str(SHIM), str(self.directory), str(lock)],
                pass_fds=(lock,),
                check=False,
                capture_output=True,
                timeout=20,
            )
        finally:
            os.close(lock)

    def strace(self, *inject: str) -> list[str]:
        """Run the shim, not its children, under faults."""
        options = [f"--inject={one}" for one in inject]
        return ["strace", "-o", str(self.root / "trace"), *options]

    def finish(self) -> Hold:
        assert self.shim is not None
        self.shim.wait(timeout=30)
        # A fork of a killed shim has the lock until it sees that it is an orphan.
        until(lambda: inspect(self.directory).state is not HoldState.HELD)
        return inspect(self.directory)

    def say(self, word: bytes) -> None:
        until((self.directory / "ticks").exists)
        fifo = os.open(self.directory / "ctl", os.O_WRONLY)
        os.write(fifo, word)
        os.close(fifo)

    def living(self) -> list[int]:
        """The fake CLI and its descendants, where alive."""
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    line = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if f"tag:{self.root}".encode() in line:
                    found.append(int(folder.name))
        return found

    def rows(self) -> list[tuple[int, int, int, int]]:
        if not (self.directory / "ticks").exists():
            return []
        return list(struct.iter_unpack("<qqqq", (self.directory / "ticks").read_bytes()))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    if stage.shim is not None:
        stage.shim.kill()
        stage.shim.wait()
    for pid in stage.living():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def code(found: Hold) -> int | None:
    assert found.state is HoldState.RECORDED
    assert found.record is not None
    return found.record.exit_code


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "fault",
    [
        "fsync:error=EIO",
        "rename:error=EIO",
        "rename:error=EIO:when=2",
        "fallocate:error=EOPNOTSUPP",
        "inotify_init1:error=EMFILE",
        "inotify_add_watch:error=ENOSPC",
        "pidfd_open:error=EMFILE",
        "unlink:error=EIO",
        "clone:error=EAGAIN:when=1..3",
    ],
)
def test_the_exit_code_survives_faults_of_the_system(stage: Stage, fault: str):
    stage.start(stage.fake("spawn:stealth", "lines:2", "exit:7"), *stage.strace(fault))
    found = stage.finish()
    assert code(found) == 7
    assert not stage.living()
    assert found.started
    assert stage.rows()[-1][2] == len("line 1\nline 2\n")


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("clone:error=EAGAIN", "fork: Resource temporarily unavailable"),
        ("clone:error=ENOMEM", "fork: Cannot allocate memory"),
        ("pipe2:error=EMFILE", "Too many open files"),
    ],
)
def test_a_process_that_cannot_be_made_is_recorded(stage: Stage, fault: str, cause: str):
    stage.start(stage.fake("exit:7"), *stage.strace(fault))
    found = stage.finish()
    assert found.record is not None
    assert (found.record.reason, found.started) == ("spawn_failed", False)
    assert cause in (found.record.error or "")


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "call", ["pwrite64", "write", "rename", "fsync", "openat", "clone", "wait4", "pselect6", "read"]
)
def test_a_shim_killed_at_any_call_leaves_one_true_state_and_no_process(stage: Stage, call: str):
    """Kill -9 at the Nth call, for all N until the call is no longer reached."""
    mark = stage.root / "mark"
    # Reads and opens of the interpreter's own start are many and alike.
    numbers = range(1, 60) if call not in {"openat", "read"} else range(1, 80, 3)
    for number in numbers:
        stage.start(
            stage.fake(f"mark:{mark}", "lines:1", "exit:7"),
            *stage.strace(f"{call}:signal=KILL:when={number}"),
        )
        found = stage.finish()
        until(lambda: not stage.living())
        assert found.state in {HoldState.NEVER_STARTED, HoldState.LOST, HoldState.RECORDED}
        if mark.exists():
            assert found.state is not HoldState.NEVER_STARTED
        if found.state is HoldState.RECORDED:
            assert code(found) == 7
        if "killed by SIGKILL" not in (stage.root / "trace").read_text():
            assert number > 1
            break
        mark.unlink(missing_ok=True)
        shutil.rmtree(stage.directory)
        stage.directory.mkdir()
        os.mkfifo(stage.directory / "ctl", 0o600)
    else:
        assert call in {"openat", "read"}


@pytest.mark.needs("strace")
def test_without_a_subreaper_the_group_is_ended(stage: Stage):
    """As on macOS: what stays in the command's session goes, daemons are out of reach."""
    stage.start(
        stage.fake("spawn:child", "spawn:child-ignoring", "exit:3"),
        *stage.strace("prctl:error=EINVAL"),
    )
    assert code(stage.finish()) == 3
    assert not stage.living()


@pytest.mark.needs("strace")
def test_without_a_subreaper_stop_reaches_the_group(stage: Stage):
    mark = stage.root / "mark"
    stage.start(
        stage.fake("ignore-term", "spawn:child", f"mark:{mark}", "forever"),
        *stage.strace("prctl:error=EINVAL"),
    )
    until(mark.exists)
    stage.say(b"T")
    found = stage.finish()
    assert found.record is not None
    assert (found.record.signal, found.record.reason) == (9, "stopped")
    assert not stage.living()


def test_without_the_kernels_list_of_children_they_are_found_by_a_scan(stage: Stage):
    stage.program = stage.root / "shim.py"
    stage.program.write_text(SHIM.read_text().replace("/children", "/no_such_list"))
    mark = stage.root / "mark"
    stage.start(stage.fake("spawn:stealth", f"mark:{mark}", "forever"))
    until(mark.exists)
    stage.say(b"T")
    assert stage.finish().state is HoldState.RECORDED
    assert not stage.living()


@pytest.mark.parametrize("name", ["out", "err", "ticks", "prompt", "exit.tmp", "started.tmp"])
@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_a_file_that_is_none_is_refused(stage: Stage, name: str, kind: str):
    """The folder belongs to the user whose agents run: what lies there is not trusted."""
    victim = stage.root / "victim"
    victim.write_text("mine")
    target = stage.directory / name
    match kind:
        case "symlink":
            target.symlink_to(victim)
        case "fifo":
            os.mkfifo(target)
        case _:
            target.mkdir()
    if name != "prompt":
        (stage.directory / "prompt").touch()
    mark = stage.root / "mark"
    stage.start(stage.fake(f"mark:{mark}", "lines:1"), stdin="prompt")
    found = stage.finish()
    assert victim.read_text() == "mine"
    assert not mark.exists()
    if name == "exit.tmp":
        assert found.state is HoldState.NEVER_STARTED
    else:
        assert found.record is not None
        assert found.record.reason == "spawn_failed"
        assert name in (found.record.error or "")


def test_a_ctl_that_is_no_fifo_is_refused(stage: Stage):
    (stage.directory / "ctl").unlink()
    (stage.directory / "ctl").touch()
    stage.start(stage.fake("exit:0"))
    found = stage.finish()
    assert found.record is not None
    assert (found.record.reason, found.record.error) == ("spawn_failed", "ctl: not a FIFO")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff", b'{"format": 2}', b"nul\0", b'{"format": 1, "argv": 5}'],
)
def test_a_spec_that_cannot_be_read_is_recorded(stage: Stage, content: bytes):
    stage.start([])
    stage.finish()
    (stage.directory / "exit").unlink()
    (stage.directory / "spec.json").write_bytes(content)
    stage.run_again()
    found = inspect(stage.directory)
    assert found.record is not None
    assert found.record.reason == "spawn_failed"
    assert "spec.json" in (found.record.error or "")
    assert "SystemError" not in (found.record.error or "")


def test_the_identity_stands_in_the_lock_while_the_gate_is_closed(stage: Stage):
    shim = stage.start(stage.fake("exit:0"), gate_seconds=60)
    until(lambda: inspect(stage.directory).shim)
    found = inspect(stage.directory)
    assert found.shim is not None
    assert (found.state, found.shim.pid) == (HoldState.HELD, shim.pid)
    stage.say(b"xyzG")
    assert code(stage.finish()) == 0


def test_a_word_of_stop_outweighs_a_go_that_came_with_it(stage: Stage):
    mark = stage.root / "mark"
    stage.start(stage.fake(f"mark:{mark}"), gate_seconds=60)
    stage.say(b"GT")
    found = stage.finish()
    assert found.record is not None
    assert found.record.reason == "not_started"
    assert not mark.exists()


def test_term_to_the_shim_is_a_stop_and_hangup_and_interrupt_are_nothing(stage: Stage):
    mark = stage.root / "mark"
    shim = stage.start(stage.fake(f"mark:{mark}", "forever"))
    until(mark.exists)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        shim.send_signal(number)
    found = stage.finish()
    assert found.record is not None
    assert (found.record.signal, found.record.reason) == (signal.SIGTERM, "stopped")


@pytest.mark.parametrize(
    ("count", "action", "reason"),
    [(1, "signal:9", "oom"), (0, "signal:9", None), (1, "signal:15", None), (1, "exit:137", None)],
)
def test_out_of_memory_is_the_kernels_word_alone(
    stage: Stage, count: int, action: str, reason: str | None
):
    """A folder stands for the group; killed by signal 9 alone says nothing about memory."""
    group = stage.root / "group"
    group.mkdir()
    (group / "memory.events").write_text(f"low 0\nmax 3\noom_kill {count}\n")
    (group / "cgroup.procs").touch()
    stage.start(stage.fake(action), cgroup=str(group))
    found = stage.finish()
    assert found.record is not None
    assert found.record.reason == reason
    assert (group / "cgroup.procs").read_text() == "0"


def test_a_command_that_a_group_has_nothing_to_hold_to_joins_it_once_it_runs(stage: Stage):
    """Joining takes the kernel its time, and the command's first instruction need not wait."""
    group = stage.root / "group"
    group.mkdir()
    (group / "cgroup.procs").touch()
    stage.start(stage.fake("exit:0"), cgroup=str(group), cgroup_late=True)
    assert code(stage.finish()) == 0
    joined = (group / "cgroup.procs").read_text()
    assert joined == str(json.loads((stage.directory / "started").read_text())["pid"])


def test_limits_of_the_system_hold_each_process_and_no_core_is_written(stage: Stage):
    stage.start(["/bin/cat", "/proc/self/limits"], rlimits={"nofile": 50, "unheard_of": 1})
    assert code(stage.finish()) == 0
    rows = {line[:26].strip(): line[26:].split()[:2] for line in _lines(stage)}
    assert rows["Max open files"] == ["50", "50"]
    assert rows["Max core file size"] == ["0", "0"]


def _lines(stage: Stage) -> list[str]:
    return (stage.directory / "out").read_text().splitlines()


def test_the_bridge_and_what_is_about_to_end_are_no_leftovers(stage: Stage):
    """They end because their input does; naming them would cry wolf at every run."""
    bridge = stage.directory / "bridge.py"
    bridge.write_text("import time; time.sleep(600)")
    shell = f"{PYTHON} -I -S {bridge} & sleep 0.05 & sleep 600 & exit 3"
    stage.start(["/bin/sh", "-c", shell])
    found = stage.finish()
    assert code(found) == 3
    assert found.leftovers == ("sleep 600",)


def test_a_blocked_signal_mask_is_not_inherited(stage: Stage):
    """A coordinator's thread may block TERM; its shim and CLI must hear it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        stage.start(["/bin/grep", "SigBlk", "/proc/self/status"])
        assert code(stage.finish()) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
    assert "0000000000000000" in (stage.directory / "out").read_text()


def test_a_shim_loads_little_and_nothing_from_an_installation(stage: Stage):
    """`-I -S` and a copy beside the run: an upgrade or a removed environment changes no running run."""
    stage.start(stage.fake("exit:0"))
    stage.finish()
    base = subprocess.run(
        [PYTHON, "-I", "-S", "-X", "importtime", "-c", "import os"], capture_output=True, check=True
    )
    (stage.directory / "exit").unlink()
    ours = stage.run_again("-X", "importtime")

    def names(text: bytes) -> set[str]:
        return {line.rpartition("|")[2].strip() for line in text.decode().splitlines()}

    assert names(ours.stderr) - names(base.stderr) <= LOADED


def test_rows_follow_the_output_and_the_last_has_its_end(stage: Stage):
    mark = stage.root / "mark"
    stage.start(stage.fake("lines:1", "sleep:0.6", "errlines:1", "sleep:0.6", f"mark:{mark}"))
    assert code(stage.finish()) == 0
    rows = stage.rows()
    assert [row[2:] for row in rows][:2] == [(7, 0), (7, 7)]
    assert rows[-1][2:] == (7, 7)
    assert rows == sorted(rows)


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "fault", [(), ("inotify_init1:error=EMFILE",), ("inotify_add_watch:error=ENOSPC",)]
)
def test_rows_of_a_busy_command_are_a_quarter_second_apart(stage: Stage, fault: tuple[str, ...]):
    wrapper = stage.strace(*fault) if fault else []
    actions = ["line:100", "sleep:0.01"] * 80
    stage.start(stage.fake(*actions), *wrapper)
    assert code(stage.finish()) == 0
    rows = stage.rows()
    assert rows[-1][2] == 8000
    # The last two mark the command's end and the tree's.
    gaps = [(after[1] - before[1]) / 1e9 for before, after in pairwise(rows[:-2])]
    assert min(gaps) > 0.2
    assert len(rows) >= 4


def test_an_idle_shim_uses_no_processor_time(stage: Stage):
    shim = stage.start(stage.fake("lines:1", "forever"))

    def used() -> int:
        fields = Path(f"/proc/{shim.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def switches() -> int:
        status = Path(f"/proc/{shim.pid}/status").read_text()
        return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])

    until(lambda: stage.rows() and time.time_ns() - stage.rows()[-1][0] > 5e8)
    before = (used(), switches())
    quiet_until = time.monotonic() + 1
    until(lambda: time.monotonic() > quiet_until)
    assert (used(), switches()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.needs("mount")
def test_a_full_disk_loses_output_but_not_the_exit_code(small_disk: Path):
    """The room of the record is taken before the command starts."""
    stage = Stage(small_disk)
    ready = small_disk / "ready"
    stage.start(stage.fake(f"wait:{ready}", "errlines:2000", "mb:4", "exit:7"))
    until(lambda: inspect(stage.directory).started)
    ready.touch()
    found = stage.finish()
    # The fake CLI ends with Python's traceback on ENOSPC.
    assert code(found) == 1
    assert (stage.directory / "out").stat().st_size > 0
    assert (stage.directory / "ticks").stat().st_size % 32 == 0


@pytest.mark.needs("mount")
def test_on_a_disk_that_is_full_already_nothing_is_started(small_disk: Path, tmp_path: Path):
    stage = Stage(small_disk)
    stage.start(stage.fake("exit:0"))
    assert code(stage.finish()) == 0
    (stage.directory / "exit").unlink()
    for name in ("started", "out", "err"):
        (stage.directory / name).unlink()
    try:
        (small_disk / "fill").write_bytes(bytes(2_000_000))
    except OSError:
        pass
    stage.run_again()
    assert inspect(stage.directory).state is HoldState.NEVER_STARTED
