"""People are shown the times of their zone, programs UTC; by the real programs."""

from __future__ import annotations

import re
from pathlib import Path

from support.house import house, script, until

STEPS = script(
    {"say": {"text": "looking around"}}, {"report": {"result": "success", "summary": "x"}}
)
LOCAL = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+09:00"
UTC = r"\d{4}-\d\d-\d\dT[\d:.]+Z"


def test_what_people_read_is_in_their_time_zone_and_json_is_not(short_dir: Path):
    """Tables, one thing, logs (from the raw files and from the readable one), reasons, the log."""
    with house(short_dir, timezone="Asia/Tokyo") as home:
        home.write(retry={"max_attempts": 2, "backoff_seconds": [3600]})
        home.ready("--log-format", "text")
        task = home.add("Look", STEPS)["id"]
        assert home.finished(task)["status"] == "succeeded"
        (run,) = home.json("run", "list")["runs"]
        again = home.add("Fail", script({"report": {"result": "failed", "summary": "no"}}))["id"]
        until("it rests", lambda: home.task(again)["not_before"])
        for words in (
            ("run", "list"), ("run", "show", run["id"]), ("task", "show", task),
            ("logs", task), ("explain", again),
        ):  # fmt: skip
            shown = home.run(*words).stdout
            assert re.search(LOCAL, shown), words
            assert not re.search(UTC, shown), words
        assert re.fullmatch(UTC, run["started_at"])
        assert re.search(UTC, home.run("logs", task, "--json").stdout)
        assert re.search(UTC, home.run("explain", again, "--json").stdout)
        assert re.search(UTC, Path(run["log_path"]).read_text("utf-8"))
        (home.state / "run" / run["id"] / "out").unlink()
        (home.state / "run" / run["id"] / "err").unlink()
        readable = home.run("logs", task).stdout
        assert re.search(f"{LOCAL} out .*looking around", readable)
        assert re.search(r"^\d\d:\d\d:\d\d\+0900 daemon.ready", home.log_text(), re.MULTILINE)
        # a person's own setting stands above the file's
        home.env["AIAGENT_COORDINATOR_TIMEZONE"] = "UTC"
        assert re.search(UTC, home.run("run", "show", run["id"]).stdout)
