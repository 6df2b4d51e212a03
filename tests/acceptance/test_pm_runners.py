"""The released coordinators of AI Agent PM drive our server, unchanged; real programs throughout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.house import House, house, until
from support.people import PASSKEY, TOKEN, peopled
from support.recorder import Exchange, Recorder, recorder
from support.runners import runner

FAKE = Path(__file__).parents[1] / "fakes" / "pm_agent.py"
VERSIONS = [
    pytest.param(version, marks=[pytest.mark.needs(f"runner-{version}"), pytest.mark.needs("nc")])
    for version in ("0.1.3", "0.1.13")
]
#: What both releases read of each answer: key → types.
SHAPES: dict[str, dict[str, tuple[type, ...]]] = {
    "health_check": {"status": (str,), "version": (str,), "timestamp": (str,)},
    "list_active_projects_with_agents": {"projects": (list,)},
    "get_agent_action": {"action": (str,), "reason": (str,)},
    "register_execution_log_file": {"success": (bool,)},
    "report_agent_error": {"success": (bool,)},
    "invalidate_session": {"success": (bool,)},
    "get_subordinate_profile": {"system_prompt": (str,), "skills": (list,)},
}


@contextmanager
def served(root: Path, *agents: str, **settings: Any) -> Generator[House]:
    """A house whose server runs alone, with these agents and a task queue each."""
    with house(root, coordinator_token=TOKEN, **settings) as home:
        home.write(
            agents={
                agent: {"provider": "rehearsal", "passkey": PASSKEY, "model": "m-1"}
                for agent in agents
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready("serve")
        yield home


@contextmanager
def running(home: House, version: str, *agents: str, token: str = TOKEN) -> Generator[Recorder]:
    """The released coordinator, at work on our socket through a recorder."""
    with (
        recorder(home.root / "r.sock", home.socket) as seen,
        driven(home, version, *agents, mcp_socket_path=str(seen.path), coordinator_token=token),
    ):
        yield seen


@contextmanager
def driven(home: House, version: str, *agents: str, **settings: Any) -> Generator[Path]:
    """The released coordinator at work; its file."""
    config = home.root / "runner.yaml"
    told: dict[str, Any] = {
        "polling_interval": 1,
        "max_concurrent": 5,
        "coordinator_token": TOKEN,
        "agents": {agent: {"passkey": PASSKEY} for agent in agents},
        "ai_providers": {"claude": {"cli_command": sys.executable, "cli_args": [str(FAKE)]}},
        **settings,
    }
    config.write_text(yaml.safe_dump(told), encoding="utf-8")
    with (home.root / "runner.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiagent_runner", "--coordinator", "-v", "-c", str(config)],
            cwd=home.root,
            env={**os.environ, **home.env, "PYTHONPATH": str(runner(version))},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield config
    finally:
        process.terminate()
        process.wait(30)


def ended(home: House, task_id: str) -> dict[str, Any]:
    """Wait until the last run of a task is over; that run."""

    def found() -> dict[str, Any] | None:
        runs = home.runs(task_id)
        return home.shown(runs[-1]["id"]) if runs and runs[-1]["phase"] == "ended" else None

    return until(f"the run of {task_id} is over", found, 90)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_coordinator_drives_our_server_through_every_ending(
    short_dir: Path, version: str
):
    """Success, failure, blocked, no report, a quota, and a program that dies before it authenticates."""
    wanted = {
        "good": ("succeed", "succeeded", None),
        "bad": ("fail", "failed", "agent_reported"),
        "stuck": ("block", "suspended", "agent_reported"),
        "mute": ("silent", "failed", "no_report"),
        "dies": ("succeed", "failed", "never_authenticated"),
        # the last: then nothing of its provider starts any more
        "poor": ("quota", "failed", "quota"),
    }
    with served(short_dir, *wanted) as home:
        tasks: dict[str, str] = {}

        def add(agent: str) -> None:
            what = wanted[agent][0]
            task = home.add(f"Task of {agent}", what, agent=agent, max_attempts="1")
            tasks[agent] = task["id"]

        for agent in set(wanted) - {"poor"}:
            add(agent)
        with running(home, version, *wanted) as seen:
            for agent, (_, outcome, reason) in wanted.items():
                if agent not in tasks:
                    add(agent)
                run = ended(home, tasks[agent])
                assert (run["outcome"], run["reason"]) == (outcome, reason), agent
                assert run["exit_code"] is None, "these coordinators do not tell it"
                assert run["holder"] == f"legacy:{agent}/app"
        assert home.task(tasks["good"])["status"] == "succeeded"
        assert home.task(tasks["good"])["result"]["summary"] == "it is done"
        assert home.task(tasks["bad"])["status"] == "failed"
        assert home.task(tasks["stuck"])["wait_reason"] == "blocked"
        assert home.task(tasks["poor"])["status"] == "queued", "a quota costs no attempt"
        assert home.task(tasks["poor"])["not_before"] is not None
        assert "does not start here" in home.shown(home.runs(tasks["dies"])[-1]["id"])["error"]
        log = Path(home.runs(tasks["good"])[-1]["log_path"])
        assert "report_completion" in log.read_text("utf-8")
        check_shapes(seen, version)


def check_shapes(seen: Recorder, version: str) -> None:
    """Every answer is one short line in the shape that the release reads."""
    assert {one.tool for one in seen.exchanges if one.asked["method"] == "tools/call"} >= {
        "health_check", "list_active_projects_with_agents", "get_agent_action", "authenticate",
        "register_execution_log_file", "report_agent_error", "invalidate_session", "get_my_task",
    }  # fmt: skip
    for tool, shape in SHAPES.items():
        for one in seen.calls(tool):
            assert len(one.answer) < 65_536
            answer = json.loads(one.answer)
            assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
            assert "structuredContent" not in answer["result"], "it never shook hands"
            for key, kinds in shape.items():
                assert isinstance(one.value[key], kinds), (tool, key)
    starts = [one for one in seen.calls("get_agent_action") if one.value["action"] == "start"]
    assert all(one.value["task_id"] and one.value["model"] == "m-1" for one in starts)
    read_by_the_release(seen.exchanges, version)


#: Runs inside the release's own import path: every recorded answer, through its own parser.
PARSE = """
import asyncio, json, sys
from aiagent_runner.mcp_client import MCPClient

