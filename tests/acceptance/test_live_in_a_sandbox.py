"""An agent that is driven live is told more and asks for leave as well where it is shut in."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from support.house import house, until
from support.repo import git

ROOT = Path(__file__).parents[2]
FAKES = ROOT / "tests" / "fakes"
REPORT = {"tool": "report_completed", "arguments": {"result": "success", "summary": "did it"}}
WAIT = {"wait": ".aiagent/go"}
LS = {"command": "ls"}
#: By provider: its double, the name of its plan, how it is held, and how it asks for leave.
DOUBLES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "claude": ("live_cli", "live", {"hear": 1}, {"ask": "ls"}),
    "codex": ("app_server", "plan", WAIT, LS),
    "opencode": ("opencode_server", "plan", WAIT, {"ask": "bash", "patterns": [], "metadata": LS}),
    "acp": ("acp_agent", "acp", {"hang": True}, {"ask": "execute", "title": "ls", "input": LS}),
}
BWRAP = [pytest.param(name, "bwrap", marks=pytest.mark.needs("bwrap")) for name in DOUBLES]
LANDLOCK = pytest.param("opencode", "landlock", marks=pytest.mark.needs("landlock"))


@pytest.mark.parametrize(("provider", "sandbox"), [*BWRAP, LANDLOCK])
def test_it_hears_in_its_turn_and_asks(short_dir: Path, provider: str, sandbox: str):
    double, fence, hold, ask = DOUBLES[provider]
    kept = short_dir / "kept"
    kept.mkdir(parents=True)
    words = [sys.executable, str(FAKES / f"{double}.py")]
    words += [] if provider == "claude" else [str(kept)]
    entry = {"kick_command": shlex.join(words), "like": provider, "mode": "live"}
    rules = {"mode": "policy", "allow": ["Bash(ls)"]}
    paths = {"sandbox_read": [str(ROOT)], "sandbox_write": [str(kept)]}
    with house(short_dir, ai_providers={"mine": entry}, sandbox=sandbox, **paths) as home:
        home.write(agents={"worker": {"provider": "mine", "permissions": rules}})
        home.ready()
        steps = json.dumps([{**ask, "into": "asked"}, hold, REPORT])
        task = home.add("Listen", f"Do it.\n\n```{fence}\n{steps}\n```\n")["id"]
        run = home.running(task)
        tree = home.state / "worktrees" / "app" / task
        until("it has asked", lambda: list(tree.parent.glob(f"{task}*/asked")))
        home.run("tell", task, "Mind the xylophone.", *(["--interrupt"] * (provider == "acp")))
        given = home.state / "run" / run["id"] / "answers"
        until("it is given", lambda: given.is_dir() and list(given.iterdir()))
        home.go(task)
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        answer = git(home.repo, "show", f"{run['commit']}:asked").split()[-1]
        assert answer in {"allow", "accept", "once", "allow_once"}
        (tell,) = home.task(task)["tells"]
        assert (tell["way"], tell["delivered_at"] is not None) == ("turn", True)
        assert home.shown(run["id"])["leftovers"] == []
