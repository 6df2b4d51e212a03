"""Our coordinator drives a server of AI Agent PM: a stand-in that speaks its bytes, and real programs."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.foreign import TOKEN, Foreign, foreign
from support.house import until


@pytest.fixture(params=["socket", "http"])
def over(request: pytest.FixtureRequest) -> str:
    """Over what the server is reached: everything is the same over both."""
    return request.param


START: dict[str, Any] = {
    "action": "start",
    "model": "claude-sonnet-4-5",
    "provider": "claude",
    "reason": "has_task_work",
    "task_id": "tsk_1",
}
KEYS = {"w1": "key-of-w1", "w2": "key-of-w2"}


def ended(place: Foreign, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many runs are over; their log lines."""
    home = place.home

    def over() -> list[dict[str, Any]] | None:
        assert home.processes[-1].poll() is None, home.log_text()
        lines = home.logged("run.end")
        return lines if len(lines) >= count else None

    try:
        return until(f"{count} runs are over", over)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{home.log_text()}") from None


def test_a_run_is_started_led_and_told_in_the_words_of_that_server(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        place.board(
            projects=[place.project("prj", "w1", "human")],
            actions={"w1/prj": [START]},
            passkeys=KEYS,
        )
        place.write("w1")
        place.home.start("--coordinator")
        (end,) = ended(place)
        assert end["outcome"] == "succeeded"
        folder = place.folder("prj")
        prompt = (folder / "prompt.txt").read_text()
        assert "You are the agent w1, working on the project Prj" in prompt
        assert "You are a fake." in prompt, "the profile's prompt"
        argv = json.loads((folder / "argv.json").read_text())
        assert argv[argv.index("--model") + 1] == "claude-sonnet-4-5"
        answers = [json.loads(one) for one in (folder / "answers.jsonl").read_text().splitlines()]
        assert '"success" : true' in answers[1]["result"]["content"][0]["text"]
        shown = place.calls("authenticate")
        assert shown == [{"agent_id": "w1", "passkey": "key-of-w1", "project_id": "prj"}]
        # the human has no passkey here, so nobody asks about it
        assert not place.calls("get_agent_action", agent_id="human")
        (log,) = place.calls("register_execution_log_file")
        assert (log["agent_id"], log["task_id"]) == ("w1", "tsk_1")
        assert Path(log["log_file_path"]).read_text().startswith("# run run_")
        (gone,) = place.calls("report_process_exit")
        assert gone == {
            "agent_id": "w1", "project_id": "prj", "remaining_processes": 0,
            "coordinator_token": TOKEN,
        }  # fmt: skip
        assert not place.calls("report_agent_error")
        assert not list(folder.glob(".git*")), "nothing is sealed there"


def test_no_secret_of_theirs_reaches_a_program_or_a_file(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START]}, passkeys=KEYS
        )
        place.write("w1")
        place.home.start("--coordinator")
        ended(place)
        place.passes(2)
        folder = place.folder("prj")
        for name in ("prompt.txt", "argv.json", "env.json"):
            text = (folder / name).read_text()
            assert "key-of-w1" not in text
            assert TOKEN not in text
        assert TOKEN not in place.home.log.read_text()
        state = place.root / "home" / "state"
        for file in (Path(base) / name for base, _, names in os.walk(state) for name in names):
            if file.is_file():
                content = file.read_bytes()
                assert b"key-of-w1" not in content, file
                assert TOKEN.encode() not in content, file


def test_failures_are_told_once_and_the_pair_rests(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        (place.folder("prj") / "behave").write_text("fail")
        (place.folder("poor") / "behave").write_text("quota")
        projects = [place.project("prj", "w1"), place.project("poor", "w1")]
        once = {"w1/prj": [START], "w1/poor": [START]}
        place.board(projects=projects, actions=once, passkeys=KEYS)
        place.write("w1", error_protection={"default_cooldown_seconds": 2})
        place.home.start("--coordinator")
        ended(place, 2)
        asked = len(place.calls("get_agent_action", project_id="poor"))
        place.board(projects=projects, actions={**once, "w1/prj": [START, START]}, passkeys=KEYS)
        ended(place, 3)
        told = place.calls("report_agent_error", project_id="prj")
        assert "the compiler is missing" in told[0]["error_message"]
        assert len(told) == 2, "each failure once"
        assert len(place.calls("report_agent_error", project_id="poor")) == 1
        place.passes(3)
        # the quota names 70 s: nobody asks before, since asking is what uses the server's lease up
        assert len(place.calls("get_agent_action", project_id="poor")) == asked


def test_an_old_server_hears_of_exits_in_its_own_word(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        place.board(
            projects=[place.project("prj", "w1")],
            actions={"w1/prj": [START]},
            passkeys=KEYS,
            tools=[
                "health_check", "list_active_projects_with_agents", "get_agent_action",
                "register_execution_log_file", "report_agent_error", "invalidate_session",
                "authenticate", "get_next_action",
            ],
        )  # fmt: skip
        place.write("w1")
        place.home.start("--coordinator")
        assert ended(place)[0]["outcome"] == "succeeded"
        until("it is told", lambda: place.calls("invalidate_session", agent_id="w1"))
        prompt = (place.folder("prj") / "prompt.txt").read_text()
        assert "Call `get_next_action`" in prompt, "without a profile it works too"


def test_a_stop_is_heard_obeyed_and_told(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        (place.folder("prj") / "behave").write_text("hang")
        stop = {"action": "stop", "reason": "task_blocked"}
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START]}, passkeys=KEYS
        )
        place.write("w1")
        place.home.start("--coordinator")
        until("it works", (place.folder("prj") / "settled").exists)
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START, stop]}, passkeys=KEYS
        )
        assert ended(place)[0]["outcome"] == "stopped"
        assert place.calls("report_process_exit", agent_id="w1")


