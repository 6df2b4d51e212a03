"""Real CLIs where there is no network: they work under supervision, and leave nothing behind.

What `test_real_clis` and `test_real_scenarios` do with all of them when asked, a few of it here for the
three that `tests/npm/clis` installs, in a network namespace that holds the loopback alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import npm

HERE = Path(__file__).parent
LOOPBACK_ONLY = HERE.parent / "fakes" / "loopback_only.py"
CHOSEN = {
    "test_real_clis.py": ("test_a_real_cli_takes_a_task_to_a_sealed_commit",),
    "test_real_scenarios.py": (
        "test_what_its_shell_leaves_behind_is_ended",
        "test_cancelled_in_the_middle_of_a_command_nothing_of_it_lives",
    ),
}


@pytest.mark.needs("clis", "network namespace")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", npm.CLIS)
def test_a_real_cli_works_and_leaves_nothing_where_it_can_reach_nobody(name: str):
    wanted = [f"{HERE / file}::{test}[{name}]" for file, tests in CHOSEN.items() for test in tests]
    done = subprocess.run(
        [
            *(sys.executable, str(LOOPBACK_ONLY), sys.executable, "-m", "pytest", "-q", "-s"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", "--no-cov", *wanted),
        ],
        cwd=HERE.parents[1],
        env={**os.environ, "AIAGENT_REAL_CLIS": name, "AIAGENT_CLI_CACHE": str(npm.CLI_HOME)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert passed, done.stdout[-20_000:]
    assert int(passed[1]) == len(wanted), done.stdout[-20_000:]
    print(done.stdout)
