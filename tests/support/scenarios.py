"""What scenarios with the real CLIs have in common: plans of their model, and a look at what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.house import House, living

WRITE = {"write": "model.txt", "text": "written by a model\n"}
BEGIN = [{"tool": "authenticate"}, {"tool": "get_next_action"}, {"tool": "get_my_task"}]
NEXT = {"tool": "get_next_action"}
END = [
    NEXT,
    {"tool": "report_completed", "arguments": {"result": "success", "summary": "as told"}},
    NEXT,
]


def planned(folder: Path, *steps: dict[str, Any]) -> tuple[str, str]:
    """A plan, as the words that the scripted model is started with."""
    file = folder / "plan.json"
    file.write_text(json.dumps(steps))
    return "--plan", str(file)


def add(home: House, **options: str) -> str:
    task = home.add("Write a file", "Write model.txt.", **{"max_attempts": "1", **options})
    return str(task["id"])


def with_words(home: House, words: str) -> list[int]:
    """Processes of this house whose command line holds these words."""
    found: list[int] = []
    for pid in living(home):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if words.encode() in line.replace(b"\0", b" "):
            found.append(pid)
    return found


def nothing_is_left(home: House) -> bool:
    """Whether only our own program lives, with nothing that it started; and the model."""
    known = {process.pid for process in home.processes}
    return not set(living(home)) - known - set(with_words(home, "model_server.py"))


def end_of(run: dict[str, Any]) -> str:
    """How a run ended, in words."""
    return f"{run['outcome']} {run['reason'] or ''}".strip()
