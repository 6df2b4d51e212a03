"""Our own log: its lines are a contract, it hides secrets, and it is never in the way."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import events, telemetry
from aiagent_coordinator.telemetry import LogFormat, configure, log_event

SOURCE = Path(telemetry.__file__).parent
logger = logging.getLogger("aiagent_coordinator.test")


def mask(text: str) -> str:
    return text.replace('a"secret', "[masked]")


def written(log_format: LogFormat, *calls: dict[str, Any], level: str = "info") -> list[str]:
    stream = io.StringIO()
    with configure(log_format, level, mask=mask, stream=stream):
        for call in calls:
            log_event(logger, call.pop("level"), call.pop("event"), call.pop("message"), **call)
    return stream.getvalue().splitlines()


START: dict[str, Any] = {
    "level": logging.INFO,
    "event": "run.start",
    "message": "started",
    "run_id": "run_1",
}


def test_a_json_line_has_the_published_keys_first() -> None:
    [line] = written("json", {**START, "branch": None, "n": 1.5, "argv": ("a", "b")})
    facts = json.loads(line)
    assert list(facts) == ["ts", "level", "event", "message", "run_id", "n", "argv"]
    assert facts["ts"].endswith("Z")
    assert (facts["level"], facts["event"], facts["argv"]) == ("INFO", "run.start", ["a", "b"])


def test_a_field_never_takes_the_place_of_a_published_key() -> None:
    # every caller may have a fact named like a key of ours
    [line] = written("json", {**START, "ts": "x"})
    facts = json.loads(line)
    assert facts["ts_"] == "x"
    assert facts["ts"] != "x"


def test_a_text_line_is_one_line_whatever_the_fields_hold() -> None:
    title = "a b\n\x1b[31mred\x1b[0m"
    call = {**START, "message": "started\n\x1b", "title": title, "c1": "\x9b\u202e", "empty": ""}
    [line] = written("text", call)
    assert line[2] == line[5] == ":"
    assert line.split(" ", 1)[1] == (
        'run.start started\\n\\x1b run_id=run_1 title="a b\\n\\u001b[31mred\\u001b[0m" '
        'c1=\\x9b\\u202e empty=""'
    )


def test_a_level_is_named_unless_it_is_the_usual_one() -> None:
    [line] = written("text", {**START, "level": logging.WARNING})
    assert line.split(" ")[1] == "WARN"


def test_what_lies_below_the_level_is_left_out() -> None:
    quiet = {**START, "level": logging.DEBUG}
    assert written("text", dict(quiet)) == []
    assert len(written("text", dict(quiet), level="debug")) == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_are_masked_before_anything_is_quoted(log_format: LogFormat) -> None:
    secret = 'a"secret'
    call = {**START, "message": secret, "deep": {"list": [secret]}, "path": Path(secret)}
    [line] = written(log_format, call)
    assert line.count("[masked]") == 3
    assert "secret" not in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_error_carries_its_traceback_masked(log_format: LogFormat) -> None:
    stream = io.StringIO()
    with configure(log_format, mask=mask, stream=stream):
        try:
            raise ValueError('a"secret')
        except ValueError:
            log_event(logger, logging.ERROR, "loop.failed", "failed")
            log_event(logger, logging.WARNING, "loop.failed", "coped")
    assert stream.getvalue().count("ValueError: [masked]") == 1
    assert "Traceback" in stream.getvalue()


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    try:
        log = configure("text", stream=stream)
        for _ in range(telemetry.MAX_WAITING + 5_000):
            log_event(logger, logging.INFO, "run.start", "started", padding="x" * 200)
        log.close()
    finally:
        # lets the writer go, whatever happened; only then can the stream be closed
        os.close(reading)
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert log.dropped > 0


def test_a_stream_that_fails_stops_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            if "first" in text:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    with configure("text", stream=stream):
        for message in ("first", "second"):
            log_event(logger, logging.INFO, "run.start", message)
    assert "second" in stream.getvalue()


def test_closing_restores_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("aiagent_coordinator")
    monkeypatch.setattr(ours, "propagate", True)
    before = (ours.level, ours.propagate, list(ours.handlers))
    with configure("text", stream=io.StringIO()):
        assert not ours.propagate
    assert (ours.level, ours.propagate, list(ours.handlers)) == before


def test_every_event_logged_anywhere_is_a_published_one() -> None:
    found = 0
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                not isinstance(node, ast.Call)
                or ast.unparse(node.func).split(".")[-1] != "log_event"
            ):
                continue
            event = node.args[2]
            if isinstance(event, ast.Constant):
                found += 1
                assert event.value in events.LOG_EVENTS, f"{file}:{node.lineno}: {event.value}"
    assert found > 3
