"""A house in a storm: everything that can happen to it as one method each, and what must hold after.

Server and coordinator are two processes, agents are real processes in real worktrees. An agent works
until its gate opens and then ends as the gate says. What was done to whom is kept in `said`.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiagent_coordinator import failpoints
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.executors.inspection import is_held
from support.disk import fill
from support.house import House, house, living, script, until

#: A plain program in place of a CLI. `litter` leaves a process in a session of its own behind.
PROGRAM = """
echo begin
[ "$AIAGENT_AGENT_ID" = litter ] && { setsid sleep 900 & }
gate=%(gates)s/$AIAGENT_TASK_ID
until [ -p "$gate" ]; do sleep 0.1; done
: < "$gate"
echo end
exit "$(cat "$gate.code")"
"""
#: What the rehearsal agent runs: it waits at its gate, and any code but 0 kills the agent.
WAIT = """
gate=%(gates)s/$AIAGENT_TASK_ID
until [ -p "$gate" ]; do sleep 0.1; done
: < "$gate"
code=$(cat "$gate.code")
[ "$code" = 0 ] || kill -9 $PPID
"""
#: agent → provider
AGENTS = {"talker": "rehearsal", "plain": "sh", "litter": "sh"}
DAY = 86400
#: Where a process whose clock is to jump passes often: it does so the third time.
JUMPS = {"coordinate": "loop.pass", "serve": "tool.begun"}
#: How those who write say that there is no room.
FULL = ("No space left", "diskspace", "disk is full", "disk I/O error")
#: At the end, while all is waited for, what must hold is looked at so often.
CHECK_SECONDS = 1.0
#: Fields of /proc/<pid>/status: signals that are ignored, and that are caught.
CAUGHT = {b"SigCgt"}
HEARS = {b"SigIgn"} | CAUGHT
TERMINAL = ("succeeded", "failed", "cancelled")
OVER = str(TERMINAL)


class Storm:
    """The house, its two processes, and what may be done to them."""

    def __init__(self, home: House, disk: Path | None) -> None:
        self.home = home
        self.disk = disk
        self.gates = home.root / "gates"
        #: What runs take for the system's folder of temporary files.
        self.temp = home.root / "tmp"
        self.up: dict[str, subprocess.Popen[bytes]] = {}
        self.said: list[str] = []
        #: While it is full, whoever writes may end by itself.
        self.is_full = False
        self._lacked_room: set[int] = set()
        self._open: dict[str, int] = {}
        self._log_read = 0
        self._checked_at = 0.0

    # what happens

    def start(self, role: str, fault: str = "") -> None:
        """Start server or coordinator, unless it is up."""
        if role in self.up:
            return
        self.home.env[failpoints.VARIABLE] = fault
        self.up[role] = self.home.start(role)
        self.home.env.pop(failpoints.VARIABLE)

    def end(self, role: str, number: int) -> None:
        """End server or coordinator by a signal and wait for it."""
        process = self.up.pop(role, None)
        if process is None:
            return
        process.send_signal(number)
        process.wait(60)

    def jump(self, role: str, days: int) -> None:
        """Start server or coordinator anew; in its midst its clock jumps."""
        self.end(role, signal.SIGTERM)
        self.start(role, f"{JUMPS[role]}:2*off->1*jump({days * DAY})->off")

    def pause(self, role: str) -> None:
        """Let a process stand still until `go_on`."""
        if role in self.up:
            self.up[role].send_signal(signal.SIGSTOP)

    def go_on(self, role: str) -> None:
        """Let a paused process run."""
        if role in self.up:
            self.up[role].send_signal(signal.SIGCONT)

    def add(self, agent: str) -> str | None:
        """Put a task on the board; None: nobody took it, or nobody said so."""
        wait = {"run": {"argv": ["sh", "-c", WAIT % {"gates": self.gates}]}}
        write = {"write": {"path": f"{agent}.txt", "text": f"{len(self.said)}\n"}}
        report = {"report": {"result": "success", "summary": "done"}}
        steps = ({"progress": {"value": 1, "message": "begun"}}, wait, write, report)
        asked = {"project_id": "app", "agent_id": agent, "title": f"{agent} {len(self.said)}"}
        try:
            made = self.home.ask("create_task", description=script(*steps), max_attempts=2, **asked)
        except (CoordinatorError, OSError):
            return None
        return str(made["task"]["id"])

    def open_gate(self, task_id: str, code: int) -> None:
        """Let the agents of a task end, now and from now on."""
        if task_id in self._open:
            return
        self.gates.joinpath(f"{task_id}.code").write_text(str(code))
        draft = self.gates / f"{task_id}.new"
        os.mkfifo(draft)
        self._open[task_id] = os.open(draft, os.O_RDWR | os.O_NONBLOCK)
        draft.rename(self.gates / task_id)

    def cancel(self, task_id: str) -> None:
        """Cancel a task, if the server hears it."""
        with suppress(CoordinatorError, OSError):
            self.home.ask("cancel_task", task_id=task_id)

    def stop_run(self, run_id: str) -> None:
        """Stop a run, if the server hears it."""
        with suppress(CoordinatorError, OSError):
            self.home.ask("request_stop_run", run_id=run_id)

    def kill_shim(self, run_id: str) -> None:
        """Kill the shim of a run that lives."""
        folder = self.home.state / "run" / run_id
        with suppress(OSError, ValueError):
            shim = json.loads((folder / "lock").read_text(encoding="utf-8").strip("\0\n "))["pid"]
            # a number is used again: only a process of this house is meant
            if is_held(folder) and os.fsencode(self.home.root) in _shown(shim, "cmdline"):
                os.kill(shim, signal.SIGKILL)

    def reload(self, max_concurrent: int, *, broken: bool) -> None:
        """Change the configuration file, wrongly in between, and say so."""
        # who just begins would refuse to
        if broken and all(_hears(one.pid, signal.SIGHUP, CAUGHT) for one in self.up.values()):
            self.home.config.write_text("agents: [", encoding="utf-8")
            self._hang_up()
        self.home.write(max_concurrent=max_concurrent)
        self._hang_up()

    def _hang_up(self) -> None:
        for process in self.up.values():
            # a manager waits for READY; who is just being born has no ear for it yet
            if _hears(process.pid, signal.SIGHUP):
                process.send_signal(signal.SIGHUP)

    def fill(self) -> None:
        """Take the last byte of the state directory's disk."""
        if self.disk is None:
            return
        self.is_full = True
        fill(self.disk / "filler")

    def free(self) -> None:
        """Give it back."""
        if self.disk is not None:
            (self.disk / "filler").unlink(missing_ok=True)
        if self.is_full:
            self._lacked_room |= {process.pid for process in self.up.values()}
        self.is_full = False

    # what can be seen

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the board's file, whether or not the server is up."""
        uri = f"file:{self.home.state / 'store.db'}?mode=ro"
        store = sqlite3.connect(uri, uri=True, timeout=30)
        try:
            return store.execute(query, values).fetchall()
        finally:
            store.close()

    def open_tasks(self) -> list[str]:
        """Tasks whose agents were not let go and that are not over, oldest first."""
        rows = self.rows("SELECT id, status FROM task ORDER BY created_at, id")
        return [
            str(one) for one, status in rows if status not in TERMINAL and one not in self._open
        ]

    def live_runs(self) -> list[str]:
        """Runs with a process, oldest first."""
        folders = sorted((self.home.state / "run").glob("run_*"))
        return [folder.name for folder in folders if is_held(folder)]

    def is_quiet(self) -> bool:
        """Whether everybody who can work does, and nobody is on the way to an end."""
        if self.is_full or len(self.up) < len(JUMPS):
            return True
        open_tasks = self.open_tasks()
        lines = self.rows(
            f"SELECT DISTINCT agent_id FROM task WHERE id IN ({','.join('?' * len(open_tasks))})",
            *open_tasks,
        )
        phases = self.rows("SELECT phase FROM run WHERE phase <> 'ended'")
        limit = int(self.home.settings["max_concurrent"])
        return all(phase == "running" for (phase,) in phases) and len(phases) >= min(
            len(lines), limit
        )

    # what must hold

    def check(self) -> None:
        """What holds at every moment."""
        self._checked_at = time.monotonic()
        self._no_second_run()
        self._nobody_fell()
        self._no_surprise()
        twice = self.rows(
            "SELECT run_id, action, count(*) FROM event WHERE run_id IS NOT NULL AND action IN"
            " ('run.claimed', 'run.started', 'run.reported', 'run.exited', 'run.ended')"
            " GROUP BY run_id, action HAVING count(*) > 1"
        )
        assert not twice, f"said twice: {twice}"

    def _no_second_run(self) -> None:
        lines = {
            run: (agent, project)
            for run, agent, project in self.rows("SELECT id, agent_id, project_id FROM run")
        }
        live = self.live_runs()
        # a lock may be let go and another taken while we look: look again before it counts
        counted = Counter(lines[run] for run in live if run in lines)
        if max(counted.values(), default=0) > 1:
            still = Counter(lines[run] for run in live if run in lines and run in self.live_runs())
            assert max(still.values(), default=0) <= 1, f"two at once: {still}, {live}"

    def _nobody_fell(self) -> None:
        """Nobody ends by itself, but who had no room to write may say so and go."""
        for role, process in list(self.up.items()):
            ended = process.poll()
            if ended is None or self.is_full:
                continue
            may_go = process.pid in self._lacked_room and ended > 0
            assert may_go, f"{role} ended by itself with {ended}"
            del self.up[role]

    def _no_surprise(self) -> None:
        """Nothing failed that nobody thought of; for want of room anything may."""
        with self.home.log.open("rb") as log:
            log.seek(self._log_read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._log_read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            is_known = self.disk is not None and any(word in line for word in FULL)
            assert "Traceback" not in line or is_known, line

    def calm_down(self, seconds: float = 180.0) -> None:
        """End of the storm: everything is up, every agent is let go, every task comes to its end."""
        self.free()
        for role in JUMPS:
            self.go_on(role)
        self.check()
        self._start_all()
        until("the server answers", self.home.up)
        until("every task is over", self._all_over, seconds)

    def _start_all(self) -> None:
        for role in ("serve", "coordinate"):
            self.start(role)

    def _all_over(self) -> bool:
        for task_id in self.open_tasks():
            self.open_gate(task_id, 0)
        if time.monotonic() - self._checked_at > CHECK_SECONDS:
            self.check()
            self._start_all()
        open_runs = self.rows("SELECT id FROM run WHERE phase <> 'ended'")
        open_tasks = self.rows(f"SELECT id FROM task WHERE status NOT IN {OVER}")
        return not open_runs and not open_tasks

    def check_places(self) -> None:
        """Every line of work takes a task again, and does it: no place was lost."""
        for agent in AGENTS:
            task_id = self.add(agent)
            assert task_id is not None
            self.open_gate(task_id, 0)
            done = self.home.finished(task_id, 180)
            assert done["status"] == "succeeded", done
        until("every run is over", self._all_over)

    def check_ends(self) -> None:
        """Every run ended once, with an end that fits what its folder says; every end was told once."""
        runs = self.rows("SELECT id, outcome, reason, exit_code, signal FROM run")
        events = self.rows("SELECT run_id, action FROM event WHERE run_id IS NOT NULL")
        counted = Counter(events)
        for run_id, outcome, reason, exit_code, number in runs:
            told = (run_id, outcome, reason, exit_code, number)
            assert counted[run_id, "run.claimed"] == 1, told
            assert counted[run_id, "run.ended"] == 1, told
            folder = self.home.state / "run" / run_id
            assert outcome is not None, told
            if (folder / "exit").exists():
                record = json.loads((folder / "exit").read_bytes().strip(b"\0\n "))
                assert counted[run_id, "run.exited"] == 1, told
                assert (record["exit_code"], record["signal"]) == (exit_code, number), told
            elif folder.exists():  # what is old is gone by now
                assert exit_code is None, told
                assert outcome != "succeeded", told
            if outcome == "succeeded":
                # a report counts whatever the code; without one the code alone can say so
                assert counted[run_id, "run.reported"] == 1 or exit_code == 0, told
        ends = self.rows(
            "SELECT task_id, count(*) FROM event WHERE action = 'task.status' AND"
            f" json_extract(data, '$.to') IN {OVER}"
            " GROUP BY task_id HAVING count(*) <> 1"
        )
        assert not ends, f"tasks that ended more or less than once: {ends}"
        # the server knows of an end before the last of it is cleaned up
        until("nothing is left to do or to tell", lambda: not self._unfinished())

    def _unfinished(self) -> list[tuple[str]]:
        journal = sqlite3.connect(f"file:{self.home.state / 'journal.db'}?mode=ro", uri=True)
        try:
            return journal.execute(
                "SELECT run_id FROM run WHERE stage <> 'done'"
                " UNION SELECT run_id FROM outbox WHERE answer IS NULL"
            ).fetchall()
        finally:
            journal.close()

    def check_folders(self) -> None:
        """Nothing lies about that belongs to nobody, and nothing of an ended run that only a living one needs."""
        runs = {run for (run,) in self.rows("SELECT id FROM run")}
        tasks = {task for (task,) in self.rows("SELECT id FROM task")}
        for folder in (self.home.state / "run").iterdir():
            inside = {one.name for one in folder.iterdir()}
            if folder.name in runs:
                assert not inside & {"token", "prompt", "files"}, (folder, inside)
            else:  # killed before anybody heard of it: a day later it goes
                assert inside <= {"token", "token.tmp"}, (folder, inside)
        trees = {one.name for one in (self.home.state / "worktrees" / "app").iterdir()}
        # a kill while git registers one leaves that for the next to clear up
        assert trees - {".new"} <= tasks, trees - tasks
        assert not list(self.temp.iterdir())

    def close_gates(self) -> None:
        """Close the gates of tasks that are over."""
        over = {task for (task,) in self.rows(f"SELECT id FROM task WHERE status IN {OVER}")}
        for task_id in over & self._open.keys():
            os.close(self._open.pop(task_id))

    def go_home(self) -> None:
        """Stop everything; then no process is left that works here, is named so, or carries our tag."""
        self.home.run("stop", "--kill")
        for process in self.up.values():
            process.wait(60)
            assert process.returncode == 0
        until("no process is left", lambda: not living(self.home) and not tagged(self.home))
        self.up.clear()

    def close(self) -> None:
        """Let every gate go."""
        for gate in self._open.values():
            os.close(gate)


def _hears(pid: int, number: signal.Signals, fields: Collection[bytes] = HEARS) -> bool:
    """Whether a process does with a signal what it wants, and does not simply end by it."""
    masks = [line.split()[1] for line in _shown(pid, "status").splitlines() if line[:6] in fields]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def tagged(home: House) -> list[int]:
    """Processes with something of this house in their environment."""
    needle = os.fsencode(home.root)
    numbers = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    return [pid for pid in numbers if pid != os.getpid() and needle in _shown(pid, "environ")]


def _shown(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


@contextmanager
def storm(root: Path, disk: Path | None = None, **settings: Any) -> Generator[Storm]:
    """A house with its server and coordinator up; with `disk` its state directory lies there."""
    if disk is not None:
        (root / "state").symlink_to(disk / "state")
    with house(root) as home:
        made = Storm(home, disk)
        made.gates.mkdir()
        made.temp.mkdir()
        home.env["TMPDIR"] = str(made.temp)
        program = root / "work.sh"
        program.write_text(PROGRAM % {"gates": made.gates})
        home.write(
            agents={name: {"provider": provider} for name, provider in AGENTS.items()},
            ai_providers={
                "sh": {"like": "command", "cli_command": "sh", "cli_args": [str(program)]}
            },
            projects=[{"id": "app", "path": str(home.repo)}],
            max_concurrent=3,
            stop_grace_seconds=1,
            retry={"max_attempts": 2, "backoff_seconds": [0.05]},
            watermarks={"memory": 0, "disk": "1MiB" if disk else 0},
            # that many failures at once are the weather here, not the program's fault
            breaker={"failures": 1000},
            **({"state_dir": str(disk / "state")} if disk else {}),
            **settings,
        )
        try:
            made.start("serve")
            made.start("coordinate")
            until("the server answers", home.up)
            yield made
        finally:
            made.close()
