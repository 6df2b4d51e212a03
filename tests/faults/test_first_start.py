"""The first start of all: two at once, and what a machine that lost its power left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.house import house, script, until

REPORT = {"report": {"result": "success", "summary": "done"}}


@pytest.mark.parametrize("round_", range(3))
def test_server_and_coordinator_may_be_started_at_once_in_an_empty_folder(
    short_dir: Path, round_: int
):
    """Whoever comes first makes layout and keys, and both mean the same ones."""
    with house(short_dir) as home:
        roles = ("serve", "coordinate")
        started = [home.start(role) for role in (roles if round_ % 2 else reversed(roles))]
        until("the server answers", lambda: (home.state / "operator.key").exists() and home.up())
        task = home.add("Work", script(REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded"
        assert [one.poll() for one in started] == [None, None]
        assert not list(home.state.glob("*.tmp"))


def test_empty_files_of_a_machine_that_lost_its_power_are_made_again(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        home.down()
        for name in ("VERSION", "operator.key", "coordinator.key"):
            assert (home.state / name).stat().st_size
            (home.state / name).write_bytes(b"")
        home.ready()
        assert (home.state / "operator.key").stat().st_mode & 0o777 == 0o600
        assert home.finished(home.add("Work", script(REPORT))["id"])["status"] == "succeeded"
