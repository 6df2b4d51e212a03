"""A login that was missing: what ends the waiting for it, and what does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from support.house import House, house, until

DEFINITION = """\
schema = 1
name = "mine"
title = "My CLI"

[detect]
executable = "FILE"
version_args = ["--version"]
version_pattern = 'mycli (\\d+\\.\\d+)'

[launch]
args = [["--mcp-config", "{mcp_config_file}"], ["{extra_args}"]]

[mcp]
style = "file"
stdio = { type = "stdio", command = "{bridge_command}", args = "{bridge_args}" }

[[errors]]
pattern = 'not logged in'
reason = "auth"
remedy = "run `mycli login`"
"""
#: Works when there is a file beside it that stands for a login; each start for a run is noted.
PROGRAM = f"""\
#!/bin/sh
[ "$1" = --version ] && {{ echo "mycli 1.0"; exit 0; }}
here=$(dirname "$0")
echo >>"$here/starts"
[ -e "$here/login" ] || {{ echo "error: not logged in" >&2; exit 1; }}
exec {sys.executable} -I -m aiagent_coordinator.rehearsal "$@"
"""


def settle(home: House) -> Path:
    """A house whose worker is a program that may be logged in; gives the folder of that."""
    folder = home.root / "mycli"
    folder.mkdir()
    program = folder / "mycli"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    place = Path(home.env["XDG_CONFIG_HOME"]) / "aiagent-coordinator" / "providers"
    place.mkdir(parents=True)
    (place / "mine.toml").write_text(DEFINITION.replace("FILE", str(program)), "utf-8")
    home.env["TMPDIR"] = str(home.root)
    home.write(
        agents={"worker": {"provider": "mine"}, "other": {"provider": "mine"}},
        projects=[{"id": "app", "path": str(home.repo)}],
        i_understand_unsandboxed=True,
    )
    return folder


def logins(home: House) -> list[dict[str, Any]]:
    return home.json("status")["logins"]


def parked(home: House) -> set[str]:
    limits = home.ask("list_limits")["limits"]
    return {one["name"] + one["model"] for one in limits if one["state"] == "parked"}


def test_a_trial_that_comes_through_ends_the_waiting_for_a_login_and_nothing_else(
    short_dir: Path,
):
    with house(short_dir) as home:
        folder = settle(home)
        home.ready()
        task = home.add("one")["id"]
        (item,) = until("somebody has to log in", lambda: logins(home))
        assert item["lane"] == "mine/default"
        home.ask("set_limit", provider="mine", account="default", model="big", seconds=900)
        # a trial that fails says nothing new
        failed = home.run("provider", "test", "mine", "--json", check=False)
        assert (failed.returncode, json.loads(failed.stdout)["reason"]) == (1, "auth")
        assert parked(home) == {"needs login", "limitbig"}
        assert len(home.runs(task)) == 1
        (folder / "login").touch()
        assert home.json("provider", "test", "mine")["ok"]
        assert logins(home) == []
        assert parked(home) == {"limitbig"}
        assert home.finished(task)["status"] == "succeeded"
        first, second = home.runs(task)
        assert (first["reason"], first["attempt"], second["attempt"]) == ("auth", 1, 1)
        home.down()


def test_a_trial_without_a_board_is_a_trial_all_the_same(short_dir: Path):
    with house(short_dir) as home:
        (settle(home) / "login").touch()
        assert home.json("provider", "test", "mine")["ok"]
