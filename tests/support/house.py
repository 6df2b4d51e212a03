"""A house: a configuration, its state, and the real programs run in it as a user would run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.wire.client import BlockingClient
from aiagent_coordinator.wire.protocol import hello_person
from support.ordinary import NOBODY, NOBODY_ID, ordinary_python
from support.repo import make_repo

#: How long anything may take here before the test fails: generous, two busy cores.
PATIENCE_SECONDS = 120.0

COORDINATOR = [sys.executable, "-m", "aiagent_coordinator"]


def script(*steps: dict[str, Any], attempts: Sequence[Sequence[dict[str, Any]]] = ()) -> str:
    """A task description that tells the rehearsal agent what to do."""
    told: dict[str, Any] = {"steps": list(steps)}
    if attempts:
        told = {"attempts": [{"steps": list(each)} for each in attempts]}
    return f"Do as the script says.\n\n```rehearsal\n{json.dumps(told, indent=1)}\n```\n"


#: A step that lasts until `House.go`: no guess at how long anything takes.
HOLD: dict[str, Any] = {
    "run": {"argv": ["sh", "-c", "until [ -e .aiagent/go ]; do sleep 0.05; done"]}
}


def until(what: str, check: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `check` returns something true and return that."""
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        found = check()
        if found:
            return found
        now = time.monotonic()
        assert now < deadline, f"waited {seconds} s in vain until {what}"
        # a look that starts a program takes from what is waited for
        time.sleep(max(0.02, now - looked))


#: Options of `task add` that are no more than an argument of the call.
_PLAIN = {"project": "project_id", "agent": "agent_id", "max_attempts": "max_attempts"}


