"""Commands against a scripted server: what they ask, what they print, how they end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import errors, paths

FAKES = Path(__file__).parents[1] / "fakes"
#: Generous: what is waited for comes within milliseconds on an idle machine.
PATIENCE = 30.0


@dataclass
class Home:
    """A user of their own: no file of the real one is read or written."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "XDG_RUNTIME_DIR": str(self.root / "r"),
            "XDG_STATE_HOME": str(self.root / "s"),
            "XDG_CONFIG_HOME": str(self.root / "c"),
            "LANG": "C.UTF-8",
        }

    @property
    def config(self) -> Path:
        return self.root / "coordinator.yaml"

    @property
    def socket(self) -> Path:
        return self.root / "board.sock"

    @property
    def state(self) -> paths.StateDir:
        return paths.StateDir(self.root / "state")

    @property
    def record(self) -> Path:
        return self.root / "record"

    def point(self, folder: Path, socket: Path) -> None:
        """Leave the small file that says where the server is."""
        folder.mkdir(parents=True, exist_ok=True)
        note = {"socket": str(socket), "state_dir": str(self.state.root), "pid": 1}
        name = f"{paths.instance_id(self.config)}.json"
        (folder / name).write_text(json.dumps(note), "utf-8")

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "aiagent_coordinator", *words]

    def run(self, *words: str, stdin: str = "", cwd: str = ".") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.root / cwd,
            timeout=PATIENCE,
            check=False,
        )

    def calls(self) -> list[dict[str, Any]]:
        frames = [json.loads(line)["frame"] for line in self.record.read_text("utf-8").splitlines()]
        return [frame["params"] for frame in frames if frame.get("method") == "tools/call"]


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Children of a shell's background job ignore SIGINT, and so would what is started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(short_dir: Path) -> Home:
    found = Home(short_dir.resolve())
    (found.root / "r" / paths.APP).mkdir(parents=True)
    found.state.runs.mkdir(parents=True)
    # quick commands never read it
    found.config.write_text("this is: [no configuration", "utf-8")
    return found


Serve = Callable[..., None]


