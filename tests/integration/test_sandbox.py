"""What a sandboxed agent can reach, tried by one, through the real programs on a real repository."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.executors.programs import copy_programs
from aiagent_coordinator.sandbox.grants import Places, grants_of
from aiagent_coordinator.sandbox.plan import plan_of
from aiagent_coordinator.sandbox.policy import Choice, Kind, Network
from support.house import HOLD, PATIENCE_SECONDS, House, house, script, until
from support.repo import git

BOTH = [
    pytest.param("landlock", marks=pytest.mark.needs("landlock")),
    pytest.param("bwrap", marks=pytest.mark.needs("bwrap")),
]
#: Tries everything that is given as JSON, and writes what it could do into the workspace.
INTRUDER = """
import json, os, socket, sys
asked = json.loads(sys.argv[1])
def read(path):
    open(path, "rb").read(1)
def write(path):
    with open(path, "a") as file:
        file.write("x")
def look(path):
    os.listdir(path)
def tcp(port):
    socket.create_connection(("127.0.0.1", port), 5).close()
def unix(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(path)
def signal(pid):
    os.kill(pid, 0)
could = []
for name, (act, what) in asked.items():
    try:
        globals()[act](what)
        could.append(name)
    except OSError:
        pass
with open("could.json", "w") as file:
    json.dump(could, file)
"""


def intruder(asked: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    return {"run": {"argv": [sys.executable, "-I", "-S", "-c", INTRUDER, json.dumps(asked)]}}


@contextmanager
def listening(where: Path | None = None) -> Generator[Any]:
    """A server that is none of ours; yields its port, or listens at a path."""
    family = socket.AF_INET if where is None else socket.AF_UNIX
    with socket.socket(family) as server:
        server.bind(("127.0.0.1", 0) if where is None else str(where))
        server.listen(20)
        yield server.getsockname()[1] if where is None else str(where)


def planted(home: House) -> dict[str, Path]:
    """Files that belong to somebody else."""
    other = home.state / "worktrees" / "app" / "tsk_other"
    found = {
        "neighbour": other / "notes.txt",
        "ssh key": home.root / "home" / ".ssh" / "id_ed25519",
        "home": home.root / "home" / "notes.txt",
        "outside": home.root / "outside.txt",
        "hook": home.repo / ".git" / "hooks" / "pre-commit",
    }
    for file in found.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    (home.root / "home" / ".gitconfig").write_text(
        "[user]\n\tname = A Developer\n\temail = dev@example.org\n"
    )
    return found


def could(home: House, run: dict[str, Any]) -> set[str]:
    return set(json.loads(git(home.repo, "show", f"{run['commit']}:could.json")))


def only_run(home: House, task: dict[str, Any]) -> dict[str, Any]:
    done = home.finished(task["id"])
    runs = home.runs(task["id"])
    folder = home.state / "run" / runs[-1]["id"]
    texts = [(folder / name).read_text() for name in ("out", "err") if (folder / name).exists()]
    assert done["status"] == "succeeded", (done, runs, texts, home.log_text())
    (run,) = runs
    return run


SLOW_TO_END = """
import signal, sys, time
def end(*_):
    time.sleep(1)
    open(".aiagent/asked", "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(".aiagent/up", "w").close()
while True:
    time.sleep(0.1)
"""

#: What belongs to somebody else, by what is tried.
FORBIDDEN = {
    *("operator key", "coordinator key", "read neighbour", "write neighbour", "list worktrees"),
    *("read ssh key", "read home", "write home", "read outside", "write outside"),
    *("write hook", "write config", "write checkout", "environment", "signal", "ctl", "journal"),
}


def everything(home: House, daemon: int, run_id_file: str = "") -> dict[str, tuple[str, Any]]:
    """All that an intruder tries; without a sandbox each can be done."""
    files = planted(home)
    worktrees = home.state / "worktrees"
    return {
        "operator key": ("read", str(home.state / "operator.key")),
        "coordinator key": ("read", str(home.state / "coordinator.key")),
        "journal": ("read", str(home.state / "journal.db")),
        "list worktrees": ("look", str(worktrees / "app" / "tsk_other")),
        "read neighbour": ("read", str(files["neighbour"])),
        "write neighbour": ("write", str(files["neighbour"])),
        "read ssh key": ("read", str(files["ssh key"])),
        "read home": ("read", str(files["home"])),
        "write home": ("write", str(files["home"])),
        "read outside": ("read", str(files["outside"])),
        "write outside": ("write", str(files["outside"])),
        "write hook": ("write", str(files["hook"])),
        "write config": ("write", str(home.repo / ".git" / "config")),
        "write checkout": ("write", str(home.repo / "README.md")),
        "environment": ("read", f"/proc/{daemon}/environ"),
        "signal": ("signal", daemon),
        "ctl": ("write", run_id_file),
        "own workspace": ("write", "mine.txt"),
        "read repository": ("read", str(home.repo / ".git" / "config")),
        "system": ("read", "/usr/bin/env"),
    }


ALLOWED = {"own workspace", "read repository", "system"}


def attempt_everything(home: House, **more: tuple[str, Any]) -> set[str]:
    """Run one task whose agent tries it all, and say what it could.

    In bubblewrap a path that is not there can be made in an empty folder of memory: a write counts
    when the file itself has changed.
    """
    daemon = home.ready()
    # The words of another run's shim: a stranger's `ctl`.
    ctl = home.state / "run" / "run_other" / "ctl"
    ctl.parent.mkdir(parents=True)
    ctl.touch()
    asked = {**everything(home, daemon.pid, str(ctl)), **more}
    files = {name: Path(what) for name, (act, what) in asked.items() if act == "write"}
    del files["own workspace"]
    before = {name: file.read_bytes() for name, file in files.items()}
    steps = (intruder(asked), {"commit": {"message": "what I could do"}})
    task = home.add("Look around", script(*steps), check="test -e could.json")
    run = only_run(home, task)
    assert run["verification"] == "verified"
    # the agent's own commit is there, under the sealed one or as it
    assert "what I could do" in git(home.repo, "log", "--format=%s", run["commit"])
    wrote = {name for name, file in files.items() if file.read_bytes() != before[name]}
    return could(home, run).difference(files) | wrote


@pytest.mark.parametrize("sandbox", BOTH)
def test_an_agent_in_a_sandbox_works_and_commits_and_reaches_nothing_of_others(
    sandbox: str, short_dir: Path
):
    with house(short_dir, sandbox=sandbox) as home, listening() as port:
        done = attempt_everything(home, tcp=("tcp", port))
        assert done == ALLOWED | {"tcp"}


def test_without_a_sandbox_the_same_agent_reaches_everything(short_dir: Path):
    """The control: what the tests above try is possible where nothing forbids it."""
    with house(short_dir) as home, listening() as port:
        done = attempt_everything(home, tcp=("tcp", port))
        assert done == FORBIDDEN | ALLOWED | {"tcp"}


@pytest.mark.parametrize("sandbox", BOTH)
def test_without_network_only_the_way_to_the_server_is_left(sandbox: str, short_dir: Path):
    """That the task succeeds at all is the bridge's doing. Pathname sockets are bubblewrap's alone."""
    agent = {"provider": "rehearsal", "sandbox": sandbox, "sandbox_network": "none"}
    with house(short_dir) as home, listening() as port, listening(short_dir / "docker") as docker:
        home.write(agents={"worker": agent})
        home.ready()
        asked = {"tcp": ("tcp", port), "docker": ("unix", docker)}
        run = only_run(home, home.add("Call out", script(intruder(asked))))
        assert could(home, run) == (set() if sandbox == "bwrap" else {"docker"})


@pytest.mark.parametrize("sandbox", BOTH)
def test_checks_run_what_the_agent_wrote_and_are_shut_in_with_it(sandbox: str, short_dir: Path):
    """Else an agent in a sandbox would leave it by writing a test."""
    with house(short_dir) as home:
        planted(home)
        key = home.state / "operator.key"
        home.write(
            projects=[
                {
                    "id": "app",
                    "path": str(home.repo),
                    "sandbox": sandbox,
                    "checks": [["sh", "check.sh"]],
                }
            ]
        )
        home.ready()
        text = f'cat {key} && exit 1\nls {home.state}/run/*/token && exit 1\ntest -d "$TMPDIR"\n'
        task = home.add("Escape", script({"write": {"path": "check.sh", "text": text}}))
        assert only_run(home, task)["verification"] == "verified"
        # the control: unsandboxed, the very same check finds the key
        home.write(projects=[{"id": "app", "path": str(home.repo), "checks": [["sh", "check.sh"]]}])
        until("the change is taken", lambda: home.logged("config.changed"))
        task = home.add(
            "Escape", script({"write": {"path": "check.sh", "text": text}}), max_attempts="1"
        )
        assert home.finished(task["id"])["status"] == "failed"
        assert home.runs(task["id"])[0]["reason"] == "verify_failed"


@pytest.mark.parametrize("sandbox", BOTH)
def test_a_repository_that_borrows_its_objects_works_in_a_sandbox(sandbox: str, short_dir: Path):
    """`git clone --shared` leaves the history in another folder."""
    with house(short_dir, sandbox=sandbox) as home:
        planted(home)
        borrower = home.root / "borrower"
        git(home.root, "clone", "-q", "--shared", str(home.repo), str(borrower))
        home.write(projects=[{"id": "app", "path": str(borrower)}])
        home.ready()
        look = {"run": {"argv": ["sh", "-c", "git log -p > log.txt"]}}
        task = home.add("Look back", script(look, {"commit": {"message": "mine"}}))
        run = only_run(home, task)
        assert "print('hello')" in git(borrower, "show", f"{run['commit']}:log.txt")


@pytest.mark.parametrize("sandbox", BOTH)
def test_an_agent_in_a_sandbox_lives_through_a_restart_of_the_server(sandbox: str, short_dir: Path):
    """The new server's socket is another file; the bridge inside finds it all the same."""
    with house(short_dir, sandbox=sandbox) as home:
        first = home.ready()
        task = home.add("Wait", script(HOLD, {"write": {"path": "a.txt", "text": "late\n"}}))
        until("it runs", lambda: any(r["phase"] == "running" for r in home.runs(task["id"])))
        first.terminate()
        first.wait(PATIENCE_SECONDS)
        home.ready()
        home.go(task["id"])
        run = only_run(home, task)
        assert git(home.repo, "show", f"{run['commit']}:a.txt") == "late"


def put_in_the_way(folder: Path, what: str) -> None:
    """Leave something where the socket's second name is to be."""
    match what:
        case "a file":
            folder.write_text("not ours")
        case "a link":
            folder.symlink_to(folder.parent / "elsewhere")
        case _:  # the name of an earlier server
            folder.mkdir(mode=0o700)
            (folder / "s").touch()


@pytest.mark.needs("strace", "bwrap")
@pytest.mark.parametrize("what", ["a file", "a link", "no second names"])
def test_where_the_socket_can_have_no_second_name_work_goes_on_and_the_log_says_so(
    what: str, short_dir: Path
):
    """Some file systems have no hard links: the one thing lost is a sandbox's way to the next server."""
    with house(short_dir, sandbox="bwrap", sandbox_network="none") as home:
        folder = home.socket.with_name(f"{home.socket.name}.d")
        (short_dir / "elsewhere").mkdir()
        (short_dir / "elsewhere" / "s").touch()
        put_in_the_way(folder, what)
        no_links = ("strace", "-D", "-f", "-o", "trace", "--inject=link,linkat:error=EPERM")
        home.ready(under=no_links if what == "no second names" else ())
        (told,) = home.logged("server.no_door")
        assert told["level"] == "WARN"
        assert told["error"]
        assert not (folder.is_dir() and not folder.is_symlink() and (folder / "s").exists())
        task = home.add("Work", script({"write": {"path": "a.txt", "text": "done\n"}}))
        run = only_run(home, task)
        assert git(home.repo, "show", f"{run['commit']}:a.txt") == "done"


@pytest.mark.parametrize("sandbox", BOTH)
def test_an_agent_in_a_sandbox_has_its_grace_when_it_is_stopped(sandbox: str, short_dir: Path):
    """What makes the sandbox stands between shim and CLI; TERM must not end it first."""
    with house(short_dir, sandbox=sandbox, stop_grace_seconds=30) as home:
        home.ready()
        # a child that needs a moment to end; the rehearsal itself waits for it
        child = [sys.executable, "-I", "-S", "-c", SLOW_TO_END]
        task = home.add("Wait", script({"ignore_term": True}, {"run": {"argv": child}}))
        folder = home.state / "worktrees" / "app" / task["id"] / ".aiagent"
        until("it is up", (folder / "up").exists)
        home.run("task", "cancel", task["id"])
        assert home.finished(task["id"])["status"] == "cancelled"
        until("it had its grace", (folder / "asked").exists)


def path_without(home: House, *names: str) -> str:
    """A PATH with all that a run needs but these programs."""
    folder = home.root / "programs"
    folder.mkdir()
    for name in {"git", "sh", "sleep", "cat", "bwrap", "env"}.difference(names):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


def explained(home: House, task: dict[str, Any], what: str) -> str:
    """Wait until `explain` gives a reason that holds these words; return its line."""

    def line() -> str | None:
        lines = home.run("explain", task["id"]).stdout.splitlines()
        return next((one for one in lines if what in one), None)

    return until(f"explain says {what!r}", line)


ABSENT = "the sandbox bwrap cannot be made here: bwrap was not found on PATH"


def test_where_a_sandbox_is_not_there_nothing_is_started_and_everybody_says_why(short_dir: Path):
    """Never silently without: the log says it, `explain` says it, `doctor` says it."""
    with house(short_dir, sandbox="bwrap") as home:
        home.env["PATH"] = path_without(home, "bwrap")
        home.ready()
        until("the log says it", lambda: home.logged("sandbox.missing"))
        mark = home.root / "ran"
        task = home.add("Run", script({"run": {"argv": ["/usr/bin/touch", str(mark)]}}))
        explained(home, task, ABSENT)
        done = home.run("doctor", check=False)
        assert done.returncode == 1
        assert "bwrap was not found" in done.stdout
        assert home.runs(task["id"]) == []
        # the person chooses another: no restart is needed
        home.write(sandbox="landlock")
        assert home.finished(task["id"])["status"] == "succeeded"
        assert len(home.runs(task["id"])) == 1


def test_a_project_that_wants_a_missing_sandbox_holds_up_no_other(short_dir: Path):
    """Its agent works elsewhere meanwhile; what asks nobody is not started bare either."""
    with house(short_dir) as home:
        home.env["PATH"] = path_without(home, "bwrap")
        other = {"id": "free", "workspace": "scratch", "agents": ["worker"]}
        shut = {"id": "app", "path": str(home.repo), "sandbox": "bwrap", "agents": ["worker"]}
        home.write(projects=[shut, other])
        home.ready()
        until("the log says it", lambda: home.logged("sandbox.missing"))
        step = script({"write": {"path": "a.txt", "text": "x"}})
        task = home.add("Held", step)
        explained(home, task, ABSENT)
        free = home.add("Free", step, project="free")
        assert home.finished(free["id"])["status"] == "succeeded"
        explained(home, task, ABSENT)
        assert home.runs(task["id"]) == []


@pytest.mark.needs("bwrap")
def test_a_sandbox_that_fails_at_the_start_of_a_run_is_told_as_such(short_dir: Path):
    """A program that made one a moment ago: its failure is not the CLI's exit code."""
    with house(short_dir, sandbox="bwrap") as home:
        programs = Path(path_without(home, "bwrap"))
        real, broken = shutil.which("bwrap"), home.root / "broken"
        fake = programs / "bwrap"
        fake.write_text(
            f'#!/bin/sh\ntest -e {broken} && {{ echo no namespaces left >&2; exit 3; }}\nexec {real} "$@"\n'
        )
        fake.chmod(0o755)
        home.env["PATH"] = str(programs)
        home.ready()
        first = home.add("Run", script({"write": {"path": "a.txt", "text": "x"}}))
        only_run(home, first)
        broken.touch()
        task = home.add("Run again", script({"write": {"path": "a.txt", "text": "y"}}))
        run = until(
            "it ends", lambda: next((r for r in home.runs(task["id"]) if r["outcome"]), None)
        )
        assert (run["outcome"], run["reason"]) == ("not_started", "spawn_failed")
        assert "the sandbox bwrap could not be made" in run["error"]


def test_doctor_says_what_a_sandbox_here_can_do(short_dir: Path):
    """By making each, not by its version."""
    with house(short_dir) as home:
        findings = {
            one["name"]: one for one in json.loads(home.run("doctor", "--json").stdout)["findings"]
        }
        for kind in ("landlock", "bwrap"):
            level = "ok" if shutil.which("bwrap") or kind == "landlock" else "note"
            assert findings[f"sandbox {kind}"]["level"] == level
        assert "UDP" in findings["sandbox landlock"]["message"]


@pytest.mark.needs("root", "system-python")
@pytest.mark.parametrize("sandbox", BOTH)
def test_an_ordinary_user_can_make_the_sandbox_too(sandbox: str, short_dir: Path):
    """Root can do what others cannot: so this is tried as nobody, with the system's own Python."""
    short_dir.chmod(0o755)
    state, workspace = short_dir / "state", short_dir / "workspace"
    for folder in (state, workspace):
        folder.mkdir()
    copy_programs(state / "run")
    (state / "key").write_text("secret")
    places = Places(
        state_root=state,
        workspace=workspace,
        home=short_dir / "home",
        own=(state / "run" / "confine.py",),
        write=(workspace,),
    )
    grants = grants_of(places, Choice(Kind(sandbox), Network.NONE))
    hidden = [path for path in grants.read if path.is_relative_to("/root")]
    content = plan_of(Kind(sandbox), grants)
    for path in hidden:  # nobody cannot even see the interpreter that runs the tests
        for words in (f"--ro-bind\0{path}\0{path}\0", f"read\0{path}\0"):
            content = content.replace(words.encode(), b"")
    (state / "run" / "plan").write_bytes(content)
    for path in (state, *state.rglob("*"), workspace):
        os.chown(path, 65534, 65534)
    with listening() as port:
        asked = {
            "own": ("write", "mine.txt"),
            "key": ("read", str(state / "key")),
            "tcp": ("tcp", port),
        }
        for shut_in in (True, False):
            words = ["/usr/bin/python3", "-I", "-S", "-c", INTRUDER, json.dumps(asked)]
            if shut_in:
                run = state / "run"
                before = [str(run / name) for name in ("confine.py", "plan", "confined")]
                words = ["/usr/bin/python3", "-I", "-S", *before, "--", *words]
            done = subprocess.run(
                words, cwd=workspace, user=65534, group=65534, extra_groups=[], timeout=60,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
            said = set(json.loads((workspace / "could.json").read_text()))
            assert said == ({"own"} if shut_in else {"own", "key", "tcp"})