BAD = [
    "half", "eof", "nan", "deep", "list", "number", "text", "unknown", "missing", "loud", "refused",
    "unsuccessful", "garbage", "frame_nan", "frame_deep", "silence", "kick",
]  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_a_pair_that_is_answered_badly_is_skipped_with_a_reason_and_nobody_else(
    short_dir: Path, over: str, how: str
):
    with foreign(short_dir, over) as place, place.serving():
        place.board(
            projects=[place.project("prj", "bad", "w1"), place.project("two", "w2")],
            actions={"w1/prj": [START], "w2/two": [START]},
            bad={"bad/prj": how},
            passkeys=KEYS,
        )
        place.write("bad", "w1", "w2")
        place.home.start("--coordinator")
        assert [one["outcome"] for one in ended(place, 2)] == ["succeeded"] * 2
        skipped = until(
            "the reason is told",
            lambda: [
                line
                for line in place.home.logged("loop.failed")
                if line.get("agent_id") == "bad" and line.get("reason")
            ],
        )
        assert skipped[0]["project_id"] == "prj"
        place.passes(2)
        assert not (place.folder("prj") / "env.json").read_text().count('"AGENT_ID": "bad"')


@pytest.mark.parametrize("how", ["duplicate", "huge"])
def test_an_odd_answer_that_can_be_read_is(short_dir: Path, over: str, how: str):
    """The last of two equal keys counts; fifteen MiB are read."""
    with foreign(short_dir, over) as place, place.serving():
        place.board(projects=[place.project("prj", "bad")], bad={"bad/prj": how}, passkeys=KEYS)
        place.write("bad")
        place.home.start("--coordinator")
        until("it is asked again", lambda: len(place.calls("get_agent_action")) >= 2)
        assert not place.home.logged("loop.failed")


def test_limits_count_before_anybody_is_asked(short_dir: Path, over: str):
    """Who is told to start and does not start blocks its pair there: only what has a place is asked."""
    with foreign(short_dir, over) as place, place.serving():
        agents = [f"w{number}" for number in range(5)]
        for agent in agents:
            (place.folder(agent) / "behave").write_text("hang")
        place.board(
            projects=[place.project(agent, agent) for agent in agents],
            actions={f"{agent}/{agent}": [START] for agent in agents},
            passkeys={agent: f"key-of-{agent}" for agent in agents},
        )
        place.write(*agents, max_concurrent=2)
        place.home.start("--coordinator")
        until("two run", lambda: len(place.home.logged("run.start")) == 2)
        place.passes(3)
        assert len(place.home.logged("run.start")) == 2
        running = {line["agent_id"] for line in place.home.logged("run.start")}
        asked = {call["agent_id"] for call in place.calls("get_agent_action")}
        assert asked == running


def test_a_chat_and_a_task_of_one_pair_run_side_by_side(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        (place.folder("prj") / "behave").write_text("hang")
        chat = {"action": "start", "provider": "claude", "reason": "has_chat_work"}
        projects = [place.project("prj", "w1")]
        place.board(projects=projects, actions={"w1/prj": [START]}, passkeys=KEYS)
        place.write("w1")
        place.home.start("--coordinator")
        until("it works", (place.folder("prj") / "settled").exists)
        (place.folder("prj") / "behave").write_text("ok")
        place.board(projects=projects, actions={"w1/prj": [START, chat]}, passkeys=KEYS)
        ended(place)
        assert len(place.home.logged("run.start")) == 2
        place.home.processes[-1].send_signal(signal.SIGUSR1)
        place.home.processes[-1].wait(60)
        remaining = [call["remaining_processes"] for call in place.calls("report_process_exit")]
        assert remaining == [1, 0], "the chat ended while the task went on"


def test_the_server_may_go_away_and_come_back(short_dir: Path, over: str):
    with foreign(short_dir, over) as place:
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START]}, passkeys=KEYS
        )
        (place.folder("prj") / "behave").write_text("hang")
        place.write("w1")
        place.home.start("--coordinator")
        until("it is missed", lambda: place.home.logged("loop.server_down"))
        with place.serving():
            until("it works", (place.folder("prj") / "settled").exists)
        with place.serving():
            place.passes(2)
            assert len(place.home.logged("run.start")) == 1
            for line in place.home.logged("run.start"):
                assert line["agent_id"] == "w1"


