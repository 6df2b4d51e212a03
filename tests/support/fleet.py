"""A server that stays, many small projects, and coordinators that come and go: for faults at a low price.

Each project is a plain folder of its own and its agent a small shell program: it prints its lines, waits
at its gate, prints one more and exits with a code that its project's number tells.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiagent_coordinator.wire.client import BlockingClient
from aiagent_coordinator.wire.protocol import hello_person
from support.house import House, house, until

LINES = 50
#: `do.sh` in a project's folder stands in place of all this.
PROGRAM = """
[ -f do.sh ] && exec sh ./do.sh
n=${PROJECT_ID#p}
echo "begin $n"
i=0; while [ $i -lt 50 ]; do echo "line $i of $n"; i=$((i+1)); done
: < gate
echo "end $n"
exit $((n % 5))
"""


def output_of(number: int) -> bytes:
    """What the agent of a project prints, every byte."""
    lines = [f"begin {number}"] + [f"line {i} of {number}" for i in range(LINES)]
    return ("\n".join([*lines, f"end {number}"]) + "\n").encode()


class Fleet:
    """The house with its server, and what tests ask of it."""

    def __init__(self, home: House, count: int) -> None:
        self.home = home
        self.count = count
        self.used = 0
        self._person: BlockingClient | None = None
        self._gates: list[int] = []

    def project(self, number: int) -> Path:
        """The folder of a project."""
        return self.home.root / "p" / f"p{number}"

    def run_dir(self, run: dict[str, Any]) -> Path:
        """The folder of a run."""
        return self.home.state / "run" / run["id"]

    def take(self, count: int) -> list[int]:
        """Numbers of projects that no other test uses."""
        first, self.used = self.used, self.used + count
        assert self.used <= self.count, "the fleet has too few projects"
        return list(range(first, self.used))

    def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool as the person, over one connection."""
        if self._person is None:
            key = (self.home.state / "operator.key").read_text(encoding="ascii").strip()
            self._person = BlockingClient(str(self.home.socket), hello_person(key), 30)
            self._person.__enter__()
        return self._person.call(tool, arguments)

    def add(self, number: int, **more: Any) -> str:
        """Put a task on a project's board; returns its id."""
        facts: dict[str, Any] = {"agent_id": "w", "title": f"t{number}", "max_attempts": 1, **more}
        return self.ask("create_task", project_id=f"p{number}", **facts)["task"]["id"]

    def runs(self, number: int) -> list[dict[str, Any]]:
        """The runs of a project, oldest first."""
        found = self.ask("list_runs", project_id=f"p{number}", limit=100)["runs"]
        return sorted(found, key=lambda run: str(run["id"]))

    def task(self, task_id: str) -> dict[str, Any]:
        """One task."""
        return self.ask("get_task", task_id=task_id)["task"]

    def open_gate(self, number: int) -> None:
        """Let a project's agents pass, now and from now on."""
        self._gates.append(os.open(self.project(number) / "gate", os.O_RDWR | os.O_NONBLOCK))

    def coordinate(self, **env: str) -> subprocess.Popen[bytes]:
        """Start a coordinator; returns at once."""
        self.home.env |= env
        try:
            return self.home.start("coordinate")
        finally:
            for name in env:
                self.home.env.pop(name)

    def at_gate(self, numbers: Sequence[int]) -> None:
        """Wait until the agents of these projects have printed all but the last line."""

        def waiting(number: int) -> bool:
            runs = self.runs(number)
            out = self.run_dir(runs[-1]) / "out" if runs else None
            return bool(out and out.exists() and f"line {LINES - 1} of" in out.read_text())

        for number in numbers:
            until(f"agent {number} waits at its gate", lambda number=number: waiting(number))

    def over(self, numbers: Sequence[int]) -> None:
        """Wait until every run of these projects is over and there is one."""

        def ended(number: int) -> bool:
            runs = self.runs(number)
            return bool(runs) and all(run["phase"] == "ended" for run in runs)

        for number in numbers:
            try:
                until(f"the run of {number} is over", lambda number=number: ended(number))
            except AssertionError as error:
                message = f"{error}\n{self.runs(number)}\n{self.home.log_text()}"
                raise AssertionError(message) from None

    def events(self, run_id: str) -> Counter[str]:
        """How often each thing happened to a run, as the board has it."""
        uri = f"file:{self.home.state / 'store.db'}?mode=ro"
        with sqlite3.connect(uri, uri=True) as store:
            rows = store.execute("SELECT action FROM event WHERE run_id = ?", (run_id,)).fetchall()
        return Counter(action for (action,) in rows)

    def check_once(self, number: int, *, code: int | None = None) -> None:
        """One run, started once, with its own exit code, every byte of its output, each report once."""
        (run,) = self.runs(number)
        told = f"{run}\n{self.home.log_text()}"
        assert run["exit_code"] == (number % 5 if code is None else code), told
        assert (self.run_dir(run) / "out").read_bytes() == output_of(number), told
        counted = self.events(run["id"])
        for action in ("run.claimed", "run.started", "run.exited", "run.ended"):
            assert counted[action] == 1, (action, counted, told)

    def another(self, root: Path) -> House:
        """A second host: a state directory of its own, the same server, the same projects."""
        other = House(root, env=self.home.env | {"XDG_RUNTIME_DIR": str(root)})
        other.state.mkdir(mode=0o700)
        key = (self.home.state / "coordinator.key").read_bytes()
        (other.state / "coordinator.key").write_bytes(key)
        other.write(**self.home.settings)
        other.write(state_dir=str(other.state), socket=str(self.home.socket))
        return other

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a coordinator as a service manager would."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        process.wait(60)

    def close(self) -> None:
        """Let every connection and gate go."""
        if self._person is not None:
            self._person.__exit__(None, None, None)
        for gate in self._gates:
            os.close(gate)


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """End a process without a chance to tidy up."""
    process.send_signal(number)
    process.wait(30)


@contextmanager
def fleet(root: Path, count: int, **settings: Any) -> Generator[Fleet]:
    """A house with `count` projects, whose server runs."""
    with house(root) as home:
        made = Fleet(home, count)
        for number in range(count):
            made.project(number).mkdir(parents=True)
            os.mkfifo(made.project(number) / "gate")
        home.write(
            agents={"w": {"provider": "sh", "max_concurrent": 1000}},
            ai_providers={
                "sh": {"like": "command", "cli_command": "sh", "cli_args": ["-c", _escaped()]}
            },
            projects=[
                {"id": f"p{number}", "path": str(made.project(number)), "workspace": "directory"}
                for number in range(count)
            ],
            max_concurrent=1000,
            max_finishing=8,
            retry={"max_attempts": 3, "backoff_seconds": [0.05]},
            stop_grace_seconds=1,
            **{"watermarks": {"memory": 0, "disk": 0}, **settings},
        )
        home.ready("serve")
        try:
            yield made
        finally:
            made.close()


def _escaped() -> str:
    """The program as a setting: `$` of the shell is no variable of ours."""
    return PROGRAM.replace("${", "$${")


def notes(home: House, event: str) -> list[dict[str, Any]]:
    """The log lines of one event, read without the house's limit."""
    lines = home.log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if f'"{event}"' in line and line.startswith("{")]