class Fed(MCPClient):
    def __init__(self, data):
        super().__init__("/nowhere", "t")
        self.data = data

    async def _call_tool(self, name, args):
        return self._parse_response(self.data)

CALLS = {
    "health_check": lambda c: c.health_check(),
    "list_active_projects_with_agents": lambda c: c.list_active_projects_with_agents(),
    "get_agent_action": lambda c: c.get_agent_action("a", "p"),
    "register_execution_log_file": lambda c: c.register_execution_log_file("a", "t", "l"),
    "report_agent_error": lambda c: c.report_agent_error("a", "p", "e"),
    "invalidate_session": lambda c: c.invalidate_session("a", "p"),
    "get_subordinate_profile": lambda c: c.get_subordinate_profile("a"),
}
for line in sys.stdin:
    tool, answer = json.loads(line)
    print(json.dumps([tool, repr(asyncio.run(CALLS[tool](Fed(answer))))]))
"""


def read_by_the_release(exchanges: list[Exchange], version: str) -> None:
    recorded = [
        json.dumps([one.tool, json.loads(one.answer)])
        for one in exchanges
        if one.asked["method"] == "tools/call"
        and one.tool in SHAPES
        and (version, one.tool) != ("0.1.3", "get_subordinate_profile")
    ]
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input="\n".join(recorded),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(runner(version))},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(read) == len(recorded)
    told = dict(read)
    assert "status='ok'" in told["health_check"]
    assert "project_id='app'" in told["list_active_projects_with_agents"]
    assert told["invalidate_session"] == "True"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stopped_run_of_a_released_coordinator_ends_although_it_tells_nothing(
    short_dir: Path, version: str
):
    with served(short_dir, "slow", "other") as home:
        task = home.add("Hang", "hang", agent="slow", max_attempts="1")["id"]
        with running(home, version, "slow", "other") as seen:
            until("it works", lambda: seen.calls("report_progress"))
            home.run("task", "cancel", task)
            run = ended(home, task)
            assert (run["outcome"], run["reason"]) == ("cancelled", "cancelled")
            assert any(one.value["action"] == "stop" for one in seen.calls("get_agent_action"))
            # its place is free again
            after = home.add("Go on", "succeed", agent="slow", max_attempts="1")["id"]
            assert ended(home, after)["outcome"] == "succeeded"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_manager_of_a_released_coordinator_has_others_do_its_task(short_dir: Path, version: str):
    """It is not started while its parts are at work, though its coordinator asks every second."""
    with served(short_dir, "boss", "ann") as home:
        agents = dict(home.settings["agents"])
        agents["boss"] |= {"hierarchy": "manager"}
        agents["ann"] |= {"parent": "boss"}
        home.write(agents=agents)
        home.run("config", "validate")
        until("the server knows who works for whom", lambda: hierarchy_of(home, "ann") == "boss")
        task = home.add("Furnish the room", "succeed", agent="boss")["id"]
        with running(home, version, "boss", "ann") as seen:
            until("it is over", lambda: home.task(task)["status"] == "succeeded", 90)
        told = home.ask("list_tasks", limit=100)["tasks"]
        parts = {one["title"]: one for one in told if one["parent_id"] == task}
        assert {one["status"] for one in parts.values()} == {"succeeded"}
        assert {one["agent_id"] for one in parts.values()} == {"ann"}
        first, second = (home.shown(run["id"]) for run in home.runs(task))
        assert (first["outcome"], first["reason"]) == ("suspended", "delegated")
        assert second["outcome"] == "succeeded"
        waits = [one for one in seen.calls("get_agent_action") if one.value["action"] == "hold"]
        assert "waiting_for_workers" in {one.value["reason"] for one in waits}


def hierarchy_of(home: House, agent_id: str) -> str | None:
    agents = home.ask("list_agents")["agents"]
    return next(one.get("parent_id") for one in agents if one["id"] == agent_id)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_token_is_loud_and_nothing_else_is_called(short_dir: Path, version: str):
    """These clients read no isError: only a protocol error makes them say what is wrong."""
    with served(short_dir, "good") as home, running(home, version, "good", token="wrong") as seen:
        until("it asked twice", lambda: len(seen.calls("health_check")) >= 2)
        assert {one.tool for one in seen.exchanges} == {"health_check"}
        assert "error" in json.loads(seen.exchanges[0].answer)
        said = until(
            "it says so",
            lambda: next(
                (
                    line
                    for line in (home.root / "runner.log").read_text("utf-8").splitlines()
                    if "ERROR" in line
                ),
                None,
            ),
        )
        assert "the coordinator token is wrong" in said


#: Runs inside the release: sends one log with its own class, where its own file says.
SEND = """
import asyncio, sys
from pathlib import Path
from aiagent_runner.coordinator import Coordinator
from aiagent_runner.coordinator_config import CoordinatorConfig