@dataclass
class House:
    """One configuration with its folders, and every process that was started for it."""

    root: Path
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    env: dict[str, str] = field(default_factory=dict[str, str])
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    #: State directory and socket, where the configuration does not name those of the house.
    place: tuple[Path, Path] | None = None
    #: What every program here is started through: another user, for example.
    through: tuple[str, ...] = ()
    #: The interpreter that runs the program.
    python: str = sys.executable

    @property
    def program(self) -> list[str]:
        return [*self.through, self.python, "-m", "aiagent_coordinator"]

    @property
    def config(self) -> Path:
        return self.root / "coordinator.yaml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def socket(self) -> Path:
        return self.root / "s.sock"

    @property
    def repo(self) -> Path:
        return self.root / "repo"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    def write(self, **settings: Any) -> None:
        """Write the configuration; what is given replaces what stood there."""
        self.settings |= settings
        self.config.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")

    def start(self, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start the program in the foreground of its own session; its output goes to `log`.

        `under` names a tracer that leaves the process to be our child.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    *under,
                    *self.program,
                    "--config",
                    str(self.config),
                    "--log-format",
                    "json",
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,
                cwd=self.root,
            )
        self.processes.append(process)
        return process

    def ready(self, *arguments: str, under: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start the program and wait until it answers."""
        process = self.start(*arguments, under=under)
        until("the server answers", lambda: self._answers(process))
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, f"it ended with {process.returncode}:\n{self.log_text()}"
        return self.up()

    def up(self) -> bool:
        """Whether the server answers now."""
        if self.through:  # the server speaks with its own user only
            return self.run("status", check=False).returncode == 0
        try:
            self.ask("get_status")
        except (CoordinatorError, OSError):
            return False
        return True

    @property
    def _places(self) -> dict[str, Path]:
        """Where state directory and socket are unless the configuration says otherwise."""
        return {"state_dir": self.state, "socket": self.socket}

    def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Ask the server as the person, over its socket: what is polled costs no process."""
        said = (Path(self.settings.get(key, one)) for key, one in self._places.items())
        state, sock = self.place or said
        key = (state / "operator.key").read_text("ascii").strip()
        with BlockingClient(str(sock), hello_person(key), PATIENCE_SECONDS) as client:
            return client.call(tool, arguments)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as a person would."""
        done = subprocess.run(
            [*self.program, *arguments, "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, **self.env},
            timeout=PATIENCE_SECONDS,
            cwd=self.root,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}\n{self.log_text()}"
        return done

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json` and read what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def add(self, title: str, description: str = "", **options: str) -> dict[str, Any]:
        """Put a task on the board: as a person's program does, and with more options by `task add`."""
        options = {"project": "app", "agent": "worker", **options}
        if options.keys() <= _PLAIN.keys() and not self.through:
            said: dict[str, Any] = {_PLAIN[name]: value for name, value in options.items()}
            if "max_attempts" in said:
                said["max_attempts"] = int(said["max_attempts"])
            return self.ask("create_task", title=title, description=description, **said)["task"]
        arguments = ["task", "add", "--title", title]
        if description:
            options["description"] = description
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        return self.json(*arguments)

    def task(self, task_id: str) -> dict[str, Any]:
        """One task, with its questions and runs beside its own fields."""
        answer = self.ask("get_task", task_id=task_id, details=True)
        return {**answer, **answer["task"]}

    def go(self, task_id: str) -> None:
        """Let an agent that holds go on."""
        project = self.task(task_id)["project_id"]
        (self.state / "worktrees" / project / task_id / ".aiagent" / "go").touch()

    def runs(self, task_id: str | None = None) -> list[dict[str, Any]]:
        """The runs, oldest first."""
        only = {"task_id": task_id} if task_id else {}
        return sorted(self.ask("list_runs", limit=1000, **only)["runs"], key=_run_id)

    def running(self, task_id: str) -> dict[str, Any]:
        """Wait until a run of the task has its CLI; return the run as `run show` shows it."""

        def found() -> str | None:
            over = {line["run_id"] for line in self.logged("run.end")}
            for line in self.logged("run.start"):
                run_id = str(line["run_id"])
                is_up = (self.state / "run" / run_id / "started").exists()
                if line["task_id"] == task_id and run_id not in over and is_up:
                    return run_id
            return None

        return self.shown(until(f"task {task_id} runs", found))

    def over(self, run_id: str) -> dict[str, Any]:
        """Wait until a run is over and return it as `run show` shows it."""

        def has_ended() -> bool:
            return any(line["run_id"] == run_id for line in self.logged("run.end"))

        until(f"run {run_id} is over", has_ended)
        return self.shown(run_id)

    def last(self, task_id: str, runs: int = 1) -> dict[str, Any]:
        """Wait until so many runs of a task are over and return the last of them."""

        def over() -> list[str]:
            lines = [line for line in self.logged("run.end") if line["task_id"] == task_id]
            return [str(line["run_id"]) for line in lines] if len(lines) >= runs else []

        return self.shown(until(f"{runs} runs of {task_id} are over", over)[runs - 1])

    def down(self) -> None:
        """Stop the program, its agents too, and see that nothing is left."""
        self.run("stop", "--kill")
        until("it is down", lambda: self.processes[-1].poll() is not None)
        until("no process is left", lambda: not living(self))

    def shown(self, run_id: str) -> dict[str, Any]:
        """One run as `run show` shows it."""
        if self.through:
            return self.json("run", "show", run_id)
        return self.ask("get_run", run_id=run_id)["run"]

    def finished(self, task_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a task is terminal and its run is over; return the task."""

        def done() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in {"succeeded", "failed", "cancelled"} else None

        try:
            return until(f"task {task_id} ends", done, seconds)
        except AssertionError as error:
            message = f"{error}\n{self.task(task_id)}\n{self.runs(task_id)}\n{self.log_text()}"
            raise AssertionError(message) from None

    def log_text(self) -> str:
        """What the program said so far, the end of it."""
        return self.log.read_text(encoding="utf-8")[-8000:] if self.log.exists() else ""

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line.get("event") == event]

    def close(self) -> None:
        """End everything that was started here, agents included, each by its own pid."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGUSR1)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        for pid in living(self):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def living(house: House) -> list[int]:
    """Processes that work in this house or carry its name: shims, bridges, agents, git."""
    needle = os.fsencode(house.root)
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "cmdline").read_bytes() or needle in os.fsencode(
                (entry / "cwd").readlink()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@contextmanager
def person(home: House) -> Generator[BlockingClient]:
    """Speak to the server as its owner."""
    key = (home.state / "operator.key").read_text("ascii").strip()
    with BlockingClient(str(home.socket), hello_person(key), PATIENCE_SECONDS) as client:
        yield client


@contextmanager
def house(root: Path, **settings: Any) -> Generator[House]:
    """A house with one repository, one project `app` and one rehearsal agent `worker`."""
    made = House(root)
    make_repo(made.repo)
    made.write(
        state_dir=str(made.state),
        socket=str(made.socket),
        polling_interval="1s",
        agents={"worker": {"provider": "rehearsal"}},
        projects=[{"id": "app", "path": str(made.repo), "agents": ["worker"]}],
        retry={"max_attempts": 3, "backoff_seconds": [0.2]},
        **settings,
    )
    # what the user's own session holds must not matter
    made.env = {
        "HOME": str(root / "home"),
        "XDG_RUNTIME_DIR": str(root / "rt"),
        "XDG_STATE_HOME": str(root / "home" / "state"),
        "XDG_CONFIG_HOME": str(root / "home" / "config"),
    }
    (root / "home").mkdir()
    (root / "rt").mkdir(mode=0o700)
    try:
        yield made
    finally:
        made.close()


def be_ordinary(home: House) -> None:
    """Give the house to an ordinary user, where we are root: root escapes some limits."""
    if os.geteuid() != 0:
        return
    home.root.chmod(0o755)
    python = ordinary_python(home.root)
    assert python is not None  # or the test was not to run here
    for path in (home.root, *home.root.rglob("*")):
        os.chown(path, NOBODY_ID, NOBODY_ID, follow_symlinks=False)
    home.through, home.python = NOBODY, str(python)


def _run_id(run: dict[str, Any]) -> str:
    return str(run["id"])
