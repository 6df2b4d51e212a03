"""`service`, and how the program speaks to a service manager: a real socket, real units, real signals."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.house import HOLD, PATIENCE_SECONDS, House, house, script, until

#: A program that writes down how it was called, and does as a file beside it says.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
test -e {log}.fail && {{ echo no bus here >&2; exit 1; }}
case "$*" in *show*) printf 'ActiveState=active\\nMainPID=77\\nKillMode=process\\n';; esac
exit 0
"""

#: Twenty times the pause between two signs of life in these tests.
STILL_SECONDS = 4.0


class Manager:
    """The receiving end of the notify protocol."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[dict[str, str]] = []
        self.times: list[float] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        while True:
            said = self.socket.recv(65536).decode()
            if said == "END":
                return
            self.times.append(time.monotonic())
            self.heard.append(dict(line.split("=", 1) for line in said.splitlines()))

    def count(self, name: str) -> int:
        return sum(name in one for one in list(self.heard))

    def count_late(self, name: str, seconds: float) -> int:
        """How often it was heard in the last so many seconds."""
        since = time.monotonic() - seconds
        pairs = zip(list(self.times), list(self.heard), strict=False)
        return sum(name in one and at > since for at, one in pairs)

    def order(self, *names: str) -> list[str]:
        return [name for one in list(self.heard) for name in one if name in names]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END", "\0" + self.address[1:] if self.address[0] == "@" else self.address)
        self.thread.join(PATIENCE_SECONDS)
        self.socket.close()


@contextmanager
def managed(home: House, address: str, watchdog_seconds: float | None = None) -> Generator[Manager]:
    """A house whose program is told of a manager."""
    manager = Manager(address)
    home.env["NOTIFY_SOCKET"] = address
    if watchdog_seconds is not None:
        home.env["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
    try:
        yield manager
    finally:
        # the commands that a test runs have no manager
        home.close()
        manager.close()


def start(home: House, *arguments: str) -> subprocess.Popen[bytes]:
    """Start it as a manager would: what a person types later knows nothing of the manager."""
    process = home.start(*arguments)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        home.env.pop(name, None)
    return process


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_manager_hears_when_it_answers_and_when_it_ends(abstract: bool, short_dir: Path):
    """READY=1 comes when a command can be answered, STOPPING=1 before the end."""
    address = f"@aac-test-{os.getpid()}" if abstract else str(short_dir / "notify")
    with house(short_dir) as home, managed(home, address) as manager:
        process = start(home)
        until("it is ready", lambda: manager.count("READY"))
        assert home.run("status").returncode == 0
        assert manager.count("STOPPING") == 0
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert manager.order("READY", "STOPPING", "WATCHDOG") == ["READY", "STOPPING"]


def test_without_a_manager_nothing_is_said_and_nothing_fails(short_dir: Path):
    """A manager's socket that is gone costs nothing either."""
    with house(short_dir) as home:
        home.env["NOTIFY_SOCKET"] = str(short_dir / "nobody")
        home.env["WATCHDOG_USEC"] = "100000"
        process = home.ready()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def test_hup_reads_the_configuration_again_and_tells_the_manager(short_dir: Path):
    """RELOADING=1 with its time, then READY=1; also when nothing changed, and when it cannot be used."""
    with house(short_dir) as home, managed(home, str(short_dir / "notify")) as manager:
        process = start(home)
        until("it is ready", lambda: manager.count("READY") == 1)
        process.send_signal(signal.SIGHUP)
        until("it has reloaded", lambda: manager.count("READY") == 2)
        assert len(home.logged("config.same")) == 1
        told = next(one for one in manager.heard if "RELOADING" in one)
        assert int(told["MONOTONIC_USEC"]) > 0
        # a change that the file watch has not seen: the same file time and size would not matter
        home.write(max_concurrent=7)
        process.send_signal(signal.SIGHUP)
        changed = until("it is taken up", lambda: home.logged("config.changed"))
        assert changed[0]["live"] == ["max_concurrent"]
        good = home.config.read_text()
        home.config.write_text("max_concurrent: many\n")
        before = manager.count("READY")
        process.send_signal(signal.SIGHUP)
        until("it is refused", lambda: home.logged("config.refused"))
        until("it serves on", lambda: manager.count("READY") > before)
        home.config.write_text(good)
        assert process.poll() is None
        order = manager.order("READY", "RELOADING")
        assert order == ["READY", *["RELOADING", "READY"] * (len(order) // 2)]


@pytest.mark.parametrize("role", [(), ("serve",), ("coordinate",)], ids=["both", "serve", "coordinate"])  # fmt: skip
def test_signs_of_life_come_while_work_goes_on(role: tuple[str, ...], short_dir: Path):
    """Also while the loop rests between two passes, or waits for a server that is not there."""
    with house(short_dir) as home, managed(home, str(short_dir / "notify"), 0.6) as manager:
        home.write(polling_interval="1h")
        start(home, *role)
        until("it lives", lambda: manager.count("WATCHDOG") >= 5)
        assert manager.count("READY") == 1


def test_a_loop_that_stands_still_gives_no_sign_of_life(short_dir: Path):
    """The rest of the process is alive: what counts is the loop. The manager then starts it anew."""
    with house(short_dir) as home:
        home.write(polling_interval="0.2s")
        server = home.ready("serve")
        with managed(home, str(short_dir / "notify"), 0.6) as manager:
            start(home, "coordinate")
            until("it lives", lambda: manager.count("WATCHDOG") >= 3)
            server.send_signal(signal.SIGSTOP)
            try:
                # a pass is under way or begins now, and waits for its answer
                time.sleep(STILL_SECONDS)
                assert manager.count_late("WATCHDOG", STILL_SECONDS - 1) == 0
            finally:
                server.send_signal(signal.SIGCONT)
            before = manager.count("WATCHDOG")
            until("it lives again", lambda: manager.count("WATCHDOG") >= before + 3)


def test_while_it_drains_it_still_gives_signs_of_life(short_dir: Path):
    """A drain may take hours, and its loop makes no pass any more."""
    with house(short_dir) as home, managed(home, str(short_dir / "notify"), 0.6) as manager:
        process = start(home)
        until("it is ready", lambda: manager.count("READY"))
        task = home.add("Wait", script(HOLD))
        until("it runs", lambda: any(r["phase"] == "running" for r in home.runs(task["id"])))
        process.send_signal(signal.SIGUSR2)
        until("it drains", lambda: home.logged("daemon.stopping"))
        before = manager.count("WATCHDOG")
        until("it lives", lambda: manager.count("WATCHDOG") >= before + 5)
        home.go(task["id"])
        assert process.wait(PATIENCE_SECONDS) == 0


@contextmanager
def user(short_dir: Path) -> Generator[House]:
    """A user with a configuration, and service managers that only write down what they are told."""
    with house(short_dir) as home:
        programs = short_dir / "programs"
        programs.mkdir()
        for name in ("systemctl", "loginctl", "launchctl", "journalctl"):
            (programs / name).write_text(FAKE.format(log=short_dir / "called"))
            (programs / name).chmod(0o755)
        home.env["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        yield home


def called(home: House) -> list[str]:
    file = home.root / "called"
    return file.read_text().splitlines() if file.exists() else []


def unit_file(home: House) -> Path:
    return home.root / "home" / "config" / "systemd" / "user" / "aiagent-coordinator.service"


def install(home: House, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return home.run("service", "install", "--manager", "systemd", *more, check=check)


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_what_systemd_understands(short_dir: Path):
    """Whatever stands in the paths; it names an absolute interpreter and holds no secret."""
    odd = short_dir / 'a "b" 50%c $HOME'
    odd.mkdir()
    with user(odd) as home:
        home.env |= {"ANTHROPIC_API_KEY": "sk-secret", "AIAGENT_COORDINATOR_COORDINATOR_TOKEN": "tok-secret"}  # fmt: skip
        done = install(home)
        unit = unit_file(home).read_text()
        for secret in ("sk-secret", "tok-secret"):
            assert secret not in unit + done.stdout + done.stderr
        assert "ANTHROPIC_API_KEY" in done.stderr
        assert unit.splitlines() == done.stdout.splitlines()
        for line in (
            "Type=notify", "KillMode=process", "Delegate=yes", "WatchdogSec=120",
            "ExecReload=/bin/kill -HUP $MAINPID", "WantedBy=default.target",
        ):  # fmt: skip
            assert line in unit.splitlines()
        assert f'ExecStart="{sys.executable}" "-P" "-m" "aiagent_coordinator"' in unit
        assert "loginctl enable-linger" in done.stderr
        assert called(home) == []
        (home.root / "rt").mkdir(exist_ok=True)
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(unit_file(home))],
            env={**os.environ, "XDG_RUNTIME_DIR": str(home.root / "rt")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_complains_about_what_it_does_not_understand(short_dir: Path):
    """The control of the test above."""
    bad = short_dir / "bad.service"
    bad.write_text("[Service]\nType=notify\nExecStart=/bin/true\nKillMode=proces\n")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(bad)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(short_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert "kill mode" in verified.stderr


def started_by(unit: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of a unit, read as systemd reads them where nothing is odd."""
    lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    words = json.loads("[" + lines["ExecStart"].replace('" "', '", "') + "]")
    name, _, value = json.loads(lines["Environment"]).partition("=")
    return words, {name: value}


def test_the_command_of_the_unit_starts_the_program_in_an_empty_environment(short_dir: Path):
    """No shell profile, no PATH but the captured one: as a manager starts it."""
    with user(short_dir) as home:
        install(home)
        words, environment = started_by(unit_file(home).read_text())
        given = {name: home.env[name] for name in ("HOME", "XDG_RUNTIME_DIR")}
        kept = {"XDG_STATE_HOME": home.env["XDG_STATE_HOME"]}
        assert f'"XDG_STATE_HOME={kept["XDG_STATE_HOME"]}"' in unit_file(home).read_text()
        with home.log.open("wb") as log:
            process = subprocess.Popen(
                [*words, "--log-format", "json"],
                env={**given, **kept, **environment},
                stdout=log,
                stderr=log,
                cwd=short_dir,
                start_new_session=True,
            )
        home.processes.append(process)
        until("it answers", lambda: home.run("status", check=False).returncode == 0)
        task = home.add("Work", script({"write": {"path": "a.txt", "text": "x"}}))
        assert home.finished(task["id"])["status"] == "succeeded"


def test_installing_looks_with_doctor_from_where_the_service_will_stand(short_dir: Path):
    """What is missing there is told, though this shell has it."""
    with user(short_dir) as home:
        home.write(agents={"worker": {"provider": "mycli"}}, ai_providers={"mycli": {"cli_command": "mycli", "like": "command"}})  # fmt: skip
        answer = json.loads(install(home, "--json").stdout)
        assert not answer["doctor"]["ok"]
        faults = [one["name"] for one in answer["doctor"]["findings"] if one["level"] == "fault"]
        assert faults == ["provider mycli"]
        program = short_dir / "programs" / "mycli"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert json.loads(install(home, "--json").stdout)["doctor"]["ok"]
        # what is wrong in this shell alone is no fault of the service
        home.env["AIAGENT_COORDINATOR_MAX_CONCURRENT"] = "many"
        answer = json.loads(install(home, "--json").stdout)
        assert answer["doctor"]["ok"], answer["doctor"]
        assert "AIAGENT_COORDINATOR_MAX_CONCURRENT" in answer["not_taken"]
        # a relative PATH is this shell's alone, too
        home.env["PATH"] = f"programs{os.pathsep}{os.environ['PATH']}"
        assert not json.loads(install(home, "--json").stdout)["doctor"]["ok"]


def test_a_unit_that_somebody_else_wrote_or_changed_is_left_alone(short_dir: Path):
    """The difference is shown; --force replaces it and keeps what stood there."""
    with user(short_dir) as home:
        unit_file(home).parent.mkdir(parents=True)
        unit_file(home).write_text("[Service]\nExecStart=/bin/true\n")
        done = install(home, check=False)
        assert done.returncode == 6
        assert "-ExecStart=/bin/true" in done.stderr
        assert unit_file(home).read_text() == "[Service]\nExecStart=/bin/true\n"
        assert home.run("service", "uninstall", "--manager", "systemd", check=False).returncode == 6
        install(home, "--force")
        backup = unit_file(home).with_name("aiagent-coordinator.service.bak")
        assert backup.read_text() == "[Service]\nExecStart=/bin/true\n"
        # ours: written again without asking, with the difference shown
        home.env["PATH"] += ":/usr/games"
        answer = json.loads(install(home, "--json").stdout)
        assert answer["replaced"] == "ours"
        assert any(line.startswith('+Environment="PATH=') for line in answer["diff"])
        # ours and changed: somebody else's work
        edited = unit_file(home).read_text().replace("RestartSec=5", "RestartSec=60")
        unit_file(home).write_text(edited)
        done = install(home, check=False)
        assert done.returncode == 6
        assert "-RestartSec=60" in done.stderr
        assert unit_file(home).read_text() == edited


def test_a_link_in_place_of_the_unit_is_never_written_through(short_dir: Path):
    with user(short_dir) as home:
        unit_file(home).parent.mkdir(parents=True)
        target = short_dir / "target"
        target.write_text("precious")
        unit_file(home).symlink_to(target)
        assert install(home, check=False).returncode == 6
        install(home, "--force")
        assert target.read_text() == "precious"
        assert not unit_file(home).is_symlink()


def test_install_now_status_and_uninstall_tell_the_manager(short_dir: Path):
    with user(short_dir) as home:
        install(home, "--now")
        assert called(home) == [
            "systemctl --user daemon-reload",
            "systemctl --user enable --now aiagent-coordinator.service",
        ]
        state = json.loads(home.run("service", "status", "--manager", "systemd", "--json").stdout)
        assert (state["written"], state["state"]["MainPID"], state["pid"]) == ("ours", "77", None)
        process = home.ready()
        state = json.loads(home.run("service", "status", "--manager", "systemd", "--json").stdout)
        assert state["pid"] == process.pid
        assert "by this program" in home.run("service", "status", "--manager", "systemd").stdout
        (home.root / "called").unlink()
        home.run("service", "uninstall", "--manager", "systemd")
        assert called(home) == [
            "systemctl --user disable --now aiagent-coordinator.service",
            "systemctl --user daemon-reload",
        ]
        assert not unit_file(home).exists()
        for words in (("status",), ("uninstall",)):
            done = home.run("service", *words, "--manager", "systemd", check=False)
            assert done.returncode == 5


def test_a_manager_that_cannot_be_asked_is_told_as_such(short_dir: Path):
    """The unit is written all the same."""
    with user(short_dir) as home:
        (home.root / "called.fail").touch()
        done = install(home, "--now", check=False)
        assert done.returncode == 1
        assert "no bus here" in done.stderr
        assert unit_file(home).exists()
        assert "cannot be asked" in home.run("service", "status", "--manager", "systemd").stdout
        home.run("service", "uninstall", "--manager", "systemd")
        assert not unit_file(home).exists()


def test_logs_are_the_managers_own(short_dir: Path):
    with user(short_dir) as home:
        home.run("service", "logs", "--manager", "systemd", "-n", "5", "--json", "--name", "second")
        assert called(home) == ["journalctl --user --user-unit second.service -n 5 -o json"]


def test_the_launchd_agent_has_the_keys_that_keep_agents_alive(short_dir: Path):
    with user(short_dir) as home:
        home.run("service", "install", "--manager", "launchd", "--name", "second")
        folder = home.root / "home" / "Library" / "LaunchAgents"
        (file,) = folder.iterdir()
        assert file.name == "dev.aiagent-coordinator.second.plist"
        agent: dict[str, Any] = plistlib.loads(file.read_bytes())
        assert agent["Label"] == file.stem
        assert agent["ProgramArguments"][0] == sys.executable
        assert all(Path(agent[key]).is_absolute() for key in ("WorkingDirectory", "StandardErrorPath"))  # fmt: skip
        assert (agent["AbandonProcessGroup"], agent["RunAtLoad"]) == (True, True)
        assert (agent["ThrottleInterval"], agent["KeepAlive"]) == (10, {"SuccessfulExit": False})
        folders = dict.fromkeys(home.env["PATH"].split(os.pathsep))
        assert agent["EnvironmentVariables"]["PATH"] == os.pathsep.join(folders)
        # its file is known as ours too
        answer = json.loads(
            home.run(
                "service", "install", "--manager", "launchd", "--name", "second", "--json"
            ).stdout
        )
        assert (answer["replaced"], answer["diff"]) == ("ours", [])
        file.write_bytes(file.read_bytes().replace(b"<integer>10<", b"<integer>1<"))
        done = home.run(
            "service", "install", "--manager", "launchd", "--name", "second", check=False
        )
        assert done.returncode == 6


def test_doctor_warns_of_a_unit_whose_stop_ends_the_agents(short_dir: Path):
    """systemd's own default does."""
    with user(short_dir) as home:
        install(home)
        findings = home.json("doctor")["findings"]
        assert [one["level"] for one in findings if one["name"] == "service"] == ["ok"]
        text = unit_file(home).read_text()
        unit_file(home).write_text(text.replace("KillMode=process\n", ""))
        (told,) = [one for one in home.json("doctor")["findings"] if one["name"] == "service"]
        assert told["level"] == "warning"
        assert "KillMode=control-group" in told["message"]


@pytest.mark.needs("root")
def test_doctor_warns_when_it_runs_under_such_a_unit(short_dir: Path):
    """Which unit that is, the process's own control group tells; the mode in force, the manager."""
    group = Path("/sys/fs/cgroup/systemd")
    if not group.is_dir():
        group = Path("/sys/fs/cgroup")
    unit = group / f"aac-test-{os.getpid()}.service"
    unit.mkdir()
    try:
        with user(short_dir) as home:
            programs = short_dir / "programs"
            fake = programs / "systemctl"
            fake.write_text('#!/bin/sh\ncase "$*" in *KillMode*) echo control-group;; esac\n')
            run = ["sh", "-c", f'echo $$ > {unit}/cgroup.procs && exec "$@"', "sh"]
            done = subprocess.run(
                [*run, sys.executable, "-m", "aiagent_coordinator", "doctor", "--config", str(home.config)],
                env={**os.environ, **home.env}, capture_output=True, text=True, cwd=short_dir,
                timeout=PATIENCE_SECONDS, check=False,
            )  # fmt: skip
            assert f"{unit.name} has KillMode=control-group" in done.stdout, done
    finally:
        unit.rmdir()


def test_a_service_needs_a_configuration_and_a_plain_name(short_dir: Path):
    with user(short_dir) as home:
        done = install(home, "--name", "../evil", check=False)
        assert done.returncode == 2
        moved = shutil.move(home.config, home.root / "elsewhere.yaml")
        assert Path(moved).exists()
        assert install(home, check=False).returncode == 3
