"""`init` and `doctor` on machines that have this or that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, short_dir: Path) -> Run:
    """Run the program with a PATH of our own: `bin` and what git needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    git = shutil.which("git")
    assert git is not None
    (folder / "git").symlink_to(git)

    def start(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aiagent_coordinator", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={"PATH": str(folder), "HOME": str(tmp_path / "home"), "TMPDIR": str(short_dir)},
            cwd=cwd or tmp_path,
            timeout=60,
            check=False,
        )

    return start


def install(tmp_path: Path, name: str, says: str = "2.1.400 (Claude Code)", body: str = "") -> None:
    program = tmp_path / "bin" / name
    program.write_text(f"#!/bin/sh\n{body}\necho '{says}'\n", "utf-8")
    program.chmod(0o755)


def repository(path: Path) -> Path:
    path.mkdir()
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def test_init_writes_a_configuration_that_a_start_takes(tmp_path: Path, run: Run) -> None:
    install(tmp_path, "claude")
    repo = repository(tmp_path / "My Shop")
    done = run("init", str(repo))
    file = repo / "coordinator.yaml"
    assert done.returncode == 0
    assert done.stdout == f"Wrote {file}.\n"
    assert f"Found Claude Code 2.1.400 at {tmp_path / 'bin/claude'}." in done.stderr
    written = file.read_text("utf-8")
    assert "provider: claude " in written
    assert "- id: my-shop\n    path: ." in written
    assert run("config", "validate", "--config", str(file)).returncode == 0
    known = findings(run("doctor", "--json", "--config", str(file)))
    assert known["provider claude"]["level"] == "ok"
    assert known["project my-shop"]["level"] == "ok"


def test_init_again_changes_nothing_and_shows_what_it_would_write(tmp_path: Path, run: Run) -> None:
    repo = repository(tmp_path / "shop")
    assert run("init", cwd=repo).returncode == 0
    file = repo / "coordinator.yaml"
    assert f"{file} is already what would be written.\n" == run("init", cwd=repo).stdout
    mine = "# mine\n" + file.read_text("utf-8")
    file.write_text(mine, "utf-8")
    done = run("init", cwd=repo)
    assert file.read_text("utf-8") == mine
    assert "-# mine" in done.stdout.splitlines()
    assert (repo / "coordinator.yaml.new").read_text("utf-8") == mine.removeprefix("# mine\n")
    assert sorted(one.name for one in repo.iterdir()) == [
        ".git",
        "coordinator.yaml",
        "coordinator.yaml.new",
    ]


def test_init_makes_the_folder_and_stands_in_where_nothing_is_installed(
    tmp_path: Path, run: Run
) -> None:
    done = run("init", "a/b", "--json")
    file = tmp_path / "a/b/coordinator.yaml"
    assert json.loads(done.stdout) == {"file": str(file), "agents": [], "diff": []}
    assert "provider: rehearsal" in file.read_text("utf-8")
    assert run("config", "validate", "--config", str(file)).returncode == 0


def test_a_program_that_hangs_or_talks_nonsense_is_listed_without_a_version(
    tmp_path: Path, run: Run
) -> None:
    install(tmp_path, "claude", "no number here", "cat")
    assert "Found Claude Code (version unknown) at" in run("init", "x").stderr


def test_doctor_names_what_is_missing_and_what_mends_it(tmp_path: Path, run: Run) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "coordinator.yaml").write_text(
        "state_dir: state\nsocket: sock\n"
        "agents: {a: {provider: claude, approval: ask}, b: {provider: command, approval: ask}}\n"
        "projects:\n- {id: gone, path: gone}\n- {id: plain, path: plain}\n",
        "utf-8",
    )
    (tmp_path / "sock").write_text("", "utf-8")
    (tmp_path / "state").mkdir(mode=0o755)
    done = run("doctor", "--json")
    known = findings(done)
    assert done.returncode == 1
    faults = {name for name, one in known.items() if one["level"] == "fault"}
    assert faults == {
        "socket",
        "provider claude",
        "provider command",
        "project gone",
        "project plain",
    }
    assert all(known[name]["fix"] for name in faults)
    assert known["state"]["fix"] == f"chmod 700 {tmp_path / 'state'}"
    assert known["agent b"]["level"] == "note"
    plain = run("doctor")
    assert plain.returncode == 1
    assert f"fix: git init {tmp_path / 'plain'}, or set workspace: directory" in plain.stdout
    assert plain.stdout.splitlines()[-1].startswith("5 fault(s)")


def test_doctor_tells_a_broken_configuration_an_old_program_and_no_git(
    tmp_path: Path, run: Run
) -> None:
    (tmp_path / "coordinator.yaml").write_text("zzz: 1\n", "utf-8")
    known = findings(run("doctor", "--json"))
    assert known["configuration"]["level"] == "fault"
    assert known["configuration"]["message"] == "coordinator.yaml:1: zzz: unknown setting"
    install(tmp_path, "claude", "1.0.3 (Claude Code)")
    (tmp_path / "bin/git").unlink()
    (tmp_path / "coordinator.yaml").write_text("agents: {a: {provider: claude}}\n", "utf-8")
    done = run("doctor", "--json")
    known = findings(done)
    assert (known["provider claude"]["level"], known["git"]["level"]) == ("warning", "fault")
    assert done.returncode == 1


def test_doctor_is_content_with_an_empty_machine(tmp_path: Path, run: Run) -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0
    known = findings(done)
    assert known["configuration"]["fix"] == "write one with: aiagent-coordinator init"
    assert known["provider claude"]["level"] == "note"
    assert ("root" in known) == (os.geteuid() == 0)
