"""A configuration that cannot be used: told in a line each, with status 3, and nothing is started."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from support.house import HOLD, House, house, living, script, until
from support.repo import make_repo

REPORT: dict[str, Any] = {"report": {"result": "success", "summary": "done"}}

#: What somebody writes → the line that tells it.
MISTAKES = {
    "polling_intervall: 1\n": "coordinator.yaml:1: polling_intervall: unknown setting (did you mean polling_interval?)",
    "max_concurrent: many\n": "coordinator.yaml:1: max_concurrent: expected a whole number, got the text 'many'",
    "\nsilence_timeout: 5 fortnights\n": "coordinator.yaml:2: silence_timeout: unknown unit 'fortnights' in '5 fortnights'; use ms, s, m, h or d",
    "max_concurrent: 1\nmax_concurrent: 2\n": "coordinator.yaml:2: max_concurrent: is set twice, first in line 1; keep one",
    "l0: &l0 [lol]\n": "coordinator.yaml:1: l0: anchors (&name) are not allowed; write the value out",
    "projects:\n- {id: p, path: .}\n- {id: p, path: x}\n": "coordinator.yaml:3: projects[1].id: p is the id of two projects",
    "projects:\n- {id: p, path: .}\n- {id: q, path: ./x/..}\n": "coordinator.yaml:3: projects[1].path: is also the path of project p; set shared_path: true on both if you mean it",
    "projects:\n- {id: p, path: ''}\n": "coordinator.yaml:2: projects[0].path: expected a path, got nothing",
    "agents: {a: {provider: rehersal}}\n": "coordinator.yaml:1: agents.a.provider: there is no provider 'rehersal' (did you mean rehearsal?)",
    "log_level: loud\n": "coordinator.yaml:1: log_level: expected 'debug', 'info', 'warn' or 'error', got the text 'loud'",
    "state_dir: ${NOT_SET_ANYWHERE}/x\n": "coordinator.yaml:1: state_dir: the environment variable NOT_SET_ANYWHERE is not set",
    "http: {listen: '0.0.0.0'}\n": "coordinator.yaml:1: http.listen: expected HOST:PORT, an IPv6 address in brackets",
    "http: {listen: '127.0.0.1:99999'}\n": "coordinator.yaml:1: http.listen: the port is a number from 0 to 65535",
    "http: {person_token: hunter2}\n": "coordinator.yaml:1: http.person_token: must have at least 16 characters",
    "http:\n  jwt: {audience: a}\n": "coordinator.yaml:2: http.jwt.audience: means nothing without issuer",
    "http: {jwt: {issuer: i, audience: a}}\n": "coordinator.yaml:1: http.jwt.jwks_url: name one of jwks_url and jwks_file",
    "http: {jwt: {issuer: i, jwks_file: f}}\n": "coordinator.yaml:1: http.jwt.audience: is required, or resource: else tokens for others would count",
    "http: {jwt: {issuer: i, audience: a, jwks_url: 'http://x.example/k'}}\n": "coordinator.yaml:1: http.jwt.jwks_url: expected https://…, or http:// on this machine",
    "http: {trusted_proxies: [nginx]}\n": "coordinator.yaml:1: http.trusted_proxies: 'nginx' is no IP address",
    "a: [" + "[" * 80 + "]" * 80 + "]\n": "coordinator.yaml:1: is nested deeper than 64 levels",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Generator[House]:
    with house(tmp_path_factory.mktemp("house")) as home:
        yield home


def refused(home: House) -> list[str]:
    """What the program says instead of a start."""
    done = home.run(check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert not home.state.exists()
    assert not (Path(home.env["HOME"]) / "state").exists()
    return done.stderr.splitlines()


@pytest.mark.parametrize("content", MISTAKES)
def test_a_mistake_is_one_line_with_file_line_key_and_reason(place: House, content: str):
    place.config.write_text(content, "utf-8")
    assert refused(place) == [f"error: {MISTAKES[content]}"]


def test_a_file_that_cannot_be_read_is_one_line(place: House):
    """A folder, a link to itself, bytes that are no text."""
    place.config.unlink(missing_ok=True)
    place.config.mkdir()
    folder = refused(place)
    place.config.rmdir()
    place.config.symlink_to(place.config)
    circle = refused(place)
    place.config.unlink()
    place.config.write_bytes(b"# one\nstate_dir: caf\xe9\n")
    no_text = refused(place)
    for lines, reason in (
        (folder, "is a folder, not a configuration file"),
        (circle, "coordinator.yaml: "),
        (no_text, "coordinator.yaml:2: is not UTF-8"),
    ):
        assert reason in lines[0]
        assert len(lines) <= 2


def test_a_bomb_of_aliases_ends_in_lines_and_not_in_memory(place: House):
    levels = "\n".join(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
    place.config.write_text(f"l0: &l0 [lol]\n{levels}\n", "utf-8")
    assert len(refused(place)) <= 100


def test_a_project_does_not_move_by_a_changed_path(short_dir: Path):
    """Its branches and runs belong to the repository it was declared with."""
    with house(short_dir) as home:
        process = home.ready()
        home.run("stop")
        process.wait(60)
        other = make_repo(short_dir / "other")
        home.write(projects=[{"id": "app", "path": str(other), "agents": ["worker"]}])
        done = home.run(check=False)
        assert done.returncode == 3, done.stderr
        lines = done.stderr.splitlines()
        assert f"project app is at {home.repo}, the configuration says {other}" in lines[-2]
        assert lines[-1].startswith("hint: ")
        assert "Traceback" not in done.stderr


def test_an_agent_removed_while_nobody_looks_ends_its_run_and_gets_no_other(short_dir: Path):
    """Its run goes on over the stop and the next start, which does not know it any more."""
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("Hold", script(HOLD, REPORT))["id"]
        next_task = home.add("Never", script(REPORT))["id"]
        until("it runs", lambda: [r for r in home.runs(task) if r["phase"] == "running"])
        stopped = home.run("stop")
        assert "1 run keeps running" in stopped.stdout
        process.wait(60)
        assert living(home)
        home.write(
            agents={"other": {"provider": "rehearsal"}},
            projects=[{"id": "app", "path": str(home.repo), "agents": ["other"]}],
        )
        home.ready()
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        (run,) = home.runs(task)
        assert (run["agent_id"], run["outcome"]) == ("worker", "succeeded")
        told = home.run("explain", next_task).stdout
        assert "agent worker does not work in project app" in told
        assert home.runs(next_task) == []