@pytest.fixture
def serve(home: Home) -> Iterator[Serve]:
    """Start a server that answers each tool with what it is given as its result."""
    started: list[subprocess.Popen[str]] = []

    def start(does: dict[str, str], program: str = "scripted_server.py") -> None:
        home.state.operator_key.write_text("the-key\n", "ascii")
        home.point(home.root / "r" / paths.APP, home.socket)
        process = subprocess.Popen(
            [sys.executable, str(FAKES / program), str(home.socket),
             "--record", str(home.record), "--do", json.dumps(does)],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answer(value: object) -> str:
    return "raw:" + json.dumps({"content": [], "structuredContent": value})


def task(number: int, **changes: object) -> dict[str, Any]:
    made = {
        "id": f"tsk_{number:026}",
        "project_id": "shop",
        "agent_id": "robin",
        "title": f"Task {number}",
        "status": "queued",
        "attempt": 1,
        "wait_reason": None,
    }
    return {**made, **changes}


RUN = {
    "id": "run_1", "task_id": "tsk_1", "agent_id": "robin", "project_id": "shop",
    "provider": "rehearsal", "attempt": 1, "phase": "ended", "outcome": "succeeded", "reason": None,
    "exit_code": 0, "signal": None, "started_at": "2026-01-01T00:00:00.000000Z", "ended_at": None,
    "log_path": "/x", "branch": "b", "commit": "c", "fence": 3,
}  # fmt: skip


@pytest.mark.parametrize("before", [True, False])
def test_a_task_is_added_as_the_person_with_config_before_or_after(
    home: Home, serve: Serve, before: bool
) -> None:
    serve({"create_task": answer({"task": task(1)})})
    config = ("--config", "../coordinator.yaml")
    words = ("task", "add", "--project", "shop", "--agent", "robin", "--title", "T; rm -rf /",
             "--description", "-", "--priority", "5", "--max-attempts", "2",
             "--check", "sh -c 'exit 0'", "--check", "true", "--branch", "b", "--json")  # fmt: skip
    # from a folder where no file would be found without the option
    whole = (*config, *words) if before else (*words, *config)
    done = home.run(*whole, stdin="日本\n", cwd="state")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == task(1)
    hello = json.loads(home.record.read_text("utf-8").splitlines()[0])["frame"]
    assert hello["params"]["operator_key"] == "the-key"
    assert home.calls() == [
        {
            "name": "create_task",
            "arguments": {
                "project_id": "shop",
                "agent_id": "robin",
                "title": "T; rm -rf /",
                "description": "日本\n",
                "priority": 5,
                "max_attempts": 2,
                "checks": [{"argv": ["sh", "-c", "exit 0"]}, {"argv": ["true"]}],
                "branch": "b",
            },
        }
    ]


def test_what_is_not_given_is_not_sent(home: Home, serve: Serve) -> None:
    serve({"create_task": answer({"task": task(1)})})
    done = home.run("task", "add", "--project", "shop", "--title", "T")
    assert done.stdout == f"Task {task(1)['id']} added: queued.\n"
    assert home.calls()[0]["arguments"] == {"project_id": "shop", "title": "T"}


@pytest.mark.parametrize("check", ["'", ""])
def test_a_check_that_is_no_command_is_refused_before_anything_is_asked(
    home: Home, serve: Serve, check: str
) -> None:
    serve({})
    done = home.run("task", "add", "--project", "p", "--title", "T", "--check", check)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --check {check!r} is no command: ")
    assert not home.record.exists()


def test_a_description_that_is_too_long_is_refused(home: Home, serve: Serve) -> None:
    serve({})
    words = ("task", "add", "--project", "p", "--title", "T", "--description", "-")
    assert home.run(*words, stdin="x" * (256 * 1024 + 1)).returncode == 2


def test_a_list_is_asked_for_to_its_end(home: Home, serve: Serve) -> None:
    serve({}, "paged_board.py")
    listed = json.loads(home.run("task", "list", "--json").stdout)["tasks"]
    assert [item["id"] for item in listed] == ["tsk_0", "tsk_1", "tsk_2", "tsk_3", "tsk_4"]
    listed = json.loads(home.run("task", "list", "--json", "--limit", "3").stdout)["tasks"]
    assert [item["id"] for item in listed] == ["tsk_2", "tsk_3", "tsk_4"]


def test_the_server_is_found_although_another_login_left_a_dead_address(
    home: Home, serve: Serve
) -> None:
    serve({"get_status": answer({"tasks": {}, "runs": {}})})
    home.point(home.root / "s" / paths.APP, home.socket)
    home.point(home.root / "r" / paths.APP, home.root / "dead.sock")
    assert home.run("status").returncode == 0


def test_a_broken_address_file_is_no_address(home: Home) -> None:
    for content in ("{", "[]", "{}", '{"socket": 1, "state_dir": "x"}'):
        name = f"{paths.instance_id(home.config)}.json"
        (home.root / "r" / paths.APP / name).write_text(content, "utf-8")
        assert home.run("status").returncode == 4


def test_tasks_are_listed_as_asked_for(home: Home, serve: Serve) -> None:
    serve({"list_tasks": answer({"tasks": [task(1), task(2)], "next": None})})
    done = home.run("task", "list", "--json", "--status", "queued", "--project", "shop")
    assert json.loads(done.stdout) == {"tasks": [task(1), task(2)]}
    assert home.calls()[0]["arguments"] == {
        "project_id": "shop",
        "status": "queued",
        "limit": 1000,
    }


def test_a_limit_asks_for_the_newest_and_no_more(home: Home, serve: Serve) -> None:
    serve({"list_tasks": answer({"tasks": [task(2), task(1)], "next": task(1)["id"]})})
    listed = json.loads(home.run("task", "list", "--json", "--limit", "2").stdout)
    assert listed == {"tasks": [task(1), task(2)]}
    assert [call["arguments"] for call in home.calls()] == [{"newest": True, "limit": 2}]


def test_off_a_terminal_a_table_is_whole_aligned_and_without_colour(
    home: Home, serve: Serve
) -> None:
    tasks = [
        task(1, title="long " * 40, status="waiting", wait_reason="input"),
        task(2, title="日本 \x1b[31mred\x07\u202e", attempt=2, agent_id=None),
        task(3, agent_id="日本"),
    ]
    serve({"list_tasks": answer({"tasks": tasks, "next": None})})
    lines = home.run("task", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "PROJECT", "AGENT", "TITLE"]
    assert lines[1].endswith(("long " * 40).strip())
    assert "waiting (input)" in lines[1]
    assert lines[2].endswith("-      日本 \\x1b[31mred\\x07\\u202e")
    assert "queued (retry)" in lines[2]
    # each of its two characters takes two columns, as many as "AGENT" leaves
    assert lines[3].endswith("shop     日本   Task 3")
    assert {line.index("shop") for line in lines[1:]} == {lines[0].index("PROJECT")}


def on_terminal(home: Home, *words: str, columns: int, **environment: str) -> str:
    """Run a command on a terminal of that width and give what it showed."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        home.argv(*words),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**home.environment, "TERM": "xterm-256color", **environment},
        cwd=home.root,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # Linux says EIO at the end
            break
        if not part:
            break
        shown += part
    os.close(controller)
    assert process.wait(PATIENCE) == 0
    return shown.decode("utf-8")


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal_no_line_is_longer_than_it_is_wide(
    home: Home, serve: Serve, columns: int
) -> None:
    tasks = [
        task(1, title="a title of many words " * 5),
        task(2, title="[red]日本語\x1b]0;x\x07[/red]" + "長" * 60),
    ]
    serve({"list_tasks": answer({"tasks": tasks, "next": None})})
    shown = on_terminal(home, "task", "list", columns=columns, NO_COLOR="1")
    # only bold is left of what a terminal obeys: nothing that a title holds, as escape or as markup
    plain = re.sub(r"\x1b\[[01]m", "", shown).replace("\r", "")
    assert "\x1b" not in plain
    assert "\x07" not in plain
    widths = [
        sum(2 if unicodedata.east_asian_width(mark) == "W" else 1 for mark in line.rstrip())
        for line in plain.splitlines()
    ]
    assert columns / 2 < max(widths) <= columns
    # where columns would be a few characters wide there are none, and no headings
    assert ("STATUS" in plain) is (columns == 80)
    joined = re.sub(r"\s+", "", plain)
    assert "[red]日本語\\x1b" in joined
    assert joined.count("長") == 60


def test_an_empty_list_says_so_beside_the_result(home: Home, serve: Serve) -> None:
    serve({"list_tasks": answer({"tasks": [], "next": None}), "list_runs": answer({"runs": [], "next": None})})  # fmt: skip
    tasks, runs = home.run("task", "list"), home.run("run", "list")
    assert (tasks.stdout, tasks.stderr) == ("", "No tasks.\n")
    assert (runs.stdout, runs.stderr) == ("", "No runs.\n")


def test_runs_are_listed_with_exactly_the_published_fields(home: Home, serve: Serve) -> None:
    serve({"list_runs": answer({"runs": [RUN], "next": None})})
    listed = json.loads(home.run("run", "list", "--json", "--task", "tsk_1").stdout)
    published = {key: value for key, value in RUN.items() if key != "fence"}
    assert listed == {"runs": [published]}
    assert home.calls()[0]["arguments"]["task_id"] == "tsk_1"
    assert "succeeded" in home.run("run", "list").stdout


@pytest.mark.parametrize(
    ("words", "tool", "value", "argument"),
    [
        (
            ("task", "show", "tsk_1"),
            "get_task",
            {"task": task(1, description="one\ntwo")},
            "task_id",
        ),
        (("task", "cancel", "tsk_1"), "cancel_task", {"task": task(1)}, "task_id"),
        (("run", "show", "tsk_1"), "get_run", {"run": RUN}, "run_id"),
    ],
)
def test_one_thing_is_shown_whole(
    home: Home,
    serve: Serve,
    words: tuple[str, ...],
    tool: str,
    value: dict[str, Any],
    argument: str,
) -> None:
    serve({tool: answer(value)})
    [thing] = value.values()
    assert json.loads(home.run(*words, "--json").stdout) == thing
    more = {"details": True} if tool == "get_task" else {}
    assert home.calls()[0]["arguments"] == {argument: "tsk_1", **more}
    shown = home.run(*words)
    assert shown.returncode == 0
    assert thing["id"] in shown.stdout


def test_status_says_what_runs(home: Home, serve: Serve) -> None:
    serve({"get_status": answer({"tasks": {"queued": 2, "failed": 0}, "runs": {}})})
    assert home.run("status").stdout.splitlines() == [
        f"Server 0.1.0 runs as process None on {home.socket}.",
        "Tasks: 2 queued.",
        "Runs: none.",
    ]
    known = json.loads(home.run("status", "--json").stdout)
    assert (known["version"], known["socket"]) == ("0.1.0", str(home.socket))


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_an_error_of_the_server_is_one_line_a_hint_and_its_exit_code(
    home: Home, serve: Serve, code: str
) -> None:
    refusal = {"error": {"code": code, "message": "no \x1b[31m", "hint": "do that"}}
    wire: dict[str, Any] = {"isError": True, "content": [], "structuredContent": refusal}
    serve({"get_task": "raw:" + json.dumps(wire)})
    done = home.run("task", "show", "x")
    assert done.returncode == errors.EXIT_CODES[code]
    assert done.stderr == "error: no \\x1b[31m\nhint: do that\n"


def test_without_a_server_a_command_says_how_to_start_one(home: Home) -> None:
    done = home.run("task", "list")
    assert done.returncode == 4
    assert done.stderr == (
        f"error: no server is running for {home.config}\n"
        f"hint: start it with: aiagent-coordinator --config {home.config}\n"
    )


def test_a_server_that_was_killed_is_no_server(home: Home, serve: Serve) -> None:
    serve({"get_status": "die"})
    assert home.run("status").returncode == 4
    done = home.run("status")
    assert (done.returncode, done.stderr.split("\n")[0]) == (
        4,
        f"error: no server is running for {home.config}",
    )


@pytest.mark.needs("root")
def test_the_server_of_another_user_is_told_as_such(home: Home, serve: Serve) -> None:
    serve({"get_status": answer({})})
    for folder in (home.root, home.root / "r", home.root / "r" / paths.APP):
        folder.chmod(0o755)
    home.state.root.chmod(0o700)
    # everything is imported first: another user may not read this interpreter's folder
    code = (
        "import os, sys\n"
        "import platformdirs, aiagent_coordinator.cli.status, aiagent_coordinator.wire.client\n"
        "from aiagent_coordinator.cli.main import run\n"
        "os.setgid(65534), os.setuid(65534)\n"
        "sys.exit(run(['status']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=home.environment,
        cwd=home.root,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr.startswith(f"error: the server of {home.config} belongs to another user\n")


def test_a_reader_that_leaves_early_is_no_error(home: Home, serve: Serve) -> None:
    serve(
        {
            "list_tasks": answer(
                {"tasks": [task(n, title="x" * 1000) for n in range(80)], "next": None}
            )
        }
    )
    process = subprocess.Popen(
        home.argv("task", "list", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=home.environment,
        cwd=home.root,
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE) == 0


def test_a_full_output_is_told(home: Home, serve: Serve) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    serve({"list_tasks": answer({"tasks": [task(1)], "next": None})})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            home.argv("task", "list"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=home.environment,
            cwd=home.root,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert "No space left" in done.stderr


def test_an_interrupt_ends_a_command_with_130(home: Home, serve: Serve) -> None:
    serve({"get_status": "never"})
    process = subprocess.Popen(
        home.argv("status"), stderr=subprocess.PIPE, text=True, env=home.environment, cwd=home.root
    )
    deadline = time.monotonic() + PATIENCE
    while not (home.record.exists() and home.calls()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=PATIENCE)
    assert (process.returncode, talk) == (130, "error: interrupted\n")


def test_only_debug_shows_a_traceback(home: Home) -> None:
    assert "Traceback" not in home.run("status").stderr
    assert "Traceback" in home.run("status", "--debug").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task", "add"), "error: Missing option '--project'.\nhint: see aiagent-coordinator task add --help\n"),
        (("frob",), "error: No such command 'frob'.\nhint: see aiagent-coordinator --help\n"),
        (("task", "list", "--limit", "0"), "error: Invalid value for '--limit': 0 is not in the range x>=1.\nhint: see aiagent-coordinator task list --help\n"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line_and_status_2(
    home: Home, words: tuple[str, ...], message: str
) -> None:
    done = home.run(*words)
    assert (done.returncode, done.stderr) == (2, message)


def test_a_broken_configuration_starts_nothing_and_ends_with_3(home: Home) -> None:
    done = home.run()
    assert done.returncode == 3
    assert done.stderr.startswith("error: coordinator.yaml:1: ")
    assert not (home.root / "s").exists()


def test_every_mistake_of_the_configuration_is_a_line(home: Home) -> None:
    home.config.write_text("polling_intervall: 1\nmax_concurrent: many\n", "utf-8")
    done = home.run()
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: coordinator.yaml:1: polling_intervall: unknown setting (did you mean polling_interval?)",
        "error: coordinator.yaml:2: max_concurrent: expected a whole number, got the text 'many'",
    ]


def test_a_configuration_that_is_not_there_ends_with_3(home: Home) -> None:
    done = home.run("status", "--config", "absent.yaml")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "error: absent.yaml: there is no such file"


def test_the_demo_refuses_a_folder_with_something_in_it(home: Home) -> None:
    done = home.run("demo", "--state", ".")
    assert (done.returncode, done.stderr) == (2, "error: . is not an empty folder\n")


def test_the_demo_without_git_says_so_and_keeps_its_folder(home: Home) -> None:
    done = subprocess.run(
        home.argv("demo", "--state", "d"),
        capture_output=True,
        text=True,
        env={**home.environment, "PATH": "/nowhere"},
        cwd=home.root,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "error: git is needed and was not found on PATH\n" in done.stderr
    assert f"everything is kept for you in {home.root / 'd'}\n" in done.stderr
