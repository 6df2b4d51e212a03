"""The output of a run is followed as it grows: what it says, its steps, and the log of its doings."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.logs.record import TICK_ROW
from aiagent_coordinator.pipeline.activity import ACTIVITY_FILE, add_activity
from aiagent_coordinator.pipeline.stated import stated_by
from aiagent_coordinator.pipeline.steps import STEPS_FILE, Appended
from aiagent_coordinator.pipeline.stream import Stream
from aiagent_coordinator.redaction import Masker

CLAUDE = Path(__file__).parents[1] / "fixtures" / "transcripts" / "claude-2.1.330"
#: 2026-11-22, a second after the other.
BEGAN_NS = 1_795_327_200_000_000_000
SECRET = "correct-horse-battery"


class Run:
    """A run's folder, and what its program prints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "out").touch()
        self.looks = 0

    def stream(self, dialect: str = "events") -> Stream:
        return Stream(self.folder, dialect, Masker([SECRET]), backend="claude")

    def prints(self, *lines: dict[str, Any] | bytes) -> None:
        """Print, and let the shim look."""
        with (self.folder / "out").open("ab") as out:
            for line in lines:
                out.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self.looks += 1
        size = (self.folder / "out").stat().st_size
        at = BEGAN_NS + self.looks * 1_000_000_000
        with (self.folder / "ticks").open("ab") as ticks:
            ticks.write(TICK_ROW.pack(at, at, size, 0))

    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / STEPS_FILE).read_text().splitlines()]

    def activity(self) -> list[str]:
        return (self.folder / ACTIVITY_FILE).read_text("utf-8").splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


CALL = {"event": "tool_call", "id": "1", "name": "Bash", "arguments": {"command": "pytest -q"}}
DONE = {"event": "tool_result", "id": "1", "text": "3 passed", "is_error": False}


@pytest.mark.anyio
async def test_what_it_does_is_known_as_soon_as_it_says_so(run: Run):
    stream = run.stream()
    assert not await stream.look()
    run.prints({"event": "started", "session_id": "s-1"}, CALL)
    assert await stream.look()
    assert stream.live()["activity"] == "Bash: pytest -q"
    run.prints({"event": "retry", "attempt": 2, "most": 4, "status": 529})
    assert await stream.look()
    assert stream.live()["activity"] == "waiting for its model (try 2 of 4, 529)"
    run.prints(
        DONE,
        {"event": "usage", "in": 10, "out": 2, "cache": 1},
        {"event": "context", "used": 900, "limit": 1000},
        {"event": "compaction", "text": "auto"},
        {"event": "limit", "window": "five_hour", "status": "warning", "used": 0.9},
    )
    assert await stream.look()
    assert not await stream.look()
    assert stream.live() == {
        "activity": "shortening its context",
        "counts": {"tool_calls": 1, "tool_errors": 0, "turns": 1, "retries": 1},
        "context": {"used": 900, "limit": 1000},
        "usage": {"in": 10, "out": 2, "cache": 1, "cost": None},
        "compactions": 1,
        "compacted": ["auto"],
        "limits": [
            {"window": "five_hour", "status": "warning", "used": 0.9, "resets_at": None},
        ],
    }


def test_what_is_shown_of_it_is_short_masked_and_harmless(run: Run):
    command = f"\x1b]0;owned\x07curl -H {SECRET} {'x' * 500}"
    run.prints({**CALL, "arguments": {"command": command}})
    stream = run.stream()
    stream.finish()
    shown = stream.live()["activity"]
    assert shown.startswith("Bash: curl -H [masked] xxx")
    assert len(shown) == 200


def test_a_step_has_the_call_its_result_and_how_long_it_took(run: Run):
    run.prints(CALL)
    run.prints(DONE)
    run.prints({**CALL, "id": "2"}, {**DONE, "id": "2", "is_error": True, "seconds": 0.25})
    run.prints({**CALL, "id": "3"})
    run.stream().finish()
    first, second, third = run.steps()
    assert first == {
        "number": 1,
        "id": "1",
        "tool": "Bash",
        "at": "2026-11-22T06:00:01.000Z",
        "arguments": '{"command": "pytest -q"}',
        "arguments_truncated": False,
        "result": "3 passed",
        "result_truncated": False,
        "is_error": False,
        "duration_ms": 1000,
    }
    assert (second["is_error"], second["duration_ms"]) == (True, 250)
    # it was killed meanwhile
    assert (third["result"], third["is_error"], third["duration_ms"]) == (None, None, None)


