"""A program that does nothing but ask its provider again is ended, and its account parked, instead."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, until

#: Says that it waits, in its output or beside it, and waits for ever; or goes on after a while.
WAITER = """\
#!{python} -S
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
if "--version" in sys.argv or not {marks}.intersection(sys.argv):
    sys.exit(0)
say = lambda **event: print(json.dumps(event), flush=True)
say(type="system", subtype="init", session_id="s-1", model="m")
{words}
while not os.path.exists(os.path.join(here, "leave")):
    time.sleep(0.05)
"""
CLAUDE = 'say(type="system", subtype="api_retry", attempt={n}, max_retries=3, retry_delay_ms={ms}, error_status={status})'
QWEN = 'print("[qwen-code] Waiting for API capacity... attempt 1, retry in {n}s", file=sys.stderr, flush=True)'


def settle(home: House, folder: Path, like: str, words: str, **limits: Any) -> None:
    path = folder / "waiter"
    marks = "{'-p', '-o'}"
    path.write_text(WAITER.format(python=sys.executable, words=words, marks=marks), "utf-8")
    path.chmod(0o755)
    home.write(
        ai_providers={"waiter": {"like": like, "cli_command": str(path)}},
        agents={"worker": {"provider": "waiter"}},
        limits=limits,
    )


def left(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ("claude", CLAUDE.format(n=1, ms=3_600_000, status=429)),
        ("qwen", QWEN.format(n=3600)),
    ],
)
def test_who_wants_to_wait_too_long_is_ended_and_parked_until_then(
    like: str, words: str, short_dir: Path
):
    with house(short_dir, quota={"jitter": "0s"}) as home:
        settle(home, short_dir, like, words)
        home.ready()
        task = home.add("one")["id"]
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("failed", "rate_limited")
        (limit,) = home.ask("list_limits")["limits"]
        assert (limit["state"], limit["confidence"]) == ("parked", "stated")
        assert 3000 < left(limit["until"]) < 3700
        stands = home.task(task)
        assert (stands["status"], stands["attempt"]) == ("queued", 1)
        home.down()


def test_who_asks_again_and_again_is_ended_when_its_time_is_over(short_dir: Path):
    again = CLAUDE.format(n=1, ms=10, status=529)
    words = f"for _ in range(400):\n    {again}\n    time.sleep(0.2)\n"
    with house(short_dir) as home:
        settle(home, short_dir, "claude", words, retry_timeout="2s")
        home.ready()
        run = home.last(home.add("one")["id"])
        assert (run["outcome"], run["reason"]) == ("failed", "overloaded")
        home.down()


def test_who_waited_for_a_moment_is_left_alone_and_may_think_as_long_as_any(short_dir: Path):
    with house(short_dir) as home:
        settle(
            home,
            short_dir,
            "claude",
            CLAUDE.format(n=1, ms=10, status=429),
            retry_timeout="1s",
            silence_timeout="4s",
        )
        home.ready()
        task = home.add("one", max_attempts="1")["id"]
        until("it is silent", lambda: home.logged("run.warning"))
        assert {line["kind"] for line in home.logged("run.warning")} == {"silence"}
        run = home.last(task)
        # it never said anything else: that is what it waited for
        assert run["reason"] == "rate_limited"
        home.down()
