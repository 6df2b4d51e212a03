"""A machine that lends us little: what is missing is named, and work goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.house import HOLD, house, living, script, until

REPORT = {"report": {"result": "success", "summary": "done"}}
DAEMON = {"spawn_child": {"seconds": 600, "shape": "daemon"}}
#: Hides the kernel's groups from everything below.
NO_GROUPS = (
    *("unshare", "--mount", "--", "sh", "-c"),
    'for at in $(grep " - cgroup2 " /proc/self/mountinfo | cut -d" " -f5); do umount -l "$at"; done; exec "$@"',
    "sh",
)
#: Refuses to tell of changes.
NO_NEWS = (
    "strace",
    "-f",
    "--seccomp-bpf",
    "-o",
    "/dev/null",
    "--inject=inotify_init1:error=EMFILE",
)


def bare_path(folder: Path) -> str:
    """A PATH with what a run needs, and neither bubblewrap nor systemd."""
    folder.mkdir()
    for name in ("git", "sh", "sleep", "cat", "env", "unshare", "umount", "grep", "cut", "strace"):
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.needs("mount", "strace")
def test_without_groups_sandbox_programs_a_service_manager_and_inotify_work_goes_on_and_doctor_says_so(
    short_dir: Path,
):
    with house(short_dir) as home:
        home.env["PATH"] = bare_path(short_dir / "programs")
        home.through = (*NO_GROUPS, *NO_NEWS)
        doctor = home.run("doctor", "--json")
        found = {one["name"]: one for one in json.loads(doctor.stdout)["findings"]}
        for name in ("cgroup", "inotify", "systemd", "sandbox bwrap"):
            assert found[name]["level"] == "note", found[name]
            assert found[name]["message"]
        home.run("config", "validate")

        home.ready()
        task = home.add("Work", script(DAEMON, {"print": {"megabytes": 1}}, REPORT))["id"]
        slow = home.add("Wait", script(HOLD, REPORT))["id"]
        home.through = ()
        done = home.last(task)
        assert (done["outcome"], done["exit_code"]) == ("succeeded", 0)
        assert done["leftovers_ended"] is True
        assert len(home.run("logs", done["id"]).stdout) > 1_000_000
        until("the other runs", lambda: len(home.runs(slow)) == 1)
        home.running(slow)
        home.run("task", "cancel", slow)
        assert home.last(slow)["outcome"] == "cancelled"
        home.run("stop", "--kill")
        until("no process is left", lambda: not living(home))