config = CoordinatorConfig.from_yaml(Path(sys.argv[1]))
coordinator = Coordinator(config)
print(coordinator.mcp_client._use_http)
print(asyncio.run(coordinator.log_uploader.upload(*sys.argv[2:])))
"""


@pytest.mark.needs("runner-0.1.13")
def test_the_last_release_drives_our_server_over_http_and_sends_its_logs(short_dir: Path):
    """Its coordinator and its agents both ask our port; every agent shows the coordinator's token."""
    wanted = {
        "good": ("succeed", "succeeded", None),
        "bad": ("fail", "failed", "agent_reported"),
        "poor": ("quota", "failed", "quota"),
        "dies": ("succeed", "failed", "never_authenticated"),
    }
    with served(short_dir, *wanted, http={"listen": "127.0.0.1:0"}) as home:
        base = f"http://{home.logged('daemon.ready')[0]['http']}"
        tasks = {
            agent: home.add(f"Task of {agent}", what, agent=agent, max_attempts="1")["id"]
            for agent, (what, _, _) in wanted.items()
        }
        settings: dict[str, Any] = {
            "mcp_socket_path": f"{base}/mcp", "server_url": base, "log_upload": {"enabled": True},
        }  # fmt: skip
        with driven(home, "0.1.13", *wanted, **settings) as config:
            for agent, (_, outcome, reason) in wanted.items():
                run = ended(home, tasks[agent])
                assert (run["outcome"], run["reason"]) == (outcome, reason), agent
                assert run["holder"] == f"legacy:{agent}/app"
            assert home.task(tasks["good"])["result"]["summary"] == "it is done"
            assert home.task(tasks["poor"])["status"] == "queued", "a quota costs no attempt"

            # the release never sends a log by itself: it does not learn the id. Its class does
            run = home.runs(tasks["good"])[-1]
            log = Path(run["log_path"])
            about = (run["id"], "good", tasks["good"], "app")
            done = subprocess.run(
                [sys.executable, "-c", SEND, str(config), str(log), *about],
                capture_output=True, text=True, timeout=60, check=True,
                env={**os.environ, **home.env, "PYTHONPATH": str(runner("0.1.13"))},
            )  # fmt: skip
            assert done.stdout.splitlines() == ["True", f"logs/sent/{run['id']}.log"], done.stderr
        log.unlink()
        assert "report_completion" in home.run("logs", run["id"]).stdout

        request = urllib.request.Request(
            f"{base}/api/coordinator/config", headers={"authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert told["agents"] == {agent: {"passkey": PASSKEY} for agent in wanted}
        assert told["server_url"] == base


@pytest.mark.needs("runner-0.1.13")
def test_the_last_release_asks_a_socket_when_only_its_server_url_says_where(short_dir: Path):
    """So whoever wants it to speak HTTP puts the URL into `mcp_socket_path`."""
    ask = (
        "from aiagent_runner.coordinator import Coordinator\n"
        "from aiagent_runner.coordinator_config import CoordinatorConfig\n"
        "print(Coordinator(CoordinatorConfig(server_url='http://127.0.0.1:1')).mcp_client._use_http)"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True,
        cwd=short_dir, env={**os.environ, "PYTHONPATH": str(runner("0.1.13"))},
    )  # fmt: skip
    assert done.stdout == "False\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_person_writes_with_an_agent_of_a_released_coordinator(short_dir: Path, version: str):
    """A message starts a session, its answer is shown, and a task that comes then is done."""
    whom = ("--project", "app", "--agent", "good")
    with served(short_dir, "good") as home, running(home, version, "good") as seen:
        assert "Sent msg_" in home.run("chat", "send", *whom, "How are you?").stdout

        def answer() -> str | None:
            found = home.json("chat", "show", *whom)["messages"]
            return next((one["body"] for one in found if one["author"] == "agent"), None)

        assert until("the agent has answered", answer, 90) == "You said: How are you?"
        starts = [one.value for one in seen.calls("get_agent_action")]
        reasons = [one["reason"] for one in starts if one["action"] == "start"]
        assert reasons == ["has_chat_work"]
        shown = home.run("chat", "show", *whom).stdout
        assert "How are you?" in shown
        assert "not answered" not in shown
        task = home.add("Task", "succeed", agent="good", max_attempts="1")["id"]
        assert ended(home, task)["outcome"] == "succeeded"
        chats = [run for run in home.runs() if run["purpose"] == "chat"]
        assert [run["outcome"] for run in chats] == ["succeeded"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_coordinator_of_a_person_works_with_its_agents_in_its_directory(
    short_dir: Path, version: str
) -> None:
    with house(short_dir) as home:
        folders = peopled(home)
        home.ready("serve")
        task = home.add("Task", "succeed", agent="ann", max_attempts="1")["id"]
        other = home.add("Not mine", "succeed", agent="bob", max_attempts="1")["id"]
        with (
            recorder(home.root / "r.sock", home.socket) as seen,
            driven(
                home, version, "ann", "bob", mcp_socket_path=str(seen.path), root_agent_id="maria"
            ),
        ):
            run = ended(home, task)
            assert run["outcome"] == "succeeded"
            assert Path(run["log_path"]).is_relative_to(folders["maria"])
            (known,) = seen.calls("authenticate")
            assert known.value["working_directory"] == str(folders["maria"])
            listed = seen.calls("list_active_projects_with_agents", root_agent_id="maria")
            assert listed[0].value == {
                "projects": [
                    {
                        "project_id": "app",
                        "project_name": "app",
                        "working_directory": str(folders["maria"]),
                        "agents": ["ann"],
                    }
                ],
                "skipped": [{"project_id": "other", "reason": "no_working_directory"}],
            }
            asked = {
                one.asked["params"]["arguments"]["agent_id"]
                for one in seen.calls("get_agent_action")
            }
            assert asked == {"ann"}
        assert home.runs(other) == []