def test_long_steps_are_cut_and_say_so(run: Run):
    long = {**CALL, "arguments": {"command": f"{SECRET} " + "ä" * 5000}}
    run.prints(long, {**DONE, "text": f"{SECRET} " + "ü" * 10_000})
    run.prints({**CALL, "id": "2", "arguments": {"content": "x " * 50_000}})
    run.stream().finish()
    step, huge = run.steps()
    assert step["arguments_truncated"]
    assert step["result_truncated"]
    assert 8 * 1024 - 4 <= len(step["arguments"].encode()) <= 8 * 1024
    assert 16 * 1024 - 4 <= len(step["result"].encode()) <= 16 * 1024
    assert SECRET not in json.dumps(step)
    assert huge["arguments_truncated"]


def test_a_later_life_reads_it_again_and_writes_the_same(run: Run):
    lines = (CLAUDE / "happy.jsonl").read_bytes().splitlines(keepends=True)
    for line in lines[:9]:
        run.prints(line)
    first = run.stream("claude-stream")
    anyio.run(first.look)
    half = run.steps()
    for line in lines[9:]:
        run.prints(line)
    second = run.stream("claude-stream")
    anyio.run(second.look)
    second.finish()
    again, log = run.steps(), run.activity()
    assert again[: len(half)] == half
    assert len(again) == 8
    whole = run.stream("claude-stream")
    whole.finish()
    assert (run.steps(), run.activity()) == (again, log)
    assert whole.live() == second.live()
    whole.finish()
    assert (run.steps(), run.activity()) == (again, log)


def test_the_log_of_its_doings_reads_as_it_should(run: Run):
    for line in (CLAUDE / "tool-error.jsonl").read_bytes().splitlines(keepends=True):
        run.prints(line)
    stream = run.stream("claude-stream")
    stream.stage("run     attempt 1 of tsk_1 started", BEGAN_NS)
    stream.finish()
    ends = ["stage   seal 0.2 s", "run     ended: succeeded"]
    for _ in range(2):
        add_activity(run.folder, ends, Masker(), backend="claude", at_ns=BEGAN_NS)
    golden = (CLAUDE / "tool-error.activity").read_text("utf-8").splitlines()
    assert run.activity() == golden


def test_a_flood_is_caught_up_with_step_by_step_and_takes_no_memory(run: Run):
    line = json.dumps({"event": "text", "text": "x" * 1000}).encode() + b"\n"
    block = line * 1000
    for _ in range(64):
        run.prints(block)
    run.prints({"event": "result", "is_error": False})
    stream = run.stream()
    tracemalloc.start()
    try:
        assert anyio.run(stream.look)
        assert stream.digest.activity == "writing"
        assert stream.has_more()
        stream.finish()
        _held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stream.digest.result is not None
    assert peak < 8 * 1024 * 1024


def test_of_more_than_is_read_at_the_end_the_last_is_read(run: Run):
    run.prints(*([{"event": "text", "text": "x" * 1000}] * 100))
    run.prints({"event": "usage", "in": 1, "out": 2, "cache": 3, "is_total": True})
    stream = Stream(run.folder, "events", Masker(), backend="claude", end_bytes=10_000)
    stated = stated_by(stream)
    assert stated is not None
    assert stated["usage"] == {"in": 1, "out": 2, "cache": 3, "cost": None}
    assert stream.digest.passed_over == 1


def test_plain_output_is_not_even_opened(run: Run):
    run.prints(b"hello\n")
    (run.folder / "out").chmod(0)
    stream = run.stream("plain")
    assert not stream.has_more()
    assert stated_by(stream) is None
    assert not (run.folder / STEPS_FILE).exists()


def test_files_that_grow_too_long_say_that_they_end(tmp_path: Path):
    file = Appended(tmp_path / "f", "the end", 100)
    for number in range(20):
        file.add(f"{number} {'x' * 20}")
        file.flush()
    lines = (tmp_path / "f").read_text().splitlines()
    assert lines[-1] == "the end"
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("I looked around.\n\nWhich of the two files do you mean?", True),
        ("**Shall I overwrite it?**", True),
        ("Done. Is there anything else?", False),
        ("All steps are done.", False),
        ("Why? Because it is so.", False),
        ("Everything is written. Do you like it? Tell me if you want more?", False),
        ("", False),
    ],
)
def test_what_it_ends_with_may_be_a_question(run: Run, text: str, question: bool):
    run.prints({"event": "text", "text": text}, {"event": "result", "is_error": False})
    stated = stated_by(run.stream())
    assert stated is not None
    assert (stated["question"] is not None) == question


def test_who_failed_asks_nothing(run: Run):
    run.prints({"event": "text", "text": "Who?"}, {"event": "result", "is_error": True})
    stated = stated_by(run.stream())
    assert stated is not None
    assert (stated["is_error"], stated["question"]) == (True, None)
