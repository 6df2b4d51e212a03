"""Agents that a driver of ours drives: a house for one, and what was said to and by it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.house import House, house, until
from support.repo import git

FAKES = Path(__file__).parents[1] / "fakes"
REPORT: dict[str, Any] = {
    "tool": "report_completed",
    "arguments": {"result": "success", "summary": "did it"},
}
WAIT = {"wait": ".aiagent/go"}


def plan(*steps: dict[str, Any], fence: str = "plan") -> str:
    """What a double is asked to do."""
    return f"Do it.\n\n```{fence}\n{json.dumps(list(steps))}\n```\n"


@contextmanager
def driven(
    folder: Path,
    like: str,
    double: str,
    *words: str,
    hold_seconds: float = 45,
    **worker: Any,
) -> Generator[House]:
    """A house whose worker is driven live as one of our definitions says.

    Args:
        folder: Where the house lies; what the double remembers is in `kept` there.
        like: The definition.
        double: The program in its place, one of `tests/fakes`.
        words: What else the double is started with.
        hold_seconds: How long a question is held.
        worker: Of the agent.
    """
    kept = folder / "kept"
    kept.mkdir(parents=True)
    program = shlex.join([sys.executable, str(FAKES / double), str(kept), *words])
    entry = {"kick_command": program, "like": like, "mode": "live"}
    ask = {"hold_seconds": hold_seconds}
    with house(
        folder, ai_providers={"mine": entry}, ask=ask, i_understand_unsandboxed=True
    ) as home:
        home.write(agents={"worker": {"provider": "mine", "approval": "edits", **worker}})
        home.ready()
        yield home


def events(home: House, run: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """What the driver of a run told of one kind."""
    out = (home.state / "run" / run["id"] / "out").read_text("utf-8")
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [one for one in found if one["event"] == kind]


def told(home: House, task_id: str) -> list[tuple[str | None, bool]]:
    """The ways of what was said to a task's agent, and whether it has arrived."""
    found = home.task(task_id)["tells"]
    return [(one["way"], one["delivered_at"] is not None) for one in found]


def heard(home: House, run: dict[str, Any]) -> list[Any]:
    """How many turns a double had, and what it heard in them."""
    return json.loads(git(home.repo, "show", f"{run['commit']}:heard.json"))


def is_told_over_a_death(home: House, *work: dict[str, Any]) -> None:
    """Two messages, and a killed coordinator between them: both are heard once, in one turn."""
    task = home.add("Write", plan(WAIT, *work, REPORT))["id"]
    home.running(task)
    home.run("tell", task, "Mind the xylophone.")
    until("it is given", lambda: told(home, task) == [("turn", False)])
    home.processes[-1].kill()
    home.processes[-1].wait()
    home.ready()
    home.run("tell", task, "And the quokka.")
    until("both are given", lambda: told(home, task) == [("turn", False)] * 2)
    home.go(task)
    assert home.finished(task)["status"] == "succeeded", home.log_text()
    (run,) = home.runs(task)
    turns, words = heard(home, run)
    assert turns == 1
    assert ["xylophone" in words[0], "quokka" in words[1], len(words)] == [True, True, 2]
    assert told(home, task) == [("turn", True), ("turn", True)]