def test_a_killed_coordinator_takes_its_runs_up_again_and_tells_their_ends(
    short_dir: Path, over: str
):
    with foreign(short_dir, over) as place, place.serving():
        (place.folder("prj") / "behave").write_text("hang")
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START]}, passkeys=KEYS
        )
        place.write("w1")
        first = place.home.start("--coordinator")
        until("it works", (place.folder("prj") / "settled").exists)
        first.kill()
        first.wait(30)
        second = place.home.start("--coordinator")
        until("it is taken up", lambda: place.home.logged("run.adopted"))
        place.passes(2)
        assert len(place.home.logged("run.start")) == 1
        second.send_signal(signal.SIGUSR1)
        second.wait(60)
        assert len(place.calls("report_process_exit", agent_id="w1")) == 1


def skill(name: str, **members: str) -> dict[str, Any]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    archive_text = base64.b64encode(packed.getvalue()).decode()
    return {"id": name, "name": name, "directory_name": name, "archive_base64": archive_text}


def test_skills_and_prompts_are_fetched_and_unpacked_where_they_belong(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        place.board(
            projects=[place.project("prj", "w1")],
            actions={"w1/prj": [START]},
            passkeys=KEYS,
            settings={"agent_base_prompt": "Everybody is polite."},
            profile={
                "id": "w1",
                "system_prompt": "You paint.",
                "skills": [
                    skill("paint", **{"SKILL.md": "use a brush", "scripts/a.sh": "true"}),
                    skill("evil", **{"SKILL.md": "x", "../../../escaped": "x"}),
                    {"name": "torn", "archive_base64": "AAAA"},
                    "nonsense",
                ],
            },
        )
        place.write("w1")
        place.home.start("--coordinator")
        ended(place)
        folder = place.folder("prj")
        prompt = (folder / "prompt.txt").read_text()
        assert "Everybody is polite." in prompt
        assert "You paint." in prompt
        assert (folder / "skills.txt").read_text() == "use a brush"
        assert "evil" not in prompt
        assert not list(short_dir.rglob("escaped"))
        told = {line.get("skill") for line in place.home.logged("loop.failed")}
        assert {"evil", "torn"} <= told


def test_a_wrong_token_is_told_and_nothing_is_started(short_dir: Path, over: str):
    with foreign(short_dir, over) as place, place.serving():
        place.board(projects=[place.project("prj", "w1")], actions={"w1/prj": [START]})
        place.write("w1", coordinator_token="wrong")
        place.home.start("--coordinator")
        event, words = {
            "socket": ("loop.failed", "Invalid coordinator token"),
            "http": ("loop.server_down", "it does not take our token"),
        }[over]
        until(
            "it is told",
            lambda: [line for line in place.home.logged(event) if words in str(line.get("error"))],
        )
        assert not place.home.logged("run.start")


class Web(BaseHTTPRequestHandler):
    bodies: list[tuple[str, str, bytes]] = []  # noqa: RUF012 - one test, one list

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append((self.path, self.headers["Authorization"], body))
        # the first try fails
        self.send_response(200 if len(self.bodies) > 1 else 500)
        self.end_headers()
        self.wfile.write(b'{"success":true,"execution_log_id":"exec_fake0000001"}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
        pass


def test_logs_are_sent_where_the_file_says(short_dir: Path, over: str):
    with (
        foreign(short_dir, over) as place,
        place.serving(),
        HTTPServer(("127.0.0.1", 0), Web) as web,
    ):
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        Web.bodies.clear()
        port = web.server_address[1]
        place.home.env["AIAGENTPM_WEBSERVER_PORT"] = str(port)
        # beside a URL for calls, the place for logs is told
        where = f"http://127.0.0.1:{port}" if over == "http" else None
        place.board(
            projects=[place.project("prj", "w1")], actions={"w1/prj": [START]}, passkeys=KEYS
        )
        place.write(
            "w1", log_upload={"enabled": True, "retry_delay_seconds": 0.1}, server_url=where
        )
        place.home.start("--coordinator", "--log-directory", str(short_dir / "logs"))
        ended(place)
        until("it is sent", lambda: len(Web.bodies) >= 2)
        path, token, body = Web.bodies[1]
        assert path == "/api/v1/execution-logs/upload"
        assert token == f"Bearer {TOKEN}"
        assert b"exec_fake0000001" in body
        assert b"agent w1 provider claude" in body
        (log,) = place.calls("register_execution_log_file")
        assert log["log_file_path"].startswith(str(short_dir / "logs"))
        web.shutdown()
