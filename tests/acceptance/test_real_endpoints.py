"""Real CLIs that are sent to a scripted model by the configuration alone: no variable of the user's, no file.

They are those of `test_real_clis.py` and three more; each is a program on the PATH that is given:

    AIAGENT_REAL_ENDPOINTS=~/clis/node_modules/.bin:~/vibe/bin pytest tests/acceptance/test_real_endpoints.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiagent_coordinator.providers.catalog import load_catalog
from support.house import House, house, until
from support.repo import git

__test__ = bool(os.environ.get("AIAGENT_REAL_ENDPOINTS"))
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

MODEL_SERVER = Path(__file__).parent.parent / "fakes" / "model_server.py"
PROGRAMS = os.environ.get("AIAGENT_REAL_ENDPOINTS", "")
MODEL = "scripted-model"
RUN_SECONDS = 120.0
#: What follows the address of the server; where absent, the CLI takes no address of ours.
PATHS = {
    "claude": "",
    "codex": "/v1",
    "gemini": "",
    "opencode": "/v1",
    "qwen": "/v1",
    "copilot": "/v1",
    "vibe": "/v1",
}
KEY = "key-of-nobody-0123456789"


@contextmanager
def model(folder: Path, *words: str) -> Generator[tuple[str, Path]]:
    log = folder / "model.jsonl"
    log.touch()
    command = [sys.executable, str(MODEL_SERVER), str(log), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", log
    finally:
        process.kill()
        process.communicate()


def ended(home: House, task_id: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        runs = home.runs(task_id)
        return runs[0] if runs and runs[0]["phase"] == "ended" else None

    return until("the run ends", over, RUN_SECONDS)


def told(home: House, run: dict[str, Any], log: Path) -> str:
    folder = home.state / "run" / run["id"]
    texts = [folder / "out", folder / "err", log]
    said = "\n---\n".join(file.read_text("utf-8", "replace")[-5000:] for file in texts)
    return said + home.log_text()[-3000:]


def is_there(name: str) -> bool:
    return any((Path(folder) / name).exists() for folder in PROGRAMS.split(os.pathsep))


def is_of(process: psutil.Process, run_id: str) -> bool:
    try:
        return process.environ().get("AIAGENT_RUN_ID") == run_id
    except psutil.Error:
        return False


@pytest.mark.parametrize("name", [*PATHS, "cline"])
def test_a_real_cli_is_sent_to_a_model_by_the_configuration_alone(name: str, short_dir: Path):
    if not is_there(name):
        pytest.skip(f"{name} is not among the programs given")
    with model(short_dir) as (url, log), house(short_dir, i_understand_unsandboxed=True) as home:
        env = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
        home.env["PATH"] = f"{PROGRAMS}{os.pathsep}{env['PATH']}"
        entry: dict[str, Any] = {"models": []}
        if name == "cline":  # it keeps its endpoint in a file of its own login
            login = ["-p", "openai-compatible", "-k", KEY, "-m", MODEL, "-b", f"{url}/v1"]
            subprocess.run(
                ["cline", "auth", *login], env={**env, **home.env}, timeout=60, check=True
            )
            entry = {"cli_args": ["-P", "openai-compatible"]}
        else:
            entry = {"base_url": url + PATHS[name], "api_key": KEY}
        can = load_catalog().get(name).can.approval
        agent = {
            "provider": name,
            "model": f"mine/{MODEL}" if name == "opencode" else MODEL,
            "approval": "edits" if "edits" in can else "bypass",
        }
        home.write(agents={"worker": agent}, ai_providers={name: entry})
        home.ready()
        check = "grep -q model model.txt"
        task = home.add("Write a file", "Write model.txt.", check=check, max_attempts="1")
        run = ended(home, task["id"])
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0), told(home, run, log)
        assert git(home.repo, "show", f"{run['commit']}:model.txt") == "written by a model"
        # the key is where the program's own variables are, and nowhere else
        shown = json.dumps(home.json("run", "show", run["id"]))
        files = [file for file in home.state.rglob("*") if file.is_file() and not file.is_symlink()]
        assert KEY not in shown
        assert [file for file in files if KEY.encode() in file.read_bytes()] == []
        # nothing that it started lives on
        assert [one.pid for one in psutil.process_iter() if is_of(one, run["id"])] == []


def test_a_question_ends_the_session_of_vibe_and_its_answer_resumes_it(short_dir: Path):
    """Its session is known by what it prints, as the dialect reads it."""
    if not is_there("vibe"):
        pytest.skip("vibe is not among the programs given")
    begin = [{"tool": "authenticate"}, {"tool": "get_next_action"}, {"tool": "get_my_task"}]
    ask = {"tool": "ask_human", "arguments": {"text": "Which word?"}}
    wait = {"say": "I wait for a person.", "until": "xylophone"}
    said = {"result": "success", "summary": "as told"}
    end = [
        {"tool": "get_next_action"},
        {"write": "model.txt", "text": "written by a model\n"},
        *({"tool": "get_next_action"}, {"tool": "report_completed", "arguments": said}),
        {"tool": "get_next_action"},
    ]
    plan = short_dir / "plan.json"
    plan.write_text(json.dumps([*begin, ask, wait, *begin, *end]))
    with (
        model(short_dir, "--plan", str(plan)) as (url, _),
        house(short_dir, i_understand_unsandboxed=True, ask={"hold_seconds": 0.5}) as home,
    ):
        home.env["PATH"] = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        agent = {"provider": "vibe", "model": MODEL, "approval": "bypass"}
        entry = {"base_url": f"{url}/v1", "api_key": KEY}
        home.write(agents={"worker": agent}, ai_providers={"vibe": entry})
        home.ready()
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")
        first = ended(home, task["id"])
        assert (first["outcome"], first["reason"]) == ("suspended", "asked")
        (question,) = home.ask("list_questions")["questions"]
        home.ask("answer_question", question_id=question["id"], answer="xylophone")
        done = home.finished(task["id"], RUN_SECONDS)
        _, second = home.runs(task["id"])
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        assert second["resumed_session_id"] == first["provider_session_id"] is not None
